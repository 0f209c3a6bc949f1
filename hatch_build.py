"""The README as PyPI shows it: hatchling calls this when it writes the package's metadata."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")
COMMENT = re.compile(r"^<!--.*-->\n", re.MULTILINE)


def described(readme: str, home: str | None) -> str:
    """The text with links that work anywhere: those to files lead to `home`, or become the files' paths without one."""

    def one(match: re.Match[str]) -> str:
        picture, label, path = match.groups()
        if home:
            return f"{picture}[{label}]({home}/{'raw' if picture else 'blob'}/HEAD/{path})"
        return f"`{path}`" if label == path else f"{label} (`{path}`)"

    return LINK.sub(one, COMMENT.sub("", readme))


class ReadmeHook(MetadataHookInterface):
    """Fills in `readme`, which pyproject.toml declares as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """`Source` of `[project.urls]` is where the files can be seen, in the form of GitHub."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        home = metadata.get("urls", {}).get("Source")
        metadata["readme"] = {"content-type": "text/markdown", "text": described(text, home)}
