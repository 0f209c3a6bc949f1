"""The built-in model's folder, where another user has built one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmplane.models.cached import cache_folder, tiny_folder


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/mmplane")
    monkeypatch.delenv("XDG_CACHE_HOME")
    with pytest.raises(ValueError, match="set XDG_CACHE_HOME"):
        cache_folder()


@pytest.mark.parametrize("readable", [False, True])
def test_what_cannot_be_read_is_built_again_beside_it(
    readable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_folder(tmp_path)
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(b"")
    access = os.access  # a test that root runs may read all
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and (readable or Path(path) != weights))
    assert tiny_folder(tmp_path).name == (folder.name if readable else f"{folder.name}-{os.getuid()}")
