"""The argument parser of all commands, and the types of values that several of them take."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn


def server_url(text: str) -> str:
    """A server's address, as an argparse type. Raises argparse.ArgumentTypeError."""
    if not re.match("https?://[^/]", text):
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not an http:// or https:// address")
    return text.rstrip("/")


class Parser(argparse.ArgumentParser):
    """Reports a wrong flag in one sentence, without a usage message that lists forty flags."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        ours = re.sub(r"^argument (--[\w-]+)(/--[\w-]+)*:", r"\1:", message)  # without the aliases
        self.exit(2, f"mmplane: {ours.removeprefix('argument ')} (see {self.prog} --help)\n")
