"""A real vLLM server under test, with the plugin or without."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
from PIL import Image

from mmplane.embed.client import Client, connect
from mmplane.engines.kit.sidecar import Place
from polling import until
from ports import unused_port

ROOT = Path(__file__).parents[3]
VENV = Path(os.environ.get("MMPLANE_VLLM_VENV", ROOT / ".venv-vllm"))
PEERS = ROOT / "tools" / "peers" / "vllm"

START_LIMIT_S = 600.0
STOP_LIMIT_S = 60.0
SETTLE_LIMIT_S = 60.0
DOCTOR_LIMIT_S = 120.0
PLACE_VARIABLE = "MMPLANE_VLLM_PLACE"


class VLLM:
    """One server and its process tree. `modes` is what the plugin does; None: it is not loaded."""

    def __init__(
        self, folder: Path, *options: str, log: Path, tp: int = 1, modes: str | None = None, arena_bytes: int = 2**28
    ) -> None:
        assert VENV.exists(), "make .venv-vllm/stamp: these tests need vLLM in an environment of its own"
        port = unused_port()
        environment = os.environ | {
            "VLLM_PLUGINS": "none" if modes is None else "mmplane",
            "VLLM_SERVER_DEV_MODE": "1",
            "MMPLANE_VLLM": modes or "",
            "MMPLANE_VLLM_ARENA_BYTES": str(arena_bytes),
        }
        command = ["bash", str(PEERS / "serve.sh"), str(VENV), str(folder), str(tp), str(port), *options]
        self.segments = segments()
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
        # No connection is kept: the server closes idle ones, and a request in that moment would be lost.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, limits=limits)
        try:
            until(lambda: self.has_ended() or self._is_healthy(), START_LIMIT_S, "started")
            assert not self.has_ended(), self.log()[-3000:]
        except BaseException:
            self.kill()
            raise
        self.processes = [
            psutil.Process(self._process.pid),
            *psutil.Process(self._process.pid).children(recursive=True),
        ]

    def _is_healthy(self) -> bool:
        try:
            return self.http.get("/health").is_success
        except httpx.HTTPError:
            return False

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.http.base_url)

    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text(errors="replace")

    def has_ended(self) -> bool:
        """Whether the launcher is gone."""
        return self._process.poll() is not None

    def titled(self, words: str) -> list[psutil.Process]:
        """The processes that call themselves so."""
        return [process for process in self.processes if is_titled(process, words)]

    def chat(self, content: Any, **fields: Any) -> httpx.Response:
        """POST a chat request with one user message."""
        return self.http.post("/v1/chat/completions", json=body(content, **fields))

    def figures(self) -> dict[str, float]:
        """The plugin's metrics, from vLLM's own route, without the prefix."""
        return self.metrics("mmplane_")

    def metrics(self, prefix: str) -> dict[str, float]:
        """Figures whose names begin so, without the prefix; those with labels are summed."""
        found: dict[str, float] = {}
        text = self.http.get("/metrics").raise_for_status().text
        for name, value in re.findall(rf"^{prefix}(\w+)(?:\{{.*\}})? (\S+)$", text, re.MULTILINE):
            found[name] = found.get(name, 0.0) + float(value)
        return found

    def settle(self) -> None:
        """Return once no lease is open and nothing is held; no end of a lease was unexpected.

        The sidecar is asked, because its figures in vLLM's metrics are a second old.
        """
        with connect(self._socket()) as client:
            with suppress(AssertionError):
                until(lambda: _held(client) == (0, 0), SETTLE_LIMIT_S, "settled")
            assert _held(client) == (0, 0)
            assert client.statistics()["strays"] == 0

    def _socket(self) -> str:
        """The sidecar's, as the server's processes are told."""
        environments = (process.environ() for process in self.processes if is_alive(process))
        places = {environment[PLACE_VARIABLE] for environment in environments if PLACE_VARIABLE in environment}
        return msgspec.json.decode(places.pop(), type=Place).socket

    def kill(self) -> None:
        """End everything at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_LIMIT_S)
        self.http.close()


def _held(client: Client) -> tuple[int, int]:
    """Leases, and bytes that are leased or held."""
    figures = client.statistics()
    return figures["leases"], figures["arena"]["total"]["leased_bytes"]


def body(content: Any, **fields: Any) -> dict[str, Any]:
    """A chat request with one user message. No `seed`: with chunked prefill on a CPU it ends the engine."""
    asked = {"model": "tiny", "max_tokens": 6, "temperature": 0, "messages": [{"role": "user", "content": content}]}
    return asked | fields


def part(image: Image.Image, **more: Any) -> dict[str, Any]:
    """An `image_url` part with a data URI."""
    file = io.BytesIO()
    image.save(file, "JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}, **more}


def text(words: str) -> dict[str, Any]:
    """A text part."""
    return {"type": "text", "text": words}


def segments() -> set[str]:
    """The named segments on this machine."""
    return {path.name for path in Path("/dev/shm").iterdir()}


def is_alive(process: psutil.Process) -> bool:
    """Whether it is still a process; a zombie is not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_titled(process: psutil.Process, words: str) -> bool:
    """Whether it is a process that calls itself so."""
    try:
        return words in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def maps_an_arena(process: psutil.Process) -> bool:
    """Whether a process has an arena in its memory."""
    return "memfd:mmplane" in Path(f"/proc/{process.pid}/maps").read_text()


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, run."""
    given: dict[str, Any] = os.environ | {"PYTHONWARNINGS": "ignore", "VLLM_PLUGINS": "mmplane", **environment}
    command = [str(VENV / "bin" / "python"), "-m", "mmplane", "doctor", "--vllm", *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=DOCTOR_LIMIT_S)


def findings_of(ran: subprocess.CompletedProcess[str]) -> list[str]:
    """What it found."""
    return [line for line in ran.stdout.splitlines() if line.startswith(("vLLM", "settings", "a tensor", "the server"))]


@contextmanager
def serving(folder: Path, *options: str, **how: Any) -> Iterator[VLLM]:
    """A server, ended with the block."""
    server = VLLM(folder, *options, **how)
    try:
        yield server
    finally:
        server.kill()
