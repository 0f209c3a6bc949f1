"""`mmplane completion bash|zsh|tcsh`: a script that completes commands and flags, made by shtab."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

import shtab

from mmplane.commands.main import COMMANDS
from mmplane.parser import Parser

EXAMPLE = "mmplane completion bash > ~/.local/share/bash-completion/completions/mmplane"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    print(shtab.complete(whole(), options_parser().parse_args(arguments).shell))
    return 0


def options_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = Parser(prog="mmplane completion", description=__doc__, example=EXAMPLE)
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="the shell that reads the script")
    return parser


def whole() -> argparse.ArgumentParser:
    """One parser with the flags of every command whose module declares them in a function."""
    parser = argparse.ArgumentParser(prog="mmplane")
    names = parser.add_subparsers()
    for name, command in COMMANDS.items():
        if name == "completion":
            continue
        module = import_module(command.module)
        if hasattr(module, "add_flags"):
            one = names.add_parser(name, help=command.help)
            if hasattr(module, "ACTIONS"):
                one.add_argument("action", nargs="?", choices=module.ACTIONS, help="what to do")
            module.add_flags(one)
        else:
            declared = getattr(module, "options_parser", None)
            names.add_parser(name, help=command.help, parents=[declared()] if declared else [], add_help=False)
    return parser
