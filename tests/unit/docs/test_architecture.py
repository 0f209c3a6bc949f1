"""The documents are true where a machine can tell: names exist, modules are all mentioned, tables are the code's."""

from __future__ import annotations

import argparse
import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmplane.bench.inputs.workloads import WORKLOADS
from mmplane.bench.options import options_parser
from mmplane.commands import serve
from mmplane.config import GIB, MIB

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src"
README = ROOT / "README.md"
FLAGS, HTTP = ROOT / "docs" / "flags.md", ROOT / "docs" / "http.md"
BENCH = ROOT / "docs" / "bench.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

NAME = re.compile(r"`(mmplane(?:\.\w+)+)`")


def names() -> list[str]:
    """Every dotted name of ours that a document puts in backticks."""
    return sorted({name for document in DOCUMENTS for name in NAME.findall(document.read_text())})


def modules() -> list[str]:
    """Every module of ours but the packages themselves, by dotted name."""
    paths = (path.relative_to(SOURCE) for path in SOURCE.rglob("*.py") if path.name != "__init__.py")
    return sorted(".".join(path.with_suffix("").parts) for path in paths)


def exists(name: str) -> bool:
    """Whether this is a module, or an attribute or declared field of something in one. Modules alone are not run."""
    if _is_module(name):
        return True
    parts = name.split(".")
    end = next(count for count in range(len(parts) - 1, 0, -1) if _is_module(".".join(parts[:count])))
    owner: object = importlib.import_module(".".join(parts[:end]))
    for part in parts[end:-1]:
        if not hasattr(owner, part):
            return False
        owner = getattr(owner, part)
    return hasattr(owner, parts[-1]) or parts[-1] in getattr(owner, "__annotations__", {})


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is not a package
        return False


@pytest.mark.parametrize("name", names())
def test_symbol_exists(name: str) -> None:
    assert exists(name)


@pytest.mark.parametrize("name", ["mmplane.nothing", "mmplane.commands.main.nothing", "mmplane.config.Config.nothing"])
def test_a_symbol_that_is_not_there_is_found_out(name: str) -> None:
    assert not exists(name)


@pytest.mark.parametrize("module", modules())
def test_architecture_mentions_module(module: str) -> None:
    mentioned = NAME.findall((ROOT / "docs" / "architecture.md").read_text())
    assert any(name == module or name.startswith(f"{module}.") for name in mentioned)


def test_the_listing_of_folders_is_the_sources() -> None:
    lines = section(ROOT / "docs" / "architecture.md", "folders").splitlines()[2:-1]
    folders: set[str] = set()
    files: set[str] = set()
    parents = {0: ""}
    for line in lines:
        indent = len(line) - len(line.lstrip())
        name = line.split()[0]
        if name.endswith("/"):
            parents[indent] = parents[indent - 2] + name
            folders.add(parents[indent])
        else:
            files |= {word for word in line.split() if word.endswith(".py")}
    source = SOURCE / "mmplane"
    packages = (path.parent.relative_to(source) for path in source.glob("*/**/__init__.py"))
    assert folders == {f"{package}/" for package in packages}
    assert files == {path.name for path in source.glob("*.py")} - {"__init__.py"}


@pytest.mark.parametrize("package", ["frontend", "bench"])
def test_no_grouped_folder_holds_more_than_twelve_files(package: str) -> None:
    for folder in (SOURCE / "mmplane" / package).rglob("*/"):
        assert len(list(folder.glob("*.py"))) <= 12 + 1, folder  # and an __init__.py


def test_flag_table_is_the_parsers() -> None:
    parser = argparse.ArgumentParser()
    serve.add_flags(parser)
    assert section(FLAGS, "flags") == "\n".join(flag_table(parser))


def test_bench_flag_table_is_the_parsers() -> None:
    assert section(BENCH, "flags") == "\n".join(flag_table(options_parser()))


def test_workload_table_is_the_benchs() -> None:
    rows = ["| name | requests | pace | what |", "|---|---|---|---|"]
    for each in WORKLOADS.values():
        pace = f"{each.rate:g} in a second" if each.rate else f"{each.concurrency} at once"
        rows.append(f"| `{each.name}` | {each.requests} | {pace} | {each.text} |")
    assert section(BENCH, "workloads") == "\n".join(rows)


def flag_table(parser: argparse.ArgumentParser) -> list[str]:
    """A page's table of flags, one line for each row."""
    rows = ["| flag | default | what it does |", "|---|---|---|"]
    for action in parser._actions:
        if "--help" not in action.option_strings:
            choices = f" ({', '.join(action.choices)})" if action.choices else ""
            rows.append(f"| `{action.option_strings[0]}` | {_default(action.default)} | {action.help}{choices} |")
    return rows


def section(document: Path, name: str) -> str:
    """What stands between `<!-- NAME -->` and `<!-- /NAME -->`."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", document.read_text(), re.DOTALL)
    assert found is not None, f"{document.name} has no section {name}"
    return found.group(1)


def _default(value: object) -> str:
    if value is None or value == []:
        return ""
    if isinstance(value, int):
        for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
            if value and value % unit == 0:
                return f"{value // unit} {name}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_error_table_has_every_error_of_the_source() -> None:
    listed = set(re.findall(r"^\| (\d{3}) \| `(\w+)` \|", section(HTTP, "errors"), re.MULTILINE))
    assert listed == errors()


def errors() -> set[tuple[str, str]]:
    """(status, code) of every error that the source can answer with."""
    text = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    found = set(re.findall(r'(?:RequestError|__init__)\(\s*(\d{3}), "(\w+)"', text))
    found |= {("400", code) for code in re.findall(r'bad_request\(\s*"(\w+)"', text)}
    found |= set(re.findall(r'\b(\d{3}): "(\w+)"', text))
    assert len(found) > 10
    return found


def test_route_table_has_every_route() -> None:
    front_end = SOURCE / "mmplane" / "frontend"
    routes = [
        route
        for name in ("app.py", "server.py")
        for route in re.findall(r'Route\("([^"]+)"', (front_end / name).read_text())
    ]
    listed = re.findall(r"^\| `(?:GET|POST|PUT) ([^`]+)` \|", section(HTTP, "routes"), re.MULTILINE)
    assert routes
    assert sorted(listed) == sorted(route.replace(":path", "") for route in routes)
