"""python -m training.evaluate: how often the shipped model answers exactly right, on pictures that training never saw.

The model runs as it is served: under transformers, in float32, on what its own image processor makes of a picture. The
numbers are held out too: training never drew them.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from numpy.random import Generator, default_rng
from PIL import Image
from tqdm import tqdm
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
from transformers.utils import logging

from mmplane.models.tiny import build_tiny
from training.held_out import held_out_picture
from training.pictures import Variety, draw_digits, jpeg, number_picture, shape_picture
from training.samples import (
    NO_PICTURE,
    NUMBER_QUESTIONS,
    NUMBERS_QUESTIONS,
    SHAPE_QUESTIONS,
    TEXTS,
    Mix,
)

_SEED = 1_000_003


@dataclass(frozen=True)
class Case:
    """One request: pictures (for a clip, its frames), the question, and the right answer."""

    pictures: list[Image.Image]
    question: str
    answer: str
    clip: bool = False
    kinds: tuple[str, ...] = ()
    """What it is counted by as well: the number of digits, the canvas, the layout, the font."""


PNG = Variety(jpeg=0.0)
PLAIN = Variety(jpeg=0.0, textured=0.0)
TEXTURED = Variety(jpeg=0.0, textured=1.0)


def _size(rng: Generator, variety: Variety) -> tuple[int, int]:
    width, height = Mix().grids[int(rng.integers(len(Mix().grids)))]
    if rng.random() < variety.resized:
        return width + int(rng.integers(-13, 14)), height + int(rng.integers(-13, 14))
    return width, height


def _number(rng: Generator, variety: Variety) -> tuple[Image.Image, str]:
    picture = number_picture(rng, draw_digits(rng, held_out=True), _size(rng, variety), variety)
    return picture.image, picture.answer


def _one(variety: Variety, quality: int | None = None) -> Callable[[Generator], Case]:
    def case(rng: Generator) -> Case:
        image, answer = _number(rng, variety)
        return Case([image if quality is None else jpeg(image, quality)], _pick(rng, NUMBER_QUESTIONS), answer)

    return case


def _several(count: int) -> Callable[[Generator], Case]:
    def case(rng: Generator) -> Case:
        shown = [_number(rng, PNG) for _ in range(count)]
        question = _pick(rng, NUMBERS_QUESTIONS + NUMBER_QUESTIONS)
        return Case([image for image, _ in shown], question, ", ".join(answer for _, answer in shown))

    return case


def _shape(rng: Generator) -> Case:
    picture = shape_picture(rng, _size(rng, PNG), PNG)
    return Case([picture.image], _pick(rng, SHAPE_QUESTIONS), picture.answer)


def _text(rng: Generator) -> Case:
    return Case([], _pick(rng, TEXTS + NUMBER_QUESTIONS + SHAPE_QUESTIONS), NO_PICTURE)


def _clip(rng: Generator) -> Case:
    image, answer = _number(rng, PLAIN)
    pixels = numpy.asarray(image, dtype=numpy.float32)
    frames = [numpy.clip(pixels + 4 * rng.standard_normal(pixels.shape), 0, 255) for _ in range(4)]
    shown = [Image.fromarray(frame.astype(numpy.uint8)) for frame in frames]
    return Case(shown, _pick(rng, NUMBER_QUESTIONS), answer, clip=True)


def _held_out(rng: Generator) -> Case:
    shown = held_out_picture(rng)
    canvas = f"{shown.canvas[0]} x {shown.canvas[1]}"
    kinds = (f"digits: {len(shown.answer)}", f"canvas: {canvas}", f"layout: {shown.layout}", f"font: {shown.font}")
    return Case([shown.image], _pick(rng, NUMBER_QUESTIONS), shown.answer, kinds=kinds)


def _pick(rng: Generator, texts: tuple[str, ...]) -> str:
    return texts[int(rng.integers(len(texts)))]


CATEGORIES: dict[str, tuple[Callable[[Generator], Case], float]] = {
    "number, PNG": (_one(PNG), 0.99),
    "number, PNG, plain grounds": (_one(PLAIN), 0.99),
    "number, PNG, textured grounds": (_one(TEXTURED), 0.0),
    "number, JPEG quality 60": (_one(PNG, 60), 0.98),
    "two numbers": (_several(2), 0.97),
    "three numbers": (_several(3), 0.97),
    "colour and shape": (_shape, 0.98),
    "no picture": (_text, 0.98),
    "clip of four frames": (_clip, 0.0),
    "held-out generator": (_held_out, 0.99),
}
"""What is measured: how a case is drawn, and the least accuracy that is asked (0: reported only)."""


class Served:
    """The model as a server runs it: its own folder, image processor, chat template; greedy decoding."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.images = AutoImageProcessor.from_pretrained(folder, backend="pil")
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def is_exact(self, case: Case) -> bool:
        """Whether greedy decoding gives the right answer and stops.

        That is so exactly if, with the right answer as input, each of its tokens is the likeliest at its place.
        """
        inputs, answer_length = self._inputs(case)
        with torch.inference_mode():
            logits = self.model(**inputs, logits_to_keep=answer_length + 1).logits[0, :-1]
        return bool((logits.argmax(-1) == inputs["input_ids"][0, -answer_length:]).all())

    def _inputs(self, case: Case) -> tuple[dict[str, torch.Tensor], int]:
        inputs, counts = self._features(case)
        kinds = ["video"] if case.clip else ["image"] * len(case.pictures)
        content = [*({"type": kind} for kind in kinds), {"type": "text", "text": case.question}]
        messages = [{"role": "user", "content": content}]
        prompt = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        config, ids, left = self.model.config, [], iter(counts)
        for token in self.tokenizer.encode(prompt):
            ids += [token] * (next(left) if token in (config.image_token_id, config.video_token_id) else 1)
        answer = self.tokenizer.encode(case.answer + "<|im_end|>")
        inputs["input_ids"] = torch.tensor([ids + answer])
        image, video = (inputs["input_ids"] == token for token in (config.image_token_id, config.video_token_id))
        inputs["mm_token_type_ids"] = image.int() + 2 * video.int()
        return inputs, len(answer)

    def _features(self, case: Case) -> tuple[dict[str, torch.Tensor], list[int]]:
        """The pixels and grids that the model takes, and the number of visual tokens of each picture."""
        if not case.pictures:
            return {}, []
        found = self.images(images=case.pictures, return_tensors="pt")
        pixels, grid = found["pixel_values"], found["image_grid_thw"]
        if not case.clip:
            return {"pixel_values": pixels, "image_grid_thw": grid}, (grid.prod(1) // 4).tolist()
        frames = pixels.view(len(case.pictures) // 2, 2, -1, 3, 2, 14 * 14)[:, :, :, :, 0].permute(0, 2, 3, 1, 4)
        whole = torch.tensor([[len(case.pictures) // 2, *grid[0, 1:].tolist()]])
        inputs = {"pixel_values_videos": frames.reshape(-1, 3 * 2 * 14 * 14), "video_grid_thw": whole}
        return inputs, [math.prod(whole[0].tolist()) // 4]


def cases(name: str, count: int) -> Iterator[Case]:
    """The first cases of a category, always the same."""
    draw, _ = CATEGORIES[name]
    for index in range(count):
        yield draw(default_rng((_SEED, list(CATEGORIES).index(name), index)))


def _count(served: Served, asked: Iterable[Case]) -> dict[str, tuple[int, int]]:
    """How many answers are right, of how many: of all ("") and of each kind."""
    counts: dict[str, tuple[int, int]] = {}
    for case in asked:
        exact = served.is_exact(case)
        for kind in ("", *(f"  {kind}" for kind in case.kinds)):
            right, total = counts.get(kind, (0, 0))
            counts[kind] = right + exact, total + 1
    return counts


def main() -> None:
    """Print the accuracy of each category. The exit status is 1 if one is below what is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="requests of each category")
    parser.add_argument("--only", choices=CATEGORIES, help="a single category")
    parser.add_argument("--weights", type=Path, help="other weights than the shipped ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the accuracies there too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        build_tiny(Path(folder), weights=options.weights)
        served = Served(Path(folder))
    accuracies: dict[str, float] = {}
    asked_of = {name: least for name, (_, least) in CATEGORIES.items() if options.only in (None, name)}
    for name, least in asked_of.items():
        counts = _count(served, tqdm(cases(name, options.count), name, options.count, leave=False))
        asked = f"(asked: {least:.0%})" if least else ""
        for kind, (right, total) in sorted(counts.items()):
            accuracies[name + kind] = right / total
            print(f"{kind or name:32} {right / total:7.2%} of {total} {'' if kind else asked}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(accuracies, indent=1) + "\n")
    below = [name for name, least in asked_of.items() if accuracies[name] < least]
    raise SystemExit(f"below what is asked: {', '.join(below)}" if below else 0)


if __name__ == "__main__":
    main()
