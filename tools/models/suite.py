"""Serve a tiny checkpoint of each architecture and compare its answers with plain `generate`.

    tools/models/suite.py [NAME ...] [--tp 1 2] [--json FILE] [--right]

A checkpoint is served with chunks of 24 tokens, so that they end inside pictures. It is asked four things, one by one
and at once: about a picture, about another, about two of different sizes, and by text alone. The 12 greedy tokens and
the prompt's length must be those of `generate` with the checkpoint's own processor, in one process.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), *(str(HERE.parents[1] / "tests" / each) for each in ("process", "shared"))]

from architectures import ARCHITECTURES  # noqa: E402
from live import Live  # noqa: E402
from page import SECONDS_ALLOWED, slow  # noqa: E402
from preloaded import PRELOADED, Preloaded, Template  # noqa: E402
from tiny_checkpoint import build  # noqa: E402
from transformers import AutoModelForMultimodalLM  # noqa: E402

from mmplane.features.reference.checkpoint import ReferenceCheckpoint  # noqa: E402

TOKENS = 12
CHUNK_TOKENS = 24
QUESTION = "What is this? Tell."
SIZES = {"one": ((100, 80),), "other": ((64, 120),), "two": ((100, 80), (64, 120)), "text": ()}
"""(width, height) of each question's pictures."""
DISTINCT_MIN = len(SIZES)

Kind = Literal["right", "refused", "wrong", "crash"]


@dataclass(frozen=True)
class Verdict:
    """What became of one architecture with so many ranks. `reason` is what the operator was told, or what differed."""

    kind: Kind
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Answer:
    """Of one question."""

    prompt_tokens: int
    tokens: list[int]


def pictures(name: str) -> list[Image.Image]:
    """Noise of one question's sizes."""
    noise = np.random.default_rng(list(SIZES).index(name) % 3)
    return [Image.fromarray(noise.integers(0, 256, (height, width, 3), np.uint8)) for width, height in SIZES[name]]


def expected(folder: Path) -> dict[str, Answer]:
    """The right answers. Raises whatever transformers raises."""
    torch.set_num_threads(1)
    checkpoint = ReferenceCheckpoint.load(str(folder))
    model = AutoModelForMultimodalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answers = {}
    for name in SIZES:
        images = pictures(name)
        content = [{"type": "image"}] * len(images) + [{"type": "text", "text": QUESTION}]
        text = checkpoint.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        inputs = checkpoint.prompt(text, images)
        length = inputs["input_ids"].shape[1]
        output = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
        answers[name] = Answer(length, output[0, length:].tolist())
    distinct = len({str(answer.tokens) for answer in answers.values()})
    if distinct < DISTINCT_MIN:
        raise AssertionError(f"only {distinct} of the {len(SIZES)} answers differ: choose another seed for its weights")
    drawn = {token for answer in answers.values() for token in answer.tokens}
    if drawn & set(checkpoint.tokenizer.all_special_ids):
        raise AssertionError("an answer has special tokens, which no trained model writes: choose another seed")
    return answers


def served(folder: Path, right: dict[str, Answer] | None, tp: int, preloaded: Preloaded) -> Verdict:
    """Serve it with so many ranks; without right answers only whether it is refused."""
    begin = time.monotonic()
    try:
        live = Live(folder, "--prefill-tokens", str(CHUNK_TOKENS), tp=tp, preloaded=preloaded)
    except AssertionError as error:
        return _refusal(str(error), time.monotonic() - begin)
    try:
        if right is None:
            return Verdict("wrong", "served, though transformers cannot run it here", time.monotonic() - begin)
        kind, reason = _compared(live, right)
        return Verdict(kind, reason, time.monotonic() - begin)
    finally:
        live.kill()
        live._close()


def _refusal(log: str, seconds: float) -> Verdict:
    said = [match.strip() for match in re.findall(r"the model cannot be served: (.*)", log)]
    if said and "giving up" not in log:
        return Verdict("refused", said[-1][:400], seconds)
    failure = [line for line in log.splitlines() if re.match(r"^\S*(Error|Exception)\b", line.strip())]
    return Verdict("crash", (failure or log.splitlines())[-1].strip()[:400], seconds)


