"""Progress of a run: shown at a terminal, or not at all."""

from __future__ import annotations

from rich import progress as bars
from rich.console import Console


class Progress:
    """Progress that is not shown."""

    def stage(self, text: str, total: int) -> None:
        """Start something that has this many parts."""

    def tick(self) -> None:
        """Finish one part."""

    def say(self, text: str) -> None:
        """Show a message."""


class Bar(Progress):
    """Progress as one bar for the current stage."""

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
        """Start a new stage on the same bar; without a terminal, print a line for each stage."""
        if not self._console.is_terminal:
            self._console.print(text)
        self._bar.reset(self._task, description=text, total=max(1, total))

    def tick(self) -> None:
        """Finish one part."""
        self._bar.advance(self._task)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False)
