"""What `mmplane ray up` asks for, and what it refuses before Ray is imported."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from mmplane.commands import ray
from mmplane.commands.ray import said, wanted_of
from mmplane.ray.address import answers, host_and_port, refusal
from mmplane.ray.wanted import Standing, Wanted

NOTHING: dict[str, Any] = {
    "join": "",
    "replicas": 0,
    "cluster_key_file": "",
    "join_pin": "",
    "media_per_node": 0,
    "tp": 1,
    "flags": "",
}
JOIN = {"join": "10.0.0.1:9100", "cluster_key_file": "/k"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ""),
        ({"media_per_node": 8}, " --workers 8"),
        ({"join_pin": "ab"}, " --join-pin ab"),
        ({"flags": "--name 'a b'"}, " --name a b"),
    ],
)
def test_media_machines_dial_the_server_with_a_key_that_lies_there(given: dict[str, Any], words: str) -> None:
    found = wanted_of(NOTHING | JOIN | given)
    assert (found.kind, found.without) == ("media", "10.0.0.1")
    assert " ".join(found.words) == "worker --join 10.0.0.1:9100 --cluster-key-file /k" + words


def test_the_servers_machine_is_known_by_name_too() -> None:
    assert wanted_of(NOTHING | JOIN | {"join": "localhost:9100"}).without in ("127.0.0.1", "::1")
    with pytest.raises(ValueError, match=r"--join: nowhere\.invalid is not known here"):
        wanted_of(NOTHING | JOIN | {"join": "nowhere.invalid:9100"})


def test_the_keys_path_is_absolute() -> None:
    words = wanted_of(NOTHING | JOIN | {"cluster_key_file": "k"}).words
    assert words[words.index("--cluster-key-file") + 1].endswith("/k")


def test_replicas_serve() -> None:
    found = wanted_of(NOTHING | {"replicas": 3, "tp": 4, "flags": "--model /m"})
    assert found == Wanted("replica", ("serve", "--tp", "4", "--model", "/m"), 3, port=8000)


@pytest.mark.parametrize("flags", ["--port 8100", "--model /m --port=8100", "--port 1 --host 0.0.0.0 --port 8100"])
def test_the_port_of_replicas_is_that_of_their_flags(flags: str) -> None:
    assert wanted_of(NOTHING | {"replicas": 3, "flags": flags}).port == 8100


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["up"], "give either --join for media machines, or --replicas"),
        (["up", "--join", "10.0.0.1:1", "--replicas", "1"], "give either"),
        (["up", "--join", "10.0.0.1:9100"], "--cluster-key-file"),
        (["up", "--join", "nowhere", "--cluster-key-file", "k"], "--join: 'nowhere' is not HOST:PORT"),
        (["up", "--replicas", "1", "--flags", "--port 99999"], "--flags: argument --port: '99999' is not"),
        (["status", "--address", "here"], "--address: 'here' is not HOST:PORT"),
    ],
)
def test_mistakes_are_said_before_ray_is_imported(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ray.main(words) == 2
    assert says in capsys.readouterr().err
    assert "mmplane.ray.cluster" not in sys.modules


def test_how_a_host_does() -> None:
    assert said(Standing(12, 61.4, 1, None)) == "runs for 61 s (pid 12)"
    assert said(Standing(12, 5.0, 3, 2)) == "runs for 5 s (pid 12), ended 2 times, last with 2"
    assert said(Standing(0, 0.0, 2, 2)) == "waits to start again, ended 2 times, last with 2"
    assert said("gone") == "does not answer: gone"


def test_where_a_cluster_is() -> None:
    assert host_and_port("10.0.0.1:6379") == ("10.0.0.1", 6379)
    assert host_and_port("[fd00::1]:6379") == ("fd00::1", 6379)
    for address in ("", "here", ":1", "here:", "here:0", "here:99999", "ray://here:1x"):
        with pytest.raises(ValueError, match=r"--ray: .* is not HOST:PORT"):
            host_and_port(address)
    assert answers("127.0.0.1:1") == "Connection refused"


def test_a_refusal_for_want_of_a_token_says_where_it_belongs() -> None:
    assert "RAY_AUTH_TOKEN_PATH" in refusal("10.0.0.1:6379", "Authentication failed:\nInvalidAuthToken")
    assert refusal("10.0.0.1:6379", "Version mismatch\nmore").endswith("does not let this machine in: Version mismatch")