def _compared(live: Live, right: dict[str, Answer]) -> tuple[Kind, str]:
    names = list(SIZES)
    with ThreadPoolExecutor(len(names)) as pool:
        once = [(name, _ask(live, name)) for name in names]
        together = list(zip(names, pool.map(lambda name: _ask(live, name), names), strict=True))
    wrong = []
    for way, asked in (("alone", once), ("at once", together)):
        for name, got in asked:
            if isinstance(got, str):
                return "crash", f"{name} {way}: {got}"
            if got != right[name]:
                prompt = f" (prompt {got.prompt_tokens}, not {right[name].prompt_tokens} tokens)"
                wrong.append(f"{name} {way}" + (prompt if got.prompt_tokens != right[name].prompt_tokens else ""))
    return ("wrong", ", ".join(wrong)) if wrong else ("right", "")


def _ask(live: Live, name: str) -> Answer | str:
    parts: list[dict[str, Any]] = []
    for picture in pictures(name):
        file = io.BytesIO()
        picture.save(file, "PNG")
        url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        parts.append({"type": "image_url", "image_url": {"url": url}})
    parts.append({"type": "text", "text": QUESTION})
    try:
        reply = live.chat(parts, max_tokens=TOKENS, mmplane={"trace": True, "ignore_eos": True})
    except Exception as error:
        return repr(error)
    answer = reply.json()
    if reply.status_code != 200:
        return f"{reply.status_code} {answer['error']['message']}"
    return Answer(answer["usage"]["prompt_tokens"], answer["mmplane"]["trace"]["token_ids"][0])


Verdicts = dict[str, dict[str, Verdict]]
"""By architecture and by the number of ranks."""


def run(names: Sequence[str], tps: Sequence[int], preloaded: Preloaded, note: Callable[[Verdicts], None]) -> Verdicts:
    """The verdicts; `note` gets those that are known after each architecture."""
    found: Verdicts = {}
    preloaded.run("--version")  # imports now: they are not the first verdict's time
    with tempfile.TemporaryDirectory() as root:
        for name in names:
            folder = Path(root, name)
            build(ARCHITECTURES[name], folder)
            try:
                right = expected(folder)
            except AssertionError:
                raise
            except Exception as error:
                print(f"{name}: no reference: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
                right = None
            found[name] = {str(tp): served(folder, right, tp, preloaded) for tp in tps}
            for tp, verdict in found[name].items():
                print(f"{name} tp={tp}: {verdict.kind} {verdict.reason} ({verdict.seconds:.1f} s)", flush=True)
            note(found)
    return found


def main() -> int:
    """0 when nothing is wrong and nothing crashes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ARCHITECTURES)}; by default all")
    parser.add_argument("--tp", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--json", type=Path, help="put the verdicts there, in the place of earlier ones")
    parser.add_argument("--right", action="store_true", help="fail unless each is right with each number of ranks")
    parser.add_argument("--source", help="serve by the code in this folder instead of the installed one")
    asked = parser.parse_args()
    preloaded = Preloaded(template=Template({"PYTHONPATH": asked.source})) if asked.source else PRELOADED
    noted = json.loads(asked.json.read_text()) if asked.json and asked.json.is_file() else {}

    def note(found: Verdicts) -> None:
        if asked.json:
            asked.json.write_text(json.dumps(noted | _table(found), indent=1) + "\n")

    try:
        found = run(asked.names or list(ARCHITECTURES), asked.tp, preloaded, note)
    finally:
        preloaded.close()
    good = {"right"} if asked.right else {"right", "refused"}
    bad = [name for name, by_tp in found.items() if any(each.kind not in good for each in by_tp.values())]
    print(f"{len(found) - len(bad)} of {len(found)} are {' or '.join(sorted(good))}; not: {', '.join(bad) or 'none'}")
    if late := slow(_table(found)):
        print(f"warning: longer than {SECONDS_ALLOWED} s: {', '.join(late)}")
    return bool(bad)


def _table(found: Verdicts) -> dict[str, dict[str, dict[str, Any]]]:
    return {name: {tp: asdict(verdict) for tp, verdict in by_tp.items()} for name, by_tp in found.items()}


if __name__ == "__main__":
    sys.exit(main())
