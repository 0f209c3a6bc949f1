"""A process that attaches: `python attached.py SOCKET producer` or `... rank GROUP RANK RANKS`. One line, one answer.

producer   make MEDIA (base64), lease GROUP, ranks GROUP (waits for them)
rank       open RECORD, fork (a child drops all and ends), stay (a child keeps socket and mapping; its pid)
all        see (the digest of what was held last), drop, cut (the socket is shut, arrays live on), wait, pid
"""

from __future__ import annotations

import base64
import gc
import json
import os
import signal
import socket
import sys
from typing import Any

import numpy as np
from blake3 import blake3

import mmplane


def main(path: str, role: str, *arguments: str) -> None:
    client: Any
    if role == "rank":
        group, rank, ranks = map(int, arguments)
        client = mmplane.Inbox(path, rank, group=group, ranks=ranks)
    else:
        client = mmplane.connect(path)
    held: list[Any] = []
    say("attached")
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        try:
            say(answer(client, held, command, argument))
        except mmplane.SidecarError as error:
            say(type(error).__name__)


def answer(client: Any, held: list[Any], command: str, argument: str) -> Any:
    match command:
        case "make":
            held.append(client.materialise(base64.b64decode(argument)))
            return [digest(held[-1]), held[-1].hit]
        case "lease":
            return base64.b64encode(held[-1].lease(int(argument)).encode()).decode()
        case "ranks":
            client.wait_ranks(int(argument))
        case "open":
            held.append(client.open(mmplane.Leased.decode(base64.b64decode(argument))))
            return digest(held[-1])
        case "see":
            return digest(held[-1])
        case "drop":
            held.clear()
            gc.collect()
        case "fork":
            pid = os.fork()
            if not pid:
                held.clear()
                gc.collect()
                os._exit(0)
            return os.waitpid(pid, 0)[1]
        case "stay":
            pid = os.fork()
            if not pid:
                os.close(0)
                os.close(1)
                signal.pause()
            return pid
        case "pid":
            return os.getpid()
        case "cut":
            client._attachment.plane.link._socket.shutdown(socket.SHUT_RDWR)
        case "wait":
            client.wait()
        case _:
            raise ValueError(command)
    return "done"


def digest(item: Any) -> str:
    features = next(iter(item.arrays(np).values()))
    return blake3(features.tobytes()).hexdigest()


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
