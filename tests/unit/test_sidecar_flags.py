"""Flags of `mmplane sidecar` that open a port: what is refused, before anything is started."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import pytest

from mmplane.commands import sidecar
from mmplane.commands.keys import KEY_VARIABLE


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--http-port=0 --http-host=0.0.0.0",
            "--http-host: addresses other than loopback need API keys: see --api-key-file",
        ),
        (
            "--http-port=0 --http-host=::",
            "--http-host: addresses other than loopback need API keys: see --api-key-file",
        ),
        ("--http-port=0 --http-host=here", "--http-host: 'here' is not an address"),
        ("--http-port=0 --api-key-file=/nowhere", "--api-key-file: /nowhere cannot be read"),
        ("--render-processes=2", "--render-processes needs --http-port"),
        ("--model-id=mine", "--model-id needs --http-port"),
        ("--api-key-file=/nowhere", "--api-key-file needs --http-port"),
    ],
)
def test_what_is_refused(
    flags: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert sidecar.main([f"--model={tmp_path}", f"--socket={tmp_path}/socket", *flags.split()]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"mmplane: {said}"


def test_a_missing_package_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sidecar, "find_spec", lambda name: None if name == "starlette" else util.find_spec(name))
    assert sidecar.main([f"--model={tmp_path}", f"--socket={tmp_path}/socket", "--http-port=0"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "mmplane: `mmplane sidecar --http-port` needs starlette: pip install 'mmplane[serve]'"


@pytest.mark.parametrize("count", ["0", "65"])
def test_how_many_render_processes_there_may_be(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sidecar.main(["--http-port=0", f"--render-processes={count}"])
    assert "--render-processes: " in capsys.readouterr().err
