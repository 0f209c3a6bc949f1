"""python -m training.train: train the built-in model from a seed, on the CPU, and write its weights.

The stages widen what the pictures show. Each ends with a checkpoint in the work folder, from which a later run goes on.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mmplane.models.tiny import SHIPPED_WEIGHTS, tiny_tokenizer
from training.average import Average
from training.network import Reader, exact, losses
from training.pictures import Variety
from training.samples import Batch, Mix, make_batch

_CLIP_NORM = 1.0
_WEIGHT_DECAY = 0.01
_WARM_UP_STEPS = 100
_LOG_EVERY = 50


@dataclass(frozen=True)
class Stage:
    """A stretch of training: batches of one mix, and a learning rate that goes from one value to another."""

    name: str
    steps: int
    mix: Mix
    rate: tuple[float, float]
    average: float = 0.0
    """How much a running average of the weights keeps of itself at each step; it ends the stage. 0: there is none."""

    def rate_at(self, step: int, *, warm_up: bool) -> float:
        """The learning rate of a step: half a cosine from first to last, after a linear warm-up where asked."""
        first, last = self.rate
        rate = last + (first - last) * (1 + math.cos(math.pi * step / self.steps)) / 2
        return rate * min(1.0, (step + 1) / _WARM_UP_STEPS) if warm_up else rate


PLAIN = Variety(fonts=1, textured=0.0, jpeg=0.0, resized=0.0)
SIMPLE = Mix(grids=((224, 112),), variety=PLAIN, several=0.0, shapes=0.0, text_only=0.0, wording=0.0, clips=0.0)
WIDE = Mix(
    grids=((224, 112), (168, 112), (224, 84), (252, 112), (196, 140), (280, 84)),
    variety=Variety(fonts=6, textured=0.35),
    several=0.2,
    shapes=0.12,
    wording=0.4,
    clips=0.0,
)
STAGES = (
    Stage("digits", 500, SIMPLE, (1e-3, 1e-3)),
    Stage("wide", 2000, WIDE, (1e-3, 1e-3)),
    Stage("settle", 2750, Mix(), (1e-3, 1e-4)),
    Stage("order", 720, Mix(several=0.7), (2e-4, 1e-5)),
    Stage("order-again", 827, Mix(several=0.8), (2e-4, 2e-6)),
    Stage("repeats", 2500, Mix(several=0.85, repeated=0.5), (1e-4, 2e-6), average=0.998),
)
SMOKE = (Stage("smoke", 100, SIMPLE, (1e-3, 1e-3)),)
_SMOKE_FALL = 0.75


class Batches(Dataset[Batch]):
    """The batches of a stage, by step: what a loader's worker makes."""

    def __init__(self, seed: int, stage: Stage) -> None:
        self.seed, self.stage, self.tokenizer = seed, stage, tiny_tokenizer()

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, step: int) -> Batch:
        return make_batch(self.seed, step, self.stage.mix, self.tokenizer)


def batches(seed: int, stage: Stage) -> Iterator[Batch]:
    """The batches of a stage in order, made by a process beside this one."""
    return iter(DataLoader(Batches(seed, stage), batch_size=None, num_workers=1, prefetch_factor=8))


class Training:
    """A model in training: parameters, optimiser, and what the last steps were like."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.seed = seed
        self.reader = Reader()
        decayed = [value for value in self.reader.parameters() if value.ndim > 1]
        others = [value for value in self.reader.parameters() if value.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": _WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)

    def step(self, batch: Batch, rate: float) -> Tensor:
        """Train on one batch. Returns answer loss, symbol loss and the share of exact answers before the step."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            logits, symbols = self.reader(batch)
        answer, symbol = losses(logits, symbols, batch)
        (answer + symbol).backward()
        nn.utils.clip_grad_norm_(self.reader.parameters(), _CLIP_NORM)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return torch.stack((answer.detach(), symbol.detach(), exact(logits.detach(), batch.labels).float().mean()))

    def run(self, index: int, stage: Stage, *, quiet: bool = False) -> list[Tensor]:
        """Train through a stage. Returns what `step` returned, averaged over each 50 steps."""
        history: list[Tensor] = []
        recent: list[Tensor] = []
        average = Average(self.reader, stage.average) if stage.average else None
        bar = tqdm(batches(self.seed * 100 + index, stage), total=stage.steps, desc=stage.name, disable=quiet)
        for step, batch in enumerate(bar):
            recent.append(self.step(batch, stage.rate_at(step, warm_up=index == 0)))
            if average:
                average.follow()
            if len(recent) == _LOG_EVERY or step + 1 == stage.steps:
                history.append(torch.stack(recent).mean(0))
                recent.clear()
                bar.set_postfix_str("answer {:.3f} symbols {:.3f} exact {:.3f}".format(*history[-1].tolist()))
        if average:
            average.settle()
        return history

    def save(self, path: Path) -> None:
        """Write a checkpoint to go on from."""
        torch.save({"reader": self.reader.state_dict(), "optimiser": self.optimiser.state_dict()}, path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, weights_only=True)
        self.reader.load_state_dict(state["reader"])
        self.optimiser.load_state_dict(state["optimiser"])

    def export(self, path: Path) -> None:
        """Write the model's parameters as bfloat16 safetensors, without the head that is for training only."""
        weights = {
            name: value.to(torch.bfloat16).contiguous() for name, value in self.reader.model.state_dict().items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        save_file(weights, temporary, metadata={"format": "pt"})
        temporary.chmod(0o644)
        temporary.rename(path)


def _smoke(training: Training, threads: int) -> None:
    """A hundred steps. The exit status is 1 if the second loss, which falls first, did not fall."""
    history = training.run(0, SMOKE[0])
    first, last = (float(entry[1]) for entry in (history[0], history[-1]))
    print(f"{threads} threads: symbols {first:.3f} -> {last:.3f}")
    raise SystemExit(0 if last < _SMOKE_FALL * first else "the loss did not fall")


def main() -> None:
    """Train stage by stage, with a checkpoint after each, and write the weights at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", type=float, default=1.0, help="multiplies the steps of every stage")
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="folder of the checkpoints")
    parser.add_argument("--output", type=Path, default=SHIPPED_WEIGHTS, help="the weights' file")
    parser.add_argument("--first-stage", default=STAGES[0].name, choices=[stage.name for stage in STAGES])
    parser.add_argument("--smoke", action="store_true", help="a hundred steps: shows that the model learns")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    training = Training(options.seed)
    if options.smoke:
        _smoke(training, options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    first = [stage.name for stage in STAGES].index(options.first_stage)
    if first:
        training.load(options.work / f"{STAGES[first - 1].name}.pt")
    started = time.monotonic()
    for index, stage in list(enumerate(STAGES))[first:]:
        training.run(index, replace(stage, steps=max(1, round(stage.steps * options.times))))
        training.save(options.work / f"{stage.name}.pt")
    training.export(options.output)
    print(f"trained for {(time.monotonic() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
