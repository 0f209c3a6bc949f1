"""A sidecar's metrics: what they say, and that strangers at the port take nothing."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from sidecar_rig import HANG_S, Rig

from attaching import picture
from mmplane import Client
from mmplane.sidecar.scrape import HEAD_BYTES_MAX, METRICS, serve

PAGE = Path(__file__).parents[3] / "docs" / "sidecar.md"


@pytest.fixture
def port(rig: Rig) -> Iterator[int]:
    server = rig.await_on_loop(serve(0, rig.keeper.statistics))
    yield server.sockets[0].getsockname()[1]
    rig.on_loop(server.close)


def scraped(port: int, path: str = "/metrics") -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=HANG_S)
    connection.request("GET", path)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, text


def test_the_metrics_are_the_keepers_figures(rig: Rig, client: Client, port: int) -> None:
    with client.materialise(picture("a")), client.materialise(picture("a")):
        status, text = scraped(port)
    assert status == 200
    for line in (
        'mmplane_sidecar_sessions{role="producer"} 1',
        "mmplane_sidecar_holds 2",
        "mmplane_sidecar_materialisations_total 1",
        "mmplane_sidecar_written_bytes_total 1024",
        'mmplane_sidecar_arena_bytes{state="leased"} 4096',
        'mmplane_sidecar_workers{state="idle"} 2',
        "mmplane_sidecar_budget_bytes 0",
        'mmplane_sidecar_unprofiled_total{reason="format"} 0',
    ):
        assert line in text.splitlines(), text
    assert {metric.name for metric in METRICS} == set(re.findall(r"# TYPE (\w+) ", text))


def test_the_page_lists_them() -> None:
    listed = re.findall(r"^\| `(mmplane_sidecar_\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert listed == [metric.name for metric in METRICS]


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"x" * (2 * HEAD_BYTES_MAX), b"GET /metrics "])
def test_what_is_no_scrape_gets_nothing(rig: Rig, port: int, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as end:
        end.sendall(said)
        end.shutdown(socket.SHUT_WR)
        try:
            got = end.recv(100)
        except ConnectionResetError:
            got = b""
    assert b"200" not in got
    assert scraped(port)[0] == 200
