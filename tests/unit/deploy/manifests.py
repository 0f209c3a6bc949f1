"""What Kubernetes' manifests say, read as the tests need it."""

from __future__ import annotations

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
