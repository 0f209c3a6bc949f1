"""An engine over two machines: a producer here, two ranks there, and features that cross the network once.

    python examples/two_machines.py
    python examples/two_machines.py 10.0.0.1 ssh 10.0.0.2 python examples/two_machines.py second

Without arguments, both are on this machine. Otherwise the arguments are this machine's address, which has to be
private, and the command that starts this file on the second one. Messages to the ranks go through that command's
standard input, as an engine's go through its own connections; features go from the plane here to the mirror there.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import time
from threading import Thread

import msgspec
import two_ranks

import mmplane
from mmplane.machines.dial import Server
from mmplane.mirrors.mirror import Mirror
from mmplane.mirrors.producer import Mirrors

RANKS = 2


def producer(host: str, command: list[str]) -> None:
    """The first machine: the same producer as in `two_ranks`, whose plane is mirrored."""
    plane = mmplane.Plane(mmplane.Address.create(arena_bytes=64 * 2**20, groups=[RANKS]))
    listener, key = socket.create_server((host, 0)), secrets.token_bytes(32)
    mirrors = Mirrors(plane, listener, key)
    second = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    say(second, (host, listener.getsockname()[1], key))
    while not plane.is_ready():  # until its ranks have mapped the mirror's memory
        time.sleep(0.01)
    for seed in (1, 2, 2):
        held = two_ranks.hold(plane, seed)
        assert plane.wait(held, limit_s=10.0), "the other machine did not get it"
        say(second, held.lease().encode())
        for _ in range(RANKS):
            print("  " + second.stdout.readline(), end="")
    second.communicate()
    figures = plane.statistics()
    print(f"written: {figures['written_bytes']} bytes; crossed: {figures['copied_bytes']}, for {RANKS} ranks")
    mirrors.close()


def second_machine() -> None:
    """The mirror and its ranks. The key comes through standard input, and not as an argument that others can see."""
    host, port, key = msgspec.json.decode(sys.stdin.readline(), type=tuple[str, int, bytes])
    mirror = Mirror(Server((host, port), key))
    running = Thread(target=mirror.run)
    running.start()
    command = [sys.executable, two_ranks.__file__, mirror.address.text()]
    ranks = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(RANKS)
    ]
    for process in ranks:
        process.stdout.readline()  # it is ready
    for line in sys.stdin:
        for process in ranks:
            process.stdin.write(line)
            process.stdin.flush()
            print(process.stdout.readline(), end="", flush=True)
    for process in ranks:
        process.communicate()
    mirror.end()
    running.join()


def say(process: subprocess.Popen[str], what: object) -> None:
    """One line to a process."""
    print(msgspec.json.encode(what).decode(), file=process.stdin, flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            producer("127.0.0.1", [sys.executable, __file__, "second"])
        case ["second"]:
            second_machine()
        case [host, *command]:
            producer(host, command)
