"""The command line: parse, resolve the configuration once, hand it to the supervisor."""

from __future__ import annotations

import argparse
import ast
import importlib
import ipaddress
import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from mmplane import __version__
from mmplane.arena.errors import OutOfMemory
from mmplane.config import COUNT_MAX, DELIVERY_NAMES, MIB, Config
from mmplane.core.keyring import SALT_BYTES, WEAK_CHARACTERS, Keyring, parse_keyring
from mmplane.core.simulation import simulation_of
from mmplane.delivery.ingress import CHOICES, check_ingress
from mmplane.machine import cores_usable
from mmplane.models.cached import tiny_folder
from mmplane.process import logs
from mmplane.process.descriptors import provide
from mmplane.process.environment import take, wipe
from mmplane.process.output import Output, release
from mmplane.ranges import Range, ranges_of
from mmplane.settings import Declared, declared, near_flags, printed, settle
from mmplane.supervise import Supervisor

log = logging.getLogger("mmplane")

BACKLOG = 1024
KEYS_BYTES_MAX = 1024 * 1024
"""Of a file of keys, with what is said in it about them."""
_ONE_KEY = re.compile(rb"\s*[!-~]+\s*")
RANGES = ranges_of(Config)
WORKER_REGION_BYTES = 384 * MIB
"""What each worker's region should have at least: the features of the longest clips that checkpoints allow."""
APART = {
    "sidecar": "mmplane.sidecar_cli",
    "features": "mmplane.features_cli",
    "doctor": "mmplane.doctor",
    "demo": "mmplane.demo",
    "bench": "mmplane.bench.main",
    "plan": "mmplane.capacity",
    "top": "mmplane.observe.top",
}
"""Commands with flags of their own, and where their `main` is."""
EXTRAS = {"bench": "bench", "sidecar": "media", "features": "media"}
"""The extra that a command needs where it is not `serve`. The base alone has `plan` and every --help."""
_MEDIA = ("av", "numba", "setproctitle", "tokenizers")
PACKAGES = {"serve": (*_MEDIA, "starlette", "torch", "transformers", "uvicorn"), "sidecar": _MEDIA, "features": _MEDIA}
"""What a command starts processes with, which would fail one after the other without it."""

KEYS_VARIABLE = "MMPLANE_API_KEYS"
"""Several, with commas between them."""
KEY_VARIABLE = "MMPLANE_API_KEY"
"""One, whatever is in it: clients of ours read it too."""
CONFIG_VARIABLE = "MMPLANE_CONFIG"
PRECEDENCE = "Each flag is also a variable, MMPLANE_TP=4, and a line of --config, tp = 4. Flags win, then variables."
_HOST = re.compile(r"\*|[A-Za-z0-9._-]+")
SGLANG_DOCTOR = "mmplane.engines.sglang.doctor"


def main(arguments: Sequence[str] | None = None) -> None:
    """The `mmplane` command."""
    parser = _Parser(prog="mmplane", description=__doc__)
    parser.add_argument("--version", action="version", version=f"mmplane {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a vision-language model over HTTP", epilog=PRECEDENCE)
    table = declared(_serve_options(serve))
    commands.add_parser("features", help="features of files, as safetensors; see features --help", add_help=False)
    commands.add_parser("sidecar", help="media for the processes of any engine; see sidecar --help", add_help=False)
    commands.add_parser("doctor", help="check this machine and a checkpoint; see doctor --help", add_help=False)
    commands.add_parser("top", help="what a server does now, in a terminal; see top --help", add_help=False)
    commands.add_parser("bench", help="measure deliveries; see bench --help", add_help=False)
    commands.add_parser("plan", help="flags for so much traffic; see plan --help", add_help=False)
    commands.add_parser("demo", help="draw three numbers and have them read", add_help=False)
    options, rest = parser.parse_known_args(arguments)
    if options.command in APART:
        # Not imported above: doctor and bench load torch, which serving must not; SGLang has an environment of its own.
        sys.exit(_apart(options.command, SGLANG_DOCTOR if "--sglang" in rest else APART[options.command], rest))
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}{near_flags(rest[0], table)}")
    sys.exit(_serve(table, vars(options)))


