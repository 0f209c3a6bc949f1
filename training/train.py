"""python -m training.train: train the built-in model from a seed, on the CPU, and write its weights.

The stages widen what the pictures show. Each ends with a checkpoint in the work folder, from which a later run goes on.
Several processes of one thread each train on batches of their own and average their gradients: for a model this small
that is faster than one process with several threads, above all where other work takes a core at times.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import torch
from numpy.random import default_rng
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn
from tqdm import tqdm

from mmplane.models.tiny import SHIPPED_WEIGHTS, tiny_tokenizer
from training.average import Average
from training.network import Reader, exact, losses, symbol_loss
from training.pictures import Variety
from training.samples import Batch, Mix, make_batch
from training.various import CANVASES, LENGTHS

_CLIP_NORM = 1.0
_WEIGHT_DECAY = 0.01
_LOG_EVERY = 50
_HEAD_RATE = 2e-3
_KEEP_EVERY_S = 180.0


@dataclass(frozen=True)
class Stage:
    """A stretch of training: batches of one mix, and a learning rate that goes from one value to another.

    It takes its number of steps, or a number of minutes: then the rate follows the clock.
    """

    name: str
    steps: int
    mix: Mix
    rate: tuple[float, float]
    average: float = 0.0
    """How much a running average of the weights keeps of itself at each step; it ends the stage. 0: there is none."""
    warm_up: float = 0.0
    """Share of the stage in which the rate rises from zero."""
    head_first: float = 0.0
    """Share of the stage, at its beginning, that trains the head of the second loss alone."""
    kept: Mix | None = None
    """What the model read before, in every second batch."""
    minutes: float = 0.0

    def rate_at(self, done: float) -> float:
        """The learning rate when a share of the stage is done: half a cosine from first to last, after a warm-up."""
        first, last = self.rate
        rate = last + (first - last) * (1 + math.cos(math.pi * done)) / 2
        return rate * min(1.0, done / self.warm_up) if self.warm_up else rate

    def mix_at(self, seed: int, step: int) -> Mix:
        """What the batches of a step are like."""
        if self.kept is None or default_rng((seed, step, 1)).random() < 0.5:
            return self.mix
        return self.kept


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
_LARGE_PX = 50_000
VARIOUS = Mix(
    grids=(*CANVASES, *(size for size in CANVASES if size[0] * size[1] > _LARGE_PX)),  # fewer of them fit in a batch
    lengths=LENGTHS,
    repeated=0.35,
    several=0.2,
    shapes=0.06,
    text_only=0.03,
    clips=0.02,
    pictures=40,
    most_patches=2560,
    various=True,
)
STAGES = (
    Stage("digits", 500, SIMPLE, (1e-3, 1e-3), warm_up=0.2),
    Stage("wide", 2000, WIDE, (1e-3, 1e-3)),
    Stage("settle", 2750, Mix(), (1e-3, 1e-4)),
    Stage("order", 720, Mix(several=0.7), (2e-4, 1e-5)),
    Stage("order-again", 827, Mix(several=0.8), (2e-4, 2e-6)),
    Stage("repeats", 2500, Mix(several=0.85, repeated=0.5), (1e-4, 2e-6), average=0.998),
    Stage(
        "various",
        9000,
        VARIOUS,
        (5e-4, 0.0),
        average=0.998,
        warm_up=0.05,
        head_first=0.02,
        kept=Mix(several=0.6, repeated=0.4, pictures=20),
    ),
)
SMOKE = (Stage("smoke", 100, SIMPLE, (1e-3, 1e-3), warm_up=1.0),)
_SMOKE_FALL = 0.75


def batches(seed: int, stage: Stage, *, first: int = 0, rank: int = 0, processes: int = 1) -> Iterator[Batch]:
    """The batches of one of several processes, in order from the step `first` on, without end."""
    tokenizer = tiny_tokenizer()
    for step in count(first):
        yield make_batch(seed, step * processes + rank, stage.mix_at(seed, step), tokenizer)


@dataclass(frozen=True)
class Progress:
    """How far a stage is."""

    steps: int = 0
    share: float = 0.0


class Training:
    """A model in training: parameters, optimiser, and what the last steps were like.

    Of several processes (torch's default group) each has the same parameters after each step.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.seed = seed
        self.rank, self.processes = 0, 1
        if distributed.is_initialized():
            self.rank, self.processes = distributed.get_rank(), distributed.get_world_size()
        self.reader = Reader()
        decayed = [value for value in self.reader.parameters() if value.ndim > 1]
        others = [value for value in self.reader.parameters() if value.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": _WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)

    def step(self, batch: Batch, rate: float) -> Tensor:
        """Train on one batch. Returns answer loss, symbol loss and the share of exact answers before the step."""
        with torch.autocast("cpu", torch.bfloat16):
            logits, symbols = self.reader(batch)
        answer, symbol = losses(logits, symbols, batch)
        self._follow(answer + symbol, rate)
        return torch.stack((answer.detach(), symbol.detach(), exact(logits.detach(), batch.labels).float().mean()))

    def step_of_head(self, batch: Batch) -> Tensor:
        """Train the head of the second loss alone. Returns what `step` returns, without what concerns answers."""
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                features = [self.reader.features(group) for group in batch.groups]
            symbols = self.reader.named(features)
        symbol = symbol_loss(symbols, batch)
        self._follow(symbol, _HEAD_RATE)
        return torch.stack((torch.tensor(torch.nan), symbol.detach(), torch.tensor(torch.nan)))

    def _follow(self, loss: Tensor, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss.backward()
        if self.processes > 1:
            self._share_gradients()
        nn.utils.clip_grad_norm_(self.reader.parameters(), _CLIP_NORM)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def _share_gradients(self) -> None:
        gradients = [value.grad for value in self.reader.parameters() if value.grad is not None]
        flat = torch.cat([each.flatten() for each in gradients])
        distributed.all_reduce(flat)
        parts = flat.div_(self.processes).split([each.numel() for each in gradients])
        torch._foreach_copy_(gradients, [part.view_as(each) for part, each in zip(parts, gradients, strict=True)])

    def run(self, index: int, stage: Stage, *, work: Path | None = None, before: Progress = Progress()) -> list[Tensor]:
        """Train through a stage, from where it was. Returns what `step` returned, averaged over each 50 steps.

        Every three minutes the checkpoint and the weights so far are written to `work`, for a run that is cut.
        """
        history: list[Tensor] = []
        recent: list[Tensor] = []
        average = Average(self.reader, stage.average) if stage.average else None
        kept = time.monotonic()
        began = kept - 60 * stage.minutes * before.share
        seed = self.seed * 100 + index
        source = batches(seed, stage, first=before.steps, rank=self.rank, processes=self.processes)
        bar = tqdm(total=0 if stage.minutes else stage.steps, desc=stage.name, disable=work is None or self.rank > 0)
        for step, batch in enumerate(source, before.steps):
            done = self._agreed(
                (time.monotonic() - began) / 60 / stage.minutes if stage.minutes else step / stage.steps
            )
            if done >= 1:
                break
            if done < stage.head_first:
                recent.append(self.step_of_head(batch))
            else:
                recent.append(self.step(batch, stage.rate_at(done)))
            if average:
                average.follow()
            bar.update()
            if len(recent) == _LOG_EVERY:
                history.append(torch.stack(recent).mean(0))
                recent.clear()
                bar.set_postfix_str("answer {:.3f} symbols {:.3f} exact {:.3f}".format(*history[-1].tolist()))
            if work and self.rank == 0 and time.monotonic() - kept > _KEEP_EVERY_S:
                kept = time.monotonic()
                self._keep(work, stage.name, Progress(step + 1, done), average)
        bar.close()
        if average:
            average.settle()
        return history

    def _agreed(self, done: float) -> float:
        """The first process' share, in each: what follows from it must not differ."""
        if self.processes == 1:
            return done
        shared = torch.tensor(done, dtype=torch.float64)
        distributed.broadcast(shared, 0)
        return float(shared)

    def _keep(self, work: Path, name: str, progress: Progress, average: Average | None) -> None:
        self.save(work / f"{name}.pt", progress)
        if average:
            average.swap()
        self.export(work / f"{name}.safetensors")
        if average:
            average.swap()

    def begin_with(self, weights: Path) -> None:
        """Take the model's parameters from exported weights; the head of the second loss is not among them."""
        self.reader.model.load_state_dict(load_file(weights))

    def save(self, path: Path, progress: Progress = Progress()) -> None:
        """Write a checkpoint to go on from, whole or not at all: a run may be cut while it writes."""
        state = {"reader": self.reader.state_dict(), "optimiser": self.optimiser.state_dict()}
        temporary = path.with_suffix(".part")
        torch.save(state | {"steps": progress.steps, "share": progress.share}, temporary)
        temporary.rename(path)

    def load(self, path: Path) -> Progress:
        """Take a checkpoint's state. Returns how far its stage was."""
        state = torch.load(path, weights_only=True)
        self.reader.load_state_dict(state["reader"])
        self.optimiser.load_state_dict(state["optimiser"])
        return Progress(state["steps"], state["share"])

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


def _smoke(training: Training) -> None:
    """A hundred steps. The exit status is 1 if the second loss, which falls first, did not fall."""
    history = training.run(0, SMOKE[0])
    first, last = (float(entry[1]) for entry in (history[0], history[-1]))
    print(f"symbols {first:.3f} -> {last:.3f}")
    raise SystemExit(0 if last < _SMOKE_FALL * first else "the loss did not fall")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--times", type=float, default=1.0, help="multiplies the steps of every stage")
    parser.add_argument("--minutes", type=float, default=0.0, help="how long each stage takes, instead of its steps")
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="folder of the checkpoints")
    parser.add_argument("--output", type=Path, default=SHIPPED_WEIGHTS, help="the weights' file")
    parser.add_argument("--first-stage", default=STAGES[0].name, choices=[stage.name for stage in STAGES])
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--weights", type=Path, help="weights to begin with, instead of the stage before's checkpoint")
    start.add_argument("--resume", action="store_true", help="go on with the first stage where a run that was cut was")
    parser.add_argument("--smoke", action="store_true", help="a hundred steps: shows that the model learns")
    return parser.parse_args()


def _train(rank: int, options: argparse.Namespace, meeting: str) -> None:
    """What each process does."""
    torch.set_num_threads(1)
    if options.processes > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=options.processes)
    training = Training(options.seed)
    first = [stage.name for stage in STAGES].index(options.first_stage)
    before = Progress()
    if options.weights:
        training.begin_with(options.weights)
    elif options.resume:
        before = training.load(options.work / f"{options.first_stage}.pt")
    elif first:
        training.load(options.work / f"{STAGES[first - 1].name}.pt")
    started = time.monotonic()
    for index, stage in list(enumerate(STAGES))[first:]:
        steps = max(1, round(stage.steps * options.times))
        training.run(index, replace(stage, steps=steps, minutes=options.minutes), work=options.work, before=before)
        before = Progress()
        if rank == 0:
            training.save(options.work / f"{stage.name}.pt")
    if rank == 0:
        training.export(options.output)
        print(f"trained for {(time.monotonic() - started) / 60:.1f} minutes")


def main() -> None:
    """Train stage by stage, with a checkpoint after each, and write the weights at the end."""
    options = _options()
    if options.smoke:
        torch.set_num_threads(1)
        _smoke(Training(options.seed))
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options, f"{folder}/meeting")
        if options.processes == 1:
            _train(0, *arguments)
        else:
            torch.multiprocessing.spawn(_train, arguments, nprocs=options.processes)


if __name__ == "__main__":
    main()
