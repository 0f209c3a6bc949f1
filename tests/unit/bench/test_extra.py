"""The extra `bench` declares what the bench imports: a fresh `pip install mmplane[bench]` has all of it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import mmplane

SOURCE = Path(mmplane.__file__).parent / "bench"
PROJECT = SOURCE.parents[2] / "pyproject.toml"
OTHERS_OWN = {"vllm"}
"""Imported in an environment of its own alone, which `--vllm-python` names."""


def imported(text: str) -> set[str]:
    """The top-level packages that this source imports, wherever it does."""
    nodes = list(ast.walk(ast.parse(text)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"mmplane"}


def declared() -> set[str]:
    """Distributions of the base and of the extra, by name, with those of the extras that it includes."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    wanted, open_ = [*project["dependencies"]], ["bench"]
    while open_:
        for each in project["optional-dependencies"][open_.pop()]:
            included = re.fullmatch(r"mmplane\[(\w+)\]", each)
            (open_ if included else wanted).append(included[1] if included else each)
    return {re.split(r"[\[<>=~]", each)[0].lower() for each in wanted}


def test_the_extra_declares_every_import() -> None:
    distributions = packages_distributions()
    packages = {name for path in SOURCE.rglob("*.py") for name in imported(path.read_text())} - OTHERS_OWN
    assert len(packages) > 10
    assert {name for name in packages if not declared() & {each.lower() for each in distributions[name]}} == set()
