"""docs/protocol.md has every record with its fields and types, and its conversation consists of records."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import msgspec
import pytest
from msgspec import inspect
from test_architecture import ROOT, section

from mmplane.arena.label import PLANE_BYTES
from mmplane.core.errors import Failure
from mmplane.core.records import Item, Layout, Slot, Tensor
from mmplane.embed.records import Leased
from mmplane.sidecar.records import Describe, FromKeeper, Media, Obtain, Region, ToKeeper, Wish

PAGE = ROOT / "docs" / "protocol.md"
PARTS = (Region, Media, Wish, Slot, Tensor, Layout, Item, Failure, Leased)
STAND_FOR = {"PLANE": bytes(PLANE_BYTES), "KEY": bytes(32), "DIGEST": bytes(32)}


def test_the_table_of_records_is_the_codes() -> None:
    assert section(PAGE, "records") == "\n".join(table())


def table() -> list[str]:
    rows = ["| record | sent by | fields |", "|---|---|---|"]
    for sender, kinds in (("client", get_args(ToKeeper)), ("sidecar", get_args(FromKeeper)), ("", PARTS)):
        for kind in map(inspect.type_info, kinds):
            assert isinstance(kind, inspect.StructType)
            rows.append(f"| {name(kind)} | {sender} | {'; '.join(map(field, kind.fields))} |")
    return rows


def name(kind: inspect.StructType) -> str:
    return f"`{kind.tag}`" if kind.tag else f"*{kind.cls.__name__.lower()}*"


def field(one: inspect.Field) -> str:
    return f"`{one.name}` {spelled(one.type)}" + ("" if one.required else f" = {default(one.default)}")


def default(value: Any) -> str:
    return "nil" if value is None else "empty" if value in (b"", "", ()) else json.dumps(value)


def spelled(kind: Any) -> str:
    match kind:
        case inspect.StructType():
            return name(kind)
        case inspect.LiteralType():
            return " or ".join(f'"{value}"' for value in kind.values)
        case inspect.UnionType():
            return " or ".join(map(spelled, kind.types))
        case inspect.VarTupleType():
            return f"array of {spelled(kind.item_type)}" + limits(None, kind.max_length)
        case inspect.TupleType():
            return f"[{', '.join(map(spelled, kind.item_types))}]"
        case inspect.IntType():
            return "uint" + limits(kind.ge or None, kind.le)
        case inspect.BytesType():
            return "bytes" + limits(kind.min_length, kind.max_length)
        case inspect.StrType():
            return "text" + limits(None, kind.max_length)
    return {inspect.FloatType: "float", inspect.BoolType: "bool", inspect.NoneType: "nil"}[type(kind)]


def limits(least: int | None, most: int | None) -> str:
    match least, most:
        case None, None:
            return ""
        case None, _:
            return f" (at most {most})"
        case _, None:
            return f" (at least {least})"
    return f" ({most})" if least == most else f" ({least} to {most})"


@pytest.mark.parametrize("line", re.findall(r"^[-<][->] \[.*$", section(PAGE, "conversation"), re.MULTILINE))
def test_the_conversation_consists_of_records(line: str) -> None:
    record, descriptors = re.fullmatch(r".. (\[.*\]) *(\d descriptors?)?", line).groups()  # type: ignore[union-attr]
    fields = filled(json.loads(re.sub(r"\b([A-Z]+)\b", r'"\1"', record)))
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=ToKeeper if line[0] == "-" else FromKeeper)
    may_carry = isinstance(decoded, Describe | Obtain)  # the bytes may ride along, or follow when they are asked for
    assert bool(descriptors) == type(decoded).carries or may_carry


def filled(value: Any) -> Any:
    return [filled(each) for each in value] if isinstance(value, list) else STAND_FOR.get(value, value)
