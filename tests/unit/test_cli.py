"""What the command line makes of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmplane import machine
from mmplane.commands import main, serve
from mmplane.commands.settings import declared, settle
from mmplane.commands.starting import arena_for, workers_for
from mmplane.config import GIB, Config
from mmplane.parser import Parser


@pytest.mark.parametrize(
    ("cores", "arena_bytes", "workers"),
    [(1, GIB, 2), (2, GIB, 2), (16, GIB, 2), (16, 4 * GIB, 8), (16, 64 * GIB, 8), (256, 64 * GIB, 48)],
)
def test_workers_by_cores_and_room(cores: int, arena_bytes: int, workers: int) -> None:
    assert workers_for(cores, arena_bytes) == workers


@pytest.mark.parametrize(
    ("cores", "memory_bytes", "arena_bytes", "workers"),
    [(2, 24 * GIB, GIB, 2), (16, 64 * GIB, 8 * GIB, 16), (16, 8 * GIB, 4 * GIB, 8), (256, 1024 * GIB, 24 * GIB, 48)],
)
def test_offline_every_core_has_a_worker_as_far_as_memory_goes(
    cores: int, memory_bytes: int, arena_bytes: int, workers: int
) -> None:
    assert arena_for(cores, memory_bytes) == arena_bytes
    assert workers_for(cores, arena_bytes, cores_each=1) == workers


def test_a_configuration_without_flags_has_what_the_smallest_machine_gets() -> None:
    assert Config(model="", model_folder="", served_name="").workers == workers_for(1, GIB)


def test_a_control_group_bounds_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(machine, "cores_granted", lambda: 8.0)
    table = declared(serve.add_flags(Parser()))
    given = {name: each.value for name, each in settle(table, {}, {}, None).items()}
    config = serve.resolve(given | {"model": "a/b", "arena_bytes": 64 * GIB})
    assert config.workers == 4


def test_a_model_is_not_given_simulated_features() -> None:
    table = declared(serve.add_flags(Parser()))
    given = {name: each.value for name, each in settle(table, {}, {}, None).items()}
    given |= {"model": "a/b", "decoder": "sim:500:400"}
    assert serve.resolve(given | {"runner": "null"}).decoder == "sim:500:400"
    with pytest.raises(ValueError, match="--runner null"):
        serve.resolve(given)


def test_an_ingress_that_a_delivery_cannot_have_is_refused() -> None:
    table = declared(serve.add_flags(Parser()))
    given = {name: each.value for name, each in settle(table, {}, {}, None).items()} | {"model": "a/b"}
    assert serve.resolve(given | {"delivery": "leader", "ingress": "leader"}).ingress == "leader"
    with pytest.raises(ValueError, match="--ingress: leader is not possible for original: it broadcasts nothing"):
        serve.resolve(given | {"delivery": "original", "ingress": "leader"})


TRAFFIC = "--body-bytes=1 --item-bytes=1 --decoded-bytes=1"


@pytest.mark.parametrize(
    "line",
    [
        "top --interval=nan",
        "top --interval=inf",
        "top --interval=-1",
        "demo --tp=0",
        f"plan --requests-per-s=nan --item-s=1 {TRAFFIC}",
        f"plan --item-s=0 --requests-per-s=1 {TRAFFIC}",
        f"plan --new-share=2 --requests-per-s=1 --item-s=1 {TRAFFIC}",
        "bench --rate=nan",
        "bench --concurrency=0",
        "bench --duration=inf",
        "bench --tp=0",
        "bench --tp=9999999",
        "bench --url nowhere",
    ],
)
def test_a_mistake_ends_a_command_with_a_sentence(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(line.split())
    assert ended.value.code == 2
    assert line.split()[1].partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "some words", "[]", "{}"])
def test_a_file_that_is_no_run_ends_the_bench_with_a_sentence(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as ended:
        main.main(["bench", "--from", str(path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"mmplane bench: --from: {path} ")
