"""Checks the values of a configuration, alone and in combination. Each error is a ValueError for the operator."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmplane.commands.options import RANGES
from mmplane.config import Config
from mmplane.core.simulation import simulation_of
from mmplane.delivery.ingress import check_ingress
from mmplane.parser import check_writable
from mmplane.wire.link import DESCRIPTORS_MAX
from mmplane.wire.private import check_private

REGION_BYTES_MIN = 1024 * 1024
OPENED = {"/ping", "/ready", "/version", "/metrics"}
"""Routes that may be open to everybody."""
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([\w.-]+|\[[\da-fA-F:.]+\])(:\d{1,5})?")
_HOST = re.compile(r"\*|[A-Za-z0-9._-]+")


def check_memory(config: Config) -> None:
    """Check that every number is in its range, and that every region has room."""
    for name, allowed in RANGES.items():
        try:
            allowed.checked(getattr(config, name))
        except ValueError as error:
            raise ValueError(f"--{name.replace('_', '-')}: {error}") from None
    if min(config.region_bytes()) < REGION_BYTES_MIN:
        raise ValueError("--arena-bytes is too small: each region needs at least 1 MiB")


def check_server(config: Config) -> None:
    """Check everything that `mmplane serve` requires."""
    check_memory(config)
    if config.workers == 0 and config.delivery in ("arena", "auto"):
        raise ValueError(f"--workers must be at least 1 for --delivery {config.delivery}")
    if config.workers + config.join_max > RANGES["workers"].most:
        raise ValueError(f"--workers and --join-max are more than {RANGES['workers'].most:.0f} together")
    try:
        check_ingress(config.delivery, config.ingress)
    except ValueError as error:
        raise ValueError(f"--ingress: {error}") from None
    if wrong := set(config.rollback_on) - {"errors", "p99"}:
        raise ValueError(f"--rollback-on accepts errors and p99, not {min(wrong)}")
    if not re.fullmatch(r"hf|null|sim:\d{1,6}(\.\d{1,6})?", config.runner):
        raise ValueError("--runner must be hf, null or sim:MILLISECONDS")
    if simulation_of(config.decoder) is not None and config.runner == "hf":
        raise ValueError("--decoder: a model cannot use simulated features; use --runner null or sim:MILLISECONDS")
    _check_hosts(config)
    if config.media_root and not Path(config.media_root).is_dir():
        raise ValueError("--media-root: no such folder")
    if config.trace_to:
        _check_traces(config.trace_to)


def check_nodes(config: Config, given: Mapping[str, Any]) -> None:
    """Check what ranks on several machines require."""
    if config.nodes == 1:
        return
    if config.tp % config.nodes:
        raise ValueError(f"--nodes: {config.tp} ranks (--tp) are not the same number on {config.nodes} machines")
    if given["join_port"] is None:
        raise ValueError("--nodes needs --join-port, where the other machines join: see `mmplane worker --ranks`")
    if config.delivery != "arena":
        raise ValueError(f"--nodes: {config.delivery} pickles between ranks, which is refused over machines; use arena")
    for flag in ("join_cert_file", "ray"):
        if given[flag]:
            raise ValueError(f"--{flag.replace('_', '-')} is not supported with --nodes")
    if config.ranks_each * (1 + config.tp - config.ranks_each) > DESCRIPTORS_MAX:
        raise ValueError(f"--nodes: {config.ranks_each} ranks on each machine have too many links to the others")
    try:
        check_private(given["join_host"])
    except ValueError as error:
        raise ValueError(f"--join-host: {error}: what ranks send each other is neither encrypted nor signed") from None


def _check_hosts(config: Config) -> None:
    keyed = config.tenants > 0
    for flag, hosts in (("--allow-host", config.allow_hosts), ("--fetch-host", config.fetch_hosts)):
        for host in hosts:
            if not (_HOST.fullmatch(host) or _is_address(host)):
                raise ValueError(f"{flag}: {host!r} is not a host: give each alone, without scheme and port")
    for flag, networks in (("--fetch-network", config.fetch_networks), ("--trusted-proxy", config.trusted_proxies)):
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"{flag}: {error}") from None
    for origin in config.allow_origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"--allow-origin: {origin!r} is not an origin: give scheme and host, as in https://chat.example.com"
            )
    if wrong := set(config.open_routes) - OPENED:
        raise ValueError(f"--open-route accepts {', '.join(sorted(OPENED))}, not {min(wrong)!r}")
    if not re.fullmatch(r"(/[\w.~-]+)*", config.root_path):
        raise ValueError("--root-path: give a path like /models, without a slash at its end")
    check_host("--host", config.host, keyed=keyed)


def check_host(flag: str, host: str, *, keyed: bool) -> None:
    """Check that a server may listen there: on loopback, or anywhere with API keys."""
    if not _is_address(host) and host != "localhost" and not (keyed and _HOST.fullmatch(host)):
        raise ValueError(f"{flag}: {host!r} is not an address")
    if not keyed and host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"{flag}: addresses other than loopback need API keys: see --api-key-file")


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _check_traces(to: str) -> None:
    if not re.match(r"https?://([\w.-]|\[[\da-fA-F:.]+\])+|file:.", to):
        raise ValueError("--trace-to: give an http:// or https:// URL, or file:PATH")
    try:
        found = find_spec("opentelemetry.sdk") and find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ValueError("--trace-to needs OpenTelemetry: pip install 'mmplane[trace]'")
    if to.startswith("file:"):
        check_writable("--trace-to", Path(to.removeprefix("file:")))
