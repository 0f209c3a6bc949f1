"""One group of ranks over machines in networks of their own: the answers of one, and features cross once for each."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import Live
from machines import SERVER, Network, Outpost
from pictures import jpeg, noise, part, photograph, text
from tests.chaos.nodes import Setting, joining, over_machines

from mmplane.core.records import PROMPT_INLINE_BYTES_MAX
from mmplane.models.tiny import build_tiny
from polling import until

TOKENS = 200
LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""
BACK_S = 90.0
"""Only tells progress from a hang."""
PICTURES = [text("What is this?"), *map(part, (photograph("china"), photograph("flower"), jpeg(1, 700, 500), noise(2)))]
LONG = "one two three " * 390
"""Its tokens do not fit into a message, so they are in a slot too."""


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    with over_machines(tmp_path_factory.mktemp("nodes"), 2) as setting:
        yield setting


@pytest.fixture(scope="module")
def right(setting: Setting) -> dict[str, Any]:
    """What one rank on one machine answers."""
    with setting.network.inside(0):
        alone = Live(setting.model, tp=1)
        try:
            return {"pictures": trace(alone, PICTURES), "long": trace(alone, LONG)}
        finally:
            alone.stop()


def trace(live: Live, content: Any, tokens: int = TOKENS) -> Any:
    answer = live.chat(content, max_tokens=tokens, ignore_eos=True, mmplane={"trace": True})
    assert answer.status_code == 200, answer.text
    assert content is not LONG or answer.json()["usage"]["prompt_tokens"] * 4 > PROMPT_INLINE_BYTES_MAX
    return answer.json()["mmplane"]["trace"]


@pytest.mark.parametrize("name", ["pictures", "long"])
def test_two_machines_give_the_tokens_of_one(name: str, setting: Setting, right: dict[str, Any]) -> None:
    found = trace(setting.live, {"pictures": PICTURES, "long": LONG}[name])
    assert found["token_ids"] == right[name]["token_ids"]
    assert len(found["token_ids"][0]) == TOKENS
    for ours, theirs in zip(right[name]["items"], found["items"], strict=True):
        assert theirs["digests"] == {"0": ours["digests"]["0"], "1": ours["digests"]["0"]}


def test_only_the_arena_is_used(setting: Setting) -> None:
    refused = setting.live.http.put("/admin/delivery", json={"name": "eager", "share": 0.5})
    assert refused.status_code == 400
    assert "arena" in refused.text


@pytest.mark.parametrize("machines", [2, 4])
def test_four_ranks_get_each_feature_once_per_machine(machines: int, tmp_path: Path, right: dict[str, Any]) -> None:
    """With four machines, most links between ranks pass through the server. One machine's end ends the whole group."""
    with over_machines(tmp_path, 4, machines=machines) as setting:
        live, before = setting.live, setting.live.statistics()["copies"]["copied_bytes"]
        found = trace(live, PICTURES, 1)
        total = sum(item["bytes"] for item in found["items"]) * (machines - 1)
        assert 0 < live.statistics()["copies"]["copied_bytes"] - before <= total
        assert trace(live, PICTURES)["token_ids"] == right["pictures"]["token_ids"]
        assert live.statistics()["copies"]["copied_bytes"] - before <= total, "a second request sends nothing"
        leader = live.pids()["rank 0/4"]
        setting.nodes[-1].process("node").kill()
        until(lambda: live.pids().get("rank 0/4") != leader, BACK_S, "the group ends")
        until(lambda: is_right(live, right), BACK_S, "the answers are right again")


def test_nobody_listens_on_other_addresses(setting: Setting) -> None:
    """Not the store where ranks meet either, nor gloo."""
    for machine, own in ((0, SERVER), (1, "10.91.0.2")):
        found = listening(setting.network, machine)
        assert own in found
        assert found <= {own, "127.0.0.1"}


