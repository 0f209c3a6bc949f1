"""Runs: parts of a prompt whose tokens attend to each other in both directions, so one step computes them whole.

In Gemma 3 these are the tokens of each image. Pure: every rank cuts prompts in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmplane.core.plan import Submit

Run = tuple[int, int]
"""(start, end) in a prompt."""


def image_runs(submit: Submit) -> tuple[Run, ...]:
    """One run for each run of an image's or a clip's placeholders."""
    return tuple(
        (start, start + length)
        for item, runs in zip(submit.items, submit.placeholders, strict=True)
        if item.modality != "audio"
        for start, length in runs
    )


def whole(runs: Iterable[Run], end: int) -> int:
    """The end of a chunk that must reach at least `end`: after the run that it would cut."""
    return next((behind for start, behind in runs if start < end < behind), end)


def before(runs: Iterable[Run], end: int) -> int:
    """The end of a chunk that must not go beyond `end`: before the run that it would cut."""
    return next((start for start, behind in runs if start < end < behind), end)
