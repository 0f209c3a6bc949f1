"""`mmplane route` with a real HAProxy: before replicas that do as they are told, and before four real servers."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from routed import LIMIT_S, Mutant, Puppet, Routed, routing

from affinity import Ring, media_key
from mmplane.route.replica import Replica, numbered
from polling import until

KEY = 'it\'s-"a"-%key%-$HOME-\\-#1'
HEAD = 126 * 1024
"""Bytes of a body that HAProxy surely holds, with headers and books."""


@pytest.fixture(scope="module")
def puppets() -> Iterator[list[Puppet]]:
    puppets = [Puppet() for _ in range(4)]
    yield puppets
    for puppet in puppets:
        puppet.end()


@pytest.fixture(scope="module")
def router(puppets: list[Puppet], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routed]:
    folder = tmp_path_factory.mktemp("route")
    (folder / "key").write_text(KEY + "\n")
    (folder / "key").chmod(0o600)
    flags = [*("--api-key-file", str(folder / "key")), "--replica", *(each.url for each in puppets)]
    with routing(folder / "files", *flags) as routed:
        until(lambda: all(puppet.authorizations for puppet in puppets), LIMIT_S, "every replica is asked")
        yield routed


@pytest.fixture
def ids(puppets: list[Puppet]) -> dict[str, int]:
    return {each.name: number for each, number in numbered(Replica.of(each.url) for each in puppets).items()}


def chat(*content: Any, model: str = "any", **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": list(content)}], **more}).encode()


def picture(data: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}, **more}


def noise(seed: int, length: int) -> str:
    return base64.b64encode(random.Random(seed).randbytes(length * 3 // 4)).decode()


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


ALIKE = noise(0, 2000)
"""How all of these files begin."""
BODIES = {
    "a picture": chat(text("what?"), picture(noise(1, 300_000))),
    "the same head": chat(picture(ALIKE + noise(2, 300_000))),
    "the same head, another picture": chat(picture(ALIKE + noise(3, 300_000))),
    "short": chat(picture(noise(4, 100))),
    "a long prompt": chat(text("x" * 50_000), picture(noise(5, 300_000))),
    "a longer prompt": chat(text("x" * 90_000), picture(noise(5, 300_000))),
    "a name before": chat({"type": "image_url", "uuid": "mine", **picture(noise(6, 300_000))}),
    "a name after": chat(picture(noise(7, 3000), uuid="mine")),
    "a name alone": chat({"type": "image_url", "uuid": "mine"}),
    "an empty url": chat(picture(""), {"type": "image_url", "image_url": {"url": ""}}, picture(noise(8, 50))),
    "a sound": chat({"type": "input_audio", "input_audio": {"data": noise(9, 40_000), "format": "wav"}}),
    "embeddings": chat({"type": "image_embeds", "image_embeds": noise(10, 4000)}),
    "two": chat(picture(noise(11, 9000)), picture(noise(12, 9000))),
    "spaces": b'{"model" : "any", "messages": [{"url"  :\n\t "http://host/%22picture.jpg"}]}',
    "a quoted name": chat(text('he said "url": "not a url"'), picture(noise(13, 500))),
    "a name of something else": chat(picture(noise(14, 500)), tools=[{"url": {"type": "string"}}]),
}


@pytest.mark.parametrize("authorization", ["", "Bearer of-alice"])
@pytest.mark.parametrize("case", BODIES)
def test_media_goes_where_the_key_says(router: Routed, ids: dict[str, int], case: str, authorization: str) -> None:
    key = media_key(BODIES[case][:HEAD], authorization.encode())
    assert key is not None
    headers = {"authorization": authorization} if authorization else {}
    answers = [router.http.post("/v1/chat/completions", content=BODIES[case], headers=headers) for _ in range(2)]
    assert {answer.headers["x-mmplane-replica"] for answer in answers} == {str(ids[Ring(ids).place(key)])}


def test_what_names_an_item() -> None:
    def key(case: str, authorization: bytes = b"") -> bytes | None:
        return media_key(BODIES[case][:HEAD], authorization)

    assert key("a name before") == key("a name after") == key("a name alone")
    assert key("the same head") != key("the same head, another picture")
    assert key("a picture") != key("a picture", b"Bearer of-alice")
    assert media_key(chat(text('"url": "x"'))) is None


def test_text_goes_to_the_least_loaded(router: Routed, puppets: list[Puppet], ids: dict[str, int]) -> None:
    """Twelve that are held, one after the other: three for each."""
    with holding(puppets), ThreadPoolExecutor(12) as pool:
        answers = []
        for count in range(12):
            answers.append(pool.submit(router.http.post, "/v1/chat/completions", content=chat(model="held")))
            until(lambda count=count: arrived(puppets) == count + 1, LIMIT_S, "it has arrived")
        for puppet in puppets:
            puppet.gate.set()
        seen = [answer.result().headers["x-mmplane-replica"] for answer in answers]
    assert sorted(seen) == sorted(map(str, [*ids.values()] * 3))


def test_a_hot_picture_spreads(router: Routed, puppets: list[Puppet], ids: dict[str, int]) -> None:
    """Sixteen of one picture at once go exactly where HAProxy's algorithm of bounded loads sends them."""
    body = chat(picture(noise(20, 30_000)), model="held")
    key = media_key(body)
    assert key is not None
    served, ring = dict.fromkeys(ids, 0), Ring(ids)
    with holding(puppets), ThreadPoolExecutor(16) as pool:
        answers: list[Future[httpx.Response]] = []
        expected = []
        for count in range(16):
            name = ring.place(key, served)
            served[name] += 1
            expected.append(str(ids[name]))
            answers.append(pool.submit(router.http.post, "/v1/chat/completions", content=body))
            until(lambda count=count: arrived(puppets) == count + 1, LIMIT_S, "it has arrived")
        for puppet in puppets:
            puppet.gate.set()
        assert [answer.result().headers["x-mmplane-replica"] for answer in answers] == expected
    assert max(served.values()) == 16 / 4 * 1.5


