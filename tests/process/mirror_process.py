"""A mirror: `python mirror_process.py HOST PORT KEY`. Says its address, and at the end why it has ended."""

from __future__ import annotations

import sys

from mmplane.machines.dial import Server
from mmplane.mirrors.mirror import Mirror


def main(host: str, port: str, key: str) -> None:
    mirror = Mirror(Server((host, int(port)), bytes.fromhex(key)))
    print(mirror.address.text(), flush=True)
    print(mirror.run(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
