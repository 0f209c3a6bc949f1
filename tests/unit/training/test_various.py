"""The varied pictures of training: the same from the same generator, complete, of every length."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest
from numpy.random import default_rng
from training.pictures import draw_digits, is_held_out
from training.samples import IMAGE_TOKEN, Mix, make_batch, symbols_of
from training.train import VARIOUS
from training.various import CANVASES, LENGTHS, most_digits, various_picture

from mmplane.models.tiny import tiny_tokenizer


def test_the_same_generator_gives_the_same_picture() -> None:
    first, second = (various_picture(default_rng(3), "4821", (224, 112)) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert first.marks == second.marks
    assert first.image.tobytes() != various_picture(default_rng(4), "4821", (224, 112)).image.tobytes()


@pytest.mark.parametrize("size", CANVASES)
def test_the_digits_fit_on_every_canvas(size: tuple[int, int]) -> None:
    for seed in range(12):
        rng = default_rng(seed)
        number = draw_digits(rng, held_out=False, lengths=(1, most_digits(size)))
        picture = various_picture(rng, number, (size[0] - 13, size[1] - 13))
        assert picture.image.size == (size[0] - 13, size[1] - 13)
        assert [kind for _, _, kind in picture.marks] == [int(digit) for digit in number]
        assert all(3 < x < size[0] - 16 and 3 < y < size[1] - 16 for x, y, _ in picture.marks)


def test_what_is_drawn_can_be_seen() -> None:
    for seed in range(40):
        picture = various_picture(default_rng(seed), "8", (224, 112))
        ((x, y, _),) = picture.marks
        pixels = numpy.asarray(picture.image).astype(int)
        near = pixels[max(0, int(y) - 9) : int(y) + 10, max(0, int(x) - 9) : int(x) + 10]
        assert numpy.ptp(near, axis=(0, 1)).max() > 20  # ground and ink may have the same mean of their colours


def test_batches_hold_numbers_of_every_length_and_no_more_patches_than_allowed() -> None:
    tokenizer = tiny_tokenizer()
    lengths: set[int] = set()
    for step in range(40):
        batch = make_batch(0, step, VARIOUS, tokenizer)
        assert sum(group.patches.shape[0] * group.patches.shape[1] for group in batch.groups) <= VARIOUS.most_patches
        for labels in batch.labels:
            answer = tokenizer.decode(labels[labels >= 0][:-1])
            numbers = [part for part in answer.split(", ") if part.isdigit()]
            lengths |= {len(number) for number in numbers}
            assert not any(is_held_out(number) for number in numbers)
    assert lengths == set(range(LENGTHS[0], LENGTHS[1] + 1))


def test_digits_are_marked_in_the_batch() -> None:
    picture = various_picture(default_rng(1), "13579", (308, 168))
    assert sorted(int(kind) for kind in symbols_of(picture).flatten() if kind < 10) == [1, 3, 5, 7, 9]


def test_the_earlier_mix_is_unchanged() -> None:
    assert not Mix().various
    assert Mix().lengths == (4, 6)


def test_a_canvas_may_get_no_picture() -> None:
    """Requests of two pictures choose between two canvases: in few pictures, all may be of the second."""
    mix, tokenizer = replace(VARIOUS, several=1.0, pictures=2, text_only=0.0, clips=0.0), tiny_tokenizer()
    counts = set()
    for step in range(12):
        batch = make_batch(0, step, mix, tokenizer)
        counts.add(len(batch.groups))
        assert len(batch.feature_index) == int((batch.ids == IMAGE_TOKEN).sum())
    assert counts == {1, 2}
