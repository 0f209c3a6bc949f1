"""`mmplane route` with TLS on both sides: to clients, and to replicas whose certificates are good or not.

All replicas are at 127.0.0.1 and `localhost`, and only that name is in a good certificate.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from routed import LIMIT_S, Mutant, Puppet, Routed, routing

from affinity import Ring, media_key
from certificates import write_certificate, write_signed
from mmplane.route.replica import Replica, numbered
from polling import until

KEY = "0123456789abcdef"
GOOD = 2
"""The first two replicas have good certificates, and the last one speaks plain HTTP. The others must get nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an authority, and certificates by it and by another one."""
    folder = tmp_path_factory.mktemp("tls")
    authority, another = (write_certificate(folder / name) for name in ("authority", "another"))
    write_signed(folder / "good", authority, "localhost")
    write_signed(folder / "other-name", authority, "other.example")
    write_signed(folder / "other-authority", another, "localhost")
    pem = (folder / "good").read_text()
    begin = pem.index("-----BEGIN CERTIFICATE")
    (folder / "key.pem").write_text(pem[:begin])
    (folder / "key.pem").chmod(0o600)
    (folder / "certificate.pem").write_text(pem[begin:])
    (folder / "api-key").write_text(KEY + "\n")
    (folder / "api-key").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def puppets(folder: Path) -> Iterator[list[Puppet]]:
    with ExitStack() as stack:
        puppets = [Puppet("localhost", 0, folder / name) for name in ("good", "good", "other-name", "other-authority")]
        puppets.append(Puppet("localhost"))
        for puppet in puppets:
            stack.callback(puppet.end)
        yield puppets


@pytest.fixture(scope="module")
def trust(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=folder / "authority")


@pytest.fixture(scope="module")
def router(folder: Path, puppets: list[Puppet], trust: ssl.SSLContext) -> Iterator[Routed]:
    """It listens on `localhost` too, as the certificate says."""
    flags = ["--tls-cert", str(folder / "certificate.pem"), "--tls-key", str(folder / "key.pem")]
    flags += ["--replica-ca", str(folder / "authority"), "--api-key-file", str(folder / "api-key")]
    urls = [puppet.url for puppet in puppets]
    with routing(folder / "files", *flags, "--replica", *urls, verify=trust) as routed:
        routed.http.base_url = httpx.URL(routed.url.replace("127.0.0.1", "localhost"))
        until(lambda: states(routed, puppets) == ["UP", "UP", "DOWN", "DOWN", "UP"], LIMIT_S, "all are checked")
        yield routed


def states(router: Routed, puppets: list[Puppet]) -> list[str]:
    found = router.states()
    return [found.get(puppet.name, "") for puppet in puppets]


def chat(seed: int) -> bytes:
    url = f"https://example.com/{seed}.jpeg"
    content = [{"type": "image_url", "image_url": {"url": url}}]
    return json.dumps({"model": "any", "messages": [{"role": "user", "content": content}]}).encode()


def test_requests_pass_by_tls_and_the_ring_is_the_same(router: Routed, puppets: list[Puppet]) -> None:
    ids = {each.name: number for each, number in numbered(Replica.of(puppet.url) for puppet in puppets).items()}
    taking = {puppet.name: ids[puppet.name] for puppet in (*puppets[:GOOD], puppets[-1])}
    seen = set()
    for seed in range(24):
        body = chat(seed)
        response = router.http.post("/v1/chat/completions", content=body).raise_for_status()
        place = Ring(taking).place(media_key(body) or b"")
        assert response.headers["x-mmplane-replica"] == str(ids[place])
        seen.add(place)
    assert seen == set(taking)


def test_a_replica_with_a_wrong_certificate_gets_nothing(router: Routed, puppets: list[Puppet]) -> None:
    for puppet in puppets[GOOD:-1]:
        assert puppet.refused.acquire(timeout=LIMIT_S)
        assert (puppet.bodies, puppet.authorizations) == ([], set()), "not even the key"
    for puppet in puppets[:GOOD]:
        assert puppet.authorizations == {f"Bearer {KEY}"}


def test_added_replicas_are_verified_too(router: Routed, puppets: list[Puppet], folder: Path) -> None:
    with ExitStack() as stack:
        good, wrong = (Puppet("localhost", 0, folder / name) for name in ("good", "other-name"))
        for puppet in (good, wrong):
            stack.callback(puppet.end)
        assert router.order("add", wrong.url, good.url).returncode == 0
        until(lambda: states(router, [good]) == ["UP"], LIMIT_S, "it is ready")
        for _ in range(3):
            assert wrong.refused.acquire(timeout=LIMIT_S), "it is checked"
        assert states(router, [wrong]) == ["DOWN"]
        assert wrong.authorizations == set()
        assert router.order("remove", good.url, wrong.url).returncode == 0


def test_clients_can_trust_the_router(router: Routed, folder: Path) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{router.http.base_url}/health", verify=ssl.create_default_context(cafile=folder / "another"))
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(router.url.replace("https:", "http:") + "/health")
    assert router.http.get("/health").text == "ok"


def test_the_router_speaks_http_1_alone(router: Routed, folder: Path) -> None:
    context = ssl.create_default_context(cafile=folder / "authority")
    context.set_alpn_protocols(["h2", "http/1.1"])
    port = urlsplit(router.url).port
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sealed,
    ):
        assert sealed.selected_alpn_protocol() == "http/1.1"


def test_a_router_without_authorities_takes_no_tls_replica(puppets: list[Puppet], tmp_path: Path) -> None:
    with routing(tmp_path / "files", "--replica", puppets[-1].url) as routed:
        refused = routed.order("add", puppets[0].url)
        assert refused.returncode == 2
        assert "without --replica-ca" in refused.stderr


@pytest.mark.parametrize(
    ("piece", "instead"), [("verify required", "verify none"), ("sni str(localhost) check-sni localhost", "")]
)
def test_a_mutant_is_found_out(puppets: list[Puppet], folder: Path, tmp_path: Path, piece: str, instead: str) -> None:
    """Without one of these words, a replica with a wrong certificate gets requests."""
    wrong = puppets[GOOD]
    authorities = (folder / "authority").read_bytes()
    mutant = Mutant(tmp_path / "files", [wrong], "haproxy.cfg", piece, instead, authorities=authorities)
    try:
        assert mutant.http.post("/v1/chat/completions", content=chat(0)).status_code == 200
        assert wrong.bodies
    finally:
        wrong.bodies.clear()
        mutant.end()
