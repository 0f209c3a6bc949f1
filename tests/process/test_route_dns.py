"""`mmplane route --replica-dns` with a DNS server whose answers change. Needs root for its port."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from routed import LIMIT_S, Puppet, Routed, routing

from affinity import Ring, media_key
from certificates import write_certificate, write_signed
from mmplane.route.replica import Replica, numbered
from polling import until

NAME = "replicas.example"
FAILURE, NO_NAME = 2, 3
"""Codes of answers."""


class Names:
    """A DNS server that knows the addresses of one name."""

    def __init__(self, folder: Path) -> None:
        self.addresses: list[str] = []
        self.code = NO_NAME
        self.asked = threading.Semaphore(0)
        host = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 53))
        (folder / "resolv.conf").write_text(f"nameserver {host}\n")
        script = f'mount --bind {folder}/resolv.conf /etc/resolv.conf && exec "$@"'
        self.within = ("unshare", "--mount", "sh", "-c", script, "sh")
        """A command that runs another one where this is the only DNS server."""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def know(self, *addresses: str) -> None:
        self.addresses, self.code = list(addresses), 0

    def close(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            end = query.index(b"\0", 12) + 5
            (kind,) = struct.unpack(">H", query[end - 4 : end - 2])
            found = self.addresses if kind == 1 and not self.code else []
            head = query[:2] + struct.pack(">HHHHH", 0x8180 | self.code, 1, len(found), 0, 0)
            records = [struct.pack(">HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address) for address in found]
            self._socket.sendto(head + query[12:end] + b"".join(records), client)
            self.asked.release()


@pytest.fixture
def names(tmp_path: Path) -> Iterator[Names]:
    names = Names(tmp_path)
    yield names
    names.close()


@pytest.fixture
def puppets() -> Iterator[list[Puppet]]:
    """Three replicas with one port at different addresses."""
    with ExitStack() as stack:
        puppets = [Puppet("127.0.0.2")]
        stack.callback(puppets[0].end)
        for host in ("127.0.0.3", "127.0.0.4"):
            puppets.append(Puppet(host, puppets[0].server_port))
            stack.callback(puppets[-1].end)
        yield puppets


def host(puppet: Puppet) -> str:
    return puppet.name.split(":")[0]


def picture(seed: int, model: str = "any") -> bytes:
    content = [{"type": "image_url", "image_url": {"url": f"https://example.com/{seed}.jpeg"}}]
    return json.dumps({"model": model, "messages": [{"role": "user", "content": content}]}).encode()


def post(router: Routed, body: bytes) -> httpx.Response:
    return router.http.post("/v1/chat/completions", content=body)


def places(router: Routed) -> list[str]:
    """The replica of each of some pictures."""
    return [post(router, picture(seed)).raise_for_status().headers["x-mmplane-replica"] for seed in range(24)]


def expected(puppets: list[Puppet]) -> list[str]:
    ids = {each.name: number for each, number in numbered(Replica.of(puppet.url) for puppet in puppets).items()}
    return [str(ids[Ring(ids).place(media_key(picture(seed)) or b"")]) for seed in range(24)]


def test_replicas_come_and_go_with_the_addresses_of_a_name(names: Names, puppets: list[Puppet], tmp_path: Path) -> None:
    def known() -> None:
        names.know(*map(host, here))
        until(lambda: router.states() == {each.name: "UP" for each in here}, LIMIT_S, "the router has these replicas")

    port = puppets[0].server_port
    with routing(tmp_path / "files", "--replica-dns", f"http://{NAME}:{port}", within=names.within) as router:
        assert names.asked.acquire(timeout=LIMIT_S)
        assert router.http.get("/ready").status_code == 503, "there is no such name yet"

        here = puppets
        known()
        before = places(router)
        assert before == expected(puppets)

        leaving = puppets[1]
        (seed, *_) = [seed for seed in range(24) if before[seed] == expected_id(leaving)]
        leaving.gate.clear()
        with ThreadPoolExecutor(1) as pool:
            leaving.bodies.clear()
            held = pool.submit(post, router, picture(seed, "held"))
            until(lambda: leaving.bodies, LIMIT_S, "a request is held")
            names.know(host(puppets[0]), host(puppets[2]))
            until(lambda: router.states()[leaving.name] == "MAINT", LIMIT_S, "its replica is leaving")
            after = places(router)
            assert after == expected([puppets[0], puppets[2]])
            stayed = [index for index, place in enumerate(before) if place != expected_id(leaving)]
            assert [after[index] for index in stayed] == [before[index] for index in stayed]
            assert len(leaving.bodies) == 1

            known()
            names.know(host(puppets[0]), host(puppets[2]))
            until(lambda: router.states()[leaving.name] == "MAINT", LIMIT_S, "it is leaving again")
            leaving.gate.set()
            assert held.result().status_code == 200
        here = [puppets[0], puppets[2]]
        known()
        here = puppets
        known()
        assert places(router) == before, "it has come back"

        names.code = FAILURE
        for _ in range(8):
            assert names.asked.acquire(timeout=LIMIT_S)
        assert router.states() == {each.name: "UP" for each in here}, "without an answer nothing changes"


def expected_id(puppet: Puppet) -> str:
    replica = Replica.of(puppet.url)
    return str(numbered([replica])[replica])


def test_the_certificate_of_each_address_must_have_the_name(names: Names, tmp_path: Path) -> None:
    authority = write_certificate(tmp_path / "authority")
    good = Puppet("127.0.0.2", 0, write_signed(tmp_path / "good", authority, NAME))
    wrong = Puppet("127.0.0.3", good.server_port, write_signed(tmp_path / "wrong", authority, "other.example"))
    names.know(host(good), host(wrong))
    flags = ("--replica-dns", f"https://{NAME}:{good.server_port}", "--replica-ca", str(authority))
    with ExitStack() as stack:
        for puppet in (good, wrong):
            stack.callback(puppet.end)
        router = stack.enter_context(routing(tmp_path / "files", *flags, within=names.within))
        until(lambda: router.states().get(good.name) == "UP", LIMIT_S, "one is ready")
        for _ in range(3):
            assert wrong.refused.acquire(timeout=LIMIT_S), "the other one is checked"
        assert router.states()[wrong.name] == "DOWN"
        assert post(router, picture(0)).status_code == 200
        assert wrong.bodies == []
