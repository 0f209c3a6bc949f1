"""The keys of blocks: each covers everything that the block's keys and values depend on. Pure.

The content of a block depends on all tokens up to its end and on the items among them. So its key is a digest of the
previous key, its token ids, and for each run of an item's placeholders in it the item's content key and the run's
position. The first key starts from the request's salt, which differs between tenants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mmplane.core.keys import digest_parts
from mmplane.core.plan import Submit

TOKEN_BYTES = 4
CHAIN_VERSION = b"mmplane-chain-1"


@dataclass
class Chain:
    """The keys so far, and what is known of the next block. Without a salt there are no keys."""

    salt: bytes
    block_tokens: int
    keys: list[bytes] = field(default_factory=list)
    ids: bytearray = field(default_factory=bytearray)
    marks: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, submit: Submit, ids: bytes | memoryview, block_tokens: int) -> Chain:
        """The chain of a request's prompt; `ids` are its tokens, int32 little endian."""
        chain = cls(submit.salt, block_tokens)
        marks = _marks(submit, block_tokens)
        block_bytes = block_tokens * TOKEN_BYTES
        whole = len(ids) // block_bytes
        for number in range(whole):
            start = number * block_bytes
            chain._close(ids[start : start + block_bytes], marks.get(number, []))
        chain.ids += ids[whole * block_bytes :]
        chain.marks = marks.get(whole, [])
        return chain

    def fork(self) -> Chain:
        """A chain that continues from here independently."""
        return Chain(self.salt, self.block_tokens, list(self.keys), bytearray(self.ids), list(self.marks))

    def push(self, token: int) -> None:
        """Add a token of the answer."""
        if not self.salt:
            return
        self.ids += token.to_bytes(TOKEN_BYTES, "little", signed=True)
        if len(self.ids) == self.block_tokens * TOKEN_BYTES:
            self._close(bytes(self.ids), self.marks)
            self.ids.clear()
            self.marks = []

    def _close(self, ids: bytes | memoryview, marks: Sequence[bytes]) -> None:
        before = self.keys[-1] if self.keys else digest_parts([CHAIN_VERSION, self.salt])
        self.keys.append(digest_parts([before, ids, *marks]))


def _marks(submit: Submit, block_tokens: int) -> dict[int, list[bytes]]:
    """The content keys of the items in each block, and where their runs begin."""
    marks: dict[int, list[bytes]] = {}
    for item, runs in zip(submit.items, submit.placeholders, strict=True):
        row = 0
        for start, length in runs:
            for number in range(start // block_tokens, -(-(start + length) // block_tokens)):
                place = (start - number * block_tokens, row)
                mark = b"".join(each.to_bytes(8, "little", signed=True) for each in place) + item.content_key
                marks.setdefault(number, []).append(mark)
            row += length
    return marks
