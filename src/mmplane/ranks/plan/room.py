"""How a rank divides its memory between blocks of keys and values, and states that layers keep beside them. Pure.

A recurrent layer keeps a state for each sequence, and cross-attention keeps keys and values of each image. Neither is
in blocks, so the leader counts them: a request begins only if there is room for its states as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmplane.config import MIB
from mmplane.core.plan import Submit
from mmplane.ranks.plan.blocks import BLOCK_TOKENS


@dataclass(frozen=True)
class Sizes:
    """What a model keeps on one rank for each token, and beside that for each sequence and for each item, in bytes."""

    token_bytes: int
    sequence_bytes: int = 0
    item_bytes: int = 0


@dataclass(frozen=True)
class Room:
    """The number of blocks, and the bytes for states. It is the same on every rank."""

    blocks: int
    states_bytes: int
    sizes: Sizes

    @property
    def tokens(self) -> int:
        """The number of tokens that all blocks hold."""
        return self.blocks * BLOCK_TOKENS

    def states_of(self, submit: Submit) -> int:
        """The bytes of a request's states."""
        return self.sizes.sequence_bytes * submit.sampling.samples + self.sizes.item_bytes * len(submit.items)


def divided(limit_bytes: int, sizes: Sizes, *, running_max: int, items_max: int, tenants: int = 1) -> Room:
    """Divide `limit_bytes`. States get what `running_max` sequences with `items_max` items each need, at most half.

    Raises ValueError if there is no room for one sequence with one item, or for one of each of two tenants.
    """
    shares = 1 if tenants < 2 else 2
    widest_bytes = sizes.sequence_bytes + items_max * sizes.item_bytes
    states_bytes = min(limit_bytes // 2, max(running_max, shares) * widest_bytes)
    block_bytes = sizes.token_bytes * BLOCK_TOKENS
    blocks = (limit_bytes - states_bytes) // block_bytes
    least_bytes = shares * (sizes.sequence_bytes + sizes.item_bytes)
    if not blocks or states_bytes < least_bytes:
        raise ValueError(
            f"a rank has {limit_bytes / MIB:.1f} MiB for keys, values and states, and this model needs at least "
            f"{max(block_bytes, 2 * least_bytes) / MIB:.1f} MiB: raise --kv-bytes, or on a GPU lower "
            "--gpu-reserve-bytes"
        )
    return Room(blocks, states_bytes, sizes)


def left_on_gpu(free_bytes: int, *, reserve_bytes: int, embeddings_bytes: int) -> int:
    """What keys, values and states may take of a GPU's free memory, measured after the weights have been loaded.

    `reserve_bytes` are for what a step computes, and `embeddings_bytes` for encoder outputs that will be kept.
    """
    return max(0, free_bytes - reserve_bytes - embeddings_bytes)
