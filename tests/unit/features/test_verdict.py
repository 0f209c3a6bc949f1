"""A comparison with transformers happens once for a checkpoint and what computes; where there was none, it is said."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmplane.features import verdict
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.reference import parity
from mmplane.features.select import image_processor
from mmplane.features.verdict import Subject, verdicts_of

from .checkpoints import FAMILIES

PATH = verdict._path


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return FAMILIES["qwen2_5_vl"].write(tmp_path / "model")


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modalities that were compared, in a test whose verdicts are remembered in a folder of its own."""
    found: list[str] = []

    def compare(_: str, modality: str, backend: str) -> bool:
        found.append(modality if backend == "pil" else f"{modality} {backend}")
        return modality != "video"

    monkeypatch.setattr(parity, "compare", compare)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(verdict, "_path", PATH)
    return found


def test_a_verdict_is_found_once(folder: str, compared: list[str]) -> None:
    for _ in range(3):
        assert verdicts_of(folder, ["image", "video"]) == {"image": "same", "video": "differs"}
    assert compared == ["image", "video"]


def test_processes_that_start_together_compare_once(folder: str, compared: list[str]) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: verdicts_of(folder, ["image", "video"]), range(4)))
    assert found == [{"image": "same", "video": "differs"}] * 4
    assert compared == ["image", "video"]


def test_who_holds_the_turn_for_long_holds_nobody_up(
    folder: str, compared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "COMPARE_SECONDS", 0.01)
    with verdict._in_turn(Subject(CheckpointFiles(folder))):
        assert verdicts_of(folder, ["image"]) == {"image": "same"}
    assert compared == ["image"]


def test_another_configuration_version_or_code_is_compared_anew(
    folder: str, compared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts_of(folder, ["image"])
    settings = Path(folder, "preprocessor_config.json")
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"max_pixels": 28 * 28 * 99}))
    verdicts_of(folder, ["image"])
    monkeypatch.setattr(verdict, "versions", lambda _: "transformers 9")
    verdicts_of(folder, ["image"])
    monkeypatch.setattr(verdict, "_code", lambda: b"another")
    verdicts_of(folder, ["image"])
    assert compared == ["image"] * 4


def test_a_damaged_or_unwritable_file_means_a_comparison(folder: str, compared: list[str], tmp_path: Path) -> None:
    verdicts_of(folder, ["image"])
    (remembered,) = (tmp_path / "cache" / "mmplane" / "verdicts").glob("*.json")
    remembered.write_bytes(b'{"image": "sam')
    assert verdicts_of(folder, ["image"]) == {"image": "same"}
    remembered.unlink()
    remembered.mkdir()  # cannot be replaced by a file
    assert verdicts_of(folder, ["image"]) == {"image": "same"}
    assert compared == ["image"] * 3


def test_a_child_compares_where_transformers_is_not_loaded(folder: str) -> None:
    assert verdict._compare_apart(Subject(CheckpointFiles(folder)), ["image", "video"]) == {
        "image": "same",
        "video": "same",
    }


@pytest.mark.parametrize(("what", "value"), [("sys.executable", "/bin/false"), ("COMPARE_SECONDS", 0.01)])
def test_a_child_that_fails_or_stands_still_has_compared_nothing(
    what: str, value: object, folder: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"mmplane.features.verdict.{what}", value)
    assert verdict._compare_apart(Subject(CheckpointFiles(folder)), ["image"]) == {"image": "not compared"}
    assert "could not be compared" in caplog.text


def test_without_transformers_nothing_is_remembered_and_the_fingerprint_is_another(
    folder: str, compared: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = image_processor(folder, verdict="same").fingerprint
    monkeypatch.setattr(verdict, "find_spec", lambda _: None)
    monkeypatch.setattr(verdict, "_loaded", lambda: False)
    with caplog.at_level(logging.WARNING):
        alone = image_processor(folder)
    assert alone.fingerprint != fingerprint
    assert "not compared" in caplog.text
    assert not list(tmp_path.rglob("verdicts/*.json"))
    assert compared == []
