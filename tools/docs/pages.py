"""The pages of the site: those of docs/, the changelog, how to contribute, and the library's reference.

    python tools/docs/pages.py FOLDER

A link to a file that is no page becomes its path in code: the site has no source tree beside it.
"""

from __future__ import annotations

import enum
import inspect
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmplane

ROOT = Path(__file__).parents[2]
ADDED = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Documents that lie elsewhere, and their names on the site."""
WIDTH = 88
"""Characters of a signature that fit into a line of the page."""
LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#)([^)#\s]+)(#[^)\s]*)?\)")


def write(folder: Path) -> None:
    """All pages, into a folder that is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    for source in (*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ADDED)):
        page = folder / ADDED.get(source.name, source.name)
        page.write_text(linked(source.read_text(), source.parent))
    (folder / "api.md").write_text(api())


def linked(text: str, folder: Path) -> str:
    """A document of this folder with links as the site has them."""

    def one(match: re.Match[str]) -> str:
        label, target, fragment = match[1], (folder / match[2]).resolve(), match[3] or ""
        if target.is_relative_to(ROOT / "docs"):
            return f"[{label}]({target.relative_to(ROOT / 'docs')}{fragment})"
        name = str(target.relative_to(ROOT))
        if name in ADDED:
            return f"[{label}]({ADDED[name]}{fragment})"
        return f"`{name}`" if label in (name, f"`{name}`", target.name) else f"{label} (`{name}`)"

    return LINK.sub(one, text)


def api() -> str:
    """What the package exports, from its docstrings."""
    names = [name for name in mmplane.__all__ if name != "__version__"]
    calls = [name for name in names if inspect.isfunction(getattr(mmplane, name))]
    errors = [name for name in names if _is_error(name)]
    classes = [name for name in names if name not in (*calls, *errors)]
    lines = ["# Python API", "", "Import everything from `mmplane`. [The library](embedding.md) shows how it fits.", ""]
    for name in calls:
        lines += [f"## `{name}`", "", *_function(name, getattr(mmplane, name))]
    for name in classes:
        lines += _class(name, getattr(mmplane, name))
    lines += ["## Errors", "", "| error | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {_summary(getattr(mmplane, name))} |" for name in errors]
    return "\n".join(lines) + "\n"


def _is_error(name: str) -> bool:
    each = getattr(mmplane, name)
    return inspect.isclass(each) and issubclass(each, Exception)


def _class(name: str, described: type) -> Iterator[str]:
    yield from (f"## `{name}`", "", inspect.getdoc(described) or "", "")
    for member, value in vars(described).items():
        if member.startswith("_") or isinstance(value, enum.Enum):
            continue
        if isinstance(value, property):
            yield from (f"### `{name}.{member}`", "", inspect.getdoc(value) or "", "")
        elif isinstance(value, classmethod | staticmethod) or inspect.isfunction(value):
            yield f"### `{name}.{member}`"
            yield ""
            yield from _function(f"{name}.{member}", getattr(described, member))


def _function(name: str, function: Any) -> Iterator[str]:
    signature = re.sub(r"(: |-> )'([^']+)'", r"\1\2", str(inspect.signature(function)))
    signature = signature.replace("(self, ", "(").replace("(self)", "()")
    if len(name + signature) > WIDTH:
        signature = _folded(signature)
    yield from ("```python", f"{name}{signature}", "```", "", inspect.getdoc(function) or "", "")


def _folded(signature: str) -> str:
    """One parameter a line."""
    given, arrow, returned = signature[1:].rpartition(") -> ")
    lines, depth = [""], 0
    for character in given:
        depth += (character in "([") - (character in ")]")
        if character == "," and not depth:
            lines.append("")
        else:
            lines[-1] += character
    return "(\n" + "".join(f"    {line.strip()},\n" for line in lines) + arrow + returned


def _summary(described: object) -> str:
    return " ".join((inspect.getdoc(described) or "").split("\n\n")[0].split())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