def listening(network: Network, machine: int) -> set[str]:
    """The addresses at which somebody listens there. Those of IPv6 are as the kernel writes them."""
    with network.inside(machine):
        lines = [Path("/proc/thread-self/net", kind).read_text().splitlines()[1:] for kind in ("tcp", "tcp6")]
    addresses = [line.split()[1].partition(":")[0] for each in lines for line in each if line.split()[3] == LISTEN]
    return {socket.inet_ntoa(bytes.fromhex(each)[::-1]) if len(each) == 8 else each for each in addresses}


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--ranks", "2"), "--ranks is 2 here, and the server's --tp 2 with --nodes 2 is 1"),
        (("--ranks", "1", "--model", ""), "--ranks needs --model"),
        (("--ranks", "1", "--workers", "2"), "--workers has no effect with --ranks"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags: tuple[str, ...], why: str, setting: Setting) -> None:
    model = () if "--model" in flags else ("--model", str(setting.model))
    stranger = Outpost(setting.network, 1, setting.key, *flags, *model, workers=False)
    try:
        until(lambda: why in "".join(stranger.log), BACK_S, f"it says why: {stranger.log}")
    finally:
        stranger.stop()


def test_another_checkpoint_is_refused_and_both_say_what_differs(setting: Setting, tmp_path: Path) -> None:
    build_tiny(tmp_path / "other")
    weights = tmp_path / "other" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    stranger = joining(setting.network, setting.key, tmp_path / "other")
    try:
        for told in (stranger, setting.live):
            until(
                lambda told=told: any("weights is " in line for line in told.log), BACK_S, f"it says it: {stranger.log}"
            )
    finally:
        stranger.stop()


@pytest.mark.parametrize("victim", ["rank", "node", "stand-in", "machine", "frozen", "cable", "rank 0", "front end"])
def test_what_is_lost_ends_the_group_which_is_replaced(victim: str, setting: Setting, right: dict[str, Any]) -> None:
    """Every request is answered; afterwards answers are right again, on new ranks on both machines."""
    live, node = setting.live, setting.nodes[-1]
    ranks = live.pids()["rank 0/2"], node.process("rank 1/2").pid
    match victim:
        case "rank" | "frozen":
            node.process("rank 1/2").send_signal(signal.SIGKILL if victim == "rank" else signal.SIGSTOP)
        case "node":
            node.process("node").kill()
        case "stand-in":
            live.processes()["stand-in machine-1"].kill()
        case "machine":
            node.kill()
            node = joining(setting.network, setting.key, setting.model)
            setting.nodes.append(node)
        case "cable":
            setting.network.link(1, up=False)
            until(lambda: live.pids().get("rank 0/2") != ranks[0], BACK_S, "the loss is noticed")
            setting.network.link(1, up=True)
        case "rank 0":
            live.processes()["rank 0/2"].kill()
        case "front end":
            live.processes()["frontend"].kill()
    if victim != "front end":
        until(lambda: live.pids().get("rank 0/2") != ranks[0], BACK_S, "the group ends")
    until(lambda: is_right(live, right), BACK_S, "the answers are right again")
    now = live.pids()["rank 0/2"], node.process("rank 1/2").pid
    same = [before == after for before, after in zip(ranks, now, strict=True)]
    assert same == [victim == "front end"] * 2, "the group is replaced as a whole"
    assert trace(live, LONG)["token_ids"] == right["long"]["token_ids"]


def is_right(live: Live, right: dict[str, Any]) -> bool:
    """Whether it answers. A wrong answer is an error."""
    try:
        answer = live.chat(PICTURES, max_tokens=TOKENS, ignore_eos=True, mmplane={"trace": True})
    except httpx.TransportError:  # the front end was killed
        return False
    assert answer.status_code in (200, 503), answer.text
    if answer.status_code == 503:
        assert answer.headers["retry-after"]
        return False
    assert answer.json()["mmplane"]["trace"]["token_ids"] == right["pictures"]["token_ids"]
    return True
