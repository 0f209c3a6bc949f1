"""Memory for keys and values: what the sequences of a step read and extend."""

from __future__ import annotations

import torch


class Cache:
    """Keys and values of one sequence, reserved whole at admission: per layer two of [heads, capacity, head size]."""

    def __init__(self, capacity_tokens: int) -> None:
        self.capacity_tokens = capacity_tokens
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def write(
        self, layer: int, start: int, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store [heads, count, head size] from position `start`; return all keys and values so far."""
        if layer not in self._layers:
            self._layers[layer] = (self._room(keys), self._room(values))
        stored_keys, stored_values = self._layers[layer]
        end = start + keys.shape[1]
        stored_keys[:, start:end] = keys
        stored_values[:, start:end] = values
        return stored_keys[:, :end], stored_values[:, :end]

    def fork(self, count: int) -> Cache:
        """A cache that begins with the first `count` positions of this one."""
        other = Cache(self.capacity_tokens)
        for layer, (keys, values) in self._layers.items():
            other.write(layer, 0, keys[:, :count], values[:, :count])
        return other

    @property
    def bytes_per_token(self) -> int:
        """Bytes of keys and values of one position, over all layers of this rank."""
        return sum(2 * keys[:, 0].nbytes for keys, _ in self._layers.values())

    def _room(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_empty((like.shape[0], self.capacity_tokens, like.shape[2]))
