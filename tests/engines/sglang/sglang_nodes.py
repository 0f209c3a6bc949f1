"""SGLang on two nodes, which are network namespaces: the ranks are spread over both. Needs root."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from machines import Network, write_key
from sglang_live import SGLang

INIT_PORT = 5000
ARENA_BYTES = 64 * 2**20

# SGLang finds out which ranks share a machine by /dev/shm, so each node has its own.
ISOLATED = ("unshare", "-m", "bash", "-c", 'mount --bind "$0" /dev/shm && exec ip netns exec "$@"')


def address(number: int) -> str:
    return f"10.91.0.{number + 1}"


class Nodes:
    """A server on two nodes. Requests to `server`, the first one, have to come from inside its network."""

    def __init__(self, network: Network, folder: Path, shared: list[Path], logs: Path, **how: Any) -> None:
        self.network = network
        self.shared = shared
        options = ("--nnodes", "2", "--dist-init-addr", f"{address(0)}:{INIT_PORT}")
        self.nodes: list[SGLang] = []
        for number in range(2):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("GLOO_SOCKET_IFNAME", "eth")
                patch.setenv("SGLANG_HOST_IP", address(number))
                self.nodes.append(
                    SGLang(
                        folder,
                        *options,
                        *("--node-rank", str(number)),
                        **how,
                        log=logs / f"node-{number}.log",
                        arena_bytes=ARENA_BYTES,
                        inside=(*ISOLATED, str(shared[number]), network.space(number)),
                        wait=False,
                    )
                )

    @property
    def server(self) -> SGLang:
        return self.nodes[0]

    def wait(self) -> None:
        self.server.wait()
        self.nodes[1].wait("Dummy health check server started")

    def segments(self) -> list[Path]:
        """Named segments of features, on both nodes."""
        return [path for folder in self.shared for path in folder.glob("sgl_shm_mm_*")]

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


@contextmanager
def nodes(folder: Path, logs: Path, *, plugins: str, tp: int = 2, keyed: bool = True) -> Iterator[Nodes]:
    """A server on two new nodes. This thread is inside the network of the first one."""
    with ExitStack() as stack:
        network = Network(machines=1)
        stack.callback(network.close)
        shared = [Path(tempfile.mkdtemp(prefix="mmplane-node-", dir="/dev/shm")) for _ in range(2)]
        for each in shared:
            stack.callback(shutil.rmtree, each)
        logs.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            if keyed:
                patch.setenv("MMPLANE_SGLANG_CLUSTER_KEY_FILE", str(write_key(logs)))
            running = Nodes(network, folder, shared, logs, plugins=plugins, tp=tp)
        stack.callback(running.kill)
        running.wait()
        stack.enter_context(network.inside(0))
        yield running
