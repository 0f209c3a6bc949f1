"""Media machines by a real Ray: raylets in machines of their own, and a server that looks into their cluster.

The tests are the story of one cluster, in order: each begins where the one before ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from lab import LIMIT_S, PORT, Machine, Server, address, machines
from machines import Network, write_key
from pictures import jpeg, part, text

from polling import until

CLUSTER = f"{address(0)}:{PORT}"
JOIN = f"{address(0)}:9100"


class Setting(NamedTuple):
    network: Network
    machines: list[Machine]
    server: Server
    up: tuple[str, ...]
    local: list[str]
    """Digests of the picture as the server made it by itself."""


PICTURE = [text("What is this?"), part(jpeg(1, 300, 200))]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("ray")
    key = str(write_key(folder))
    with machines(3, folder) as (network, made):
        made[0].start_ray(head=True)
        made[1].start_ray()
        flags = ("--tp", "1", "--workers", "1", "--cache", "off", "--arena-bytes", "256MiB", "--kv-bytes", "256MiB")
        joining = ("--join-host", address(0), "--join-port", "9100", "--join-max", "2", "--cluster-key-file", key)
        server = Server(network, made[0], *flags, *joining, "--ray", CLUSTER)
        up = ("up", "--join", JOIN, "--cluster-key-file", key, "--media-per-node", "1")
        try:
            yield Setting(network, made, server, up, digests(server))
        finally:
            server.running.stop()


def digests(server: Server) -> list[str]:
    status, answer = server.ask(PICTURE)
    assert status == 200, answer
    return [item["digests"] for item in answer["mmplane"]["trace"]["items"]]


def ray(setting: Setting, *words: str, token: bool = True) -> tuple[int, str]:
    action, *flags = words
    return setting.machines[0].run("mmplane", "ray", action, "--address", CLUSTER, *flags, token=token)


def have_joined(setting: Setting, count: int) -> None:
    until(lambda: len(setting.server.machines()) == count, LIMIT_S, f"{count} media machines")


def made_away(setting: Setting) -> int:
    """How many items the machines that are there have made."""
    return sum(each["items"] for each in setting.server.machines())


def workers(machine: Machine) -> list[Any]:
    return machine.processes(lambda words: words.startswith("mmplane: ") or "-m mmplane worker" in words)


def test_without_the_token_everything_is_refused(setting: Setting) -> None:
    for action in ("status", "down"):
        code, said = ray(setting, action, token=False)
        assert (code, "RAY_AUTH_TOKEN_PATH" in said) == (2, True), said
    code, said = setting.machines[0].run("mmplane", "doctor", "--ray", CLUSTER, token=False)
    assert (code, "RAY_AUTH_TOKEN_PATH" in said) == (2, True), said


def test_doctor_finds_nothing_wrong(setting: Setting) -> None:
    code, said = setting.machines[0].run("mmplane", "doctor", "--ray", CLUSTER)
    assert code == 0, said
    for line in ("ok               token: asked for on every machine", "dashboard: none", "memory monitor: off"):
        assert line in said, said
    assert "given up after 12 s" in said, said
    assert f"({PORT}, " in said, "Ray listens on all interfaces"
    assert "could be better  when the GCS dies" in said, said


def test_replicas_are_refused_where_the_gcs_does_not_come_back(setting: Setting) -> None:
    code, said = ray(setting, "up", "--replicas", "1", "--flags", "--model tiny")
    assert (code, "--replicas: Ray ends what it started" in said) == (2, True), said


def test_up(setting: Setting) -> None:
    code, said = ray(setting, *setting.up)
    assert code == 0, said
    assert [line.split()[0] for line in said.splitlines()] == ["machine-1"], said
    have_joined(setting, 1)
    assert digests(setting.server) == setting.local
    assert made_away(setting) == 1


def test_a_machine_joins_and_leaves(setting: Setting) -> None:
    setting.machines[2].start_ray()
    have_joined(setting, 2)
    setting.server.running.said("Ray: machine machine-2 (10.91.0.3) is there")
    setting.machines[2].end()
    have_joined(setting, 1)
    setting.server.running.said("Ray: machine machine-2 (10.91.0.3) is gone")
    assert digests(setting.server) == setting.local


def scouts(setting: Setting) -> list[Any]:
    return setting.machines[0].processes(lambda words: words.startswith("mmplane: scout"))


def test_a_killed_scout_changes_nothing(setting: Setting) -> None:
    (scout,) = scouts(setting)
    before, away = workers(setting.machines[1]), made_away(setting)
    scout.kill()
    assert digests(setting.server) == setting.local
    assert made_away(setting) == away + 1
    until(lambda: [each for each in scouts(setting) if each != scout], LIMIT_S, "there is another scout")
    assert workers(setting.machines[1]) == before


def test_a_dead_gcs_takes_media_machines_along_and_they_come_back_with_ray(setting: Setting) -> None:
    server, (head, media, _) = setting.server, setting.machines
    (gcs,) = head.processes(lambda words: "gcs_server" in words.split()[0])
    ended = False

    def client() -> list[list[str]]:
        found = []
        while not ended:
            found.append(digests(server))
        return found

    with ThreadPoolExecutor(2) as clients:
        asked = [clients.submit(client) for _ in range(2)]
        gcs.kill()
        try:
            until(lambda: not server.machines(), LIMIT_S, "the media machine has ended with Ray")
            until(lambda: not workers(media), LIMIT_S, "nothing of it is left")
            until(lambda: not head.processes(lambda words: "/raylet/raylet" in words), LIMIT_S, "Ray has ended")
            assert digests(server) == setting.local
            head.start_ray(head=True)
            media.start_ray()
            have_joined(setting, 1)
        finally:
            ended = True
        answers = [each for client in asked for each in client.result()]
    assert answers
    assert all(each == setting.local for each in answers)


def test_down(setting: Setting) -> None:
    code, said = ray(setting, "down")
    assert (code, "ended on 1 machines" in said) == (0, True), said
    have_joined(setting, 0)
    until(lambda: not workers(setting.machines[1]), LIMIT_S, "nothing of it is left")
    assert ray(setting, "status") == (0, "")
    assert digests(setting.server) == setting.local
