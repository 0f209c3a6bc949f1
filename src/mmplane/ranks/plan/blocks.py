"""Blocks of the ranks' memory for keys and values: who uses which, and which are kept for a later request. Pure.

A block holds `block_tokens` positions of one sequence. Sequences that begin alike share blocks, so a block counts its
users. A block that is full and computed has a key (`mmplane.ranks.plan.chain`); when its last user has gone it is idle:
it keeps its key and its content until it is found again or, least recently used first, taken for something else.

Every rank has the same table, because every rank makes the same calls in the same order.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

BLOCK_TOKENS = 16
IDLE_MAX = 2**17
"""Blocks that are kept for later requests at most: each takes about 300 bytes of this table."""


class Blocks:
    """Numbers from 0 to `total` - 1. A number is free, used or idle."""

    def __init__(self, total: int, block_tokens: int = BLOCK_TOKENS) -> None:
        self.total = total
        self.block_tokens = block_tokens
        self.evicted = 0
        """Idle blocks that were taken for something else."""
        self._fresh = 0
        self._free: list[int] = []
        self._users: Counter[int] = Counter()
        self._pins: Counter[int] = Counter()
        self._keys: dict[int, bytes] = {}
        self._by_key: dict[bytes, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that `take` can still give."""
        return self.total - len(self._users)

    @property
    def used(self) -> int:
        """Blocks with a user."""
        return len(self._users)

    @property
    def idle(self) -> int:
        """Blocks that are kept for a later request."""
        return len(self._idle)

    @property
    def pinned(self) -> int:
        """Blocks that no preemption gives back."""
        return len(self._pins)

    def count_for(self, tokens: int) -> int:
        """How many blocks so many tokens take."""
        return -(-tokens // self.block_tokens)

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """The blocks of the longest run of `keys`, from the first on, that are here."""
        found = []
        for key in keys:
            block = self._by_key.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def newly_used(self, blocks: Iterable[int]) -> int:
        """How many of these blocks have no user yet: sharing them leaves so many fewer available."""
        return sum(block not in self._users for block in blocks)

    def newly_pinned(self, blocks: Iterable[int]) -> int:
        """How many of these blocks are not pinned yet."""
        return sum(block not in self._pins for block in blocks)

    def take(self) -> int | None:
        """A block for one user to write into; None when all have users."""
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
        """One more user of each."""
        for block in blocks:
            self._idle.pop(block, None)
            self._users[block] += 1

    def is_shared(self, block: int) -> bool:
        """Whether somebody else reads it: who wants to write takes a copy."""
        return self._users[block] > 1

    def drop(self, blocks: Sequence[int]) -> None:
        """One user less of each. The last ones are evicted first: without those before them nobody finds them."""
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
        """Who uses these does not give them back before it ends."""
        self._pins.update(blocks)

    def unpin(self, blocks: Iterable[int]) -> None:
        """Its user has ended."""
        for block in blocks:
            self._pins[block] -= 1
            if not self._pins[block]:
                del self._pins[block]

    def publish(self, block: int, key: bytes) -> None:
        """The block is full and will be computed in this step: later requests may find it by its key."""
        if key not in self._by_key and block not in self._keys:
            self._by_key[key] = block
            self._keys[block] = key

    def _forget(self) -> int:
        block, _ = self._idle.popitem(last=False)
        del self._by_key[self._keys.pop(block)]
        return block
