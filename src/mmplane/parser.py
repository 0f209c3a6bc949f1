"""The argument parser of all commands, and value types that several of them share."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any, NoReturn

SHOWN = "shown_default"
"""The attribute of an action that says its default where argparse itself must not apply it."""


def server_url(text: str) -> str:
    """A server's address, as an argparse type. Raises argparse.ArgumentTypeError."""
    if not re.match("https?://[^/]", text):
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not an http:// or https:// address")
    return text.rstrip("/")


def check_writable(flag: str, path: Path) -> None:
    """What is made for an hour can be written there. Raises ValueError."""
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{flag}: {path} cannot be written")


class Help(argparse.HelpFormatter):
    """Shows each default in brackets, unless the text says it. Paragraphs are wrapped, command lines are not."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = re.split(r"\n\n+", text.strip("\n"))
        verbatim = re.compile(r"\s|example: |mmplane ")
        return "\n\n".join(
            each if verbatim.match(each) else super(Help, self)._fill_text(each, width, indent) for each in paragraphs
        )

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = getattr(action, SHOWN, action.default)
        shown = default not in (None, False, "", [], argparse.SUPPRESS) and "default" not in (action.help or "")
        return f"{action.help} [{default}]" if shown else action.help


class Parser(argparse.ArgumentParser):
    """Reports a wrong flag in one sentence, without a usage message that lists forty flags.

    `example` is a command line, shown at the end of --help.
    """

    def __init__(self, *, example: str = "", **more: Any) -> None:
        self.example = example
        epilog = more.pop("epilog", None) or ""
        last = "\n\n".join(filter(None, (epilog, example and f"example: {example}")))
        super().__init__(**{"formatter_class": Help, **more}, epilog=last or None)

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        ours = re.sub(r"^argument (--[\w-]+)(/--?[\w-]+)*:", r"\1:", message)  # without the aliases
        self.exit(2, f"mmplane: {ours.removeprefix('argument ')} (see {self.prog} --help)\n")
