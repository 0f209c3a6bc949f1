"""mmplane beside vLLM on the same checkpoint: requests per second about pictures, and the second turn of a chat.

    python benchmarks/beside_vllm.py CHECKPOINT --vllm VENV/bin/vllm [--rounds 5] [--requests 16] [--json FILE]

tools/peers/vllm/install.sh makes vLLM's environment, and tools/peers/vllm/tiny_model.py a checkpoint. Both servers run
throughout, with one rank each, and take turns: while one answers the other has nothing to do. Answers are 16 greedy
tokens, ends ignored. For a photograph (1288x966) and a page (1275x1650), with 1, 4 and 8 requests at once:

- new: pictures that nobody has sent, which differ in their pixels
- repeated: the pictures of the turn before, each with another question

and the time to the first token of a chat's second turn, alone: the first turn is about a new picture, the second asks
again, for one token. In a longer stream vLLM sends an event for each token and mmplane one for each whole character,
which often takes several tokens of a random model of bytes.

The table gives medians over the rounds and mmplane's ratio to vLLM. Both compute in the same dtype with the same number
of threads, and both keep what they keep by default. What differs is printed: vLLM batches more prompt tokens in a step
(`--max-num-batched-tokens`), and mmplane decodes pictures in processes of their own, on the same cores.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw

from mmplane.bench.inputs.sources import Source, photograph

PHOTOGRAPH, PAGE = (1288, 966), (1275, 1650)
AT_ONCE = (1, 4, 8)
TOKENS = 16
START_LIMIT_S = 600.0
CONTEXT_TOKENS = 16384
THREADS = len(os.sched_getaffinity(0))
numbers = count(1)

MMPLANE = ("--tp", "1", "--device", "cpu", "--context-tokens-max", str(CONTEXT_TOKENS))
VLLM = (
    *("-tp", "1", "--enforce-eager", "--dtype", "float32", "--max-num-seqs", "32"),
    *("--max-model-len", str(CONTEXT_TOKENS)),
)
VLLM_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_PLUGINS": "none",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": str(THREADS),
}


@contextmanager
def server(name: str, command: list[str], environment: dict[str, str], url: str) -> Iterator[httpx.Client]:
    """A server that answers at `url`, until the block ends."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | environment, start_new_session=True
        )
        client = httpx.Client(base_url=url, timeout=600, limits=httpx.Limits(max_keepalive_connections=0))
        try:
            deadline_s = time.monotonic() + START_LIMIT_S
            while not healthy(client):
                if process.poll() is not None or time.monotonic() > deadline_s:
                    log.seek(0)
                    raise SystemExit(f"{name} does not start:\n" + "".join(log.readlines()[-30:]))
                time.sleep(0.2)
            yield client
        finally:
            client.close()
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def healthy(client: httpx.Client) -> bool:
    """Whether the server takes requests. Only mmplane answers `/health` before it does."""
    try:
        is_up = client.get("/v1/models").is_success and client.get("/health").is_success
        return is_up and client.get("/ready").status_code in (200, 404)
    except httpx.HTTPError:
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def picture(kind: str) -> str:
    """A new picture as a data URI: noise in a corner makes its pixels its own."""
    number = next(numbers)
    pixels = np.asarray(Image.open(io.BytesIO(BASES[kind]))).copy()
    pixels[:32, :32] = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def page() -> bytes:
    """Lines of text and a photograph, as a scanner gives them."""
    sheet = Image.new("RGB", PAGE, "white")
    draw = ImageDraw.Draw(sheet)
    for line in range(60):
        draw.text((80, 60 + 18 * line), f"{line}. The quick brown fox jumps over the lazy dog. " * 3, fill="black")
    sheet.paste(Image.open(io.BytesIO(photograph(Source("image", 1, 1000, 420)))), (140, 1180))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


BASES = {"photograph": photograph(Source("image", 0, *PHOTOGRAPH)), "page": page()}


def asked(url: str, question: str) -> dict[str, Any]:
    """A user's message about a picture."""
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    return {"role": "user", "content": content}


def has_token(line: str) -> bool:
    """Whether a line of a stream is more than its opening, which names the role."""
    return line.startswith("data: {") and "role" not in json.loads(line[6:])["choices"][0]["delta"]


