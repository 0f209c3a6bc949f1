"""A server and two media machines in networks of their own: equal features, and no item lost with a machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from live import Live, until
from machines import JOINING, PORT, SERVER, Network, Outpost, machines, made_away, write_key
from pictures import jpeg, noise, part, photograph, text
from tests.chaos.machines import FLAGS, Rounds

from clips import clip_part, encode, moving
from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny

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


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("machines")
    key = write_key(folder)
    network = Network(3)
    outposts: list[Outpost] = []
    try:
        with network.inside(0):
            model = folder / "tiny"
            build_tiny(model, weights=SHIPPED_WEIGHTS)
            flags = (*FLAGS, *JOINING, "--cluster-key-file", str(key))
            live = Live(model, *flags, tp=1, executed=True)
            try:
                sent = contents()
                local = {name: digests(ask(live, content)) for name, content in sent.items()}
                outposts += [Outpost(network, 1, key, "--workers", "1"), Outpost(network, 2, key)]
                for outpost in outposts:
                    outpost.wait_until_joined()
                until(lambda: machines(live) == 2, BACK_S, "both have joined")
                yield Setting(network, live, outposts, key, model, sent, local)
                live.settle()
            finally:
                live.stop()
    finally:
        for outpost in outposts:
            outpost.stop()
        network.close()


def ask(live: Live, content: Any) -> Any:
    return live.chat(content, max_tokens=1, mmplane={"trace": True})


@pytest.mark.parametrize("name", ["photographs", "clip"])
def test_features_are_those_of_this_machine(setting: Setting, name: str) -> None:
    before = made_away(setting.live)
    assert digests(ask(setting.live, setting.contents[name])) == setting.local[name]
    assert made_away(setting.live) - before == len(setting.local[name])


def test_a_hundred_and_twenty_eight_pictures_are_spread_and_come_back_in_order(setting: Setting) -> None:
    """One of the machines has half as many workers as the other."""
    live = setting.live
    before = made_away(live)
    found = digests(ask(live, setting.contents["many"]))
    assert found == setting.local["many"]
    assert made_away(live) - before == len(found) == 128


def test_one_machine_more_is_told_so(setting: Setting) -> None:
    extra = Outpost(setting.network, 3, setting.key)
    try:
        until(lambda: any("--join-max allows" in line for line in extra.log), BACK_S, "it is told why")
        assert machines(setting.live) == 2
    finally:
        extra.stop()


def test_another_key_is_refused(setting: Setting, tmp_path: Path) -> None:
    stranger = Outpost(setting.network, 3, write_key(tmp_path, b"o" * 40))
    try:
        until(lambda: any("has another cluster key" in line for line in stranger.log), BACK_S, "it is told why")
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
        until(lambda: machines(setting.live) == 1, BACK_S, "it is missed")
        until(lambda: machines(setting.live) == 2, BACK_S, "it is back")
    finally:
        for stranger in silent:
            stranger.close()


def test_whatever_is_lost_no_item_is(setting: Setting) -> None:
    """Twenty rounds; `make chaos-machines` plays five hundred."""
    rounds = Rounds(setting.network, setting.live, setting.outposts, setting.key, setting.model)
    with ThreadPoolExecutor(4) as clients:
        for _ in range(20):
            rounds.play(clients)
    setting.live.settle()
    assert (rounds.wrong, rounds.poisoned) == (0, 0), rounds
    assert rounds.right + rounds.refused == rounds.asked, rounds
    assert rounds.right > rounds.asked / 2, rounds
