"""Unknown fields that are null count as absent.

Many clients write every option that they have, with null where nothing is set. The records refuse unknown fields of any
value, so a body that is refused for one is decoded again with spaces over every field of that name that is null.

Quotation marks inside a JSON text are escaped. A comma or a brace, then a quoted name, a colon and null are therefore
always a field, and never part of a text.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

NAMES_MAX = 16
"""Different names in one body."""
READ_BYTES_MAX = 256 * 1024 * 1024
"""How much all attempts together may read: a long body has fewer names."""
UNKNOWN = re.compile(r"Object contains unknown field `([\w-]{1,64})`")
"""How msgspec's message begins."""

ValueT = TypeVar("ValueT")


def decode(decoder: msgspec.json.Decoder[ValueT], body: bytes | bytearray | memoryview | msgspec.Raw) -> ValueT:
    """What the decoder makes of `body`, which is changed in place if it is writable. Raises what the decoder raises."""
    names_left = min(NAMES_MAX, READ_BYTES_MAX // (len(memoryview(body)) or 1))
    while True:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            unknown = UNKNOWN.match(str(error))
            blanked = _blanked(memoryview(body), unknown.group(1)) if unknown and names_left else None
            if blanked is None:
                raise
            body = blanked
            names_left -= 1


def _blanked(body: memoryview, name: str) -> memoryview | None:
    """The body with spaces over each field of this name that is null; None if there is none."""
    if body.readonly:
        body = memoryview(bytearray(body))
    field = rb'\s*"%b"\s*:\s*null' % re.escape(name.encode())
    found = False
    # First those that follow another field. What is left then is the first in its object.
    for pattern in (rb"(,%b)" % field, rb"\{(%b\s*,?)" % field):
        for match in re.finditer(pattern, body):
            start, end = match.span(1)
            body[start:end] = b" " * (end - start)
            found = True
    return body if found else None
