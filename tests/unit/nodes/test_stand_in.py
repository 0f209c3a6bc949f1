"""A stand-in between a supervisor, a front end and a machine that say what the test wants."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import msgspec
import pytest

from mmplane.arena.segment import RegionMapping, create_region
from mmplane.config import Config
from mmplane.core.control import Attach, Ends, FromChild, Meeting, Ready, ToStandIn
from mmplane.core.copies import Copy, Wrote
from mmplane.core.plan import Plan
from mmplane.core.records import Slot
from mmplane.machines.door import Door
from mmplane.machines.greeting import Refusal
from mmplane.machines.records import Pulse
from mmplane.nodes import node as node_module
from mmplane.nodes import stand_in as module
from mmplane.nodes.node import Node
from mmplane.nodes.records import Begin, Bulk, Call, FromServer, FromServerBulk, Passed, Settings
from mmplane.nodes.stand_in import StandIn
from mmplane.process.child import Control
from mmplane.wire.framed import Framed
from mmplane.wire.link import Link, LinkError, PeerGone, ProtocolError, encode, pair

HANG_S = 60.0
REGION_BYTES = 64 * 1024
KIN = (("torch", "2"),)
KEY = bytes(range(32))
CONFIG = Config(
    model="tiny", model_folder="", served_name="tiny", tp=2, nodes=2, workers=1, arena_bytes=4 << 20, join="10.0.0.1:1"
)
MEETING = Meeting("10.0.0.1", 9000, "10.0.0.1", 1, 1)


class Around:
    """A stand-in, and everybody around it."""

    def __init__(self, stack: ExitStack) -> None:
        ours, theirs = pair()
        self.supervisor: Link[Any] = stack.enter_context(closing(Link(theirs, FromChild)))
        region = create_region("test", REGION_BYTES)
        self.region = RegionMapping(region, REGION_BYTES, writable=True)
        os.close(region)
        self.region.view(0, REGION_BYTES)[:] = bytes(range(256)) * (REGION_BYTES // 256)
        control = Control(Link(ours, ToStandIn))
        self.stand_in = StandIn(CONFIG, 1, control, [self.region], bulk_port=7)
        self._stack = stack
        stack.callback(control.link.close)
        stack.callback(self.stand_in._attach, None)
        self.doors = (self._door(Call, self.stand_in.admit), self._door(Bulk, self.stand_in.admit_bulk))

    def _door(self, request: Any, admit: Any) -> Door[Any]:
        listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        return Door(listener, KEY, admit, request=request)

    def connected(self) -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            machine = self._stack.enter_context(socket.create_connection(listener.getsockname()))
            return machine, self._stack.enter_context(listener.accept()[0])

    def call(self, wants: Any = "ranks", kin: tuple[tuple[str, str], ...] = KIN) -> Framed[Any]:
        machine, server = self.connected()
        self.stand_in.admit(Call("machine", wants, kin), server)
        return Framed(machine, FromServer, silence_s=HANG_S)

    def bring(self, token: bytes) -> Framed[Any]:
        machine, server = self.connected()
        self.stand_in.admit_bulk(Bulk(token), server)
        return Framed(machine, FromServerBulk, silence_s=HANG_S)

    def turn(self) -> None:
        self.stand_in.wait(*self.doors)

    def until_lost(self) -> None:
        for _ in range(1000):
            self.turn()

    def began(self, rank: socket.socket) -> tuple[Framed[Any], bytes]:
        """A machine that has joined a group, and the token for its second connection. `rank` is an end of a link."""
        machine = self.call()
        assert isinstance(received(machine), Settings)
        self.supervisor.send(Ends(MEETING), [rank.fileno()], limit_s=HANG_S)
        self.turn()
        begin = received(machine)
        assert isinstance(begin, Begin)
        assert (begin.meeting, begin.bulk_port) == (MEETING, 7)
        return machine, begin.token

    def attach(self) -> Link[Any]:
        """The front end's end of a new link."""
        ours, theirs = pair()
        with theirs:
            self.supervisor.send(Attach(1), [theirs.fileno()], limit_s=HANG_S)
        self.turn()
        return self._stack.enter_context(closing(Link(ours, Wrote)))


def received(stream: Framed[Any]) -> Any:
    """The next record that is no pulse."""
    while isinstance(record := stream.receive(), Pulse):
        pass
    return record


def said(link: Link[Any]) -> list[Any]:
    found = []
    while (each := link.receive_nowait()) is not None:
        found.append(each[0])
    return found


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Iterator[Around]:
    monkeypatch.setattr(module, "kin_of", lambda *_: KIN)
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(module, "entitle", lambda _: None)
    with ExitStack() as stack:
        yield Around(stack)


@pytest.fixture
def rank() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The link of a rank here to one there: this rank's end, and the one that the stand-in gets."""
    ours, theirs = pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_settings_are_told_to_whoever_has_the_key_and_take_no_place(around: Around) -> None:
    for _ in range(2):
        stream = around.call("settings", ())
        assert msgspec.msgpack.decode(received(stream).config, type=Config) == CONFIG
        with pytest.raises(PeerGone):
            stream.receive()
    assert said(around.supervisor) == []


def test_a_machine_joins_and_the_next_one_is_told_so(around: Around) -> None:
    machine = around.call()
    assert isinstance(received(machine), Settings)
    assert said(around.supervisor) == [Ready()]
    with pytest.raises(Refusal, match="has the 1 machines that --nodes allows"):
        around.call()
    around.turn()
    assert machine.receive() == Pulse(), "it waits for the group"


