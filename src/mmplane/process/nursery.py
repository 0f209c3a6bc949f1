"""The nursery: one preloaded process from which the front end, the workers and the ranks are forked.

Importing torch and transformers costs seconds; a fork costs milliseconds. What makes forking safe here: this process
has one thread, runs no tensor operation, touches no device, and closes each child's descriptors before it forks the
next, so that no sibling holds a copy of another's socket end (an end of file would never come).
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
import setproctitle

from mmplane.config import Config
from mmplane.core.control import Preloaded, Spawn, Spawned, ToNursery
from mmplane.process import logs
from mmplane.process.death import die_with_parent
from mmplane.process.stacks import answer_with_stacks
from mmplane.wire.link import Link, LinkError, PeerGone

PRELOADED = (
    "mmplane.frontend.main",
    "mmplane.media.worker",
    "mmplane.frontend.request.parser",
    "mmplane.ranks.main",
    "mmplane.features.choice",
)
"""Each child's module; importing it imports everything that the child needs."""

MAINS: Mapping[str, tuple[str, str]] = {
    "frontend": ("mmplane.frontend.main", "mmplane: frontend"),
    "parser": ("mmplane.frontend.request.parser", "mmplane: parser"),
    "worker": ("mmplane.media.worker", "mmplane: worker {index}"),
    "rank": ("mmplane.ranks.main", "mmplane: rank {index}/{of}"),
}

SEND_LIMIT_S = 5.0

Main = Callable[[Spawn, dict[str, int]], None]


def serve(control: Link[Spawn]) -> None:
    """Fork a child for each `Spawn` until the supervisor is gone."""
    children: dict[int, int] = {}
    poller = select.poll()
    poller.register(control, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor in children:
                poller.unregister(descriptor)
                _reap(descriptor, children.pop(descriptor))
                continue
            received = control.receive_nowait()
            if received is None:
                continue
            spawn, descriptors = received
            pid = _fork(spawn, descriptors, control, list(children))
            pidfd = os.pidfd_open(pid)
            children[pidfd] = pid
            poller.register(pidfd, select.POLLIN)
            control.send(Spawned(spawn.spawn_id, pid), [pidfd], limit_s=SEND_LIMIT_S)


def _fork(spawn: Spawn, descriptors: list[int], control: Link[Spawn], siblings: list[int]) -> int:
    nursery_pid = os.getpid()
    pid = os.fork()
    if pid:
        for descriptor in descriptors:
            os.close(descriptor)
        return pid
    code = 1
    try:
        die_with_parent(nursery_pid)
        control.close()
        for sibling in siblings:
            os.close(sibling)
        _become(spawn, dict(zip(spawn.descriptors, descriptors, strict=True)))
        code = 0
    except LinkError:  # a peer died first; the supervisor sees to both
        logging.getLogger("mmplane").info("%s %d lost a peer and ends", spawn.role, spawn.index)
    except BaseException:
        logging.getLogger("mmplane").exception("%s %d ended by an error", spawn.role, spawn.index)
    finally:
        # Not sys.exit: the nursery's own stack and exit handlers lie below this frame.
        with suppress(OSError):  # a full disk
            sys.stderr.flush()
        os._exit(code)


def _become(spawn: Spawn, descriptors: dict[str, int]) -> None:
    module, title = MAINS[spawn.role]
    setproctitle.setproctitle(title.format(index=spawn.index, of=spawn.of))
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    logs.begin(
        config.log_format, config.log_level, title.removeprefix("mmplane: ").format(index=spawn.index, of=spawn.of)
    )
    answer_with_stacks(descriptors.pop("stacks"))
    main: Main = importlib.import_module(module).main
    main(spawn, descriptors)


def _reap(pidfd: int, pid: int) -> None:
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    logging.getLogger("mmplane").debug("reaped %d", pid)


def main() -> None:
    """`python -m mmplane.process.nursery CONTROL_DESCRIPTOR SUPERVISOR_PID LOG_FORMAT`."""
    control_descriptor, supervisor_pid, log_format = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    die_with_parent(supervisor_pid)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the supervisor decides; a terminal's Ctrl-C reaches it alone
    setproctitle.setproctitle("mmplane: nursery")
    answer_with_stacks(sys.stderr.fileno())
    logs.begin(log_format, "info", "nursery")
    started_s = time.monotonic()
    for module in PRELOADED:
        importlib.import_module(module)
    gc.freeze()  # what is imported is never collected: children share its pages for good
    control: Link[Spawn] = Link(control_descriptor, ToNursery)
    control.send(Preloaded((time.monotonic() - started_s) * 1000), limit_s=SEND_LIMIT_S)
    try:
        serve(control)
    except PeerGone:
        return


if __name__ == "__main__":
    main()
