"""What doctor says of machines that we do not have: each trouble is seen, and has its fix."""

from __future__ import annotations

import resource
import socket
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from mmplane import doctor, machine
from mmplane.config import GIB, MIB
from mmplane.core.findings import Verdict
from mmplane.machine import Facts, cores_granted, cores_usable, findings, outdated_packages, quota_cores
from mmplane.process.sandbox import Network

GOOD = Facts(
    memory_bytes=16 * GIB,
    descriptors=65_536,
    file_bytes=resource.RLIM_INFINITY,
    cores=8,
    quota_cores=None,
    libc="glibc 2.36",
    preloaded="",
    seccomp="0",
    network=Network.NAMESPACE,
    missing=(),
    outdated=(),
    gpus=0,
    torch_gpus=0,
    torchvision="not installed",
    port_taken=False,
    cache_folder=Path("/"),
    cache_free_bytes=10 * GIB,
)
TROUBLE: list[tuple[str, dict[str, Any], Verdict, str]] = [
    ("kernel", {"missing": ("pidfd",)}, Verdict.WRONG, "5.4"),
    ("kernel", {"missing": ("MADV_POPULATE",)}, Verdict.COULD_BE_BETTER, "5.14"),
    ("workers and the network", {"network": Network.NONE}, Verdict.WRONG, "max_user_namespaces"),
    ("memory", {"memory_bytes": GIB // 2}, Verdict.WRONG, "1 GiB"),
    ("memory", {"memory_bytes": GIB}, Verdict.COULD_BE_BETTER, "--arena-bytes"),
    ("descriptors", {"descriptors": 256}, Verdict.WRONG, "ulimit -Hn"),
    ("descriptors", {"descriptors": 1024}, Verdict.COULD_BE_BETTER, "connection"),
    ("file size", {"file_bytes": 100 * MIB}, Verdict.WRONG, "ulimit -f"),
    ("cores", {"cores": 1}, Verdict.COULD_BE_BETTER, "two or more"),
    ("cores", {"quota_cores": 0.5}, Verdict.COULD_BE_BETTER, "two or more"),
    ("malloc", {"preloaded": "libjemalloc.so.2"}, Verdict.COULD_BE_BETTER, "LD_PRELOAD"),
    ("malloc", {"libc": ""}, Verdict.COULD_BE_BETTER, "glibc"),
    ("packages", {"outdated": ("numpy is 1.0, wanted >=2.1",)}, Verdict.WRONG, "pip install"),
    ("GPUs", {"gpus": 2}, Verdict.COULD_BE_BETTER, "--device cpu"),
    ("port", {"port_taken": True}, Verdict.COULD_BE_BETTER, "--port"),
    ("disk", {"cache_free_bytes": MIB}, Verdict.COULD_BE_BETTER, "XDG_CACHE_HOME"),
]


def test_a_good_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert {finding.verdict for finding in findings(GOOD)} == {Verdict.OK}
    assert doctor.machine(GOOD) == 0
    said = capsys.readouterr().out
    assert "->" not in said
    for subject in ("kernel", "memory", "descriptors", "torchvision", "GPUs", "port", "packages", "malloc", "seccomp"):
        assert subject in said


@pytest.mark.parametrize(("subject", "change", "verdict", "words"), TROUBLE)
def test_trouble_is_seen_and_has_its_fix(
    subject: str, change: dict[str, Any], verdict: Verdict, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = replace(GOOD, **change)
    found = {finding.subject: finding for finding in findings(facts) if finding.verdict is not Verdict.OK}
    assert set(found) == {subject}
    assert found[subject].verdict is verdict
    assert words in found[subject].fix
    assert doctor.machine(facts) == (1 if verdict is Verdict.WRONG else 0)
    assert f"-> {found[subject].fix}" in capsys.readouterr().out


def test_every_subject_has_a_trouble_of_its_own() -> None:
    assert {finding.subject for finding in findings(GOOD)} - {each[0] for each in TROUBLE} == {
        "seccomp",
        "torchvision",
        "mmplane route",
    }


def test_the_facts_of_this_machine_are_read() -> None:
    facts = Facts()
    assert facts.memory_bytes > 0
    assert facts.cores > 0
    assert not facts.missing, "the tests need all of it"
    assert all(finding.found for finding in findings(facts))


def test_packages() -> None:
    wanted = ["a>=2", "b>=1; extra == 'serve'", "c>=1; extra == 'serve'", "d>=9; extra == 'bench'"]
    versions = {"a": "2.1", "b": "0.9"}

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    assert list(outdated_packages(lambda _: wanted, version)) == ["b is 0.9, wanted >=1", "c is missing"]


def test_the_processor_time_of_a_group(tmp_path: Path) -> None:
    assert quota_cores(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert quota_cores(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert quota_cores(tmp_path) is None


def test_the_processor_time_of_a_group_of_version_1(tmp_path: Path) -> None:
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    for quota, cores in (("250000", 2.5), ("-1", None), ("x", None)):
        (tmp_path / "cpu.cfs_quota_us").write_text(quota)
        assert quota_cores(tmp_path) == cores


def test_the_least_of_the_enclosing_groups_counts(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/system.slice/mmplane.service\n")
    assert cores_granted(tmp_path) is None
    group = tmp_path / "sys/fs/cgroup/system.slice/mmplane.service"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("400000 100000")
    (group.parent / "cpu.max").write_text("300000 100000")
    assert cores_granted(tmp_path) == 3


@pytest.mark.parametrize(
    ("affinity", "granted", "cores"), [(16, None, 16), (16, 2.0, 2), (16, 0.5, 1), (2, 8.0, 2), (8, 3.9, 3)]
)
def test_the_cores_that_can_be_used(
    affinity: int, granted: float | None, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(affinity)))
    monkeypatch.setattr(machine, "cores_granted", lambda: granted)
    assert cores_usable() == cores


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert machine._taken(taken.getsockname()[1])
