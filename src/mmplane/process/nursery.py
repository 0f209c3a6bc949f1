"""The nursery: one preloaded process from which the front end, the workers and the ranks are forked.

Importing torch and transformers takes seconds; a fork takes milliseconds. Forking is safe because this process has one
thread, runs no tensor operation, touches no device, and closes each child's descriptors before it forks the next child.
So no sibling holds a copy of another child's socket end, which would hide the end of file from the peer.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import msgspec

from mmplane.config import Config
from mmplane.core.control import Halted, Killed, Preloaded, Refused, Spawn, Spawned, ToNursery
from mmplane.process import logs
from mmplane.process.death import die_with_parent
from mmplane.process.oom import volunteer
from mmplane.process.signals import BYTES_MAX, heed, unheed
from mmplane.process.stacks import answer_with_stacks
from mmplane.process.title import entitle
from mmplane.wire.link import Link, LinkError, PeerGone

PRELOADED: Mapping[str, tuple[str, ...]] = {
    "server": (
        "mmplane.frontend.main",
        "mmplane.media.worker",
        "mmplane.frontend.request.parser",
        "mmplane.machines.porter",
        "mmplane.nodes.stand_in",
        "mmplane.ranks.main",
        "mmplane.features.choice",
        "mmplane.features.reference.images",
        "mmplane.features.reference.parity",
        "mmplane.features.reference.configuration",
    ),
    "sidecar": ("mmplane.sidecar.main", "mmplane.sidecar.workshop", "mmplane.media.worker"),
    "outpost": ("mmplane.machines.outpost", "mmplane.media.worker"),
    "node": (
        "mmplane.nodes.node",
        "mmplane.ranks.main",
        "mmplane.features.choice",
        "mmplane.features.reference.images",
        "mmplane.features.reference.configuration",
    ),
    "carrying": ("mmplane.sidecar.main",),
    "rendering": ("mmplane.sidecar.main", "mmplane.sidecar.workshop", "mmplane.media.worker", "mmplane.render.main"),
}
"""The modules of each kind of server. Importing them imports everything that the children need.

A sidecar that only carries features imports no media library. One that renders imports transformers, and with it torch,
which takes longer than everything else.
"""

MAINS: Mapping[str, tuple[str, str]] = {
    "frontend": ("mmplane.frontend.main", "mmplane: frontend"),
    "parser": ("mmplane.frontend.request.parser", "mmplane: parser"),
    "worker": ("mmplane.media.worker", "mmplane: worker {index}"),
    "porter": ("mmplane.machines.porter", "mmplane: porter {index}"),
    "outpost": ("mmplane.machines.outpost", "mmplane: outpost"),
    "stand-in": ("mmplane.nodes.stand_in", "mmplane: stand-in {index}"),
    "node": ("mmplane.nodes.node", "mmplane: node"),
    "keeper": ("mmplane.sidecar.main", "mmplane: sidecar"),
    "render": ("mmplane.render.main", "mmplane: render {index}"),
    "rank": ("mmplane.ranks.main", "mmplane: rank {index}/{of}"),
}

NEEDLESS = ("scipy", "sklearn")
"""Packages that transformers imports for the losses of training if they are there: 370 modules."""

SEND_LIMIT_S = 5.0
LONG_S = 0.5

Main = Callable[[Spawn, dict[str, int]], None]


def serve(control: Link[Spawn]) -> None:
    """Fork a child for each `Spawn` until the supervisor is gone. Report when a child is stopped or continues."""
    children: dict[int, int] = {}
    halts = heed((signal.SIGCHLD,))  # a child was stopped, continues, or has ended
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(halts, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == halts:
                os.read(halts, BYTES_MAX)
                _tell_of_halts(control)
            elif descriptor in children:
                poller.unregister(descriptor)
                _reap(control, descriptor, children.pop(descriptor))
            elif (received := control.receive_nowait()) is not None:
                spawn, descriptors = received
                answer, pidfds = _spawn(spawn, descriptors, [control.fileno(), halts, *children])
                for pidfd in pidfds:
                    children[pidfd] = answer.pid if isinstance(answer, Spawned) else 0
                    poller.register(pidfd, select.POLLIN)
                control.send(answer, pidfds, limit_s=SEND_LIMIT_S)


def _tell_of_halts(control: Link[Spawn]) -> None:
    with suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)) is not None:
            control.send_nowait(Halted(found.si_pid, found.si_code != os.CLD_CONTINUED))


def _spawn(spawn: Spawn, descriptors: list[int], ours: list[int]) -> tuple[Spawned | Refused, list[int]]:
    """Fork. Returns the answer and the child's pidfd. `descriptors` are closed here, `ours` in the child."""
    try:
        pid = _fork(spawn, descriptors, ours)
        try:
            return Spawned(spawn.spawn_id, pid), [os.pidfd_open(pid)]
        except OSError:  # no descriptor is left, so nobody would notice its end
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    except OSError as error:
        return Refused(spawn.spawn_id, error.strerror or str(error)), []
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _fork(spawn: Spawn, descriptors: list[int], ours: list[int]) -> int:
    nursery_pid = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        die_with_parent(nursery_pid)
        unheed()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in ours:
            os.close(descriptor)
        _become(spawn, dict(zip(spawn.descriptors, descriptors, strict=True)))
        code = 0
    except LinkError:  # a peer died first; the supervisor handles both
        logging.getLogger("mmplane").info("%s %d lost a peer and ends", spawn.role, spawn.index)
    except SystemExit:  # it has told the supervisor why
        logging.getLogger("mmplane").debug("%s %d cannot start", spawn.role, spawn.index, exc_info=True)
    except BaseException:
        logging.getLogger("mmplane").exception("%s %d ended by an error", spawn.role, spawn.index)
    finally:
        # Not sys.exit: the nursery's own stack and exit handlers are below this frame.
        with suppress(OSError):  # the disk is full
            sys.stderr.flush()
        os._exit(code)


