"""Who watches a run: nobody, or a person at a terminal."""

from __future__ import annotations

from rich import progress as bars
from rich.console import Console


class Progress:
    """Who watches a campaign; this one does not."""

    def stage(self, text: str, total: int) -> None:
        """Something with so many parts begins."""

    def tick(self) -> None:
        """One part is done."""

    def say(self, text: str) -> None:
        """Something to know."""


class Bar(Progress):
    """One bar for the stage that runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
        )
        self._bar = bars.Progress(*columns, console=console)
        self._task = self._bar.add_task("starting", total=1)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def stage(self, text: str, total: int) -> None:
        """A new stage on the same bar; without a terminal a line for each."""
        if not self._console.is_terminal:
            self._console.print(text)
        self._bar.reset(self._task, description=text, total=max(1, total))

    def tick(self) -> None:
        """One part more."""
        self._bar.advance(self._task)

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text, markup=False)
