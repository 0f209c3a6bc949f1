"""Writes HAProxy's configuration from one record. Pure.

    client ──> api ── the body's first 128 KiB ──> place.lua ── media: a key ──> ring, bounded load ──┐
                                                             └─ else: fewest requests ────────────────┴──> replica

Only failed connection attempts are retried. Each request has its own connection to the replica: the replica could close
a kept connection just when a request is sent, and then nobody could tell whether the request was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmplane.core.errors import RequestError, bad_request, error_object, internal, unavailable
from mmplane.route.replica import Replica, numbered

HEAD_BYTES = 128 * 1024
"""HAProxy examines this much of a request, and holds this much of it at a time."""
BALANCE_PERCENT = 150
"""Limit on a replica's load in percent of the mean; requests beyond it go to the next replica on the ring.

HAProxy counts whole requests: with 16 replicas, 125 reaches 0.83 of the hit rate of unbounded hashing and 150 reaches
0.89, both without a longer tail than least loaded has (tests/unit/route/test_affinity.py).
"""
WEIGHT = 10
"""Sixteen places on the ring for each replica, so that the ring is divided evenly."""
REPLICA_CONNECTIONS_MAX = 512
CERTIFICATE, AUTHORITIES = "certificate.pem", "authorities.pem"
_SERVER = f"weight {WEIGHT} maxconn {REPLICA_CONNECTIONS_MAX} check inter 2s fastinter 500ms downinter 1s fall 2 rise 1"

_ERRORS = {
    400: bad_request("bad_request", "this is not HTTP/1, or its headers could be read in two ways"),
    404: RequestError(404, "not_found", "no such route"),
    408: RequestError(408, "body_timeout", "the request did not arrive in time"),
    500: internal("the router failed"),
    502: unavailable("the replica that had this request was lost"),
    503: unavailable("no replica is ready"),
    504: RequestError(504, "replica_timeout", "the replica was silent for too long"),
}
_REASONS = {
    400: "Bad Request", 404: "Not Found", 408: "Request Timeout", 500: "Internal Server Error",
    503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


@dataclass(frozen=True)
class Route:
    """All settings of HAProxy. Seconds are integers."""

    replicas: tuple[Replica, ...]
    folder: Path
    """Folder of its files. Only the owner may read them, because the configuration may contain an API key."""
    bind: str
    """The listening address: `fd@3`, an inherited socket."""
    api_key: str = ""
    """Used to ask `/ready` if replicas have API keys."""
    certificate: bytes = b""
    """PEM with the certificate and the private key of the listening address; empty: plain HTTP."""
    authorities: bytes = b""
    """PEM with the certificates that may have signed the replicas'."""
    connections_max: int = 1000
    silence_s: int = 600
    """How long a replica may send nothing."""
    drain_s: int = 10
    metrics_port: int = 0
    balance_percent: int = BALANCE_PERCENT
    keep_clients: bool = True
    """Whether a client's connection may carry several requests."""


def error_pages() -> dict[str, bytes]:
    """HAProxy's own answers by file name, as error objects. A lost replica (502) becomes a 503 with Retry-After."""
    return {f"{status}.http": _page(error) for status, error in _ERRORS.items()}