def _become(spawn: Spawn, descriptors: dict[str, int]) -> None:
    module, title = MAINS[spawn.role]
    entitle(title.format(index=spawn.index, of=spawn.of))
    volunteer(spawn.role)
    config = msgspec.msgpack.decode(spawn.config, type=Config)
    logs.begin(
        config.log_format, config.log_level, title.removeprefix("mmplane: ").format(index=spawn.index, of=spawn.of)
    )
    answer_with_stacks(descriptors.pop("stacks"))
    main: Main = importlib.import_module(module).main
    main(spawn, descriptors)


def _reap(control: Link[Spawn], pidfd: int, pid: int) -> None:
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    if ended is not None and ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
        control.send_nowait(Killed(pid, ended.si_status))
    logging.getLogger("mmplane").debug("reaped %d", pid)


def preload(kind: str) -> None:
    """Import all modules of a kind's children, with about a fifth less CPU than `import` alone takes.

    Imports make objects that stay, so a collection finds nothing. What is imported is never collected later either:
    children share its pages.
    """
    gc.disable()
    with _hidden(NEEDLESS):
        for module in PRELOADED[kind]:
            _preload(module)
    gc.freeze()
    gc.enable()


@contextmanager
def _hidden(packages: Sequence[str]) -> Iterator[None]:
    """Make packages that are not imported yet look as if they were not installed."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _preload(module: str) -> None:
    """Import a module. Log it if it takes long, because it imports torch and transformers."""
    began_s = time.monotonic()
    importlib.import_module(module)
    seconds = time.monotonic() - began_s
    if seconds > LONG_S:
        logging.getLogger("mmplane").info("imported %s in %.1f s", module.removeprefix("mmplane."), seconds)


def main() -> None:
    """`python -m mmplane.process.nursery CONTROL_DESCRIPTOR SUPERVISOR_PID LOG_FORMAT KIND`."""
    control_descriptor, supervisor_pid, log_format, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    die_with_parent(supervisor_pid)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the supervisor decides; only the supervisor gets a terminal's Ctrl-C
    entitle("mmplane: nursery")
    answer_with_stacks(sys.stderr.fileno())
    logs.begin(log_format, "info", "nursery")
    started_s = time.monotonic()
    preload(kind)
    control: Link[Spawn] = Link(control_descriptor, ToNursery)
    control.send(Preloaded((time.monotonic() - started_s) * 1000), limit_s=SEND_LIMIT_S)
    try:
        serve(control)
    except PeerGone:
        return


if __name__ == "__main__":
    main()
