"""Blocks of the ranks' key-value memory: which are used by whom, and which are kept for later requests. Pure.

A block holds `block_tokens` positions of one sequence. Sequences with a common beginning share blocks, so a block
counts its users. A block that is full and computed has a key (`mmplane.ranks.plan.chain`). When its last user is gone
it is idle: it keeps its key and its content until it is found again, or until it is the least recently used one and
another sequence takes it.

Every rank has the same table, because every rank makes the same calls in the same order.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

BLOCK_TOKENS = 16
IDLE_MAX = 2**17
"""The maximum number of blocks kept for later requests; each takes about 300 bytes of this table."""


class Blocks:
    """Blocks, numbered from 0 to `total` - 1. Each is free, used or idle."""

    def __init__(self, total: int, block_tokens: int = BLOCK_TOKENS) -> None:
        self.total = total
        self.block_tokens = block_tokens
        self.evicted = 0
        """How many idle blocks were taken for another use."""
        self._fresh = 0
        self._free: list[int] = []
        self._users: Counter[int] = Counter()
        self._pins: Counter[int] = Counter()
        self._keys: dict[int, bytes] = {}
        self._by_key: dict[bytes, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """The number of blocks that `take` can still provide."""
        return self.total - len(self._users)

    @property
    def used(self) -> int:
        """The number of blocks with a user."""
        return len(self._users)

    @property
    def idle(self) -> int:
        """The number of blocks kept for later requests."""
        return len(self._idle)

    @property
    def pinned(self) -> int:
        """The number of blocks that a preemption does not free."""
        return len(self._pins)

    def count_for(self, tokens: int) -> int:
        """The number of blocks for this many tokens."""
        return -(-tokens // self.block_tokens)

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """The blocks of the longest sequence of `keys`, from the first on, that exist."""
        found = []
        for key in keys:
            block = self._by_key.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def newly_used(self, blocks: Iterable[int]) -> int:
        """How many of these blocks have no user yet. Sharing them reduces `available` by this number."""
        return sum(block not in self._users for block in blocks)

    def newly_pinned(self, blocks: Iterable[int]) -> int:
        """How many of these blocks are not pinned yet."""
        return sum(block not in self._pins for block in blocks)

    def take(self) -> int | None:
        """A block for one user to write into; None if all have users."""
        if self._free:
            block = self._free.pop()
        elif self._fresh < self.total:
            block, self._fresh = self._fresh, self._fresh + 1
        elif self._idle:
            block = self._forget()
            self.evicted += 1
        else:
            return None
        self._users[block] = 1
        return block

    def share(self, blocks: Iterable[int]) -> None:
        """Add a user to each block."""
        for block in blocks:
            self._idle.pop(block, None)
            self._users[block] += 1

    def is_shared(self, block: int) -> bool:
        """Whether another user reads it, so that a writer must take a copy."""
        return self._users[block] > 1

    def drop(self, blocks: Sequence[int]) -> None:
        """Remove a user of each. The last blocks are evicted first: without earlier ones they cannot be found."""
        for block in reversed(blocks):
            self._users[block] -= 1
            if self._users[block]:
                continue
            del self._users[block]
            if block in self._keys:
                self._idle[block] = None
            else:
                self._free.append(block)
        while len(self._idle) > IDLE_MAX:
            self._free.append(self._forget())

    def pin(self, blocks: Iterable[int]) -> None:
        """The user of these blocks does not give them back before it ends."""
        self._pins.update(blocks)

    def unpin(self, blocks: Iterable[int]) -> None:
        """The user of these blocks has ended."""
        for block in blocks:
            self._pins[block] -= 1
            if not self._pins[block]:
                del self._pins[block]

    def publish(self, block: int, key: bytes) -> None:
        """The block is full and will be computed in this step. Later requests may find it by its key."""
        if key not in self._by_key and block not in self._keys:
            self._by_key[key] = block
            self._keys[block] = key

    def _forget(self) -> int:
        block, _ = self._idle.popitem(last=False)
        del self._by_key[self._keys.pop(block)]
        return block
