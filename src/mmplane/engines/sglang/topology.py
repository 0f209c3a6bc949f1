"""Which ranks get each message, by the server's options: SGLang's `server_args`, which change less than its internals.

Until 0.5.21 `dp_size` counts replicas or, with `enable_dp_attention`, groups of ranks that share a model's weights.
From 0.5.22 on `dp_size` counts replicas alone and `attn_dp_size` the groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self


class Topology(NamedTuple):
    """`replicas` of the model, each of `tp_size` ranks; within one, `attention_groups` get messages of their own."""

    tp_size: int
    replicas: int = 1
    attention_groups: int = 1

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """That of a server with these options."""
        tp_size, dp_size = int(options["tp_size"]), int(options["dp_size"] or 1)
        if "attn_dp_size" in options:
            return cls(tp_size, dp_size, int(options["attn_dp_size"] or 1))
        if options.get("enable_dp_attention"):
            return cls(tp_size, 1, dp_size)
        return cls(tp_size, dp_size, 1)

    @property
    def width(self) -> int:
        """How many ranks get each message."""
        return self.tp_size // self.attention_groups

    @property
    def groups(self) -> tuple[int, ...]:
        """The width of each group of ranks that shares a waiting queue."""
        return (self.width,) * (self.replicas * self.attention_groups)

    def position(self, tp_rank: int, dp_rank: int | None) -> tuple[int, int]:
        """The group that a scheduler gets messages with, and its number in it.

        `tp_rank` counts within a replica, which `dp_rank` names. SGLang numbers ranks of attention group after group.
        """
        group, rank = divmod(tp_rank, self.width)
        return (group if self.attention_groups > 1 else (dp_rank or 0)), rank


def options_of(server_args: Any) -> Mapping[str, Any]:
    """A server's options by name, as SGLang has settled them."""
    resolved = getattr(server_args, "resolved_dict", None)
    options: Mapping[str, Any] = vars(server_args) if resolved is None else resolved()
    return options


def ranks_of(arguments: Mapping[str, Any], parallel: Any) -> tuple[int, int | None]:
    """(`tp_rank`, `dp_rank`) of a scheduler: among the arguments of its `__init__` in 0.5.20, then in the context."""
    if "tp_rank" in arguments:
        return int(arguments["tp_rank"]), arguments["dp_rank"]
    return int(parallel.tp_rank), parallel.dp_rank
