"""Where each value of the configuration comes from. The first that says something wins:

    1. a flag                          --stall-seconds 10
    2. the environment                 MMPLANE_STALL_SECONDS=10        several values: with commas
    3. a file, TOML                    stall-seconds = 10              --config FILE or MMPLANE_CONFIG; several: a list
    4. the default

The flags that the command line declares with argparse are the only table: names, types and choices of the other two
follow from it. (ConfigArgParse would do the layering; it knows no near names, no subcommands and no source of a value
in a form that can be read back.) What is misspelt is an error, which names what was probably meant. A variable that
resembles no flag is somebody else's, as Kubernetes' MMPLANE_SERVICE_HOST is, and ignored.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

PREFIX = "MMPLANE_"
APART = ("config", "api_keys", "api_key")
"""Variables of ours that are no settings: where the file is, and what must not be shown."""
FOREIGN = ("SGLANG_", "FUZZ_")
"""What follows the prefix in variables of our other programs."""
LIKENESS = 0.8


@dataclass(frozen=True)
class Declared:
    """One setting as its flag declares it."""

    default: Any
    kind: Callable[[str], Any]
    choices: tuple[str, ...]

    @property
    def repeats(self) -> bool:
        """Takes several values."""
        return isinstance(self.default, list)


@dataclass(frozen=True)
class Setting:
    """A value and who said so: `default`, a file's name, a variable's or a flag's."""

    value: Any
    source: str


def declared(actions: Iterable[argparse.Action]) -> dict[str, Declared]:
    """What these flags declare, by name in Python. From here on argparse leaves out what is not given."""
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
) -> dict[str, Setting]:
    """Every setting, by its name in Python. `flags` are those given. Raises ValueError for the operator."""
    settings = {name: Setting(each.default, "default") for name, each in table.items()}
    settings |= _of_file(table, path) if path else {}
    settings |= _of_environment(table, environment)
    return settings | {name: Setting(flags[name], _flag(name)) for name in table if name in flags}


def near_flags(word: str, table: Mapping[str, Declared]) -> str:
    """A question, if an unknown word of the command line resembles flags."""
    return _near(word.partition("=")[0].lstrip("-"), table, _flag)


def printed(settings: Mapping[str, Setting]) -> str:
    """A file that says the same, with each value's source as a comment."""
    return "\n".join(_lines(settings)) + "\n"


def _of_file(known: Mapping[str, Declared], path: str) -> dict[str, Setting]:
    try:
        content = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"--config: {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"--config: {path} is no TOML: {error}") from None
    settings = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in known:
            raise ValueError(f"{path}: there is no setting {key!r}{_near(key, known, _flag)}")
        settings[name] = Setting(_typed(known[name], value, f"{path}: {key}"), path)
    return settings


def _of_environment(known: Mapping[str, Declared], environment: Mapping[str, str]) -> dict[str, Setting]:
    settings = {}
    for variable, text in sorted(environment.items()):
        rest = variable.removeprefix(PREFIX)
        if rest == variable or rest.startswith(FOREIGN):
            continue
        name = rest.lower()
        if name in APART:
            continue
        if name in known:
            settings[name] = Setting(_parsed(known[name], text, variable), variable)
        elif near := _near(rest, [*known, *APART], _variable, LIKENESS):
            raise ValueError(f"{variable}: there is no such setting{near}")
    return settings


def _parsed(each: Declared, text: str, where: str) -> Any:
    """A variable's text as a flag's value would be."""
    if each.repeats:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        value = each.kind(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is no {_KINDS[each.kind]}") from None
    return _chosen(each, value, where)


def _typed(each: Declared, value: Any, where: str) -> Any:
    """A TOML value as a flag's value would be."""
    if each.repeats:
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return value
        raise ValueError(f"{where} is a list of texts")
    if each.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not each.kind:
        raise ValueError(f"{where}: {value!r} is no {_KINDS[each.kind]}")
    return _chosen(each, value, where)


def _chosen(each: Declared, value: Any, where: str) -> Any:
    if each.choices and value not in each.choices:
        raise ValueError(f"{where}: {value!r} is none of {', '.join(each.choices)}")
    return value


_KINDS: Mapping[Any, str] = {int: "whole number", float: "number", str: "text"}


def _near(key: str, known: Iterable[str], spell: Callable[[str], str], likeness: float = 0.6) -> str:
    name = key.lower().replace("-", "_")
    found = [each for each in known if each.startswith(name)] or get_close_matches(name, list(known), 3, likeness)
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
