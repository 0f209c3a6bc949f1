"""The nursery with small children: what each is given, and that none holds what is another's."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from process_programs import HANG_S, Program, has_ended, program

from mmplane.config import Config
from mmplane.core.control import FromNursery, Halted, Killed, Refused, Spawn, Spawned
from mmplane.process.handle import Handle
from mmplane.wire.link import Link, pair

CHILD = """
import os, signal
import msgspec
from mmplane.config import Config

def main(spawn, descriptors):
    wish = msgspec.msgpack.decode(spawn.config, type=Config).model
    os.write(descriptors["out"], f"{spawn.role} {spawn.index}/{spawn.of} {wish} {os.getpid()}".encode())
    if wish == "stay":
        while True:
            signal.pause()
    if wish == "fail":
        raise ValueError("it cannot")
"""

NURSERY = """
from mmplane.core.control import ToNursery
from mmplane.process import nursery, oom
from mmplane.wire.link import Link, PeerGone

fork, open_pidfd = os.fork, os.pidfd_open
def refuse(call):
    def called(*arguments):
        if os.path.exists(f"{sys.argv[3]}/refuse-{call.__name__}"):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return call(*arguments)
    return called
os.fork, os.pidfd_open = refuse(fork), refuse(open_pidfd)
nursery.MAINS = {role: ("nursery_child", f"mmplane: {role} {{index}}/{{of}}") for role in ("child", *oom.SCORES)}
try:
    nursery.serve(Link(int(sys.argv[2]), ToNursery))
except PeerGone:
    report("the supervisor is gone")
"""


class Nursery:
    """A running nursery, driven as the supervisor does."""

    def __init__(self, process: Program, link: Link[FromNursery], log: Path) -> None:
        self.program = process
        self.link = link
        self.log = log
        self._spawns = 0

    def spawn(self, wish: str, index: int = 0, **descriptors_by_name: int) -> tuple[Handle, int]:
        """A child's handle, and where it writes to: an end of file means that nobody holds the other end."""
        spawned, descriptors, read = self.ask(wish, index, **descriptors_by_name)
        assert isinstance(spawned, Spawned)
        (pidfd,) = descriptors
        return Handle(spawned.pid, pidfd, self._spawns), read

    def ask(
        self, wish: str, index: int = 0, *, role: str = "child", **descriptors: int
    ) -> tuple[FromNursery, list[int], int]:
        """The nursery's answer, and where the child writes to."""
        read, write = os.pipe()
        self._spawns += 1
        stacks = os.open(os.devnull, os.O_WRONLY)
        named = {"out": write, "stacks": stacks, **descriptors}
        config = msgspec.msgpack.encode(Config(model=wish, model_folder="", served_name=""))
        spawn = Spawn(self._spawns, role, index, 9, self._spawns, 1, config, tuple(named))
        self.link.send(spawn, list(named.values()), limit_s=HANG_S)
        os.close(write)
        os.close(stacks)
        received = self.link.receive(limit_s=HANG_S)
        while received is not None and isinstance(received[0], Killed):  # of children that a test has killed
            received = self.link.receive(limit_s=HANG_S)
        assert received is not None
        answer, answered = received
        assert isinstance(answer, Spawned | Refused)
        assert answer.spawn_id == self._spawns
        return answer, answered, read


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    (tmp_path / "nursery_child.py").write_text(CHILD)
    with running(tmp_path) as started:
        yield started


@contextmanager
def running(folder: Path) -> Iterator[Nursery]:
    ours, theirs = pair()
    text = f"import sys; sys.path.insert(0, {str(folder)!r})\n" + NURSERY
    log = folder / "log"
    with program(text, pass_fds=(theirs.fileno(),), arguments=(str(theirs.fileno()), str(folder)), log=log) as process:
        theirs.close()
        link: Link[FromNursery] = Link(ours, FromNursery)
        yield Nursery(process, link, log)
        link.close()


def whole(read: int) -> str:
    """Everything until nobody can write any more."""
    text = b""
    while piece := os.read(read, 4096):
        text += piece
    os.close(read)
    return text.decode()


