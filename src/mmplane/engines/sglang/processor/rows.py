"""Several tensors that act as one along their first dimension, without being copied together.

SGLang's processor returns the features of a request's pictures as one tensor and splits it into pictures again. A
`Rows` can be split without having been joined. Any other operation gets the joined tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Self

import torch


class Rows(torch.Tensor):
    """`parts` share dtype and shape, except for the first dimension. The tensor itself has no memory."""

    parts: tuple[torch.Tensor, ...]

    @staticmethod
    def __new__(cls, parts: Sequence[torch.Tensor]) -> Self:
        """At least one part."""
        first = parts[0]
        shape = (sum(len(part) for part in parts), *first.shape[1:])
        made: Self = torch.empty((), dtype=first.dtype).expand(shape).as_subclass(cls)
        made.parts = tuple(parts)
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") == "__get__" or func in _ABOUT_SHAPE:
            return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        if func is torch.Tensor.__getitem__ and (part := args[0]._part(args[1])) is not None:
            return part
        if func in (torch.Tensor.to, torch.Tensor.cpu) and args[1:] in ((), ("cpu",)) and not kwargs:
            return args[0]
        return func(*map(_joined, args), **{name: _joined(value) for name, value in (kwargs or {}).items()})

    def _part(self, key: object) -> torch.Tensor | None:
        if isinstance(key, slice) and key.step in (None, 1):
            ends = list(accumulate(len(part) for part in self.parts))
            wanted = range(*key.indices(ends[-1]))
            for part, end in zip(self.parts, ends, strict=True):
                if (wanted.start, wanted.stop) == (end - len(part), end):
                    return part
        return None


_ABOUT_SHAPE = (torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel, torch.Tensor.__len__, torch.Tensor.stride)


def _joined(value: Any) -> Any:
    if isinstance(value, Rows):
        return torch.cat(value.parts)
    return type(value)(map(_joined, value)) if isinstance(value, list | tuple) else value
