"""Features of many pictures with Ray Data: each actor attaches to the sidecar of its node.

Run a sidecar on each node, all at the same path, and then this on one of them:

    mmplane sidecar --model PATH_OF_A_CHECKPOINT --encoding float32 --socket /run/mmplane.sock
    python examples/ray_map_batches.py /run/mmplane.sock PICTURE...
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import numpy as np
import ray

from mmplane import connect

ACTORS, BATCH = 2, 8


class Features:
    """Batches of paths in, batches of features out. The sidecar decodes: an actor needs hardly any CPU of its own."""

    def __init__(self, socket: str) -> None:
        self._client = connect(socket)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One row for each picture, with the arrays named as the model's processor names them."""
        columns = defaultdict(list)
        for hold in self._client.map(batch["path"]):
            with hold:
                for name, values in hold.arrays(np).items():
                    columns[name].append(values.copy())  # Ray keeps it for longer than the hold
        return {**batch, **columns}


def main(socket: str, *pictures: str) -> None:
    """Print a line for each picture."""
    rows = ray.data.from_items([{"path": path} for path in pictures]).map_batches(
        Features,
        fn_constructor_args=(socket,),
        batch_size=BATCH,
        num_cpus=0.1,
        compute=ray.data.ActorPoolStrategy(size=ACTORS),
    )
    for row in rows.iter_rows():
        pixels = row["pixel_values"]
        print(f"{row['path']}: {pixels.shape} {pixels.dtype}, sum {pixels.sum(dtype=np.float64):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
