"""What crosses a process boundary: it survives the way, it is bounded, and nothing else passes for it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies
from record_strategies import CHANNELS, records

from mmplane.core import control, errors, jobs, plan
from mmplane.core.control import Beat, Replace, Spawn, WorkerGone, WorkerUp
from mmplane.core.plan import Abort, Admitted, Held, Position
from mmplane.core.records import Layout, Record, Slot, Tensor

encode = msgspec.msgpack.Encoder().encode

REFUSED = (msgspec.MsgspecError, UnicodeDecodeError)
"""What msgspec raises for bytes that are not a record; a link makes one `ProtocolError` of them (test_link.py)."""

SLOT = Slot(1, 64, 128, 7)


@pytest.mark.parametrize("channel", CHANNELS)
@given(data=strategies.data())
def test_a_record_survives_the_way(channel: str, data: Any) -> None:
    record = data.draw(records(CHANNELS[channel]))
    assert msgspec.msgpack.decode(encode(record), type=CHANNELS[channel]) == record


@pytest.mark.parametrize("channel", CHANNELS)
@given(junk=strategies.binary(max_size=200))
def test_junk_is_refused(channel: str, junk: bytes) -> None:
    with pytest.raises(REFUSED):
        msgspec.msgpack.decode(junk, type=CHANNELS[channel])


@pytest.mark.parametrize("channel", CHANNELS)
@given(data=strategies.data())
def test_a_damaged_record_is_refused_or_is_a_record(channel: str, data: Any) -> None:
    whole = bytearray(encode(data.draw(records(CHANNELS[channel]))))
    at = data.draw(strategies.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(strategies.integers(1, 255))
    try:
        damaged = msgspec.msgpack.decode(whole, type=CHANNELS[channel])
    except REFUSED:
        return
    assert encode(msgspec.msgpack.decode(encode(damaged), type=CHANNELS[channel])) == encode(damaged)


@pytest.mark.parametrize("channel", CHANNELS)
@given(data=strategies.data())
def test_a_cut_record_is_refused(channel: str, data: Any) -> None:
    whole = encode(data.draw(records(CHANNELS[channel])))
    with pytest.raises(REFUSED):
        msgspec.msgpack.decode(whole[: data.draw(strategies.integers(0, len(whole) - 1))], type=CHANNELS[channel])


def every_record() -> Iterator[type[msgspec.Struct]]:
    """All record types, also those that only lie inside others."""
    seen = list(Record.__subclasses__())
    for kind in seen:
        seen.extend(kind.__subclasses__())
    yield from seen
    yield errors.Failure


@pytest.mark.parametrize("kind", list(every_record()), ids=lambda kind: kind.__name__)
def test_records_are_inert(kind: type[msgspec.Struct]) -> None:
    """Invariant 6: copies are equal, nothing can be changed, nothing happens when one is dropped."""
    config = kind.__struct_config__
    assert config.frozen
    assert config.array_like
    assert not config.gc
    assert not hasattr(kind, "__del__")
    assert not hasattr(kind, "close")


@given(slot=records(Slot))
def test_a_record_can_be_sent_five_times(slot: Slot) -> None:
    copies = [copy.copy(slot), copy.deepcopy(slot), pickle.loads(pickle.dumps(slot))]
    copies += [msgspec.msgpack.decode(encode(slot), type=Slot) for _ in range(2)]
    assert set(copies) == {slot}


@pytest.mark.parametrize("module", [control, jobs, plan], ids=lambda module: module.__name__)
def test_every_tag_is_used_once(module: Any) -> None:
    kinds = [kind for kind in every_record() if kind.__module__ == module.__name__]
    tags = [kind.__struct_config__.tag for kind in kinds if kind.__struct_config__.tag]
    assert len(tags) == len(set(tags))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Slot, (-1, 0, 0, 0)),
        (Slot, (0, -1, 0, 0)),
        (Slot, (0, 0, -1, 0)),
        (Slot, (0, 0, 0, -1)),
        (Slot, (0, 0, 0, 1.5)),
        (Slot, (0, 0, 0)),
        (Slot, (0, 0, 0, "0")),
        (Tensor, ("n" * 65, "float32", (1,), 0)),
        (Tensor, ("name", "d" * 65, (1,), 0)),
        (Layout, ((), ((1, 2, 3),), 0)),
        (Spawn, ("spawn", 1, "r" * 65, 0, 1, 1, 1, b"", ())),
        (WorkerUp, ("worker_gone", 1, 1)),
        (Abort, ("abort", -1)),
        (Held, ("held", 1, 0, ("text",), None)),
        (Position, ("position", 1, -1, b"")),
    ],
)
def test_what_is_out_of_bounds_is_refused(kind: type[Record], fields: tuple[Any, ...]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(encode(fields), type=kind)


def test_a_record_of_another_channel_is_refused() -> None:
    for record, channel in [
        (Beat(), control.ToFrontend),
        (Replace(1, 1), control.ToFrontend),
        (WorkerGone(1, 1), control.FromChild),
        (Admitted(1, ()), plan.ToLeader),
        (Abort(1), plan.FromLeader),
        (jobs.Measure(1, 2, 3), jobs.FromWorker),
    ]:
        with pytest.raises(msgspec.ValidationError):
            msgspec.msgpack.decode(encode(record), type=channel)


def test_an_older_reader_takes_a_newer_record_and_the_other_way_round() -> None:
    """Records evolve by appended fields with defaults."""
    assert msgspec.msgpack.decode(encode(("abort", 5)), type=Abort) == Abort(5, -1)
    assert msgspec.msgpack.decode(encode(("abort", 5, 2, "new")), type=Abort) == Abort(5, 2)


def test_ordinary_records_are_a_few_hundred_bytes() -> None:
    """The promise on the first page of the design: what follows an item around is small, whatever the item."""
    tensors = (Tensor("pixel_values", "float32", (14308, 1176), 0), Tensor("image_grid_thw", "int64", (1, 3), 67 << 20))
    item = plan.Item(bytes(32), "image", Slot(3, 1 << 33, 1 << 27, 1 << 45), tensors)
    sampling = plan.Sampling(512, 1.0, 1.0, 1 << 61, 1)
    submit = plan.Submit(1 << 40, b"", SLOT, 40_000, (item,), (((17, 3577),),), sampling)
    assert len(encode(submit)) < 300
