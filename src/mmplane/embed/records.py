"""The record that crosses process boundaries when the library is used; it is inert like all of ours."""

from __future__ import annotations

from typing import Self

import msgspec

from mmplane.core.records import Count, Item, Record


class Leased(Record, frozen=True):
    """An item, and the number of the lease that every rank of one group has on it.

    Put its `encode`d bytes into any message to those ranks. Each of them ends its share once. `plane` is where item and
    lease are known; `life` is the life of the group that it was leased to, from the start to the death of its ranks. A
    `life` of 0 means any group.
    """

    lease: Count
    item: Item
    plane: bytes = b""
    life: Count = 0

    def encode(self) -> bytes:
        """The record as MessagePack, 100 to 200 bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Decode a record. Raises ValueError if the bytes are not one."""
        try:
            return msgspec.msgpack.decode(message, type=cls)
        except msgspec.MsgspecError as error:  # UnicodeDecodeError is a ValueError already
            raise ValueError("not a record of a leased item") from error
