"""The key of a server and its other machines, the port on which they join, and how they reach it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar

from mmplane.commands.starting import lacking, listen
from mmplane.machines.dial import Server
from mmplane.machines.greeting import Refusal
from mmplane.machines.key_file import MAKE_ONE, read_key
from mmplane.machines.pin import server_context
from mmplane.process.files import read_file
from mmplane.ray.address import host_and_port
from mmplane.wire.link import LinkError
from mmplane.wiring import Cluster

log = logging.getLogger("mmplane")

JOIN_MAX_DEFAULT = 4
"""The default number of media machines that may join."""
AGAIN_SECONDS = 2.0
"""Seconds between two attempts to reach the server."""

T = TypeVar("T")


def read_cluster_key(path: str) -> bytes:
    """Read the key from a file that only its owner can read. Raises ValueError with what to change."""
    if not path:
        raise ValueError(f"media machines need --cluster-key-file, the same file on all machines: {MAKE_ONE}")
    return read_key("--cluster-key-file", path)


def fetched(server: Server, fetch: Callable[[], T]) -> T:
    """What `fetch` gets from the server; retry until it can be reached. Raises ValueError if it refuses."""
    while True:
        try:
            return fetch()
        except Refusal as refusal:
            raise ValueError(str(refusal)) from None
        except (LinkError, OSError) as error:
            why = str(error) or type(error).__name__
            log.warning("%s:%d cannot be reached: %s; trying again", *server.address, why)
        time.sleep(AGAIN_SECONDS)


def cluster_of(given: dict[str, Any]) -> Cluster | None:
    """Where media machines join, if they may. Raises ValueError for flags that are wrong or have no effect."""
    if given["join_port"] is None:
        for name in ("cluster_key_file", "join_cert_file", "ray"):
            if given[name]:
                raise ValueError(f"--{name.replace('_', '-')} needs --join-port")
        return None
    key = read_cluster_key(given["cluster_key_file"])
    certificate = read_certificate(given["join_cert_file"]) if given["join_cert_file"] else b""
    if given["ray"]:
        check_ray(given["ray"], "serve --ray")
    listener = listen(given["join_host"], given["join_port"], flags="--join-port or --join-host")
    return Cluster(key, listener, certificate, given["ray"])


def check_ray(address: str, command: str) -> None:
    """Raises ValueError unless `address` can be a Ray cluster's and Ray is installed. Ray is not imported."""
    host_and_port(address)
    if find_spec("ray") is None:
        raise ValueError(lacking(command, "ray", "ray"))


def read_certificate(path: str) -> bytes:
    """Read a PEM file with a certificate and its key, which only its owner can read. Raises ValueError."""
    content = read_file("--join-cert-file", path, private=True)
    try:
        server_context(content)
    except ValueError as error:
        raise ValueError(f"--join-cert-file: {path}: {error}") from None
    return content
