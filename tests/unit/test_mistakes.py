"""Mistakes on the command line: each ends with one sentence and exit code 2, before torch is imported."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import contextlib, io, json, os, sys
from mmplane.commands import serve, sidecar, worker
from mmplane.commands.main import main

def started(*_, **__):
    raise AssertionError("it was not refused")

for module in (serve, sidecar, worker):
    module.Supervisor = started
environment = dict(os.environ)
for line in sys.stdin:
    variables, words = json.loads(line)
    os.environ.update(variables)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code
        except BaseException as error:
            code = repr(error)
    os.environ.clear()
    os.environ.update(environment)
    print(json.dumps([code, errors.getvalue(), "torch" in sys.modules]))
"""

MODEL = {"model_type": "qwen2_5_vl", "text_config": {"num_attention_heads": 4, "num_key_value_heads": 4}}

MISTAKES = {
    # serve: numbers and names
    "serve --tp 0": "--tp: '0' is not a whole number from 1 to 64",
    "serve --tp two": "--tp: 'two' is not a whole number",
    "serve --tp 3": "--tp 3 does not divide its num_attention_heads (4)",
    "serve --tp 64": "--tp 64 does not divide its num_attention_heads (4)",
    "serve --port 99999": "--port: '99999' is not a whole number from 0 to 65535",
    "serve --port http": "--port: 'http' is not a whole number",
    "serve --port {taken}": "choose another --port or --host",
    "serve --host 0.0.0.0": "--host: addresses other than loopback need API keys",
    "serve --host nowhere.example": "--host: 'nowhere.example' is not an address",
    "serve --host 300.1.1.1": "--host: '300.1.1.1' is not an address",
    "serve --host ''": "--host: '' is not an address",
    "serve --runner foo": "--runner must be hf, null or sim:MILLISECONDS",
    "serve --runner sim:": "--runner must be",
    "serve --decoder foo": "--decoder",
    "serve --decoder sim:5:400": "--decoder: a model cannot use simulated features",
    "serve --delivery pigeon": "--delivery: invalid choice: 'pigeon'",
    "serve --arena-bytes 1000": "--arena-bytes",
    "serve --arena-bytes 1XB": "--arena-bytes: '1XB' is not a size",
    "serve --kv-bytes 0": "--kv-bytes",
    "serve --stall-seconds nan": "--stall-seconds",
    "serve --prot 80": "did you mean --port?",
    "serve --p 80": "ambiguous option: --p could match",
    "serve --tp": "--tp: expected one argument",
    "serve tiny": "name a model with --model",
    "serve --print-config=yes": "--print-config: ignored explicit argument 'yes'",
    "serve --cache maybe": "--cache: invalid choice: 'maybe'",
    "serve --images-max -1": "--images-max",
    "serve --stall-seconds inf": "--stall-seconds: 'inf' is not a number",
    "serve --arena-bytes 9999TiB": "--arena-bytes: '9999TiB' is not a size",
    "serve --device cuda --tp 64": "GPUs here for 64 ranks; try --device cpu",
    "serve --api-key sk-secret": "use --api-key-file FILE or the variable MMPLANE_API_KEY",
    "MMPLANE_TP=none serve": "MMPLANE_TP: 'none' is not a whole number",
    "MMPLANE_DELIVERY=pigeon serve": "MMPLANE_DELIVERY: 'pigeon' is not one of",
    "MMPLANE_ARENA_BYTES=1XB serve": "MMPLANE_ARENA_BYTES: '1XB' is not a size",
    "MMPLANE_CONFIG={empty} serve": "cannot be read: Is a directory",
    "MMPLANE_API_KEY='two words' serve": "MMPLANE_API_KEY does not hold exactly one key",
    # serve: flags that contradict each other
    "serve --workers 0": "--workers must be at least 1 for --delivery arena",
    "serve --workers 48 --join-max 16 --join-port 0 --cluster-key-file {cluster}": "--workers and --join-max",
    "serve --nodes 2": "--nodes needs --join-port",
    "serve --nodes 2 --tp 3 --device cpu": "--nodes: 3 ranks (--tp) are not the same number on 2 machines",
    "serve --nodes 2 --join-port 0 --cluster-key-file {cluster} --delivery eager": "--nodes: eager pickles",
    "serve --nodes 2 --join-port 0 --cluster-key-file {cluster} --join-host 0.0.0.0": "--join-host: 0.0.0.0 is not an",
    "serve --nodes 2 --join-port 0 --join-cert-file {cluster} --cluster-key-file {cluster}": "--join-cert-file is not",
    "serve --ingress leader --delivery original": "--ingress: leader is not possible for original",
    "serve --rollback-on speed": "--rollback-on accepts errors and p99, not speed",
    "serve --cluster-key-file {cluster}": "--cluster-key-file needs --join-port",
    "serve --join-port 0": "--cluster-key-file",
    "serve --ray 10.0.0.1:6379": "--ray needs --join-port",
    "serve --join-port 0 --cluster-key-file {cluster} --ray here": "--ray: 'here' is not HOST:PORT",
    "serve --join-port 0 --cluster-key-file {readable}": "chmod 600",
    "serve --workers 8 --arena-bytes 4MiB": "--arena-bytes is too small",
    "serve --join-cert-file {cluster}": "--join-cert-file needs --join-port",
    "serve --join-port 0 --cluster-key-file {cluster} --join-cert-file {cluster}": "--join-cert-file: ",
    "serve --join-port {taken} --cluster-key-file {cluster}": "choose another --join-port or --join-host",
    "serve --fetch-network here": "--fetch-network",
    "serve --trusted-proxy 10.0.0.1/8": "--trusted-proxy: 10.0.0.1/8 has host bits set",
    "serve --fetch-host http://here": "--fetch-host: 'http://here' is not a host",
    "serve --allow-host http://here": "--allow-host",
    "serve --allow-origin chat.test": "--allow-origin: 'chat.test' is not an origin",
    "serve --allow-origin https://chat.test/": "--allow-origin",
    "serve --open-route /admin/delivery": "--open-route accepts /metrics, /ping, /ready, /version",
    "serve --root-path models": "--root-path",
    "serve --trace-to ftp://here": "--trace-to",
    "serve --trace-to file:{nowhere}/spans": "--trace-to: {nowhere}/spans cannot be written",
    "serve --trace-to file:{empty}": "--trace-to: {empty} cannot be written",
    # serve: files
    "serve --model ./nowhere": "--model: no such folder: ./nowhere",
    "serve --model {file}": "--model: no such folder",
    "serve --model {empty}": "is not a checkpoint: it has no config.json",
    "serve --model {broken}": "config.json is not JSON",
    "serve --model {list}": "config.json is not a JSON object",
    "serve --model {unreadable}": "config.json cannot be read",
    "serve --model {deep}": "config.json is not JSON",
    "serve --model {folder}": "config.json cannot be read: Is a directory",
    "serve --model {tokenizer}": "tokenizer.json is not JSON",
    "serve --model {generation}": "generation_config.json is not JSON",
    "serve --model {processor}": "preprocessor_config.json is not JSON",
    "serve --model {weightless}": "the folder has no weights",
    "serve --model {pointer}": "model.safetensors is not a complete safetensors file",
    "serve --model {part}": "lists model-00002-of-00002.safetensors, which is missing",
    "serve --model {unlisted}": "does not list weight files",
    "serve --api-key-file {nowhere}": "cannot be read",
    "serve --api-key-file {empty}": "cannot be read",
    "serve --api-key-file {blank}": "contains no key",
    "serve --api-key-file /proc/self/mem": "cannot be read",
    "serve --api-key-file {file}": "is neither KEY nor TENANT:KEY",
    "serve --media-root {nowhere}": "--media-root",
    "serve --media-root {file}": "--media-root",
    "serve --config {nowhere}": "--config",
    "serve --config {file}": "--config",
    "serve --config {unknown}": "did you mean --tp?",
    "serve --config /dev/zero": "is not valid TOML",
    "serve --config {table}": "there is no setting 'serve'",
    "serve --config {boolean}": "port: True is not a whole number",
    "serve --config {words}": "tp: 'two' is not a whole number",
    # the other commands
    "sidecar --arena-bytes lots": "--arena-bytes: 'lots' is not a size",
    "sidecar --model ./nowhere": "--model: no such folder",
    "sidecar --model {broken}": "config.json is not JSON",
    "sidecar --model {model} --socket {nowhere}/socket": "--socket: cannot bind",
    "sidecar --model {model} --socket {empty}/" + "s" * 120: "--socket: ",
    "sidecar --model {model} --socket {empty}/s --socket-group nobody-has-it": "--socket-group: there is no group",
    "sidecar --model {model} --sockte x": "unrecognized arguments",
    "sidecar --model {model} --socket {file}": "is there already, and is not a socket",
    "sidecar --model {model} --socket {empty}": "is there already, and is not a socket",
    "sidecar --model {model} --socket ''": "'.' is not the path of a socket",
    "sidecar --model {model} --workers 0": "--workers: '0' is not a whole number from 1",
    "sidecar --model {model} --metrics-port {taken}": "choose another --metrics-port",
    "sidecar --model {model} --http-port {taken}": "choose another --http-port",
    "sidecar --model {model} --http-port 0 --http-host 0.0.0.0": "--http-host: addresses other than loopback",
    "sidecar --model {model} --render-processes 2": "--render-processes needs --http-port",
    "sidecar --model {model} --backend opencv": "--backend: invalid choice: 'opencv'",
    "sidecar --carry-only --workers 2": "--carry-only makes nothing: leave out --workers",
    "MMPLANE_WORKERS=none sidecar": "MMPLANE_WORKERS: 'none' is not a whole number",
    "worker --join here --cluster-key-file {cluster}": "--join",
    "worker --join here:1": "--cluster-key-file",
    "worker --join here:99999 --cluster-key-file {cluster}": "--join: 'here:99999' is not HOST:PORT",
    "worker --join here:1 --join-pin 12:34 --cluster-key-file {cluster}": "--join-pin",
    "worker --join here:1 --workers 0 --cluster-key-file {cluster}": "--workers: '0' is not a whole number from 1",
    "worker --join here:1 --cluster-key-file {nowhere}": "--cluster-key-file",
    "features --model {model} {file}": "--out",
    "features --model {model} --out {file} {file}": "File exists",
    "features --model ./nowhere --out {empty} {file}": "no such folder: ./nowhere",
    "features --model {model} --out {empty} --workers 0 {file}": "--workers: '0' is not a whole number",
    "features --model {model} --out {empty} {file} {nowhere}": "is no file",
    "features --model {model} --out {empty} {file} {file}": "several files are called file",
    "bench --tp 0": "--tp must be comma-separated numbers, not 0",
    "bench --workload nothing": "--workload: no such workload or file: nothing",
    "bench --setting pigeon": "--setting: invalid choice: 'pigeon'",
    "bench --model ./nowhere": "--model: no such folder: ./nowhere",
    "bench --json {nowhere}/run.json": "cannot be written",
    "bench --html {empty}": "cannot be written",
    "bench --from {empty}": "--from: {empty} cannot be read: Is a directory",
    "bench --concurrency 2 --rate 2": "--rate: not allowed with argument --concurrency",
    "bench results --only nothing": "--only: invalid choice: 'nothing'",
    "demo --tp 65": "--tp: '65' is not a whole number from 1 to 64",
    "doctor --json": "--json needs --model",
    "doctor --model ./nowhere": "--model: no such folder: ./nowhere",
    "doctor --model {broken}": "config.json is not JSON",
    "doctor --parity {empty}": "is not a checkpoint: it has no config.json",
    "doctor --parity {model} --model {model}": "not allowed with argument",
    "doctor {file}": "images are for --parity",
    "plan": "the following arguments are required: --requests-per-s",
    "plan --requests-per-s fast": "--requests-per-s: 'fast' is not a number",
    "route": "there is no replica",
    "route fly": "invalid choice: 'fly'",
    "route add": "name at least one replica",
    "route list --folder {empty}": "mmplane",
    "route --replica here:1": "--replica: 'here:1' is not http://HOST:PORT",
    "route --replica http://here:99999": "--replica: 'http://here:99999' is not a URL",
    "route --replica http://here --haproxy {nowhere}": "does not run",
    "route --replica http://here --api-key-file {nowhere}": "--api-key-file: {nowhere} cannot be read",
    "route --replica http://here --port 0 --metrics-port {taken}": "choose another --metrics-port",
    "completion csh": "invalid choice: 'csh'",
    "top --interval 0": "--interval: '0' is not a number from 0.1 to 3600",
    "top --url nowhere": "--url: 'nowhere' is not an http:// or https:// address",
    "example nothing": "nothing",
    "deploy nothing": "nothing",
    "deploy systemd --out {file}": "--out: {file} cannot be written",
    "fly": "invalid choice: 'fly'",
    "": "the following arguments are required: command",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the mistakes name."""
    root = tmp_path_factory.mktemp("mistakes")
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text(json.dumps(MODEL))
    (root / "model" / "preprocessor_config.json").write_text("{}")
    (root / "model" / "model.safetensors").write_bytes(bytes(8))
    contents: dict[str, tuple[str, bytes]] = {
        "broken": ("config.json", b'{"model_type": '),
        "list": ("config.json", b"[]"),
        "processor": ("preprocessor_config.json", b"\xff\xfe"),
        "pointer": ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "deep": ("config.json", b"[" * 100_000),
        "tokenizer": ("tokenizer.json", b"{"),
        "generation": ("generation_config.json", b"{"),
        "unlisted": ("model.safetensors.index.json", b'{"weight_map": ["model.safetensors"]}'),
        "part": ("model.safetensors.index.json", b'{"weight_map": {"a": "model-00002-of-00002.safetensors"}}'),
    }
    for name, (file, content) in contents.items():
        _linked(root, name)
        (root / name / file).unlink(missing_ok=True)
        (root / name / file).write_bytes(content)
    for name, file in (("unreadable", "config.json"), ("weightless", "model.safetensors")):
        _linked(root, name)
        (root / name / file).unlink()
    (root / "unreadable" / "config.json").symlink_to("/proc/self/mem")
    _linked(root, "folder")
    (root / "folder" / "config.json").unlink()
    (root / "folder" / "config.json").mkdir()
    (root / "empty").mkdir()
    (root / "file").write_text("some words: of no format")
    (root / "blank").write_text("# no key yet\n")
    texts = {"unknown": "tpp = 2", "table": "[serve]\ntp = 2", "boolean": "port = true", "words": "tp = 'two'"}
    for name, text in texts.items():
        (root / name).write_text(text)
    for name, mode in (("cluster", 0o600), ("readable", 0o644)):
        (root / name).write_text("k" * 40)
        (root / name).chmod(mode)
    return {path.name: path for path in root.iterdir()} | {"nowhere": root / "nowhere"}


def _linked(root: Path, name: str) -> None:
    (root / name).mkdir()
    for path in (root / "model").iterdir():
        (root / name / path.name).symlink_to(path)


@pytest.fixture(scope="module")
def refusals(places: dict[str, Any]) -> dict[str, tuple[Any, str, bool]]:
    """Exit code, what was written to standard error, and whether torch was loaded, after each mistake."""
    lines = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for mistake in MISTAKES:
            words = shlex.split(mistake.format(**places, taken=taken.getsockname()[1]))
            variables = dict(word.split("=") for word in words[:1] if word.startswith("MMPLANE_"))
            words = words[len(variables) :]
            if words[:1] == ["serve"]:
                words += [] if "--model" in words else ["--model", str(places["model"])]
                words += [] if "--port" in words else ["--port", "0"]
            lines.append(json.dumps([variables, words]))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MMPLANE_")}
        command = [sys.executable, "-c", PROGRAM]
        ended = subprocess.run(
            command, input="\n".join(lines), capture_output=True, text=True, env=environment, check=True, timeout=60
        )
    return dict(zip(MISTAKES, map(json.loads, ended.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_before_torch_is_imported(
    mistake: str, refusals: dict[str, tuple[Any, str, bool]], places: dict[str, Any]
) -> None:
    code, said, torch_is_loaded = refusals[mistake]
    assert code == 2, said
    (line,) = [line for line in said.splitlines() if " INFO " not in line]
    assert line.startswith("mmplane")
    assert MISTAKES[mistake].format(**places) in line
    assert not torch_is_loaded
