"""Memory for keys and values, in blocks, which the sequences of a step read and extend."""

from __future__ import annotations

from collections.abc import Iterable

import torch


class Memory:
    """One rank's memory: for each layer two pools [blocks, block tokens, heads, head size], created on first write.

    The schedule decides which sequence uses which block (`mmplane.ranks.plan.blocks`). A slot is one position of a
    block: `block * block_tokens + offset`.
    """

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self._blocks = blocks
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def write(self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store keys and values of [heads, tokens, head size] at `slots`, int64 [tokens]."""
        if layer not in self._layers:
            self._layers[layer] = (self._zeros(keys.transpose(0, 1)), self._zeros(values.transpose(0, 1)))
        for pool, fresh in zip(self._layers[layer], (keys, values), strict=True):
            pool.flatten(0, 1).index_copy_(0, slots, fresh.transpose(0, 1))

    def read(self, layer: int, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [sequences, heads, positions, head size] at `slots`, int64 [sequences, positions]."""
        keys, values = (
            pool.flatten(0, 1).index_select(0, slots.flatten()).view(*slots.shape, *pool.shape[2:]).transpose(1, 2)
            for pool in self._layers[layer]
        )
        return keys, values

    def copy(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Copy whole blocks, (source, target), in order."""
        for source, target in pairs:
            for pool in (pool for pools in self._layers.values() for pool in pools):
                pool[target] = pool[source]

    def begin(self, like: Memory) -> None:
        """Create the pools of all layers that `like` has written, so that memory that is missing is missed at start."""
        for layer, (keys, values) in like._layers.items():
            self._layers[layer] = (self._zeros(keys), self._zeros(values))

    @property
    def bytes_per_token(self) -> int:
        """The size of the keys and values of one position, over all layers of this rank."""
        return sum(pool[0, 0].nbytes for pools in self._layers.values() for pool in pools)

    def _zeros(self, like: torch.Tensor) -> torch.Tensor:
        """A pool for positions of [..., heads, head size]. On a CPU it takes no memory until it is written."""
        return like.new_zeros((self._blocks, self.block_tokens, *like.shape[-2:]))