def _apart(command: str, module: str, rest: Sequence[str]) -> int:
    """A command of its own, or the extra that it lacks; its help is that of its module then."""
    helping = bool({"-h", "--help"} & set(rest))
    try:
        if not helping and (package := _missing(command)) is not None:
            raise ModuleNotFoundError(name=package)
        status: int = importlib.import_module(module).main(rest)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("mmplane"):
            raise
        lacking = _lacking(command, error.name)
        if not helping:
            print(f"mmplane: {lacking}", file=sys.stderr)
            return 2
        source = find_spec(module)
        assert source is not None
        assert source.origin is not None
        print(ast.get_docstring(ast.parse(Path(source.origin).read_text())))
        print(f"\nWith all of its flags: {lacking}")
        return 0
    return status


def _missing(command: str) -> str | None:
    return next((package for package in PACKAGES.get(command, ()) if find_spec(package) is None), None)


def _lacking(command: str, package: str) -> str:
    return f"`mmplane {command}` needs {package}: pip install 'mmplane[{EXTRAS.get(command, 'serve')}]'"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with one sentence, without the usage of forty flags."""
        self.exit(2, f"mmplane: {message.removeprefix('argument ')} (see {self.prog} --help)\n")


def _serve_options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    defaults = {field.name: field.default for field in msgspec.structs.fields(Config)}

    actions: list[argparse.Action] = []

    def add(flag: str, text: str, **more: object) -> None:
        name = flag.removeprefix("--").replace("-", "_")
        default = defaults.get(name)
        options: Any = {"default": default, "type": RANGES.get(name, str), **more}
        actions.append(parser.add_argument(flag, help=text, **options))

    add("--model", "tiny (built in), a local checkpoint folder, or a hub id", default="tiny")
    add("--served-model-name", "the name that requests use (default: tiny, or the folder's name)", default=None)
    add("--tp", "tensor-parallel ranks")
    add("--host", "address to listen on; other than loopback needs --api-key-file")
    add("--port", "port to listen on; 0 takes any free one")
    add("--delivery", "how features reach the ranks", choices=DELIVERY_NAMES)
    add("--cache", "keep features for later requests (auto: in the arena only)", choices=["auto", "on", "off"])
    add("--cache-bytes", "features that each rank may keep for the other deliveries")
    add("--materialise", "whether an eager delivery decodes in the front end", choices=["eager", "lazy"])
    add("--delivery-threads", "threads of each rank that materialise in the background (delayed-async)")
    add("--leader-threads", "threads of rank 0 that materialise in the background (leader-async)")
    add("--ingress", "which ranks receive inline bytes (auto: those that the delivery needs)", choices=CHOICES)
    add("--feature-hash", "the hash over features that all deliveries but arena compute", choices=["none", "sha256"])
    add(
        "--rollback-on",
        "what ends a trial of a delivery by itself: errors, p99, or both with a comma",
        default="",
    )
    add("--nodes", "machines; more than one is not served", default=1, type=Range(int, 1, COUNT_MAX))
    add("--fault-injection", "let requests carry faults (for tests)", choices=["on", "off"], default="off")
    add("--encoding", "how features lie in the arena", choices=["auto", "float32", "model", "uint8"])
    add("--arena-bytes", "shared memory for media and features, reserved at start")
    add("--budget-bytes", "bytes that requests in flight may take before they reach the arena")
    add(
        "--workers",
        "processes that decode and transform media (default: by cores and --arena-bytes, at least 2)",
        default=None,
    )
    add("--kv-bytes", "cache memory for keys and values, per rank")
    add("--running-max", "samples that decode together")
    add("--queue-max", "requests that may wait beyond that; more get 503")
    add("--prefill-tokens", "prompt tokens that one step computes at most")
    add("--stall-seconds", "how long a rank or the front end may stand still before it is replaced")
    add("--request-seconds", "how long a request may take until its first token; then it gets 503")
    add("--item-seconds", "how long one item may take before its worker is replaced")
    add("--drain-seconds", "how long SIGTERM waits for what runs")
    add("--images-max", "images, clips and sounds in one request")
    add("--video-frames-max", "frames taken of one clip at most, whatever the model or a request says")
    add("--body-bytes-max", "largest request body")
    add(
        "--accept-embeddings",
        "let requests carry image embeddings, as safetensors, instead of images",
        choices=["on", "off"],
        default="off",
    )
    add("--allow-host", "a name of this server in Host beside loopback's (repeat)", action="append", default=[])
    add("--trusted-proxy", "an address or network that may have all connections (repeat)", action="append", default=[])
    add("--fetch-host", "a host that media URLs may name (repeat; none: only data URIs)", action="append", default=[])
    add("--fetch-network", "a network that is not public where hosts may lie (repeat)", action="append", default=[])
    add("--media-root", "a folder whose files file: URLs may name", default="")
    add("--context-tokens-max", "longest prompt plus answer (0: the model's)")
    add("--device", "where ranks compute", choices=["auto", "cpu", "cuda"])
    add("--runner", "what ranks compute with: hf, or for measurements null or sim:MILLISECONDS")
    add("--decoder", "how media is decoded: real, or for measurements sim:MILLISECONDS:BYTES")
    add("--api-key-file", "a file of KEY and TENANT:KEY lines; then nothing but /health is open without one")
    add("--model-id", "what vLLM servers behind a router call the model, for /render (default: as --model)")
    add("--trace-to", "where traces go: an OTLP receiver's URL, or file:PATH (empty: nowhere)")
    add("--log-level", "how much to say", choices=["debug", "info", "warning", "error"])
    add("--log-format", "lines for people, or a JSON object in each", choices=["text", "json"])
    parser.add_argument("--config", help="a TOML file of these settings; flags and MMPLANE_... variables win over it")
    parser.add_argument("--print-config", help="print what holds and who says so", action="store_true", default=None)
    return actions


def resolve(given: dict[str, Any], *, tenants: int = 0) -> Config:
    """The configuration of these settings; so many `tenants` have API keys. Raises ValueError with what to change."""
    given = dict(given)
    allow_hosts = tuple(given.pop("allow_host"))
    proxies = tuple(given.pop("trusted_proxy"))
    hosts = tuple(given.pop("fetch_host"))
    networks = tuple(given.pop("fetch_network"))
    name = given.pop("served_model_name")
    rollback_on = tuple(filter(None, given.pop("rollback_on").split(",")))
    fault_injection = given.pop("fault_injection") == "on"
    accept_embeddings = given.pop("accept_embeddings") == "on"
    if given.pop("nodes") != 1:
        raise ValueError("--nodes: features are handed over in one machine's memory; start one server on each node")
    if given["workers"] is None:
        given["workers"] = workers_for(cores_usable(), given["arena_bytes"])
    if given["device"] == "auto":
        gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
        given["device"] = "cuda" if gpus >= given["tp"] else "cpu"
    names = {field.name for field in msgspec.structs.fields(Config)}
    model = given["model"]
    folder = model_folder(model)
    config = Config(
        **{key: value for key, value in given.items() if key in names},
        model_folder=folder,
        served_name=name or (model if not Path(model).is_dir() else Path(model).resolve().name),
        allow_hosts=allow_hosts,
        trusted_proxies=proxies,
        fetch_hosts=hosts,
        rollback_on=rollback_on,
        fault_injection=fault_injection,
        accept_embeddings=accept_embeddings,
        fetch_networks=networks,
        tenants=tenants,
    )
    _check(config)
    return config


def workers_for(cores: int, arena_bytes: int) -> int:
    """How many workers: one for every two cores, as long as the arena has room for their regions, and at least two.

    The second is there so that a clip does not hold up pictures.
    """
    return max(2, min(cores // 2, arena_bytes * 3 // 4 // WORKER_REGION_BYTES, int(RANGES["workers"].most)))


def _check(config: Config) -> None:
    for name, allowed in RANGES.items():
        try:
            allowed.checked(getattr(config, name))
        except ValueError as error:
            raise ValueError(f"--{name.replace('_', '-')}: {error}") from None
    if config.workers == 0 and config.delivery in ("arena", "auto"):
        raise ValueError(f"--workers must be at least 1 for --delivery {config.delivery}")
    try:
        check_ingress(config.delivery, config.ingress)
    except ValueError as error:
        raise ValueError(f"--ingress: {error}") from None
    if wrong := set(config.rollback_on) - {"errors", "p99"}:
        raise ValueError(f"--rollback-on knows errors and p99, not {min(wrong)}")
    if not re.fullmatch(r"hf|null|sim:\d{1,6}(\.\d{1,6})?", config.runner):
        raise ValueError("--runner must be hf, null or sim:MILLISECONDS")
    if simulation_of(config.decoder) is not None and config.runner == "hf":
        raise ValueError("--decoder: a model cannot take simulated features; use --runner null or sim:MILLISECONDS")
    if min(config.region_bytes()) < 1024 * 1024:
        raise ValueError("--arena-bytes is too small: each region needs at least 1 MiB")
    _check_hosts(config)
    if config.media_root and not Path(config.media_root).is_dir():
        raise ValueError("--media-root: no such folder")
    if config.trace_to:
        _check_traces(config.trace_to)


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
    if not _is_address(config.host) and config.host != "localhost" and not (keyed and _HOST.fullmatch(config.host)):
        raise ValueError(f"--host: {config.host!r} is not an address")
    if not keyed and config.host != "localhost" and not ipaddress.ip_address(config.host).is_loopback:
        raise ValueError("--host: other addresses than loopback need API keys: see --api-key-file")


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _check_traces(to: str) -> None:
    if not re.match(r"https?://([\w.-]|\[[\da-fA-F:.]+\])+|file:.", to):
        raise ValueError("--trace-to: an http:// or https:// URL, or file:PATH")
    try:
        found = find_spec("opentelemetry.sdk") and find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ValueError("--trace-to needs OpenTelemetry: install mmplane[trace]")


def model_folder(model: str) -> str:
    """Where a model's files lie; a hub id as it is. Raises ValueError."""
    if model == "tiny":
        return _tiny_folder()
    if Path(model).is_dir():
        return str(Path(model).resolve())
    if model.count("/") == 1 and not model.startswith((".", "/")):
        return model  # a hub id: transformers resolves it
    raise ValueError(f"--model: no such folder: {model}")


def _tiny_folder() -> str:
    """Build the built-in model on first use, in a process of its own: this one never imports torch."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmplane"
    if (built_before := tiny_folder(cache)).is_dir():
        return str(built_before)
    command = [sys.executable, "-m", "mmplane.models.tiny", str(cache)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    print(built.stderr, file=sys.stderr, end="")
    if built.returncode != 0:
        why = (built.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"--model tiny: the built-in model could not be built in {cache}: {why}")
    return built.stdout.strip()


def _keyring(path: str) -> Keyring:
    """The API keys of the file and of the environment. They leave the environment: no child inherits them."""
    several, one = take(KEYS_VARIABLE), take(KEY_VARIABLE)
    texts: list[bytearray | memoryview] = [each for each in (several, one) if each is not None]
    try:
        if one is not None and not _ONE_KEY.fullmatch(one):
            raise ValueError(
                f"{KEY_VARIABLE} does not hold exactly one key: put several into a file for --api-key-file"
            )
        if path:
            texts.insert(0, _read_keys(path))
        while several is not None and (comma := several.find(b",")) >= 0:
            several[comma] = ord("\n")
        keyring = parse_keyring(*texts, salt=secrets.token_bytes(SALT_BYTES))
    finally:
        for text in texts:
            wipe(text)
    if not keyring and (path or several is not None or one is not None):
        raise ValueError(f"--api-key-file, {KEYS_VARIABLE} or {KEY_VARIABLE} is given, but holds no key")
    return keyring


def _read_keys(path: str) -> memoryview:
    """What is in the file; the only copy of it in memory."""
    text = memoryview(bytearray(KEYS_BYTES_MAX))
    end = 0
    try:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(text[end:]):
                end += count
    except (OSError, ValueError):
        raise ValueError(f"--api-key-file: {path} cannot be read") from None
    if end == len(text):
        raise ValueError(f"--api-key-file: {path} holds more than {KEYS_BYTES_MAX} bytes")
    return text[:end]


def _serve(table: dict[str, Declared], flags: dict[str, Any]) -> int:
    ignored: list[str] = []
    try:
        if (package := _missing("serve")) is not None:
            raise ValueError(_lacking("serve", package))
        path = flags["config"] or os.environ.get(CONFIG_VARIABLE)
        settings = settle(table, flags, os.environ, path, ignored.append)
    except ValueError as error:
        return _refuse(error)
    logs.begin(settings["log_format"].value, settings["log_level"].value, "supervisor")
    for each in ignored:
        log.warning("%s", each)
    if flags["print_config"]:
        print(printed(settings), end="")
        return 0
    return _run({name: setting.value for name, setting in settings.items()})


def _run(given: dict[str, Any]) -> int:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            release(stream.fileno())
    started_s = time.monotonic()
    try:
        log.info("preparing the model %s", given["model"])
        keyring = _keyring(given["api_key_file"])
        config = resolve(given, tenants=keyring.tenants)
        if keyring.weak:
            log.warning("%d API keys have fewer than %d characters", keyring.weak, WEAK_CHARACTERS)
        provide(config.processes())
        listener = _listen(config)
    except (ValueError, OSError) as error:
        return _refuse(error)
    importlib.import_module("setproctitle").setproctitle("mmplane: supervisor")
    url = "http://" + _address(*listener.getsockname()[:2])
    log.info("listening on %s; loading %s for %d ranks", url, config.served_name, config.tp)

    def announce() -> None:
        ready = _READY.format(url=url, model=config.served_name, picture=_PICTURE, s=time.monotonic() - started_s)
        Output(sys.stdout.fileno()).write(ready + "\n")

    try:
        supervisor = Supervisor(config, listener, keyring, on_serving=announce)
    except (ValueError, OSError, OutOfMemory) as error:
        return _refuse(error)
    return supervisor.run()


def _refuse(error: Exception) -> int:
    print(f"mmplane: {error}", file=sys.stderr)
    return 2


def _listen(config: Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        where = _address(config.host, config.port)
        raise ValueError(f"cannot listen on {where} ({error.strerror}): choose another --port or --host") from None
    listener.listen(BACKLOG)
    return listener


def _address(host: str, port: int) -> str:
    """Host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_READY = """
mmplane is ready after {s:.1f} s at {url}, serving {model!r}. Ctrl-C stops it.

  curl {url}/v1/chat/completions -H 'content-type: application/json' -d '{{
    "model": "{model}", "max_tokens": 16, "temperature": 0,
    "messages": [{{"role": "user", "content": [
      {{"type": "text", "text": "Which number is this?"}},
      {{"type": "image_url", "image_url": {{"url": "{picture}"}}}}]}}]}}'

  import openai
  client = openai.OpenAI(base_url="{url}/v1", api_key="none")
  messages = [{{"role": "user", "content": "Hello"}}]
  answer = client.chat.completions.create(model="{model}", messages=messages, max_tokens=16)
  print(answer.choices[0].message.content)
"""

_PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAKgAAABUAgMAAABrdZRFAAAADFBMVEX////KyspGRkYAAADmo1PYAA"
    "AB8UlEQVR42u2VvW4TQRRGz4xNHGGhdRlhJFNYSFR+hMwjgASW6FJAnbyB9xFcUlKHJh3lziO4QhQpLEVI/BVGimAc2/NRbGJb1m"
    "xCQ8V+1Wr37N0zd+/sQp06der8izR2T5hX/U8Aw6cfb7mtF4BjRQd0pRzgYUyiowB7kqZAIV0CFGm0CNDTqQJYfStWQEtJ1CjAaE"
    "4vQjvSVamTQlsKUExoyDG4xCrHarFB7QZtArgzIo7OOdE7HvCWFNqfgcEjD24GvgPxJIk+mwJ4wOF8ee6CJOpyMDfHHnwHHSVRe+"
    "hBuM21Gb98Er23XqvzDD04WJJE9wMg7zB43ieauUEf/wDwR+ypfKw7qxqWUZ4F6K3ccSiLyAGNmHqtLtsaF2hFKlAbyQKYQiqb0F"
    "tWoa1AFqC7rjq43EHXyzooG/P6augPABifV61qMCELGI2vJW25C1ICRU4WsAIjB7RLJoEaQRZorYDCA4OwizZvnPWS++bFBwH+OT"
    "D+UqXaliQtswCMJmvVlEC2hR5O16rJZm1nBv2rynH5aYzpzJtLAJdW3a3aLFHr3t36/cpC2X7ltFfc5bowDoun/zsxe9tVv+6b+P"
    "lR98JSPDmB7x4aC1shwEinCljpesIascqVrqQJjb9BTaE5d6PlHn/j6n9ZnTr/V/4Aefrpn8mCBKYAAAAASUVORK5CYII="
)
"""A drawing of the number 4821, small enough to paste."""
