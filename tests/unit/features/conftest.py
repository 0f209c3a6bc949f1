from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers.models.smolvlm import processing_smolvlm

from mmplane.features import verdict
from torchvision_reference import INSTALL, TORCHVISION, Reference, reference_process


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tests here break what is compared with transformers: each compares for itself."""
    monkeypatch.setattr(verdict, "_path", lambda _: Path("/dev/null/verdict"))


@pytest.fixture(autouse=True, scope="session")
def _words_for_numbers() -> None:
    """SmolVLM's Processor asks for a package that only its clips need."""
    processing_smolvlm.num2words = str


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """transformers with torchvision, in a process of its own."""
    if not TORCHVISION.exists():
        pytest.fail(f"transformers' own processors need torchvision: {INSTALL}")
    with reference_process(tmp_path_factory.mktemp("reference")) as process:
        yield process
