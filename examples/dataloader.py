"""A PyTorch DataLoader beside a sidecar: each picture is decoded once, however many workers and epochs ask for it.

mmplane sidecar --model PATH_OF_A_CHECKPOINT --encoding float32 --socket /run/mmplane.sock
python examples/dataloader.py /run/mmplane.sock PICTURE... --start fork
"""

from __future__ import annotations

import argparse
import os
from functools import cache

import torch
from torch.utils.data import DataLoader, Dataset

from mmplane import Client, connect

WORKERS, EPOCHS, BATCH = 2, 2, 2
Features = dict[str, torch.Tensor]


@cache
def client(socket: str, _pid: int) -> Client:
    """The client of the process of this number: one that was forked cannot use its parent's."""
    return connect(socket)


class Pictures(Dataset[Features]):
    """The features of pictures. It holds no client, so that it can be sent to a worker that is spawned."""

    def __init__(self, socket: str, paths: list[str]) -> None:
        self._socket = socket
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Features:
        hold = client(self._socket, os.getpid()).materialise(self._paths[index])
        return hold.arrays(torch)  # in place: the hold ends with the last of these tensors


def collate(pictures: list[Features]) -> Features:
    """A batch: the patches of its pictures, one after another. This is the one copy."""
    return {name: torch.cat([picture[name] for picture in pictures]) for name in pictures[0]}


def main() -> None:
    """Two epochs over the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--start", choices=["fork", "spawn", "forkserver"], default="fork")
    options = parser.parse_args()

    here = client(options.socket, os.getpid())
    print(f"{sum(here.layout(path).tokens for path in options.pictures)} tokens")  # nothing is decoded for this
    loader = DataLoader(
        Pictures(options.socket, options.pictures),
        BATCH,
        num_workers=WORKERS,
        collate_fn=collate,
        multiprocessing_context=options.start,
        persistent_workers=True,
    )
    for epoch in range(EPOCHS):
        for batch in loader:
            shapes = ", ".join(f"{name} {tuple(values.shape)}" for name, values in batch.items())
            print(f"epoch {epoch}: {shapes}, sum {batch['pixel_values'].sum(dtype=torch.float64):.3f}")


if __name__ == "__main__":
    main()
