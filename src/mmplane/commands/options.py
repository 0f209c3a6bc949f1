"""Flags of the commands that start processes: a number's range and every default are those of a field of `Config`."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn, get_args

import msgspec

from mmplane.config import Config
from mmplane.core.records import BackendName, DecodeProfile
from mmplane.ranges import ranges_of

RANGES = ranges_of(Config)
DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(Config)}
ENCODINGS = ("auto", "float32", "model", "uint8")
SIDECAR_ENCODINGS = (*ENCODINGS, "bfloat16", "float16", "uint8_copies")
"""A sidecar's ranks may be an engine's, which take features as its own processor gives them."""
BACKENDS = get_args(BackendName)
DECODE_PROFILES = get_args(DecodeProfile)
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")


class Parser(argparse.ArgumentParser):
    """Ends with one sentence, without the usage of forty flags."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"mmplane: {message.removeprefix('argument ')} (see {self.prog} --help)\n")


class Options:
    """The settings of one command; `actions` is what was added."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        self.actions: list[argparse.Action] = []

    def add(self, flag: str, text: str, **more: Any) -> None:
        """One flag. `more` replaces what the field of its name declares; a flag without a field is a text."""
        name = flag.removeprefix("--").replace("-", "_")
        options: dict[str, Any] = {"default": DEFAULTS.get(name), "type": RANGES.get(name, str), **more}
        self.actions.append(self._parser.add_argument(flag, help=text, **options))

    def add_logging(self) -> None:
        """How a command that runs for long says what it does."""
        self.add("--log-level", "how much to log", choices=LOG_LEVELS)
        self.add("--log-format", "text, or a JSON object in each line", choices=LOG_FORMATS)
