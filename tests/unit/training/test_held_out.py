"""The held-out generator shows nothing that training shows, and all of it can be read."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import training
from numpy.random import default_rng
from training.fonts import FONTS, HELD_OUT_FONTS, load_font, load_held_out_font
from training.held_out import CANVASES, LAYOUTS, held_out_picture
from training.pictures import is_held_out
from training.train import STAGES

PICTURES = [held_out_picture(default_rng((1, index))) for index in range(300)]


def test_the_same_generator_gives_the_same_picture() -> None:
    again = held_out_picture(default_rng((1, 5)))
    assert again.answer == PICTURES[5].answer
    assert again.image.tobytes() == PICTURES[5].image.tobytes()


def test_training_has_none_of_its_fonts() -> None:
    trained = {load_font(index, 20).getname()[0] for index in range(len(FONTS))}
    held_out = {load_held_out_font(index, 20).getname()[0] for index in range(len(HELD_OUT_FONTS))}
    assert len(held_out) == 3
    assert not trained & held_out


def test_training_has_none_of_its_canvases() -> None:
    trained = {grid for stage in STAGES for mix in (stage.mix, stage.kept) if mix is not None for grid in mix.grids}
    assert not trained & set(CANVASES)


def test_only_the_evaluation_uses_it() -> None:
    folder = Path(training.__file__).parent
    users = {path.name for path in folder.glob("*.py") if "training.held_out" in path.read_text()}
    assert users == {"evaluate.py"}
    drawers = {path.name for path in folder.glob("*.py") if "load_held_out_font" in path.read_text()}
    assert drawers == {"fonts.py", "held_out.py"}


def test_every_length_canvas_layout_and_font_occurs() -> None:
    assert {len(picture.answer) for picture in PICTURES} == set(range(1, 9))
    assert {picture.canvas for picture in PICTURES} == set(CANVASES)
    assert {picture.layout for picture in PICTURES} == set(LAYOUTS)
    assert {picture.font for picture in PICTURES} == {name for _, name in HELD_OUT_FONTS}
    assert all(is_held_out(picture.answer) for picture in PICTURES if len(picture.answer) > 2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_digits_stand_out_and_leave_a_margin(layout: str) -> None:
    for picture in PICTURES:
        if picture.layout != layout:
            continue
        assert picture.image.size == picture.canvas
        grey = numpy.asarray(picture.image.convert("L")).astype(int)
        assert numpy.ptp(grey[10:-10, 10:-10]) > 70
        if layout == "plain":
            border = numpy.concatenate((grey[:8].ravel(), grey[-8:].ravel(), grey[:, :8].ravel(), grey[:, -8:].ravel()))
            assert numpy.ptp(border) < 25