class holding:  # noqa: N801 - a context
    """Answers to `held` requests wait, and arrivals are counted from here."""

    def __init__(self, puppets: list[Puppet]) -> None:
        self._puppets = puppets

    def __enter__(self) -> None:
        for puppet in self._puppets:
            puppet.gate.clear()
            puppet.bodies.clear()

    def __exit__(self, *_: object) -> None:
        for puppet in self._puppets:
            puppet.gate.set()


def arrived(puppets: list[Puppet]) -> int:
    return sum(len(puppet.bodies) for puppet in puppets)


def test_a_request_whose_replica_is_lost_is_one_to_come_back(router: Routed) -> None:
    answer = router.http.post("/v1/chat/completions", content=chat(model="lost"))
    assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1")
    assert answer.json()["error"]["code"] == "unavailable"


def test_a_replicas_own_refusal_goes_through(router: Routed) -> None:
    answer = router.http.post("/v1/chat/completions", content=chat(model="full"))
    assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (503, "7", {})


def test_a_begun_stream_whose_replica_is_lost_ends_with_an_error(router: Routed, puppets: list[Puppet]) -> None:
    with (
        holding(puppets),
        router.http.stream("POST", "/v1/chat/completions", content=chat(model="cut")) as answer,
    ):
        pieces = answer.iter_raw()
        assert (answer.status_code, next(pieces)) == (200, b"begun")
        for puppet in puppets:
            puppet.gate.set()
        with pytest.raises(httpx.RemoteProtocolError):
            next(pieces)


def test_a_replica_that_is_not_ready_gets_nothing(router: Routed, puppets: list[Puppet]) -> None:
    out = puppets[0]
    out.ready = False
    try:
        until(lambda: router.states()[out.name] == "DOWN", LIMIT_S, "it is taken out")
        out.bodies.clear()
        for seed in range(12):
            router.http.post("/v1/chat/completions", content=chat(picture(noise(seed, 60)))).raise_for_status()
            router.http.post("/v1/chat/completions", content=chat()).raise_for_status()
        assert out.bodies == []
    finally:
        out.ready = True
    until(lambda: router.states()[out.name] == "UP", LIMIT_S, "it is back")


def test_a_replicas_figures_and_switches_are_not_passed_on(router: Routed) -> None:
    for path in ("/", "/metrics", "/admin/delivery", "/admin/statistics"):
        answer = router.http.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"
    assert router.http.get("/health").status_code == router.http.get("/ready").status_code == 200
    assert router.http.get("/v1/models").status_code == 200
    assert router.http.get("/prefix/v1/models").status_code == 200


def test_checks_bring_the_key_and_nothing_else_shows_it(router: Routed, puppets: list[Puppet]) -> None:
    assert {each for puppet in puppets for each in puppet.authorizations} == {f"Bearer {KEY}"}
    for process in (router.pid, *children(router.pid)):
        assert KEY.encode() not in Path(f"/proc/{process}/cmdline").read_bytes()
        assert KEY.encode() not in Path(f"/proc/{process}/environ").read_bytes()
    assert {path.name for path in router.folder.iterdir() if KEY[:5].encode() in reading(path)} == set()


