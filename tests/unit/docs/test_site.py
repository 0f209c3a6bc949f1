"""The documentation as a site: it builds without a warning, no link is broken, every page can be reached."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import mmplane

ROOT = Path(__file__).parents[3]


class Page(HTMLParser):
    """What a page links to, and what of it can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [value for name in ("href", "src") if (value := given.get(name))]
        self.names |= {value for name in ("id", "name") if (value := given.get(name))}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, ROOT / "tools/docs/pages.py", folder / "build/docs"], check=True, timeout=100)
    (folder / "zensical.toml").write_text((ROOT / "zensical.toml").read_text())
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict", "-f", folder / "zensical.toml"]
    built = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "build" / "site"


def broken(site: Path, path: Path, pages: dict[Path, Page]) -> list[str]:
    """Links of a page that lead nowhere; pages that it leads to are added to `pages`."""
    found = []
    for link in pages[path].links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file():
            found.append(link)
        elif target.suffix == ".html":
            page = pages.setdefault(target, Page(target)) if target not in pages else pages[target]
            if parts.fragment and unquote(parts.fragment) not in page.names:
                found.append(link)
    return found


def crawl(site: Path) -> tuple[dict[Path, Page], dict[str, list[str]]]:
    """All pages that can be reached from the first, and their broken links."""
    pages = {site / "index.html": Page(site / "index.html")}
    wrong: dict[str, list[str]] = {}
    seen: set[Path] = set()
    while left := set(pages) - seen:
        path = left.pop()
        seen.add(path)
        if links := broken(site, path, pages):
            wrong[path.name] = links
    return pages, wrong


def test_no_link_is_broken_and_every_page_is_reached(site: Path) -> None:
    pages, wrong = crawl(site)
    assert wrong == {}
    assert {path.relative_to(site) for path in pages} >= {
        path.relative_to(site) for path in site.rglob("*.html") if path.name != "404.html"
    }
    assert len(pages) > 20


def test_every_document_is_in_the_navigation(site: Path) -> None:
    """Not only linked from somewhere: a new page of docs/ needs a line in zensical.toml."""
    navigation = (ROOT / "zensical.toml").read_text()
    missing = [path.name for path in (ROOT / "docs").glob("*.md") if f'"{path.name}"' not in navigation]
    assert missing == []


def test_a_broken_link_is_found(site: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<a href="nowhere.html">x</a><a href="#gone">y</a><a href="#here" id="here">z</a>'
    )
    assert crawl(tmp_path)[1] == {"index.html": ["nowhere.html", "#gone"]}


def test_the_reference_has_everything_that_is_exported(site: Path) -> None:
    text = (site / "api.html").read_text()
    for name in set(mmplane.__all__) - {"__version__"}:
        assert name in text, name
        assert getattr(mmplane, name).__doc__, name


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_signatures_of_the_reference_are_python(site: Path) -> None:
    page = (site.parent / "docs" / "api.md").read_text()
    blocks = re.findall(r"^```python\n([\w.]+)(\(.*?)\n```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 20
    for name, rest in blocks:
        ast.parse(f"def {name.rpartition('.')[2]}{rest}: ...")
