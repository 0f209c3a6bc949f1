"""`deploy/` by the programs that will read it: promtool, systemd, and a Prometheus that scrapes a server.

Run by `make check-deploy`, which gets Debian's packages where they are missing.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from live import Live, serving

from polling import until

DEPLOY = Path(__file__).parents[2] / "deploy"
KEY = "0123456789abcdef0123456789abcdef"
LIMIT_S = 60.0


def run(*command: str | Path, stdin: bytes = b"") -> str:
    """What a program prints; it must find nothing wrong."""
    ended = subprocess.run(command, input=stdin, capture_output=True, timeout=LIMIT_S, check=False)
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, said
    return said


def test_promtool_takes_the_rules() -> None:
    assert "SUCCESS" in run("promtool", "check", "rules", "--lint-fatal", DEPLOY / "alerts.yml")


def test_promtool_finds_out_a_wrong_rule(tmp_path: Path) -> None:
    wrong = (DEPLOY / "alerts.yml").read_text().replace("mmplane_ranks_attached == 0", "mmplane_ranks_attached = 0")
    (tmp_path / "alerts.yml").write_text(wrong)
    assert subprocess.run(["promtool", "check", "rules", tmp_path / "alerts.yml"], capture_output=True).returncode


def test_alerts_fire_when_they_should() -> None:
    run("promtool", "test", "rules", Path(__file__).with_name("alerts_test.yml"))


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """In the command's place, which is not installed here, a program that is."""
    unit = (DEPLOY / "mmplane.service").read_text()
    startable = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit, flags=re.MULTILINE)
    (tmp_path / "mmplane.service").write_text(startable)
    assert run("systemd-analyze", "verify", tmp_path / "mmplane.service") == ""
    run("systemd-analyze", "security", "--offline=true", "--threshold=25", tmp_path / "mmplane.service")


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with serving("tiny", env={"MMPLANE_API_KEY": KEY}) as live:
        live.http.headers["authorization"] = f"Bearer {KEY}"
        yield live


@pytest.fixture(scope="module")
def prometheus(server: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A Prometheus with the settings of deploy/compose, but for the places of server, key and rules."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "operator").write_text(KEY)
    settings = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(DEPLOY / name) for name in settings["rule_files"]]
    (job,) = settings["scrape_configs"]
    job["authorization"]["credentials_file"] = str(folder / "operator")
    job["static_configs"] = [{"targets": [server.url.removeprefix("http://")]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    run("promtool", "check", "config", folder / "prometheus.yml")
    flags = (
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}",
        "--web.listen-address=127.0.0.1:0",
    )
    with (folder / "log").open("wb") as log, subprocess.Popen(["prometheus", *flags], stderr=log) as process:
        try:
            found = until(
                lambda: re.search(r"address=(127\.0\.0\.1:[1-9]\d*)", (folder / "log").read_text()), LIMIT_S, ""
            )
            with httpx.Client(base_url=f"http://{found[1]}/api/v1") as client:
                yield client
        finally:
            process.kill()


def value(prometheus: httpx.Client, query: str) -> list[Any]:
    answer = prometheus.get("/query", params={"query": query}).raise_for_status().json()
    assert answer["status"] == "success"
    return list(answer["data"]["result"])


def test_prometheus_scrapes_a_server_with_its_key(prometheus: httpx.Client) -> None:
    until(lambda: value(prometheus, 'up{job="mmplane"} == 1'), LIMIT_S, "the server is scraped")
    assert value(prometheus, "mmplane_ranks_attached == 1")
    targets = prometheus.get("/targets").json()["data"]["activeTargets"]
    assert [target["lastError"] for target in targets] == [""]


def test_what_a_server_exports_is_sound(server: Live) -> None:
    metrics = server.http.get("/metrics")
    assert metrics.status_code == 200
    run("promtool", "check", "metrics", stdin=metrics.content)


def test_prometheus_evaluates_every_query_of_the_dashboard(prometheus: httpx.Client) -> None:
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert queries
    for query in queries:
        value(prometheus, query.replace("$instance", ".*").replace("$__rate_interval", "1m"))


def test_prometheus_loads_every_rule_and_none_of_a_healthy_server_fires(prometheus: httpx.Client) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = prometheus.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    until(lambda: all(rule["health"] == "ok" for rule in rules()), LIMIT_S, "all rules are evaluated")
    assert len(rules()) == len(yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"])
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []
