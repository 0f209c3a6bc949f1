"""Whether a Ray cluster is set as it should be, from plain facts: `mmplane doctor --ray`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mmplane.core.findings import Finding, Verdict
from mmplane.ray.facts import Facts

OLDEST = (2, 56)
"""Older ones have a hole through which a file becomes code (CVE-2026-57516)."""
TOKEN_BY_DEFAULT = (2, 61)
NOTICED_S_MAX = 15.0
_HEALTH = {"failure_threshold": 5.0, "period_ms": 3000.0, "timeout_ms": 10000.0}
"""Ray's own defaults."""


@dataclass(frozen=True)
class Cluster:
    """What is known of all machines. `dashboard` is its address, if there is one."""

    machines: tuple[Facts, ...]
    dashboard: str = ""

    @property
    def gcs(self) -> dict[str, str] | None:
        """The settings of the process that knows the cluster, if it could be found."""
        return next((each.gcs for each in self.machines if each.gcs is not None), None)


def findings(cluster: Cluster) -> Iterator[Finding]:
    """Everything that was looked at."""
    checks: tuple[Callable[[Cluster], Finding], ...] = (
        _version, _token, _dashboard, _client, _ports, _memory_monitor, _health, _usage, _gcs,
    )  # fmt: skip
    return (check(cluster) for check in checks)


def survives_gcs(cluster: Cluster) -> bool:
    """Whether what Ray has started goes on when the GCS dies and comes back."""
    return any(each.redis for each in cluster.machines) or (cluster.gcs or {}).get("RAY_gcs_storage", "") == "rocksdb"


def _version(cluster: Cluster) -> Finding:
    versions = {each.ray for each in cluster.machines}
    ours = {each.mmplane for each in cluster.machines}
    found = f"Ray {', '.join(sorted(versions))}, mmplane {', '.join(sorted(ours))}"
    old = _named(cluster, lambda each: _numbers(each.ray) < OLDEST)
    if old:
        return Finding("versions", f"{found}; too old on {old}", Verdict.WRONG, "pip install 'ray>=2.56' there")
    if len(versions) > 1 or len(ours) > 1:
        return Finding("versions", found, Verdict.WRONG, "install the same version of both on every machine")
    return Finding("versions", found)


def _token(cluster: Cluster) -> Finding:
    without = _named(cluster, lambda each: not _asks_for_token(each))
    if not without:
        return Finding("token", "asked for on every machine")
    fix = (
        "whoever reaches these machines runs code on them: start Ray there with RAY_AUTH_MODE=token and "
        "RAY_AUTH_TOKEN_PATH, the same token everywhere (`ray get-auth-token --generate`)"
    )
    return Finding("token", f"not asked for on {without}", Verdict.WRONG, fix)


def _asks_for_token(facts: Facts) -> bool:
    default = "token" if _numbers(facts.ray) >= TOKEN_BY_DEFAULT else "disabled"
    return facts.settings.get("RAY_AUTH_MODE", default) != "disabled"


def _dashboard(cluster: Cluster) -> Finding:
    if not cluster.dashboard:
        return Finding("dashboard", "none")
    fix = "its jobs interface starts programs: `ray start --head --include-dashboard=false`, and ray without extras"
    return Finding("dashboard", f"at {cluster.dashboard}", Verdict.WRONG, fix)


def _client(cluster: Cluster) -> Finding:
    with_it = _named(cluster, lambda each: each.client)
    if not with_it:
        return Finding("Ray Client", "none")
    fix = "install ray without the extras `client` and `default`: nothing here needs its server"
    return Finding("Ray Client", f"a server on {with_it}", Verdict.WRONG, fix)


def _ports(cluster: Cluster) -> Finding:
    open_ports = sorted({port for each in cluster.machines for port in each.open_ports})
    if not open_ports:
        return Finding("ports", "none on all interfaces")
    shown = ", ".join(map(str, open_ports[:8])) + (", ..." if len(open_ports) > 8 else "")
    fix = (
        "Ray binds all interfaces, whatever --node-ip-address says: fix its ports (`ray start --help`) and let a "
        "firewall pass them only between the machines of the cluster"
    )
    return Finding("ports", f"{len(open_ports)} on all interfaces ({shown})", Verdict.COULD_BE_BETTER, fix)


def _memory_monitor(cluster: Cluster) -> Finding:
    with_it = _named(cluster, lambda each: each.settings.get("RAY_memory_monitor_refresh_ms") != "0")
    if not with_it:
        return Finding("memory monitor", "off")
    fix = "it counts a reserved arena as used, and ends actors: start Ray there with RAY_memory_monitor_refresh_ms=0"
    return Finding("memory monitor", f"on, on {with_it}", Verdict.COULD_BE_BETTER, fix)


def _health(cluster: Cluster) -> Finding:
    noticed_s = _noticed_s(cluster.gcs or {})
    found = f"a machine that does not answer is given up after {noticed_s:g} s"
    if noticed_s <= NOTICED_S_MAX:
        return Finding("health checks", found)
    fix = (
        "start the head with RAY_health_check_period_ms=500 RAY_health_check_timeout_ms=1000 "
        "RAY_health_check_failure_threshold=3"
    )
    return Finding("health checks", found, Verdict.COULD_BE_BETTER, fix)


def _noticed_s(settings: dict[str, str]) -> float:
    found = {}
    for name, default in _HEALTH.items():
        text = settings.get(f"RAY_health_check_{name}", "")
        found[name] = float(text) if re.fullmatch(r"\d+", text) else default
    return found["failure_threshold"] * (found["period_ms"] + found["timeout_ms"]) / 1000


def _usage(cluster: Cluster) -> Finding:
    if (cluster.gcs or {}).get("RAY_USAGE_STATS_ENABLED") == "0":
        return Finding("usage statistics", "off")
    fix = "they are sent to Ray's makers: `ray start --head --disable-usage-stats`"
    return Finding("usage statistics", "on", Verdict.COULD_BE_BETTER, fix)


def _gcs(cluster: Cluster) -> Finding:
    if survives_gcs(cluster):
        return Finding("when the GCS dies", "what Ray started goes on")
    fix = "media machines come back with Ray; for replicas keep the GCS in Redis (Ray: GCS fault tolerance)"
    return Finding(
        "when the GCS dies", "Ray ends what it started on every machine, a minute later", Verdict.COULD_BE_BETTER, fix
    )


def _named(cluster: Cluster, chosen: Callable[[Facts], bool]) -> str:
    """Machines for which this holds, by name."""
    names: Iterable[str] = (each.machine for each in cluster.machines if chosen(each))
    return ", ".join(sorted(names))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))
