"""`mmplane example NAME`: prints a small engine or client."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mmplane.commands.shipped import folder
from mmplane.parser import Parser


def options_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = Parser(prog="mmplane example", description=__doc__, example="mmplane example client > client.c")
    parser.add_argument("name", nargs="?", choices=sorted(examples()), help="without a name: what there is")
    return parser


def examples() -> dict[str, Path]:
    """The examples, by the name that the command takes."""
    found = (path for path in folder("examples").iterdir() if path.suffix in (".py", ".c"))
    return {path.stem: path for path in sorted(found)}


def printed(path: Path) -> str:
    """An example as one file: the headers that lie beside it are part of it."""

    def header(match: re.Match[str]) -> str:
        return (path.parent / match[1]).read_text()

    return re.sub(r'^#include "(.+)"\n', header, path.read_text(), flags=re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    name = options_parser().parse_args(arguments).name
    sys.stdout.write(printed(examples()[name]) if name else "".join(f"{each}\n" for each in examples()))
    return 0
