"""A server and two media machines in networks of their own: equal features, and no item lost with a machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from live import Live
from machines import JOINING, PORT, SERVER, Network, Outpost, machines, made_away, tls_flags, write_key
from pictures import jpeg, noise, part, photograph, text
from qwen_audio import build_qwen_audio
from tests.chaos.machines import CLIENTS, FLAGS, MachineRounds

from clips import clip_part, encode, moving
from mmplane.commands.cluster import read_cluster_key
from mmplane.features.choice import choose
from mmplane.machines.assignment import configured, keep
from mmplane.machines.dial import Server, fetch, join
from mmplane.machines.greeting import Refusal
from mmplane.machines.kin import kin_of
from mmplane.machines.records import Hello
from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny
from polling import until
from sounds import sound_part, speech_like, write

BACK_S = 60.0
"""Ten seconds are promised; this only tells progress from a hang."""


class Setting(NamedTuple):
    network: Network
    live: Live
    outposts: list[Outpost]
    key: Path
    model: Path
    contents: dict[str, list[Any]]
    local: dict[str, list[dict[str, Any]]]
    """What the server answered before any machine had joined."""


def digests(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return [item["digests"] for item in answer.json()["mmplane"]["trace"]["items"]]


def contents() -> dict[str, list[Any]]:
    few = [part(photograph("china")), part(photograph("flower")), part(jpeg(1, 700, 500)), part(noise(2))]
    many = [part(jpeg(1000 + number, 96 + number, 64)) for number in range(128)]
    return {
        "photographs": [text("What is this?"), *few],
        "clip": [text("What moves?"), clip_part(encode(moving()))],
        "many": [text("All of them?"), *many],
    }


@contextmanager
def joined(folder: Path, model: Path, sent: dict[str, list[Any]], *, tls: bool = False) -> Iterator[Setting]:
    """A server that has made all of this by itself, and the two machines that have joined since, one of them slow."""
    key = write_key(folder)
    serving, joining = tls_flags(folder) if tls else ((), ())
    network = Network(3)
    outposts: list[Outpost] = []
    try:
        with network.inside(0):
            flags = (*FLAGS, *JOINING, "--cluster-key-file", str(key), *serving)
            live = Live(model, *flags, tp=1)
            try:
                local = {name: digests(ask(live, content)) for name, content in sent.items()}
                outposts += [Outpost(network, 1, key, "--workers", "1", *joining), Outpost(network, 2, key, *joining)]
                for outpost in outposts:
                    outpost.wait_until_joined()
                until(lambda: len(machines(live)) == 2, BACK_S, "both have joined")
                yield Setting(network, live, outposts, key, model, sent, local)
                live.settle()
            finally:
                live.stop()
    finally:
        for outpost in outposts:
            outpost.stop()
        network.close()


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("machines")
    build_tiny(folder / "tiny", weights=SHIPPED_WEIGHTS)
    with joined(folder, folder / "tiny", contents()) as setting:
        yield setting


def ask(live: Live, content: Any) -> Any:
    return live.chat(content, max_tokens=1, mmplane={"trace": True})


@pytest.mark.parametrize("name", ["photographs", "clip"])
def test_features_are_those_of_this_machine(setting: Setting, name: str) -> None:
    before = made_away(setting.live)
    assert digests(ask(setting.live, setting.contents[name])) == setting.local[name]
    assert made_away(setting.live) - before == len(setting.local[name])


def test_sounds_are_those_of_this_machine_by_tls_too(tmp_path: Path) -> None:
    build_qwen_audio(tmp_path / "audio")
    heard = [sound_part(write(speech_like(seconds, seed=seconds), 16_000, "WAV")) for seconds in (1, 2, 3, 4)]
    with joined(tmp_path, tmp_path / "audio", {"sounds": [*heard, text("What was said?")]}, tls=True) as setting:
        assert digests(ask(setting.live, setting.contents["sounds"])) == setting.local["sounds"]
        assert len(setting.local["sounds"]) == len(heard)
        made = setting.live.statistics()["workers"]["machines"]
        assert sum(each["items"] for each in made) == len(heard)
        assert all(each["items"] for each in made), "each machine has its part"


def test_a_hundred_and_twenty_eight_pictures_are_spread_and_come_back_in_order(setting: Setting) -> None:
    """One of the machines has half as many workers as the other."""
    live = setting.live
    before = made_away(live)
    found = digests(ask(live, setting.contents["many"]))
    assert found == setting.local["many"]
    assert made_away(live) - before == len(found) == 128


def test_one_machine_more_is_told_so(setting: Setting) -> None:
    server = Server((SERVER, PORT), read_cluster_key(str(setting.key)))
    assignment, files = fetch(server, "extra")
    config = configured(assignment, keep(files), {"served_name": "extra"})
    with pytest.raises(Refusal, match="--join-max allows"):
        join(server, Hello("extra", "jobs", 1, kin_of(config, choose(config))))
    assert len(machines(setting.live)) == 2


def test_another_key_is_refused(setting: Setting, tmp_path: Path) -> None:
    stranger = Outpost(setting.network, 3, write_key(tmp_path, b"o" * 40))
    try:
        until(lambda: any("has a different cluster key" in line for line in stranger.log), BACK_S, "it is told why")
    finally:
        stranger.stop()


def test_we_listen_only_where_we_were_told(setting: Setting) -> None:
    listening = [
        connection.laddr
        for process in setting.live.processes().values()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {(address.ip, address.port == PORT) for address in listening} == {("127.0.0.1", False), (SERVER, True)}
    for outpost in setting.outposts:
        for process in (outpost.supervisor, *outpost.supervisor.children(recursive=True)):
            assert not [each for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]


def test_strangers_who_say_nothing_keep_nobody_out(setting: Setting) -> None:
    """More of them than one porter greets at once, and then a machine that comes back."""
    silent = [socket.create_connection((SERVER, PORT)) for _ in range(20)]
    try:
        setting.outposts[0].process("outpost").kill()
        until(lambda: len(machines(setting.live)) == 1, BACK_S, "it is missed")
        until(lambda: len(machines(setting.live)) == 2, BACK_S, "it is back")
    finally:
        for stranger in silent:
            stranger.close()


def test_whatever_is_lost_no_item_is(setting: Setting) -> None:
    """Twenty losses, two at a time; `make chaos-machines` plays five hundred."""
    rounds = MachineRounds(setting.network, setting.live, setting.outposts, setting.key, setting.model)
    with ThreadPoolExecutor(CLIENTS) as clients:
        for _ in range(10):
            rounds.play(clients)
    setting.live.settle()
    assert (rounds.wrong, rounds.poisoned) == (0, 0), rounds
    assert rounds.right + rounds.refused == rounds.asked, rounds
    assert rounds.right > rounds.asked / 2, rounds
