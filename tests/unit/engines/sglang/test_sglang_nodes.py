"""Several nodes of SGLang: when mirrors are used, and where they join."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from mmplane.engines.kit.sidecar import Place, end
from mmplane.engines.sglang import nodes

VARIABLE = "MMPLANE_TEST_PLACE"
OPTIONS: dict[str, Any] = {
    "nnodes": 2,
    "node_rank": 0,
    "dist_init_addr": "127.0.0.1:5000",
    "tp_size": 4,
    "dp_size": 1,
    "tokenizer_worker_num": 1,
}


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "key"
    path.write_bytes(b"k" * 40)
    path.chmod(0o600)
    monkeypatch.setenv(nodes.KEY_VARIABLE, str(path))
    monkeypatch.delenv(nodes.JOIN_VARIABLE, raising=False)
    monkeypatch.setenv("MMPLANE_SGLANG_ARENA_BYTES", "1MiB")
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(nodes, "known", lambda: "0 (no SGLang is needed here)")
    return path


def test_what_is_uncovered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert nodes.uncovered(OPTIONS) is None
    assert "several tokenizers" in str(nodes.uncovered(OPTIONS | {"tokenizer_worker_num": 2}))
    assert nodes.JOIN_VARIABLE in str(nodes.uncovered(OPTIONS | {"dist_init_addr": None}))
    monkeypatch.delenv(nodes.KEY_VARIABLE)
    assert nodes.KEY_VARIABLE in str(nodes.uncovered(OPTIONS))
    assert nodes.uncovered(OPTIONS | {"nnodes": 1}) is None


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("10.0.0.1:5000", ("10.0.0.1", 5050)),
        ("tcp://10.0.0.1:5000", ("10.0.0.1", 5050)),
        ("[fd00::1]:65500", ("fd00::1", 65450)),
        ("localhost:1", ("127.0.0.1", 51)),
    ],
)
def test_where_mirrors_join(given: str, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _without_names)
    assert nodes.address_of(OPTIONS | {"dist_init_addr": given}) == address
    monkeypatch.setenv(nodes.JOIN_VARIABLE, "10.9.9.9:9100")
    assert nodes.address_of(OPTIONS | {"dist_init_addr": given}) == ("10.9.9.9", 9100)


def _without_names(host: str, port: int, **_: Any) -> list[Any]:
    return [(0, 0, 0, "", ("127.0.0.1" if host == "localhost" else host, port))]


@pytest.mark.parametrize(
    ("node", "variable", "value", "says"),
    [
        (0, nodes.JOIN_VARIABLE, "8.8.8.8:9100", "private network"),
        (1, nodes.JOIN_VARIABLE, "8.8.8.8:9100", "private network"),
        (0, nodes.JOIN_VARIABLE, "here", "HOST:PORT"),
        (0, nodes.KEY_VARIABLE, "/nowhere", "cannot be read"),
        (1, nodes.KEY_VARIABLE, "/nowhere", "cannot be read"),
        (0, "MMPLANE_SGLANG_ARENA_BYTES", "much", "ARENA_BYTES"),
    ],
)
def test_a_wrong_setting_is_a_reason(
    node: int, variable: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=says):
        nodes.begin(VARIABLE, OPTIONS | {"node_rank": node})
    assert Place.inherited(VARIABLE) is None


def test_each_node_publishes_the_board_of_its_part() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = OPTIONS | {"dist_init_addr": f"127.0.0.1:{port - nodes.PORTS_AFTER}"}
    boards = set()
    for node in (1, 0):
        part = nodes.begin(VARIABLE, options | {"node_rank": node})
        place = Place.inherited(VARIABLE)
        end(part)
        assert place is not None
        assert (place.socket, place.groups) == ("", (4,))
        boards.add(place.board)
    assert len(boards) == 2
    with socket.create_server(("127.0.0.1", port)), pytest.raises(OSError, match="in use"):
        nodes.begin(VARIABLE, options)
