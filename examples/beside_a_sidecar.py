"""An engine of sixty lines beside a sidecar: a front end, two ranks, and pictures that reach both without a copy.

    python examples/beside_a_sidecar.py PATH_OF_A_CHECKPOINT PICTURE...

The front end asks the sidecar for each picture and sends both ranks the same short record over a pipe. Each rank adds
up what it sees. A picture that comes again is not decoded again.
"""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np

from mmplane import Inbox, Leased, Sidecar

RANKS = 2


def rank(socket: str, number: int) -> None:
    """A rank: records in, sums out. The lease ends when the last array over it is gone."""
    inbox = Inbox(socket, group=0, rank=number, ranks=RANKS)
    for line in sys.stdin:
        view = inbox.open(Leased.decode(msgspec.json.decode(line, type=bytes)))
        pixels = view.arrays(np)["pixel_values"]
        print(f"rank {number}: {pixels.shape} {pixels.dtype}, sum {pixels.sum(dtype=np.float64):.1f}", flush=True)
        del view, pixels


def engine(model: str, pictures: list[str]) -> None:
    """The front end. The sidecar is its child, and so are the ranks."""
    with Sidecar.start(model=model, workers=1, arena_bytes=64 * 2**20) as sidecar, sidecar.connect() as client:
        command = [sys.executable, __file__, "--rank", sidecar.socket]
        ranks = [
            subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for number in range(RANKS)
        ]
        client.wait_ranks(0)
        for picture in pictures:
            tokens = client.layout(picture).tokens
            with client.materialise(picture) as hold:
                record = hold.lease(0).encode()
            print(f"{picture}: {tokens} tokens, a record of {len(record)} bytes")
            for process in ranks:
                print(msgspec.json.encode(record).decode(), file=process.stdin, flush=True)
                print("  " + process.stdout.readline(), end="")
        for process in ranks:
            process.communicate()
        print(f"made: {client.statistics()['materialisations']} of {len(pictures)}")


if __name__ == "__main__":
    if sys.argv[1] == "--rank":
        rank(sys.argv[2], int(sys.argv[3]))
    else:
        engine(sys.argv[1], sys.argv[2:])
