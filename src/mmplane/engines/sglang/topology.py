"""Which ranks get each message, from the options `server_args`, which change less than SGLang's internals.

Until 0.5.21 `dp_size` counts replicas or, with `enable_dp_attention`, groups of ranks that share a model's weights.
From 0.5.22 on `dp_size` only counts replicas, and `attn_dp_size` the groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self


class Topology(NamedTuple):
    """`replicas` of the model with `tp_size` ranks each; within one, `attention_groups` get their own messages."""

    tp_size: int
    replicas: int = 1
    attention_groups: int = 1

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """The topology of a server with these options."""
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
        """The size of each group of ranks that shares a waiting queue."""
        return (self.width,) * (self.replicas * self.attention_groups)

    def position(self, tp_rank: int, dp_rank: int | None) -> tuple[int, int]:
        """The group with which a scheduler gets messages, and its number in it.

        `tp_rank` counts within a replica, which `dp_rank` names. SGLang numbers the ranks one attention group after
        the other.
        """
        group, rank = divmod(tp_rank, self.width)
        return (group if self.attention_groups > 1 else (dp_rank or 0)), rank


def options_of(server_args: Any) -> Mapping[str, Any]:
    """A server's options by name, as SGLang has resolved them."""
    resolved = getattr(server_args, "resolved_dict", None)
    options: Mapping[str, Any] = vars(server_args) if resolved is None else resolved()
    return options


def ranks_of(arguments: Mapping[str, Any], parallel: Any) -> tuple[int, int | None]:
    """(`tp_rank`, `dp_rank`) of a scheduler: arguments of its `__init__` in 0.5.20, later in the context."""
    if "tp_rank" in arguments:
        return int(arguments["tp_rank"]), arguments["dp_rank"]
    return int(parallel.tp_rank), parallel.dp_rank
