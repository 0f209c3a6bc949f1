"""What `mmplane doctor --ray` says of clusters: each trouble is seen, on its machine, and has its fix."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mmplane.core.findings import Finding, Verdict, shown
from mmplane.ray.checks import Cluster, findings, survives_gcs
from mmplane.ray.facts import Facts

SET = {"RAY_AUTH_MODE": "token", "RAY_memory_monitor_refresh_ms": "0"}
HEALTH = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
HEAD = Facts("head", "2.60.0", "0.1.0", SET, SET | HEALTH | {"RAY_USAGE_STATS_ENABLED": "0"}, True, (), False)
MEDIA = Facts("media", "2.60.0", "0.1.0", SET, None, False, (), False)


def found(cluster: Cluster, verdict: Verdict) -> dict[str, Finding]:
    return {each.subject: each for each in findings(cluster) if each.verdict is verdict}


def changed(facts: Facts, **fields: Any) -> Facts:
    return msgspec.structs.replace(facts, **fields)


def test_a_cluster_that_is_set_well_has_nothing_to_fix() -> None:
    cluster = Cluster((HEAD, MEDIA))
    assert len(found(cluster, Verdict.OK)) == len(list(findings(cluster))) == 9
    text, status = shown(findings(cluster))
    assert ("->" in text, status) == (False, 0)


@pytest.mark.parametrize(
    ("machine", "subject", "says", "fix"),
    [
        (changed(MEDIA, settings={}), "token", "media", "RAY_AUTH_MODE=token"),
        (changed(MEDIA, settings={"RAY_AUTH_MODE": "disabled"}), "token", "media", "RAY_AUTH_MODE=token"),
        (changed(MEDIA, ray="2.55.1"), "versions", "too old on media", "ray>=2.56"),
        (changed(MEDIA, ray="2.59.0"), "versions", "2.59.0, 2.60.0", "same version"),
        (changed(MEDIA, mmplane="0.2.0"), "versions", "0.2.0", "same version"),
        (changed(MEDIA, client=True), "Ray Client", "media", "extras"),
    ],
)
def test_what_is_wrong_on_one_machine(machine: Facts, subject: str, says: str, fix: str) -> None:
    wrong = found(Cluster((HEAD, machine)), Verdict.WRONG)
    assert list(wrong) == [subject]
    assert says in wrong[subject].found
    assert fix in wrong[subject].fix
    assert shown(wrong.values())[1] == 1


def test_a_dashboard_is_wrong() -> None:
    assert list(found(Cluster((HEAD,), "127.0.0.1:8265"), Verdict.WRONG)) == ["dashboard"]


def test_a_token_is_the_default_of_new_versions() -> None:
    assert not found(Cluster((changed(HEAD, ray="2.61.0", settings={}),)), Verdict.WRONG)


@pytest.mark.parametrize(
    ("machine", "subject", "says"),
    [
        (changed(HEAD, settings={"RAY_AUTH_MODE": "token"}), "memory monitor", "on head"),
        (changed(HEAD, gcs={"RAY_USAGE_STATS_ENABLED": "0"}), "health checks", "65 s"),
        (changed(HEAD, gcs=HEALTH), "usage statistics", "on"),
        (changed(HEAD, redis=False), "when the GCS dies", "a minute later"),
        (changed(HEAD, open_ports=(6379, 10002)), "ports", "2 on all interfaces (6379, 10002)"),
    ],
)
def test_what_could_be_better(machine: Facts, subject: str, says: str) -> None:
    better = found(Cluster((machine, MEDIA)), Verdict.COULD_BE_BETTER)
    assert list(better) == [subject]
    assert says in better[subject].found
    assert better[subject].fix
    assert not found(Cluster((machine, MEDIA)), Verdict.WRONG)


def test_a_tuned_cluster_notices_soon() -> None:
    (finding,) = (each for each in findings(Cluster((HEAD,))) if each.subject == "health checks")
    assert "4.5 s" in finding.found


def test_what_ray_started_survives_a_gcs_that_is_kept_somewhere() -> None:
    assert survives_gcs(Cluster((MEDIA, HEAD)))
    assert not survives_gcs(Cluster((MEDIA, changed(HEAD, redis=False))))
    assert survives_gcs(Cluster((changed(HEAD, redis=False, gcs={"RAY_gcs_storage": "rocksdb"}),)))
    assert not survives_gcs(Cluster(()))