def _page(error: RequestError) -> bytes:
    content = error_object(error)
    lines = [
        f"HTTP/1.1 {error.status} {_REASONS[error.status]}",
        "content-type: application/json",
        f"content-length: {len(content)}",
        "cache-control: no-store",
        *([f"retry-after: {error.retry_after_s}"] if error.retry_after_s is not None else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def configuration(route: Route) -> str:
    """Return the text of `haproxy.cfg`."""
    sections = [_global(route), _defaults(route), _api(route), _replicas(route)]
    if route.metrics_port:
        sections.append(_metrics(route))
    return "\n".join("\n    ".join(section) + "\n" for section in sections)


def files(route: Route) -> dict[str, bytes]:
    """Everything that HAProxy reads except its script, by file name. Empty files are not needed."""
    texts = {"haproxy.cfg": configuration(route).encode()}
    return texts | error_pages() | {CERTIFICATE: route.certificate, AUTHORITIES: route.authorities}


def server(replica: Replica) -> str:
    """HAProxy's options for a replica, also for one that is added later."""
    if not replica.tls:
        return _SERVER
    name = replica.tls
    return f"{_SERVER} ssl check-ssl verify required ca-file {AUTHORITIES} sni str({name}) check-sni {name}"


def quoted(text: str) -> str:
    """Quote any text as a word of HAProxy's configuration language."""
    return "'" + text.replace("'", "'\\''") + "'"


def _global(route: Route) -> list[str]:
    return [
        "global",
        f"maxconn {route.connections_max}",
        "nbthread 1",
        f"tune.bufsize {HEAD_BYTES}",
        "tune.lua.maxmem 64",
        f"ca-base {quoted(str(route.folder))}",
        f"lua-load {quoted(str(route.folder / 'place.lua'))}",
        f"stats socket {quoted(f'unix@{route.folder}/control.sock')} mode 600 level admin",
        "stats timeout 10s",
        "stats maxconn 4",
        f"hard-stop-after {max(1, route.drain_s)}s",
        "log stderr format raw daemon notice",
    ]


def _defaults(route: Route) -> list[str]:
    return [
        "defaults",
        "mode http",
        "option httplog",
        "option dontlog-normal",
        "option log-separate-errors",
        "option http-server-close",
        "option redispatch 1",
        "retries 3",
        "option srvtcpka",
        "srvtcpka-idle 5s",
        "srvtcpka-intvl 2s",
        "srvtcpka-cnt 3",
        "timeout connect 2s",
        "timeout queue 10s",
        "timeout check 5s",
        "timeout http-request 30s",
        "timeout http-keep-alive 30s",
        "timeout client 60s",
        f"timeout server {route.silence_s}s",
        *(f"errorfile {status} {quoted(str(route.folder / f'{status}.http'))}" for status in _ERRORS),
    ]


def _api(route: Route) -> list[str]:
    # Without `alpn`, newer versions offer HTTP/2.
    path = quoted(str(route.folder / CERTIFICATE))
    tls = f" ssl crt {path} ssl-min-ver TLSv1.2 alpn http/1.1" if route.certificate else ""
    return [
        "frontend api",
        f"bind {route.bind}{tls}",
        "log global",
        "option http-keep-alive" if route.keep_clients else "option httpclose",
        "option http-buffer-request",
        "http-request return status 200 content-type text/plain string ok if { path /health }",
        "http-request deny deny_status 503 if { path /ready } { nbsrv(replicas) eq 0 }",
        "http-request return status 200 content-type text/plain string ready if { path /ready }",
        # Metrics and switches belong to one replica; an answer of a random one would mislead.
        "http-request deny deny_status 404 unless { path_dir v1 }",
        "default_backend replicas",
    ]


def _replicas(route: Route) -> list[str]:
    key = f" hdr authorization {quoted('Bearer ' + route.api_key.replace('%', '%%'))}" if route.api_key else ""
    return [
        "backend replicas",
        "balance hash var(txn.media)",
        "hash-type consistent wt6 avalanche",
        f"hash-balance-factor {route.balance_percent}",
        "http-request lua.place",
        "use-server %[var(txn.replica)] if { var(txn.replica) -m found }",
        # Servers that are added later can only use a file that was read at the start.
        *([f"default-server ca-file {AUTHORITIES}"] if route.authorities else []),
        "option httpchk",
        f"http-check send meth GET uri /ready ver HTTP/1.1 hdr host localhost{key}",
        "http-check expect status 200",
        "http-response set-header x-mmplane-replica %[srv_id]",
        *(
            f"server {replica.name} {replica.name} id {number} {server(replica)} init-addr last,libc,none"
            for replica, number in numbered(route.replicas).items()
        ),
    ]


def _metrics(route: Route) -> list[str]:
    return [
        "frontend metrics",
        f"bind 127.0.0.1:{route.metrics_port}",
        "maxconn 16",
        "http-request use-service prometheus-exporter if { path /metrics }",
        "http-request deny deny_status 404",
    ]
