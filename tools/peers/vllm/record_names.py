"""record_names.py WHEEL|SITE-PACKAGES...: signatures of what the plugin hooks in these versions of vLLM, as JSON.

    pip download --no-deps --only-binary :all: --python-version 3.12 --platform manylinux_2_28_x86_64 vllm==0.33.0
    python tools/peers/vllm/record_names.py VLLM/lib/python3.11/site-packages vllm-0.33.0-*.whl \\
        > tests/unit/engines/vllm/names.json

Nothing is installed or imported: names are looked up in the source.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "src" / "mmplane" / "engines" / "vllm"

Read = Callable[[str], str | None]
"""The text of a file of vLLM's package, if there is one."""


def targets() -> list[str]:
    """What the plugin hooks, as written in its table; the parts of its f-strings are constants there."""
    tree = ast.parse((PLUGIN / "hooks.py").read_text())
    parts = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Hook"]
    return [_text(call.args[0], parts) for call in calls]


def _text(node: ast.expr, parts: dict[str, str]) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.JoinedStr)
    return "".join(_text(part, parts) if isinstance(part, ast.Constant) else _part(part, parts) for part in node.values)


def _part(node: ast.expr, parts: dict[str, str]) -> str:
    assert isinstance(node, ast.FormattedValue)
    assert isinstance(node.value, ast.Name)
    return parts[node.value.id]


def reader(where: str) -> Read:
    """Of a wheel, or of a folder that packages are installed in."""
    if where.endswith(".whl"):
        wheel = zipfile.ZipFile(where)
        names = set(wheel.namelist())
        return lambda path: wheel.read(path).decode() if path in names else None
    folder = Path(where)
    return lambda path: (folder / path).read_text() if (folder / path).is_file() else None


def signature(read: Read, target: str) -> str | None:
    """Parameters of the function at a dotted path: of the module where the name is defined, if it is imported there."""
    found = _module(read, target.split("."))
    if found is None:
        return None
    text, names = found
    body: list[ast.stmt] = ast.parse(text).body
    node: ast.stmt | None = None
    for name in names:
        node = next((each for each in body if getattr(each, "name", None) == name), None)
        if node is None:
            return _imported(read, target, body, name) if len(names) == 1 else None
        body = node.body if isinstance(node, ast.ClassDef) else []
    return _parameters(node) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else None


def _module(read: Read, parts: Sequence[str]) -> tuple[str, list[str]] | None:
    for count in range(len(parts) - 1, 0, -1):
        path = "/".join(parts[:count])
        text = read(f"{path}.py") or read(f"{path}/__init__.py")
        if text is not None:
            return text, [*parts[count:]]
    return None


def _imported(read: Read, target: str, body: list[ast.stmt], name: str) -> str | None:
    for each in body:
        if isinstance(each, ast.ImportFrom) and name in [alias.name for alias in each.names]:
            base = target.split(".")[: -1 - each.level] if each.level else []
            if each.level and read("/".join(target.split(".")[:-1]) + "/__init__.py") is not None:
                base = target.split(".")[: -each.level]
            return signature(read, ".".join([*base, *filter(None, [each.module]), name]))
    return None


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    given = node.args
    names = [each.arg for each in (*given.posonlyargs, *given.args)]
    names += [f"*{given.vararg.arg}"] if given.vararg else ["*"] * bool(given.kwonlyargs)
    names += [each.arg for each in given.kwonlyargs]
    names += [f"**{given.kwarg.arg}"] if given.kwarg else []
    return f"({', '.join(names)})"


def version(read: Read, where: str) -> str:
    """The package's own."""
    if where.endswith(".whl"):
        return Path(where).name.split("-")[1]
    text = read("vllm/_version.py") or ""
    found = re.search(r"^__version__ = version = '([\d.]+)", text, re.MULTILINE)
    assert found, "vllm/_version.py"
    return found[1]


def main(places: Sequence[str]) -> None:
    """Print the record."""
    readers = {place: reader(place) for place in places}
    print(
        json.dumps(
            {
                version(read, place): {target: signature(read, target) for target in targets()}
                for place, read in readers.items()
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
