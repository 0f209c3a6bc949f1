"""Manifests by the schemas of those who read them: Kubernetes' own, and the Compose specification's."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from manifests import BASE, DEPLOY, manifest

KUBERNETES = ("1.30", "1.37")
"""The oldest that the manifests are for, and the newest that the validator knows."""
STANDARD = [
    path
    for path in (
        *BASE.glob("*.yaml"),
        *(DEPLOY / "kubernetes-machines").glob("*.yaml"),
        *(DEPLOY / "kubernetes-route").glob("*.yaml"),
        DEPLOY / "kubernetes-sidecar.yaml",
    )
    if manifest(path)["apiVersion"] in ("v1", "apps/v1", "autoscaling/v2")
]


def compose_schema() -> dict[str, Any]:
    """As the package check-jsonschema ships it."""
    return dict(json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text()))


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("path", STANDARD, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_kubernetes_takes_it(path: Path, version: str) -> None:
    kubernetes_validate.validate(manifest(path), version, strict=True)


def test_kubernetes_refuses_a_misspelt_field() -> None:
    wrong = manifest(BASE / "deployment.yaml")
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 45
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


def test_compose_takes_it() -> None:
    content = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    jsonschema.validate(content, compose_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | {"servces": {}}, compose_schema())
