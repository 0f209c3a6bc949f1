"""`mmplane completion bash|zsh|tcsh`: a script that completes commands and flags, made by shtab.

mmplane completion bash > ~/.local/share/bash-completion/completions/mmplane
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

import shtab

from mmplane.commands.main import COMMANDS
from mmplane.parser import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = Parser(
        prog="mmplane completion", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    print(shtab.complete(whole(), parser.parse_args(arguments).shell))
    return 0


def whole() -> argparse.ArgumentParser:
    """One parser with the flags of every command whose module declares them in a function."""
    parser = argparse.ArgumentParser(prog="mmplane")
    names = parser.add_subparsers()
    for name, command in COMMANDS.items():
        if name == "completion":
            continue
        module = import_module(command.module)
        if hasattr(module, "add_flags"):
            module.add_flags(names.add_parser(name, help=command.help))
        else:
            declared = getattr(module, "options_parser", None)
            names.add_parser(name, help=command.help, parents=[declared()] if declared else [], add_help=False)
    return parser
