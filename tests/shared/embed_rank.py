"""A rank in a process of its own: `python embed_rank.py ADDRESS NUMBER`. Says `ready`, then obeys one line at a time.

`open RECORD` holds a view, `sum` says what it adds up to, `write` writes into it in place, `drop` ends it. Each answers
with one line. `digest` answers with the digest of what it sees, and not with the sum. `glance RECORD` opens and ends a
view without reading it.
"""

from __future__ import annotations

import base64
import sys

import numpy as np
from blake3 import blake3

import mmplane


def main(address: str, number: str) -> None:
    inbox = mmplane.Inbox(mmplane.Address.parse(address), int(number))
    view, features = None, np.empty(0)
    print("ready", flush=True)
    for line in sys.stdin:
        command, _, record = line.strip().partition(" ")
        if command == "open":
            view = inbox.open(mmplane.Leased.decode(base64.b64decode(record)))
            features = view.arrays(np)["f"]
        elif command == "glance":
            inbox.open(mmplane.Leased.decode(base64.b64decode(record))).arrays(np)
        elif command == "write":
            features[...] = -1
        elif command == "drop":
            view, features = None, np.empty(0)
        print(blake3(features.tobytes()).hexdigest() if command == "digest" else float(features.sum()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
