"""Any record of any type, drawn from what its annotations promise."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

from mmplane.core import control, jobs, plan

CHANNELS: dict[str, Any] = {
    f"{module.__name__.rpartition('.')[2]}.{name}": getattr(module, name)
    for module, names in (
        (control, ("ToNursery", "FromNursery", "FromChild", "ToFrontend", "ToRank")),
        (jobs, ("ToWorker", "FromWorker")),
        (plan, ("Plan", "FromLeader", "ToLeader", "FromFollower")),
    )
    for name in names
}
"""What each link of the server receives."""


@cache
def records(channel: object) -> SearchStrategy[Any]:
    """Records of one type or union."""
    return _values(msgspec.inspect.type_info(channel))


def _values(node: msgspec.inspect.Type) -> SearchStrategy[Any]:
    inspect = msgspec.inspect
    match node:
        case inspect.NoneType():
            return strategies.none()
        case inspect.BoolType():
            return strategies.booleans()
        case inspect.IntType():
            return strategies.integers(
                -(2**63) if node.ge is None else node.ge, 2**63 - 1 if node.le is None else node.le
            )
        case inspect.FloatType():
            return strategies.floats(allow_nan=False)
        case inspect.StrType():
            return strategies.text(max_size=min(node.max_length or 20, 20))
        case inspect.LiteralType():
            return strategies.sampled_from(node.values)
        case inspect.BytesType():
            return strategies.binary(max_size=40)
        case inspect.UnionType():
            return strategies.one_of(*map(_values, node.types))
        case inspect.TupleType():
            return strategies.tuples(*map(_values, node.item_types))
        case inspect.VarTupleType():
            return strategies.lists(_values(node.item_type), max_size=3).map(tuple)
        case inspect.StructType():
            return strategies.builds(node.cls, **{field.name: _values(field.type) for field in node.fields})
    raise TypeError(f"no record holds a {node}")