def reading(path: Path) -> bytes:
    return b"" if path.is_socket() or path.name == "haproxy.cfg" else path.read_bytes()


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_requests_pass_by_haproxy_alone(router: Routed) -> None:
    """Our own process does not even have the port."""
    (haproxy,) = children(router.pid)
    port = int(router.url.rpartition(":")[2])
    inodes = {
        line.split()[9]
        for line in Path(f"/proc/{router.pid}/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    }

    def held(pid: int) -> set[str]:
        links = (str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir())
        return {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:")}

    assert inodes <= held(haproxy)
    assert not inodes & held(router.pid)


def test_replicas_are_added_and_removed_while_requests_pass(
    router: Routed, puppets: list[Puppet], ids: dict[str, int]
) -> None:
    with ExitStack() as stack:
        new = Puppet()
        stack.callback(new.end)
        new.ready = False
        assert router.order("add", new.url).returncode == 0
        assert router.order("add", new.url).returncode == 2, "it is there already"
        statuses = [router.http.post("/v1/chat/completions", content=chat()).status_code for _ in range(10)]
        assert (set(statuses), new.bodies) == ({200}, []), "it is not ready"
        new.ready = True
        until(lambda: router.states()[new.name] == "UP", LIMIT_S, "it is ready")
        for _ in range(5):
            router.http.post("/v1/chat/completions", content=chat()).raise_for_status()
        assert len(new.bodies) == 1

        with holding([new]), ThreadPoolExecutor(8) as pool:
            held = [pool.submit(router.http.post, "/v1/chat/completions", content=chat(model="held")) for _ in range(5)]
            until(lambda: new.bodies, LIMIT_S, "one of five is held by the new replica")
            for puppet in puppets:
                puppet.gate.set()
            in_time = router.order("remove", new.url, "--drain-seconds", "0")
            assert in_time.returncode == 1, "and it goes on"
            removing = pool.submit(router.order, "remove", new.url)
            count = len(new.bodies)
            for seed in range(20):
                body = chat(picture(noise(seed, 60)))
                router.http.post("/v1/chat/completions", content=body).raise_for_status()
                router.http.post("/v1/chat/completions", content=chat()).raise_for_status()
            assert len(new.bodies) == count, "it gets nothing more"
            new.gate.set()
            assert removing.result().returncode == 0
            assert [answer.result().status_code for answer in held] == [200] * 5
    assert set(router.states()) == set(ids)
    assert router.order("remove", new.url).returncode == 2


def test_a_second_router_in_the_same_folder_is_refused(router: Routed, puppets: list[Puppet]) -> None:
    refused = router.order("--port", "0", "--replica", puppets[0].url)
    assert refused.returncode == 2
    assert "another router" in refused.stderr
    assert router.http.get("/ready").status_code == 200


def test_a_stopping_router_lets_requests_end(puppets: list[Puppet], tmp_path: Path) -> None:
    flags = ("--drain-seconds", "60", "--replica", puppets[0].url)
    with (
        ThreadPoolExecutor(1) as pool,
        holding(puppets),
        routing(tmp_path / "files", *flags) as routed,
        httpx.Client(base_url=routed.url, timeout=LIMIT_S) as client,
    ):
        answer = pool.submit(client.post, "/v1/chat/completions", content=chat(model="held"))
        until(lambda: arrived(puppets) == 1, LIMIT_S, "it is held")
        os.kill(routed.pid, signal.SIGTERM)
        until(lambda: not listens(routed.url), LIMIT_S, "nobody else comes in")
        puppets[0].gate.set()
        assert answer.result().status_code == 200
        assert routed.wait() == 0


def listens(url: str) -> bool:
    try:
        httpx.get(f"{url}/health")
    except httpx.NetworkError:  # refused, or reset if it came in the moment when the port was closed
        return False
    return True


def tenants_media_goes_where_the_key_says(router: Routed, ids: dict[str, int]) -> None:
    for case in BODIES:
        test_media_goes_where_the_key_says(router, ids, case, "Bearer of-alice")


MUTANTS = {
    "a lost replica is a 502": (
        *("haproxy.cfg", "errorfile 502", "errorfile 501"),
        lambda router, _puppets, _ids: test_a_request_whose_replica_is_lost_is_one_to_come_back(router),
    ),
    "no load is bounded": (
        *("haproxy.cfg", "hash-balance-factor 150", "hash-balance-factor 0"),
        test_a_hot_picture_spreads,
    ),
    "a replica's switches are passed on": (
        *("haproxy.cfg", "unless { path_dir v1 }", "if { path /nothing }"),
        lambda router, _puppets, _ids: test_a_replicas_figures_and_switches_are_not_passed_on(router),
    ),
    "text goes to the most loaded": ("place.lua", "load < least", "load > least", test_text_goes_to_the_least_loaded),
    "tenants share a key": (
        *("place.lua", "tenant .. named", "named"),
        lambda router, _puppets, ids: tenants_media_goes_where_the_key_says(router, ids),
    ),
    "the first bytes of a source decide": (
        *("place.lua", "SOURCE_BYTES = 65536", "SOURCE_BYTES = 64"),
        lambda router, _puppets, ids: tenants_media_goes_where_the_key_says(router, ids),
    ),
}


@pytest.mark.parametrize("breaks", MUTANTS)
def test_a_mutant_is_found_out(puppets: list[Puppet], ids: dict[str, int], tmp_path: Path, breaks: str) -> None:
    file, piece, instead, killer = MUTANTS[breaks]
    mutant = Mutant(tmp_path / "files", puppets, file, piece, instead)
    try:
        with pytest.raises(AssertionError):
            killer(mutant, puppets, ids)
    finally:
        mutant.end()
