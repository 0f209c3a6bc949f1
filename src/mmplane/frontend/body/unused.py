"""Fields that are known but not built. A value is accepted if it is empty or asks for the default behaviour.

Every other value is refused, because the client would get an answer that it did not ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from mmplane.core.errors import bad_request

NOTHING = msgspec.Raw(b"null")
"""The value of a field that was not sent."""
NEUTRAL_BYTES_MAX = 64
"""Longer values are not decoded and count as not empty."""

if TYPE_CHECKING:
    Unused = Any  # a subclass may give the field a meaning
    Hint = Any
else:
    Unused = Annotated[msgspec.Raw, msgspec.Meta(extra={"unused": "empty or neutral"})]
    Hint = Annotated[msgspec.Raw, msgspec.Meta(extra={"unused": "whatever it says"})]
    """A field that cannot change an answer, such as where to cache a prompt."""
_NONE: Mapping[str, Sequence[Any]] = {}


def check_unused(record: msgspec.Struct, path: str = "", neutral: Mapping[str, Sequence[Any]] = _NONE) -> None:
    """Check the unused fields of a record at `path`, then drop them, because they keep the request's body alive.

    `neutral` lists values by field that ask for the default behaviour. Raises RequestError (400).
    """
    for name in _of_type(type(record), Unused):
        raw = getattr(record, name)
        if raw is not NOTHING:
            value = _decoded(raw)
            if not (_is_empty(value) or any(value == same for same in neutral.get(name, ()))):
                where = f"{path}.{name}" if path else name
                raise bad_request("unsupported_parameter", f"this server does not support {where}", where)
            setattr(record, name, NOTHING)
    for name in _of_type(type(record), Hint):
        setattr(record, name, NOTHING)


def _decoded(raw: msgspec.Raw) -> Any:
    """Decode the value, or return UNSET if it is too long to be neutral. Raises RequestError (400)."""
    if len(memoryview(raw)) > NEUTRAL_BYTES_MAX:
        return msgspec.UNSET
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_request("invalid_json", "the body is not valid JSON") from None


def _is_empty(value: Any) -> bool:
    """Whether a value is empty: null, an empty text, or an array or object of empty values."""
    if isinstance(value, dict):
        return all(map(_is_empty, value.values()))
    if isinstance(value, list):
        return all(map(_is_empty, value))
    return value is None or value == ""


@lru_cache
def _of_type(record: type[msgspec.Struct], kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(record) if field.type == kind)