class Side:
    """One of the two servers. `extra` is what makes it ignore the end of an answer."""

    def __init__(self, name: str, client: httpx.Client, extra: dict[str, Any]) -> None:
        self.name, self.client, self.extra = name, client, extra

    def body(self, messages: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
        """Of a chat request."""
        how = {"model": "tiny", "max_tokens": TOKENS, "temperature": 0}
        return {**how, "messages": messages, **self.extra, **fields}

    def rate(self, messages: list[dict[str, Any]], at_once: int) -> float:
        """Requests per second."""
        bodies = [json.dumps(self.body([message])).encode() for message in messages]
        began_s = time.perf_counter()
        with ThreadPoolExecutor(at_once) as threads:
            for answer in threads.map(self._post, bodies):
                assert answer["usage"]["completion_tokens"] == TOKENS, answer["usage"]
        return len(bodies) / (time.perf_counter() - began_s)

    def second_turn_s(self, kind: str) -> float:
        """From the second question until its first token."""
        first = asked(picture(kind), "What is this?")
        said = self._post(json.dumps(self.body([first])).encode())["choices"][0]["message"]["content"]
        # Neither server is given bytes that are no text.
        answer = {"role": "assistant", "content": re.sub(r"[^ -~]", "?", said or "?")}
        messages = [first, answer, {"role": "user", "content": "And what else?"}]
        body = self.body(messages, stream=True, max_tokens=1)
        began_s = time.perf_counter()
        with self.client.stream("POST", "/v1/chat/completions", json=body) as reply:
            took_s = [time.perf_counter() - began_s for line in reply.iter_lines() if has_token(line)]
        return took_s[0]

    def _post(self, body: bytes) -> dict[str, Any]:
        answer = self.client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 200, f"{self.name}: {answer.status_code} {answer.text[:500]}"
        found: dict[str, Any] = answer.json()
        return found


def measure(sides: list[Side], rounds: int, requests: int) -> dict[tuple[str, str], list[float]]:
    """Every figure of every round, by case and server; the order of the servers turns round each time."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds):
        for kind in BASES:
            for side in sides if number % 2 else sides[::-1]:
                for at_once in AT_ONCE:
                    urls = [picture(kind) for _ in range(requests)]
                    for how, question in (("new", "What is this?"), ("repeated", "And what is in the corner?")):
                        rate = side.rate([asked(url, question) for url in urls], at_once)
                        found[f"{kind}, {how}, {at_once} at once, requests/s", side.name].append(rate)
                took_s = [side.second_turn_s(kind) for _ in range(3)]
                found[f"{kind}, second turn, ms to the first token", side.name].append(median(took_s) * 1000)
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return found


def main() -> None:
    """Print the settings and one table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--vllm", required=True, help="the command of an environment with vLLM's CPU build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=16, help="in each turn")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ports = free_port(), free_port()
    commands = {
        "mmplane": [sys.executable, "-m", "mmplane", "serve", "--model", options.checkpoint, *MMPLANE],
        "vLLM": [options.vllm, "serve", options.checkpoint, "--host", "127.0.0.1", *VLLM],
    }
    print(f"{THREADS} threads each, float32; mmplane: {' '.join(MMPLANE)}; vLLM: {' '.join(VLLM)}")
    print("vLLM's environment:", " ".join(f"{name}={value}" for name, value in VLLM_ENVIRONMENT.items()))
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                server(
                    name,
                    [*command, "--served-model-name", "tiny", "--port", str(port)],
                    VLLM_ENVIRONMENT if name == "vLLM" else {},
                    f"http://127.0.0.1:{port}",
                )
            )
            for (name, command), port in zip(commands.items(), ports, strict=True)
        ]
        sides = [
            Side("mmplane", clients[0], {"mmplane": {"ignore_eos": True}}),
            Side("vLLM", clients[1], {"ignore_eos": True}),
        ]
        measure(sides, 1, 2)  # whatever is compiled or loaded late
        found = measure(sides, options.rounds, options.requests)
    rows = {case: {side.name: median(found[case, side.name]) for side in sides} for case, _ in found}
    print("\n| case | mmplane | vLLM | ratio |\n|---|---|---|---|")
    for case, each in rows.items():
        print(f"| {case} | {each['mmplane']:.2f} | {each['vLLM']:.2f} | {each['mmplane'] / each['vLLM']:.2f} |")
    if options.json:
        every = {f"{case}, {name}": values for (case, name), values in found.items()}
        options.json.write_text(json.dumps({"threads": THREADS, "medians": rows, "rounds": every}, indent=1))


if __name__ == "__main__":
    main()