def test_a_machine_that_differs_is_refused_and_leaves_the_place_free(around: Around) -> None:
    with pytest.raises(Refusal, match="torch is 2 on the server and 3 on the machine"):
        around.call(kin=(("torch", "3"),))
    around.call()
    assert said(around.supervisor) == [Ready()]


@pytest.mark.parametrize("how", ["gone", "speaks"])
def test_a_machine_that_is_lost_before_the_group_starts_ends_it(how: str, around: Around) -> None:
    machine = around.call()
    if how == "gone":
        machine.close()
    else:
        machine.send(Passed(0, 1), [memoryview(b"x")])
    with pytest.raises(LinkError):
        around.until_lost()


def test_messages_pass_once_the_group_has_begun(around: Around, rank: tuple[socket.socket, socket.socket]) -> None:
    here, theirs = rank
    machine, _ = around.began(theirs)
    here.send(encode(Plan(1, (), (), (), ())))
    passed = received(machine)
    assert passed.end == 0
    message = bytearray(passed.length_bytes)
    machine.receive_into(memoryview(message))
    assert message == encode(Plan(1, (), (), (), ()))
    theirs.close()
    here.close()
    with pytest.raises(PeerGone, match="has ended"):
        around.until_lost()


def test_another_machine_cannot_bring_the_second_connection(
    around: Around, rank: tuple[socket.socket, socket.socket]
) -> None:
    _, token = around.began(rank[1])
    with pytest.raises(Refusal):
        around.bring(bytes(len(token)))
    around.bring(token)
    with pytest.raises(Refusal):
        around.bring(token)


def test_arrays_are_copied_without_padding_and_the_front_end_hears_of_it(
    around: Around, rank: tuple[socket.socket, socket.socket]
) -> None:
    machine, token = around.began(rank[1])
    bulk = around.bring(token)
    for generation, frontend in enumerate((around.attach(), around.attach()), 1):
        if generation == 1:  # it has been replaced
            frontend.close()
            continue
        copy = Copy(Slot(0, 4096, 512, generation), ((0, 100), (256, 300)))
        frontend.send(copy, limit_s=HANG_S)
        around.turn()
        assert received(bulk) == copy
        content = bytearray(144)
        bulk.receive_into(memoryview(content))
        assert content == bytes(around.region.view(4096, 100)) + bytes(around.region.view(4096 + 256, 44))
        bulk.send(Wrote(generation))
        heard = frontend.receive(limit_s=HANG_S)
        assert heard == (Wrote(generation), [])
    bulk.close()
    with pytest.raises(PeerGone):
        around.until_lost()
    machine.close()


# The other side.


class Told:
    """A channel that only notes what it is to send."""

    def __init__(self) -> None:
        self.posted: list[Any] = []

    def post(self, record: Any) -> None:
        self.posted.append(record)


@pytest.fixture
def written(around: Around) -> Iterator[tuple[Node, Framed[Any], Framed[Any]]]:
    """A node, the stream that it reads, and the server's end of it."""
    with ExitStack() as stack:
        given = {}
        for number, length_bytes in enumerate(CONFIG.region_bytes()):
            given[f"region{number}"] = create_region(f"test-{number}", length_bytes)
            stack.callback(os.close, given[f"region{number}"])
        secrets = node_module.handed
        node_module.handed = lambda _: KEY  # type: ignore[assignment]
        stack.callback(setattr, node_module, "handed", secrets)
        node = Node(CONFIG, given | {"cluster_secrets": -1})
        machine, server = around.connected()
        yield (
            node,
            Framed(machine, FromServerBulk, silence_s=HANG_S),
            Framed(server, FromServerBulk, silence_s=HANG_S),
        )


def test_a_node_writes_what_it_is_sent_and_nothing_else(written: tuple[Node, Framed[Any], Framed[Any]]) -> None:
    node, stream, server = written
    view = node._regions[1].view(0, 8192)
    view[:] = b"." * 8192
    copy, told = Copy(Slot(1, 4096, 512, 9), ((0, 4), (256, 260))), Told()
    server.send(copy, [memoryview(b"abcdefgh")])
    node._write(told, stream, stream.receive())  # type: ignore[arg-type]
    wanted = bytearray(b"." * 8192)
    wanted[4096:4100], wanted[4096 + 256 : 4096 + 260] = b"abcd", b"efgh"
    assert view == wanted
    assert told.posted == [Wrote(9)]


@pytest.mark.parametrize(
    "copy",
    [
        Copy(Slot(2, 0, 64, 1), ((0, 4),)),
        Copy(Slot(1, 1 << 40, 64, 1), ((0, 4),)),
        Copy(Slot(1, 0, 1 << 40, 1), ((0, 4),)),
        Copy(Slot(1, 0, 64, 1), ((0, 65),)),
        Copy(Slot(1, 0, 64, 1), ((4, 0),)),
    ],
    ids=["region", "offset", "length", "span", "backwards"],
)
def test_a_copy_that_is_not_inside_its_slot_ends_the_node(
    copy: Copy, written: tuple[Node, Framed[Any], Framed[Any]]
) -> None:
    node, stream, _ = written
    told = Told()
    with pytest.raises(ProtocolError):
        node._write(told, stream, copy)  # type: ignore[arg-type]
    assert told.posted == []
