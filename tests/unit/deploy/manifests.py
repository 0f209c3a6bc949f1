"""What Kubernetes' manifests say, read as the tests need it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from mmplane.config import MIB

DEPLOY = Path(__file__).parents[3] / "deploy"
BASE = DEPLOY / "kubernetes"
WORKER_BYTES = 150 * MIB
UNITS = {"Mi": MIB, "Gi": 1024 * MIB}


def manifest(path: Path) -> dict[str, Any]:
    """The one resource of a file."""
    (resource,) = yaml.safe_load_all(path.read_text())
    return dict(resource)


def amount(text: str) -> int:
    """Bytes of a quantity."""
    return int(text[:-2]) * UNITS[text[-2:]]


def mount(container: dict[str, Any], path: str) -> dict[str, Any]:
    """The volume mount that this path lies in."""
    (found,) = [one for one in container["volumeMounts"] if Path(path).is_relative_to(one["mountPath"])]
    return dict(found)


def parsed(command: Any, arguments: list[str]) -> argparse.Namespace:
    """What the command makes of these; it exits at a flag that it does not know."""
    parser = argparse.ArgumentParser()
    command.add_flags(parser)
    return parser.parse_args(arguments)


def patched(document: Any, operation: dict[str, Any]) -> None:
    """Do an `add` at the end of a list, or a `replace`, as RFC 6902 has them."""
    *path, last = operation["path"].strip("/").split("/")
    for name in path:
        document = document[int(name) if isinstance(document, list) else name]
    if operation["op"] == "add":
        assert last == "-"
        document.append(operation["value"])
    else:
        assert operation["op"] == "replace"
        assert last in document
        document[last] = operation["value"]
