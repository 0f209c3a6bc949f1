"""Writes constraints.txt: the version of every package that `make serve` and `make test` install.

    make lock                  what is newest: a fresh environment, then this script in it
    .venv/bin/python tools/lock.py     what is installed here, after a dependency was added

Names and versions only: where packages come from is the installing machine's affair. Build tags (`+cpu`) are left out.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = "mmplane"
EXTRAS = ("serve", "bench", "trace")
GROUPS = ("dev",)
NEWEST = {"certifi"}
"""What is never held back: certificates."""
CUDA = ("cuda-", "nvidia-", "triton")
"""What only torch's build for CUDA needs, which chooses the versions itself."""
HEAD = "# What `make serve` and `make test` install: written by tools/lock.py, refreshed by `make lock`.\n"


def declared() -> list[Requirement]:
    """What pyproject.toml asks for, our own extras resolved."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    lines = [*project["project"]["dependencies"], *extras["media"]]
    lines += [line for extra in EXTRAS for line in extras[extra]]
    lines += [line for group in GROUPS for line in project["dependency-groups"][group]]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != PROJECT]


def pins(requirements: Iterable[Requirement]) -> dict[str, str]:
    """The installed versions of these and of all that they need in turn."""
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    left = list(requirements)
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{name} is not installed here: make install-dev first")
        found[name] = installed.version.partition("+")[0]
        left += _needed(installed.requires or (), requirement.extras)
    return {name: version for name, version in found.items() if name not in NEWEST and not name.startswith(CUDA)}


def _needed(lines: Iterable[str], extras: set[str]) -> Iterator[Requirement]:
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


if __name__ == "__main__":
    text = "".join(f"{name}=={version}\n" for name, version in sorted(pins(declared()).items()))
    (ROOT / "constraints.txt").write_text(HEAD + text)
