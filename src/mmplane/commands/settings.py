"""Resolves each value of the configuration. The first source that has it wins:

    1. a flag                          --stall-seconds 10
    2. an environment variable         MMPLANE_STALL_SECONDS=10        several values: with commas
    3. a TOML file                     stall-seconds = 10              --config FILE or MMPLANE_CONFIG; several: a list
    4. the default

The argparse flags are the only table: names, types, ranges and choices of the other sources follow from it.
(ConfigArgParse could do the layering, but it has no suggestions for misspelt names, no subcommands, and no readable
source for each value.)

A wrong value is an error wherever it was set, unless a flag overrides the variable that holds it. A variable with our
prefix that is not a setting is ignored with a warning, because orchestrators inject such variables. For a Service named
`mmplane`, Kubernetes even sets `MMPLANE_PORT=tcp://10.0.0.1:8000`, which is ignored as well (hazard R24).
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from mmplane.ranges import Range

PREFIX = "MMPLANE_"
APART = ("config", "api_keys", "api_key")
"""Our variables that are not settings: the path of the file, and secrets."""
FOREIGN = ("SGLANG_", "FUZZ_")
"""What follows the prefix in variables of our other programs."""
FILE_BYTES_MAX = 2**20
LIKENESS = 0.8
_INJECTED = re.compile(r"(tcp|udp|sctp)://")
"""The beginning of a value that Kubernetes or a Docker link sets for another service."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Declared:
    """One setting as its flag declares it."""

    default: Any
    kind: Callable[[str], Any]
    """`str`, or the range of a number."""
    choices: tuple[str, ...]

    @property
    def repeats(self) -> bool:
        """Whether it takes several values."""
        return isinstance(self.default, list)


@dataclass(frozen=True)
class Setting:
    """A value and its source: `default`, a file's name, a variable or a flag."""

    value: Any
    source: str


def declared(actions: Iterable[argparse.Action]) -> dict[str, Declared]:
    """The settings that these flags declare, by Python name. From here on argparse leaves out missing flags."""
    table = {}
    for action in actions:
        kind = action.type if callable(action.type) else str
        table[action.dest] = Declared(action.default, kind, tuple(action.choices or ()))
        action.default = argparse.SUPPRESS
    return table


def settle(
    table: Mapping[str, Declared],
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    path: str | None,
    warn: Callable[[str], None] = lambda _: None,
) -> dict[str, Setting]:
    """Resolve every setting, by Python name. `flags` are those given; `warn` is called for each ignored variable.

    Raises ValueError for the operator.
    """
    settings = {name: Setting(each.default, "default") for name, each in table.items()}
    settings |= _of_file(table, path) if path else {}
    settings |= _of_environment(table, environment, flags, warn)
    settings |= {name: Setting(flags[name], _flag(name)) for name in table if name in flags}
    for setting in settings.values():
        _check_text(setting)
    return settings


def near_flags(word: str, table: Mapping[str, Declared]) -> str:
    """A suggestion, if an unknown word of the command line resembles flags."""
    return _near(word.partition("=")[0].lstrip("-"), table, _flag)


def printed(settings: Mapping[str, Setting]) -> str:
    """A configuration file with the same values, with each value's source as a comment."""
    return "\n".join(_lines(settings)) + "\n"


def _of_file(known: Mapping[str, Declared], path: str) -> dict[str, Setting]:
    try:
        with open(path, "rb") as file:
            content = tomllib.loads(file.read(FILE_BYTES_MAX).decode())
    except OSError as error:
        raise ValueError(f"--config: {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"--config: {path} is not valid TOML: {error}") from None
    except RecursionError:
        raise ValueError(f"--config: {path} is not a TOML file of settings: it is nested too deeply") from None
    settings = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in known:
            raise ValueError(f"{path}: there is no setting {key!r}{_near(key, known, _flag)}")
        settings[name] = Setting(_typed(known[name], value, f"{path}: {key}"), path)
    return settings


def _of_environment(
    known: Mapping[str, Declared], environment: Mapping[str, str], flags: Mapping[str, Any], warn: Callable[[str], None]
) -> dict[str, Setting]:
    settings, foreign = {}, []
    for variable in sorted(environment):
        rest = variable.removeprefix(PREFIX)
        name = rest.lower()
        if rest == variable or rest.startswith(FOREIGN) or name in APART:
            continue
        if name not in known and (near := _near(rest, [*known, *APART], _variable, LIKENESS)):
            warn(f"{variable} is ignored because there is no such setting{near}")
            continue
        if name not in known or _INJECTED.match(text := environment[variable]):
            foreign.append(variable)
            continue
        try:
            settings[name] = Setting(_parsed(known[name], text, variable), variable)
        except ValueError as error:
            if name not in flags:
                raise
            warn(f"{error}; it is ignored because {_flag(name)} is given")
    if foreign:
        warn(f"variables that are not settings are ignored: {', '.join(foreign)}")
    return settings


def _parsed(each: Declared, text: str, where: str) -> Any:
    """Parse a variable's text like a flag's value."""
    if each.repeats:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return _chosen(each, each.kind(text), where)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{where}: {error}") from None


def _typed(each: Declared, value: Any, where: str) -> Any:
    """Convert a TOML value like a flag's value."""
    if each.repeats:
        if isinstance(value, str):
            return [value]
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return value
        raise ValueError(f"{where} is not a list of strings")
    try:
        value = each.kind.checked(value) if isinstance(each.kind, Range) else value
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if each.kind is str and not isinstance(value, str):
        raise ValueError(f"{where}: {value!r} is not a string")
    return _chosen(each, value, where)


def _chosen(each: Declared, value: Any, where: str) -> Any:
    if each.choices and value not in each.choices:
        raise ValueError(f"{where}: {value!r} is not one of {', '.join(each.choices)}")
    return value


def _check_text(setting: Setting) -> None:
    for text in setting.value if isinstance(setting.value, list) else [setting.value]:
        if isinstance(text, str) and _UNPRINTABLE.search(text):
            raise ValueError(f"{setting.source}: {text!r} contains control characters or is not UTF-8")


def _near(key: str, known: Iterable[str], spell: Callable[[str], str], likeness: float = 0.6) -> str:
    name = key.lower().replace("-", "_")
    found = [each for each in known if name and each.startswith(name)] or get_close_matches(
        name, list(known), 3, likeness
    )
    return f"; did you mean {' or '.join(map(spell, found))}?" if found else ""


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _lines(settings: Mapping[str, Setting]) -> Iterator[str]:
    for name, setting in settings.items():
        key = name.replace("_", "-")
        if setting.value is None:
            yield f"# {key} is not set"
        else:
            yield f"{f'{key} = {json.dumps(setting.value)}':48} # {setting.source}"