def test_a_child_gets_its_record_and_its_descriptors_by_name(nursery: Nursery) -> None:
    extra, write = os.pipe()
    child, out = nursery.spawn("hello", index=3, other=extra)
    assert whole(out) == f"child 3/9 hello {child.pid}"
    assert child.wait(HANG_S)
    for descriptor in (extra, write, child.pidfd):
        os.close(descriptor)


def test_a_child_shows_its_role_and_dies_by_its_handle(nursery: Nursery) -> None:
    child, out = nursery.spawn("stay", index=2)
    os.read(out, 1)
    assert Path(f"/proc/{child.pid}/cmdline").read_bytes().startswith(b"mmplane: child 2/9")
    child.kill()
    assert child.wait(HANG_S)
    assert whole(out).endswith(str(child.pid)), "end of file: the nursery kept no copy of the child's end"
    os.close(child.pidfd)


def test_no_sibling_holds_anothers_descriptors(nursery: Nursery) -> None:
    """Else the end of file that says that a process died would never come."""
    children = [nursery.spawn("stay") for _ in range(3)]
    for _, out in children:
        os.read(out, 4096)
    for child, out in (children[1], children[0], children[2]):
        child.kill()
        assert whole(out) == "", "end of file"
        os.close(child.pidfd)


def test_a_child_that_fails_is_its_own_affair(nursery: Nursery) -> None:
    child, out = nursery.spawn("fail")
    assert whole(out)
    assert child.wait(HANG_S)
    assert "it cannot" in nursery.log.read_text()
    again, out = nursery.spawn("hello")
    assert whole(out).endswith(str(again.pid))
    for handle in (child, again):
        os.close(handle.pidfd)


@pytest.mark.parametrize("call", ["fork", "pidfd_open"])
def test_a_child_that_the_system_refuses_is_an_answer_and_the_others_live(
    call: str, nursery: Nursery, tmp_path: Path
) -> None:
    before, out = nursery.spawn("stay")
    os.read(out, 1)
    refusal = tmp_path / f"refuse-{call}"
    refusal.touch()
    for _ in range(20):
        answer, descriptors, read = nursery.ask("hello")
        assert isinstance(answer, Refused)
        assert descriptors == []
        assert "unavailable" in answer.reason
        if call == "fork":
            assert whole(read) == "", "end of file: the nursery kept nothing"
        else:
            os.close(read)
    refusal.unlink()
    after, read = nursery.spawn("hello")
    assert whole(read).endswith(str(after.pid))
    assert not before.wait(0)
    before.kill()
    for handle in (before, after):
        os.close(handle.pidfd)
    os.close(out)


def test_it_says_at_once_when_a_child_is_stopped_or_goes_on(nursery: Nursery) -> None:
    child, out = nursery.spawn("stay")
    os.read(out, 1)
    for number, stopped in ((signal.SIGSTOP, True), (signal.SIGCONT, False)) * 2:
        child.signal(number)
        assert nursery.link.receive(limit_s=HANG_S) == (Halted(child.pid, stopped), [])
    child.kill()
    assert whole(out)
    os.close(child.pidfd)


def test_many_children_come_and_go_and_nothing_piles_up(nursery: Nursery) -> None:
    def descriptors() -> int:
        return len(list(Path(f"/proc/{nursery.program.process.pid}/fd").iterdir()))

    counts = set()
    for _ in range(20):
        child, out = nursery.spawn("hello")
        whole(out)
        assert child.wait(HANG_S)
        os.close(child.pidfd)
        nursery.spawn("hello")[0].wait(HANG_S)  # by its answer the one before has been reaped
        counts.add(descriptors())
    assert max(counts) - min(counts) <= 2


def test_children_die_with_a_nursery_that_is_killed(nursery: Nursery) -> None:
    children = [nursery.spawn("stay") for _ in range(3)]
    for _, out in children:
        os.read(out, 1)
    nursery.program.process.kill()
    for child, out in children:
        assert has_ended(child.pidfd)
        os.close(child.pidfd)
        os.close(out)


def test_a_nursery_whose_supervisor_is_gone_ends_and_so_do_its_children(nursery: Nursery) -> None:
    child, out = nursery.spawn("stay")
    os.read(out, 1)
    nursery.link.close()
    assert nursery.program.line() == "the supervisor is gone"
    assert nursery.program.ended_by() == 0
    assert has_ended(child.pidfd)
    os.close(child.pidfd)
    os.close(out)
