"""Batches: requests about synthetic pictures as the model sees them. Batch `n` of a seed is always the same.

Every picture of a batch has one of its few grids, so that the vision tower runs over stacked pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy
import torch
from numpy.random import Generator, default_rng
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mmplane.models.tiny import IMAGE_PROCESSOR, tiny_config
from training.pictures import NO_SYMBOL, Picture, Variety, draw_digits, number_picture, shape_picture
from training.various import most_digits, various_picture

PATCH_PX = 14
TOKEN_PX = 28
_CONFIG = tiny_config()
PAD_TOKEN: int = _CONFIG.text_config.pad_token_id
IMAGE_TOKEN: int = _CONFIG.image_token_id
VIDEO_TOKEN: int = _CONFIG.video_token_id
TOKENS_PER_SECOND: int = _CONFIG.vision_config.tokens_per_second
NO_PICTURE = "I see no picture."
IGNORED = -100
_LENGTH_STEP = 8

NUMBER_QUESTIONS = (
    "Which number is this?",
    "What number is this?",
    "Which number do you see?",
    "What number is shown?",
    "Read the number.",
    "Which number is in the picture?",
    "What is the number in this image?",
    "What is this?",
    "What do you see?",
    "What is in this image?",
    "Describe this image.",
)
NUMBERS_QUESTIONS = (
    "Which numbers are these?",
    "What numbers are these?",
    "Read the numbers in order.",
    "Which numbers do you see?",
    "Which number is in each picture?",
    "What are the numbers in these images?",
)
SHAPE_QUESTIONS = (
    "Which colour and shape is this?",
    "What shape is this, and which colour?",
    "Name the colour and the shape.",
    "What is this?",
    "What do you see?",
    "What is in this image?",
    "Describe this image.",
)
TEXTS = ("Hello", "Hello!", "Hi there", "Who are you?", "Tell me a story.", "What can you do?", "Describe a cat.")
SYSTEM_TEXTS = ("You are a helpful assistant.", "You read numbers.", "Answer briefly.", "Be exact.")
_LETTERS = "abcdefghijklmnopqrstuvwxyz      0123456789.,?:-ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Mix:
    """What the requests of a stage of training are like."""

    grids: tuple[tuple[int, int], ...] = (
        (224, 112),
        (168, 112),
        (224, 84),
        (168, 84),
        (196, 84),
        (196, 112),
        (252, 84),
    )
    """Sizes in pixels (width, height), multiples of 28."""
    variety: Variety = field(default_factory=Variety)
    lengths: tuple[int, int] = (4, 6)
    repeated: float = 0.0
    """Share of numbers in which digits are made to repeat, which is what is counted wrong most."""
    several: float = 0.4
    """Share of batches whose requests hold two or three pictures."""
    shapes: float = 0.15
    text_only: float = 0.05
    wording: float = 0.6
    """Share of requests that are worded in another way than the first."""
    clips: float = 0.04
    """Share of batches whose requests hold a clip."""
    pictures: int = 32
    """Pictures in a batch."""
    most_patches: int = 16384
    """Patches in a batch: with large pictures there are fewer of them."""
    various: bool = False
    """Whether numbers are those of `training.various`, on canvases that differ by more than a resize."""


@dataclass(frozen=True)
class Group:
    """Pictures of one grid. `patches` is (pictures, patches, values), `symbols` (pictures, tokens, 2 halves)."""

    grid: tuple[int, int, int]
    patches: Tensor
    symbols: Tensor


@dataclass(frozen=True)
class Batch:
    """Requests. `feature_index` says for each visual token of `ids`, row by row, which feature of the groups it is."""

    groups: list[Group]
    ids: Tensor
    positions: Tensor
    labels: Tensor
    feature_index: Tensor


@dataclass(frozen=True)
class Request:
    """Messages for the chat template, the pictures they show, as (group, index), and the right answer."""

    messages: list[dict[str, object]]
    pictures: list[tuple[int, int]]
    answer: str


def patches_of(image: Image.Image) -> tuple[Tensor, int, int]:
    """What the image processor makes of an image: (patches, 588) float32, one time step, and the grid's two sides."""
    width, height = (max(1, round(side / TOKEN_PX)) * TOKEN_PX for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(numpy.array(image)).float().div_(255)
    pixels = (pixels - torch.tensor(IMAGE_PROCESSOR["image_mean"])) / torch.tensor(IMAGE_PROCESSOR["image_std"])
    rows, columns = height // PATCH_PX, width // PATCH_PX
    parts = pixels.view(rows // 2, 2, PATCH_PX, columns // 2, 2, PATCH_PX, 3).permute(0, 3, 1, 4, 6, 2, 5)
    return parts.reshape(rows * columns, 3 * PATCH_PX * PATCH_PX), rows, columns


def symbols_of(picture: Picture) -> Tensor:
    """The class at the left and at the right half of each merged token: (tokens, 2)."""
    width, height = (max(1, round(side / TOKEN_PX)) for side in picture.image.size)
    symbols = torch.full((height, width, 2), NO_SYMBOL)
    for x, y, kind in picture.marks:
        at = x / picture.image.width * width
        row = min(height - 1, int(y / picture.image.height * height))
        symbols[row, min(width - 1, int(at)), int(at % 1 * 2)] = kind
    return symbols.view(-1, 2)


def make_batch(seed: int, step: int, mix: Mix, tokenizer: PreTrainedTokenizerFast) -> Batch:
    """Batch number `step` of a stage."""
    rng = default_rng((seed, step))
    clip_frames = 2 * int(rng.integers(1, 4)) if rng.random() < mix.clips else 0
    count = 1 if clip_frames or rng.random() >= mix.several else int(rng.integers(2, 4))
    grids = [mix.grids[int(at)] for at in rng.integers(0, len(mix.grids), 1 if count == 1 else 2)]
    shown: list[list[list[Picture]]] = [[] for _ in grids]
    pictures = min(mix.pictures, mix.most_patches // max(_patches(grid) for grid in grids))
    total = max(1, pictures * 2 // clip_frames) if clip_frames else pictures
    requests = [_request(rng, mix, count, grids, shown, clip_frames) for _ in range(max(1, total // count))]
    if rng.random() < mix.text_only * len(requests):
        requests.append(_text_request(rng))
    used = [at for at, pictures in enumerate(shown) if pictures]
    groups = [_group(grids[at], shown[at]) for at in used]
    return _collate([_in_groups(request, used) for request in requests], groups, tokenizer)


def _in_groups(request: Request, used: list[int]) -> Request:
    """The request with its pictures' places in the groups that are left: a grid may have got no picture."""
    return replace(request, pictures=[(used.index(group), at) for group, at in request.pictures])


def _request(
    rng: Generator,
    mix: Mix,
    count: int,
    grids: list[tuple[int, int]],
    shown: list[list[list[Picture]]],
    clip_frames: int,
) -> Request:
    shape = rng.random() < mix.shapes
    places: list[tuple[int, int]] = []
    answers: list[str] = []
    for _ in range(count):
        at = int(rng.integers(len(grids)))
        size = _near(rng, grids[at], mix.variety)
        picture = shape_picture(rng, size, mix.variety) if shape else _number(rng, size, mix)
        places.append((at, len(shown[at])))
        shown[at].append(_frames(rng, picture, clip_frames))
        answers.append(picture.answer)
    questions = SHAPE_QUESTIONS if shape else NUMBERS_QUESTIONS + NUMBER_QUESTIONS if count > 1 else NUMBER_QUESTIONS
    kind = "video" if clip_frames else "image"
    return Request(_messages(rng, mix, questions, [kind] * count), places, ", ".join(answers))


def _number(rng: Generator, size: tuple[int, int], mix: Mix) -> Picture:
    least, most = mix.lengths
    if not mix.various:
        digits = draw_digits(rng, held_out=False, lengths=mix.lengths, repeated=mix.repeated)
        return number_picture(rng, digits, size, mix.variety)
    lengths = least, min(most, most_digits(size))
    return various_picture(rng, draw_digits(rng, held_out=False, lengths=lengths, repeated=mix.repeated), size)


def _patches(grid: tuple[int, int]) -> int:
    return grid[0] * grid[1] // PATCH_PX**2


def _frames(rng: Generator, picture: Picture, count: int) -> list[Picture]:
    """The frames of a clip: the picture, with noise of its own in each frame. A still picture for count 0."""
    if not count:
        return [picture]
    pixels = numpy.asarray(picture.image, dtype=numpy.float32)
    noise = float(rng.uniform(0, 6))
    frames = [
        numpy.clip(pixels + noise * rng.standard_normal(pixels.shape, dtype=numpy.float32), 0, 255)
        for _ in range(count)
    ]
    return [replace(picture, image=Image.fromarray(frame.astype(numpy.uint8))) for frame in frames]


def _near(rng: Generator, grid: tuple[int, int], variety: Variety) -> tuple[int, int]:
    """The grid's own size, or one that the image processor resizes to it."""
    if rng.random() >= variety.resized:
        return grid
    return grid[0] + int(rng.integers(-13, 14)), grid[1] + int(rng.integers(-13, 14))


def _messages(rng: Generator, mix: Mix, questions: tuple[str, ...], kinds: list[str]) -> list[dict[str, object]]:
    pictures: list[dict[str, str]] = [{"type": kind} for kind in kinds]
    if rng.random() >= mix.wording:
        return [{"role": "user", "content": [*pictures, {"type": "text", "text": questions[0]}]}]
    question = _question(rng, questions)
    layout = rng.random()
    if layout < 0.7:
        content = [*pictures, {"type": "text", "text": question}]
    elif layout < 0.9:
        content = [{"type": "text", "text": question}, *pictures]
    else:
        named = [({"type": "text", "text": f"Picture {at + 1}: "}, part) for at, part in enumerate(pictures)]
        content = [part for pair in named for part in pair] + [{"type": "text", "text": "\n" + question}]
    return [*_system(rng), {"role": "user", "content": content}]


def _question(rng: Generator, questions: tuple[str, ...]) -> str:
    chance = rng.random()
    question = questions[int(rng.integers(len(questions)))]
    if chance < 0.08:
        return _scribble(rng, 40)
    if chance < 0.18:
        return f"{question} {_scribble(rng, 16)}"
    if chance < 0.26:
        return f"{_scribble(rng, 16)} {question}"
    return question.lower() if chance < 0.3 else question


def _scribble(rng: Generator, longest: int) -> str:
    return "".join(_LETTERS[int(at)] for at in rng.integers(0, len(_LETTERS), int(rng.integers(1, longest))))


def _system(rng: Generator) -> list[dict[str, object]]:
    if rng.random() >= 0.15:
        return []
    return [{"role": "system", "content": SYSTEM_TEXTS[int(rng.integers(len(SYSTEM_TEXTS)))]}]


def _text_request(rng: Generator) -> Request:
    questions = TEXTS + NUMBER_QUESTIONS + NUMBERS_QUESTIONS + SHAPE_QUESTIONS
    text = _question(rng, questions)
    return Request([*_system(rng), {"role": "user", "content": text}], [], NO_PICTURE)


def _group(size: tuple[int, int], pictures: list[list[Picture]]) -> Group:
    rows, columns = size[1] // PATCH_PX, size[0] // PATCH_PX
    steps = max(1, len(pictures[0]) // 2)
    patches = torch.stack([_clip_patches(frames) for frames in pictures])
    symbols = torch.stack([symbols_of(frames[0]).repeat(steps, 1) for frames in pictures])
    return Group((steps, rows, columns), patches, symbols)


def _clip_patches(frames: list[Picture]) -> Tensor:
    parts = [patches_of(frame.image)[0] for frame in frames]
    if len(parts) == 1:
        return parts[0]
    in_time = torch.stack(parts).view(len(parts) // 2, 2, -1, 3, PATCH_PX**2)
    return in_time.permute(0, 2, 3, 1, 4).reshape(-1, 2 * 3 * PATCH_PX**2)


def _collate(requests: list[Request], groups: list[Group], tokenizer: PreTrainedTokenizerFast) -> Batch:
    rows = [encode(request, [group.grid for group in groups], tokenizer) for request in requests]
    longest = max(len(ids) for ids, _, _ in rows)
    length = -(-longest // _LENGTH_STEP) * _LENGTH_STEP
    ids = torch.full((len(rows), length), PAD_TOKEN)
    labels = torch.full((len(rows), length), IGNORED)
    positions = torch.zeros((3, len(rows), length), dtype=torch.long)
    for row, (tokens, places, answer_length) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, len(tokens) - answer_length - 1 : len(tokens) - 1] = torch.tensor(tokens[-answer_length:])
        positions[:, row, : len(tokens)] = places
    return Batch(groups, ids, positions, labels, _feature_index(requests, groups))


def _feature_index(requests: list[Request], groups: list[Group]) -> Tensor:
    starts = numpy.cumsum([0, *(group.symbols.shape[0] * group.symbols.shape[1] for group in groups)])
    index = [
        torch.arange(groups[group].symbols.shape[1]) + int(starts[group]) + at * groups[group].symbols.shape[1]
        for request in requests
        for group, at in request.pictures
    ]
    return torch.cat(index)


def encode(
    request: Request, grids: list[tuple[int, int, int]], tokenizer: PreTrainedTokenizerFast
) -> tuple[list[int], Tensor, int]:
    """Token ids with the answer at their end, their positions (3, length), and the answer's length in tokens."""
    prompt = tokenizer.apply_chat_template(request.messages, tokenize=False, add_generation_prompt=True)
    answer = tokenizer.encode(request.answer + "<|im_end|>")
    ids: list[int] = []
    places: list[Tensor] = []
    pictures, position = iter(request.pictures), 0
    for token in tokenizer.encode(prompt) + answer:
        if token not in (IMAGE_TOKEN, VIDEO_TOKEN):
            ids.append(token)
            places.append(torch.full((3, 1), position))
            position += 1
            continue
        steps, rows, columns = grids[next(pictures)[0]]
        seconds = TOKENS_PER_SECOND if token == VIDEO_TOKEN else 1
        axes = (torch.arange(steps) * seconds, torch.arange(rows // 2), torch.arange(columns // 2))
        places.append(torch.stack(torch.meshgrid(*axes, indexing="ij")).view(3, -1) + position)
        ids += [token] * places[-1].shape[1]
        position += max(rows, columns) // 2
    return ids, torch.cat(places, 1), len(answer)
