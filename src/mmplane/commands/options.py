"""Flags of the commands that start processes. Each number's range and each default come from a field of `Config`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn, get_args

import msgspec

from mmplane.config import Config
from mmplane.core.records import BackendName, DecodeProfile
from mmplane.parser import SHOWN
from mmplane.ranges import Range, ranges_of, size

RANGES = ranges_of(Config)
DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(Config)}
ENCODINGS = ("auto", "float32", "model", "uint8")
SIDECAR_ENCODINGS = (*ENCODINGS, "bfloat16", "float16", "uint8_copies")
"""A sidecar's ranks may belong to an engine, which uses features as its own processor makes them."""
BACKENDS = get_args(BackendName)
DECODE_PROFILES = get_args(DecodeProfile)
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")


class RefuseKey(argparse.Action):
    """`--api-key`, which vLLM and SGLang have. It is rejected, because arguments are visible in `ps`."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print where keys are read from, and nothing of the key."""
        parser.error("--api-key would show the key in `ps`: use --api-key-file FILE or the variable MMPLANE_API_KEY")


class Options:
    """The settings of one command; `actions` are those that were added."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        self._group: argparse._ActionsContainer = parser
        self._groups: dict[str, argparse._ActionsContainer] = {}
        self.actions: list[argparse.Action] = []

    def group(self, title: str) -> None:
        """What is added from here on stands under this title in --help, after what stands there already."""
        if title not in self._groups:
            self._groups[title] = self._parser.add_argument_group(title)
        self._group = self._groups[title]

    def add(self, flag: str, text: str, *, aliases: Sequence[str] = (), **more: Any) -> None:
        """Add a flag. `more` replaces what the field of its name declares; a flag without a field is a text.

        `aliases` are names that other servers have for the same setting.
        """
        name = flag.removeprefix("--").replace("-", "_")
        options: dict[str, Any] = {"default": DEFAULTS.get(name), "type": RANGES.get(name, str), **more}
        kind = options["type"] if "action" not in options else None
        if isinstance(kind, Range) and "choices" not in options:
            options.setdefault("metavar", "SIZE" if kind.bytes else "N" if kind.kind is int else "NUMBER")
        action = self._group.add_argument(flag, *aliases, dest=name, help=text, **options)
        default = options["default"]
        setattr(action, SHOWN, size(default) if isinstance(kind, Range) and kind.bytes and default else default)
        self.actions.append(action)

    def add_logging(self) -> None:
        """Add the flags for the log."""
        self.add("--log-level", "how much to log", choices=LOG_LEVELS)
        self.add("--log-format", "text, or a JSON object in each line", choices=LOG_FORMATS)
