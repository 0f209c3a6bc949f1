"""A real SGLang server under test, with the plugin or without."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

from polling import until
from ports import unused_port

ROOT = Path(__file__).parents[3]
VENV = Path(os.environ.get("MMPLANE_SGLANG_VENV", ROOT / ".venv-sglang"))
OVERLAY = os.environ.get("MMPLANE_SGLANG_OVERLAY")
"""Where another version of SGLang lies, to be taken instead of that environment's (`tools/peers/sglang/overlay.sh`)."""
PATH = (ROOT / "src", *([Path(OVERLAY)] if OVERLAY else []))
FAULTY_SIZE = (280, 84)
"""Width and height in pixels of the image that the plugin in `plugins/` refuses."""

ARENA_BYTES = 16 * 2**20
"""Of photographs of 640x427 pixels it holds two, so it evicts all the time; one of 1288x966 does not fit at all."""

START_LIMIT_S = 600.0
STOP_LIMIT_S = 60.0


class SGLang:
    """One server and its process tree. By default SGLang decodes, and the plugin carries."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        tp: int,
        plugins: str,
        arena_bytes: int,
        log: Path,
        processor: str = "off",
        inside: Sequence[str] = (),
        wait: bool = True,
    ) -> None:
        """`inside` is the beginning of the command. Without `wait`, call `wait` before anything else."""
        assert VENV.exists(), "make .venv-sglang/stamp: these tests need SGLang in an environment of its own"
        port = unused_port()
        environment = os.environ | {
            "SGLANG_PLUGINS": plugins,
            "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent / "plugins", *PATH))),
            "MMPLANE_SGLANG_ARENA_BYTES": str(arena_bytes),
            "MMPLANE_SGLANG_PROCESSOR": processor,
        }
        script = ROOT / "tools" / "peers" / "sglang" / "serve.sh"
        command = [*inside, "bash", str(script), str(VENV), str(folder), str(tp), str(port)]
        # Schedulers that wait for requests would otherwise spin, all of them, on the machine's few cores.
        command += ["--enable-cache-report", "--enable-metrics", "--sleep-on-idle", *options]
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
        self._url = f"http://127.0.0.1:{port}"
        if wait:
            self.wait()

    def wait(self, line: str = "The server is fired up") -> None:
        """Until this line is in the log."""
        try:
            until(lambda: self.has_ended() or line in self.log(), START_LIMIT_S, "started")
            assert not self.has_ended(), self.log()[-3000:]
        except AssertionError:
            self.kill()
            raise
        self.tokenizer = psutil.Process(self._process.pid)
        self.processes = [self.tokenizer, *self.tokenizer.children(recursive=True)]
        # No connection is kept: the server closes idle ones, and a request in that moment would be lost.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=self._url, timeout=120, limits=limits)

    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text(errors="replace")

    def has_ended(self) -> bool:
        """Whether the launcher is gone."""
        return self._process.poll() is not None

    def ranks(self) -> list[psutil.Process]:
        """The scheduler processes."""
        return [process for process in self.processes if is_titled(process, "sglang::scheduler")]

    def chat(self, content: Any, **fields: Any) -> httpx.Response:
        """POST a chat request with one user message."""
        return self.http.post("/v1/chat/completions", json=body(content, **fields))

    def answers(self, content: Any, **fields: Any) -> list[str]:
        """The texts of all choices."""
        answer = self.chat(content, **fields)
        assert answer.status_code == 200, answer.text
        return [choice["message"]["content"] for choice in answer.json()["choices"]]

    def cached_tokens(self, content: Any) -> int:
        """How many tokens of this prompt lay in the KV cache."""
        usage = self.chat(content, max_tokens=1).raise_for_status().json()["usage"]
        return int((usage["prompt_tokens_details"] or {"cached_tokens": 0})["cached_tokens"])

    def figures(self) -> dict[str, float]:
        """The plugin's metrics, from SGLang's own route, without the prefix; `features_passed_over.full` by reason."""
        text = self.http.get("/metrics").raise_for_status().text
        found = re.findall(r"^mmplane_(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE)
        return {".".join((name, *re.findall(r'reason="(\w+)"', labels))): float(value) for name, labels, value in found}

    def segments(self) -> list[Path]:
        """Its named segments of multimodal features: their names have the process that made them."""
        made = {process.pid for process in self.processes}
        return [path for path in Path("/dev/shm").glob("sgl_shm_mm_*") if int(path.name.split("_")[-2]) in made]

    def kill(self) -> None:
        """End everything at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_LIMIT_S)
        with suppress(AttributeError):  # it never started
            self.http.close()


def body(content: Any, **fields: Any) -> dict[str, Any]:
    """A chat request with one user message."""
    asked = {"model": "tiny", "max_tokens": 8, "temperature": 0, "messages": [{"role": "user", "content": content}]}
    return asked | fields


def part(image: Image.Image) -> dict[str, Any]:
    """An `image_url` part with a data URI."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()},
    }


def text(words: str) -> dict[str, Any]:
    """A text part."""
    return {"type": "text", "text": words}


def maps_an_arena(process: psutil.Process) -> bool:
    """Whether a process has an arena in its memory."""
    return "memfd:mmplane" in Path(f"/proc/{process.pid}/maps").read_text()


def is_alive(process: psutil.Process) -> bool:
    """Whether it is still a process; a zombie is not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_titled(process: psutil.Process, title: str) -> bool:
    """Whether it is a process that calls itself so."""
    try:
        return title in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


@contextmanager
def serving(folder: Path, *options: str, **how: Any) -> Iterator[SGLang]:
    """A server, ended with the block."""
    server = SGLang(folder, *options, **how)
    try:
        yield server
    finally:
        server.kill()
