"""What crosses a process boundary when the library is used: records, inert like all of ours."""

from __future__ import annotations

from typing import Self

import msgspec

from mmplane.core.records import Count, Item, Record


class Leased(Record, frozen=True):
    """An item, and the number of the lease that every rank of one group has on it.

    Put its `encode`d bytes into any message that goes to those ranks. Each of them ends its share once. `plane` is
    where item and lease are known, `life` the life of the group that it was leased to: its ranks from start to death.
    A `life` of 0 is any group's.
    """

    lease: Count
    item: Item
    plane: bytes = b""
    life: Count = 0

    def encode(self) -> bytes:
        """MessagePack, a hundred bytes or two."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """The record of these bytes. Raises ValueError when they are not one."""
        try:
            return msgspec.msgpack.decode(message, type=cls)
        except msgspec.MsgspecError as error:  # UnicodeDecodeError is a ValueError already
            raise ValueError("not a record of a leased item") from error
