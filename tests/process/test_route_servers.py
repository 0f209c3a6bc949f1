"""`mmplane route` in front of four real servers, one of which is killed under load and one of which was added late."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import Live
from pictures import noise, part, text
from routed import LIMIT_S, Routed, routing

from affinity import Ring, media_key
from mmplane.demo import LOOKS, QUESTION, draw
from mmplane.route.replica import Replica, numbered
from polling import until

FLAGS = ("--workers", "1", "--arena-bytes", str(64 * 2**20), "--kv-bytes", str(64 * 2**20))
PICTURES = [draw(f"{1000 + 77 * index}", *LOOKS[index % len(LOOKS)]) for index in range(12)]


@pytest.fixture(scope="module")
def replicas(trained_folder: Path) -> Iterator[list[Live]]:
    with ExitStack() as stack:
        first = Live(trained_folder, *FLAGS, tp=1)  # what servers are forked from starts with it
        with ThreadPoolExecutor(3) as threads:
            others = threads.map(lambda _: Live(trained_folder, *FLAGS, tp=1), range(3))
            replicas = [first, *others]
        for replica in replicas:
            stack.callback(replica.stop)
        yield replicas


@pytest.fixture(scope="module")
def router(replicas: list[Live], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routed]:
    """It starts with three of them; the fourth is added at run time."""
    folder = tmp_path_factory.mktemp("route") / "files"
    with routing(folder, "--replica", *(each.url for each in replicas[:3])) as routed:
        assert routed.order("add", replicas[3].url).returncode == 0
        until(lambda: [*routed.states().values()] == ["UP"] * 4, LIMIT_S, "all are ready")
        yield routed


@pytest.fixture
def ids(replicas: list[Live]) -> dict[str, int]:
    return {each.name: number for each, number in numbered(Replica.of(live.url) for live in replicas).items()}


def body(picture: bytes, **more: Any) -> bytes:
    message = {"role": "user", "content": [part(picture), text(QUESTION)]}
    return json.dumps({"model": "tiny", "max_tokens": 16, "temperature": 0, "messages": [message]} | more).encode()


def ask(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})


def answer(response: httpx.Response) -> str:
    found: str = response.json()["choices"][0]["message"]["content"]
    return found


@pytest.fixture(scope="module")
def right(router: Routed) -> list[str]:
    """The answer about each picture."""
    return [answer(ask(router.http, body(picture)).raise_for_status()) for picture in PICTURES]


def test_a_picture_goes_to_one_replica_and_is_made_once(router: Routed, ids: dict[str, int]) -> None:
    seen = Counter()
    for seed in range(12):
        picture = noise(900 + seed)
        key = media_key(body(picture))
        assert key is not None
        hits = []
        for tokens in (1, 2, 3):
            response = ask(router.http, body(picture, max_tokens=tokens, mmplane={"trace": True}))
            seen[response.headers["x-mmplane-replica"]] += 1
            assert response.headers["x-mmplane-replica"] == str(ids[Ring(ids).place(key)])
            hits += [item["cache_hit"] for item in response.json()["mmplane"]["trace"]["items"]]
        assert hits == [False, True, True]
    assert len(seen) > 1


def test_a_hot_picture_spreads_and_its_answers_are_right(router: Routed, right: list[str]) -> None:
    with ThreadPoolExecutor(12) as threads:
        responses = list(threads.map(lambda _: ask(router.http, body(PICTURES[0])), range(60)))
    assert {answer(response) for response in responses} == {right[0]}
    assert len({response.headers["x-mmplane-replica"] for response in responses}) > 1


@dataclass
class Outcomes:
    """What clients saw."""

    right: list[str]
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def whole(self, index: int, response: httpx.Response) -> None:
        if response.status_code == 503 and response.headers.get("retry-after"):
            self.counts["503"] += 1
        elif response.status_code == 200 and answer(response) == self.right[index]:
            self.counts["200"] += 1
        else:
            self.wrong.append(f"{response.status_code} {response.text}")

    def streamed(self, index: int, client: httpx.Client) -> None:
        received, ended = "", False
        with client.stream("POST", "/v1/chat/completions", content=body(PICTURES[index], stream=True)) as response:
            if response.status_code != 200:
                response.read()
                self.whole(index, response)
                return
            try:
                for line in response.iter_lines():
                    ended |= line == "data: [DONE]"
                    if line.startswith("data: {"):
                        delta = json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
                        received += delta.get("content") or ""
            except httpx.RemoteProtocolError:
                self.counts["broken"] += 1
                ended = self.right[index].startswith(received)
            else:
                ended = ended and received == self.right[index]
                self.counts["streamed"] += 1
        if not ended:
            self.wrong.append(received)


def test_a_replica_killed_under_load(
    router: Routed, replicas: list[Live], ids: dict[str, int], right: list[str]
) -> None:
    names = [Replica.of(live.url).name for live in replicas]
    places = [Ring(ids).place(media_key(body(picture)) or b"") for picture in PICTURES]
    victim = names.index(Counter(places).most_common(1)[0][0])
    outcomes, stop = Outcomes(right), threading.Event()

    def load(first: int) -> None:
        with httpx.Client(base_url=router.url, timeout=LIMIT_S) as client:
            index = first
            while not stop.is_set():
                index = (index + 5) % len(PICTURES)
                outcomes.whole(index, ask(client, body(PICTURES[index])))
                outcomes.streamed(index, client)

    long = body(PICTURES[places.index(names[victim])], stream=True, max_tokens=1000, ignore_eos=True)
    with ThreadPoolExecutor(7) as threads:
        with router.http.stream("POST", "/v1/chat/completions", content=long) as begun:
            pieces = begun.iter_lines()
            next(pieces)
            loads = [threads.submit(load, first) for first in range(6)]
            until(lambda: sum(outcomes.counts.values()) > 30, LIMIT_S, "there is load")
            assert begun.headers["x-mmplane-replica"] == str(ids[names[victim]])
            replicas[victim].kill()
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
        until(lambda: router.states()[names[victim]] == "DOWN", LIMIT_S, "it is taken out")
        before = outcomes.counts.copy()
        until(lambda: (outcomes.counts - before).total() > 30, LIMIT_S, "the others go on")
        stop.set()
        for each in loads:
            each.result()
    assert outcomes.wrong == []
    assert outcomes.counts["200"] > 30
    assert set(outcomes.counts - before) <= {"200", "streamed"}, "nothing fails once it is known"
    assert router.order("remove", replicas[victim].url).returncode == 0
    assert [*router.states().values()] == ["UP"] * 3
    for index, picture in enumerate(PICTURES):
        assert answer(ask(router.http, body(picture))) == right[index]
