"""`mmplane deploy NAME`: prints or writes the files of one way to run mmplane."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmplane.commands.shipped import folder
from mmplane.commands.starting import refuse
from mmplane.parser import Parser

WAYS = {
    "systemd": ("mmplane.service",),
    "compose": ("compose", "alerts.yml", "grafana.json"),
    "kubernetes": ("kubernetes",),
    "kubernetes-machines": ("kubernetes", "kubernetes-machines"),
    "kubernetes-route": ("kubernetes", "kubernetes-route"),
    "kubernetes-sidecar": ("kubernetes-sidecar.yaml",),
    "alerts": ("alerts.yml",),
    "grafana": ("grafana.json",),
    "docker": ("Dockerfile", "sidecar.Dockerfile"),
}
"""The files in `deploy/` for each way."""
APART = ("kustomization.yaml", ".gitignore")
"""Not printed with the rest: a cluster has no such kind, and YAML no such document."""


def options_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = Parser(prog="mmplane deploy", description=__doc__, example="mmplane deploy kubernetes --out cluster")
    parser.add_argument("name", choices=tuple(WAYS), help="the way to run it, or the part of one")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the files there instead of printing them")
    return parser


def files(name: str) -> list[Path]:
    """All files of one way."""
    paths = [folder("deploy") / each for each in WAYS[name]]
    found = [path for each in paths for path in ([each] if each.is_file() else sorted(each.rglob("*")))]
    return [path for path in found if path.is_file() and path.name not in _ignored(path.parent)]


def _ignored(beside: Path) -> list[str]:
    """What an operator's own files are called there, in a checkout: keys are never printed or copied."""
    names = beside / ".gitignore"
    return names.read_text().split() if names.is_file() else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    options = options_parser().parse_args(arguments)
    if options.out is not None:
        try:
            return _write(files(options.name), options.out)
        except OSError as error:
            return refuse(ValueError(f"--out: {options.out} cannot be written: {error.strerror}"))
    printed = [path for path in files(options.name) if path.name not in APART]
    for path in printed:
        # As documents of one YAML stream, so that the output of `kubernetes` can be applied.
        head = f"---\n# deploy/{path.relative_to(folder('deploy'))}\n" if len(printed) > 1 else ""
        sys.stdout.write(head + path.read_text())
    return 0


def _write(paths: Sequence[Path], out: Path) -> int:
    for path in paths:
        target = out / path.relative_to(folder("deploy"))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        print(target)
    return 0
