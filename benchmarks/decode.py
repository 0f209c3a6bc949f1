"""How many tokens a second: this version, another one, plain `generate`, and vLLM?

    python benchmarks/decode.py [--against TREE/src] [--vllm VENV/bin/vllm] [--generate] [--tp 1 2] [--running 1 8 32]
        [--tokens 32] [--rounds 3] [--layers 8] [--device cpu|cuda]

A made checkpoint in the shape of Qwen2.5-VL, with Qwen's vocabulary of 151,936: 0.11 B parameters with 8 layers, random
weights, float32. Each server is asked for so many answers of so many tokens at once, about text, greedily and at
temperature 1; tokens a second count from the first request to the end of the last answer, so prompts (about 20 tokens)
count too. All servers of one number of ranks are up together and are asked in turns; the best of the rounds counts.
TREE is a checkout of another version (`git worktree add TREE 800e50f`). Servers get free ports.

Bias, declared: `generate` decodes one batch of equal prompts in this process, without HTTP, and at TP 1 alone. vLLM
runs as it starts by itself, in float32. `tools/peers/vllm/install.sh FOLDER` makes its environment. On a GPU
transformers' `generate_batch` (continuous batching) takes the place of `generate`, and all is bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, Qwen2_5_VLForConditionalGeneration

from mmplane.models.tiny import build_tiny, tiny_config

VOCABULARY = 151_936
START_SECONDS = 300.0
PROMPT = "Tell me more."


def build(folder: Path, layers: int) -> None:
    """The checkpoint: tiny's tokenizer and vision tower around a larger language model."""
    build_tiny(folder)
    config = tiny_config()
    text = config.get_text_config()
    text.vocab_size, text.num_hidden_layers = VOCABULARY, layers
    text.hidden_size, text.intermediate_size = 512, 2048
    text.num_attention_heads, text.num_key_value_heads = 8, 2
    text.layer_types = ["full_attention"] * layers
    text.rope_parameters = dict(text.rope_parameters) | {"mrope_section": [8, 12, 12]}
    text.tie_word_embeddings = config.tie_word_embeddings = True
    config.vision_config.out_hidden_size = text.hidden_size
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters / 1e9:.2f} B parameters", flush=True)
    model.save_pretrained(folder)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(command: list[str], environment: dict[str, str], url: str) -> Iterator[None]:
    """A server, until it answers `/health` and a first request; its whole process group ends with the block."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline_s = time.monotonic() + START_SECONDS
            while True:
                try:
                    ask(url, 2, 0.0)
                    break
                except (urllib.error.URLError, ConnectionError):
                    if process.poll() is not None or time.monotonic() > deadline_s:
                        log.seek(0)
                        sys.exit(f"{command[0]} does not serve:\n{log.read().decode()[-3000:]}")
                    time.sleep(0.5)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def ask(url: str, tokens: int, temperature: float, seed: int = 0) -> int:
    """One answer; how many tokens it has."""
    body = {
        "model": "bench",
        "messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}],
        "max_tokens": tokens,
        "temperature": temperature,
        "seed": seed,
    }
    body |= {"ignore_eos": True} if "vllm" in url else {"mmplane": {"ignore_eos": True}}
    request = urllib.request.Request(
        url.partition("#")[0] + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=START_SECONDS) as reply:
        count: int = json.load(reply)["usage"]["completion_tokens"]
        return count


def measure(url: str, running: int, tokens: int, temperature: float) -> float:
    """Tokens a second with so many answers at once."""
    with ThreadPoolExecutor(running) as clients:
        began_s = time.perf_counter()
        counts = list(clients.map(lambda seed: ask(url, tokens, temperature, seed), range(running)))
        took_s = time.perf_counter() - began_s
    assert counts == [tokens] * running, counts
    return sum(counts) / took_s


def in_turns(urls: dict[str, str], case: tuple[int, float], arguments: argparse.Namespace) -> dict[str, float]:
    """Each server's best of several rounds, in an order that rotates."""
    titles, best = list(urls), dict.fromkeys(urls, 0.0)
    for turn in range(arguments.rounds):
        for at in range(len(titles)):
            title = titles[(at + turn) % len(titles)]
            best[title] = max(best[title], measure(urls[title], case[0], arguments.tokens, case[1]))
    return best


def generate(folder: Path, running: int, tokens: int, temperature: float) -> float:
    """Tokens a second of plain transformers, one batch."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.arange(20)[None].expand(running, -1)
    options: dict[str, Any] = {"do_sample": temperature > 0, "min_new_tokens": tokens, "max_new_tokens": tokens}
    if temperature:
        options |= {"temperature": temperature, "top_k": 0}
    with torch.inference_mode():
        model.generate(ids[:1], max_new_tokens=2, min_new_tokens=2)
        began_s = time.perf_counter()
        model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    return running * tokens / (time.perf_counter() - began_s)


def generate_batch(folder: Path, running: int, tokens: int, temperature: float) -> float:
    """Tokens a second of transformers' continuous batching on the GPU."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16).eval().to("cuda")
    ids = [list(range(20)) for _ in range(running)]
    how = GenerationConfig(
        do_sample=temperature > 0,
        temperature=temperature or None,
        max_new_tokens=tokens,
        eos_token_id=-1,
        pad_token_id=0,
    )
    model.generate_batch(ids, how)
    began_s = time.perf_counter()
    answers = model.generate_batch(ids, how)
    took_s = time.perf_counter() - began_s
    return sum(len(answer.generated_tokens) for answer in answers.values()) / took_s


def contestants(
    arguments: argparse.Namespace, folder: Path, tp: int
) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Name, command and environment of each server; `PORT` stands for its port."""
    trees = {"here": str(Path(__file__).parents[1] / "src")}
    if arguments.against:
        trees["against"] = arguments.against
    flags = ["--tp", str(tp), "--device", arguments.device, "--port", "PORT", "--served-model-name", "bench"]
    for name, tree in trees.items():
        # 800e50f sampled so slowly that its own limit of silence ended it.
        command = [sys.executable, "-m", "mmplane", "serve", "--model", str(folder), *flags, "--stall-seconds", "300"]
        yield f"{name} tp={tp}", command, os.environ | {"PYTHONPATH": tree}
    if arguments.vllm:
        command = [arguments.vllm, "serve", str(folder), "-tp", str(tp), "--port", "PORT", "--host", "127.0.0.1"]
        command += ["--served-model-name", "bench", "--dtype", "float32", "--max-model-len", "2048"]
        yield f"vllm tp={tp}", command, os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONPATH": ""}


def main() -> None:
    """Measure all, print a table, and how much this version is ahead."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--against")
    parser.add_argument("--vllm")
    parser.add_argument("--generate", action="store_true")
    parser.add_argument("--tp", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--running", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    cases = [(running, temperature) for running in arguments.running for temperature in arguments.temperatures]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder, arguments.layers)
        found: dict[str, dict[tuple[int, float], float]] = {}
        for tp in arguments.tp:
            with ExitStack() as servers:
                urls = {}
                for title, command, environment in contestants(arguments, folder, tp):
                    port = str(free_port())
                    urls[title] = f"http://127.0.0.1:{port}#{title}"
                    filled = [port if word == "PORT" else word for word in command]
                    servers.enter_context(serving(filled, environment, urls[title]))
                for case in cases:
                    for title, rate in in_turns(urls, case, arguments).items():
                        found.setdefault(title, {})[case] = rate
                        told = f"{case[0]:3} running, temperature {case[1]:g}"
                        print(f"{title:14} {told}: {rate:8.1f} tokens/s", flush=True)
        if arguments.generate:
            generated = generate if arguments.device == "cpu" else generate_batch
            for case in cases:
                rate = generated(folder, case[0], arguments.tokens, case[1])
                print(f"{'generate':14} {case[0]:3} running, temperature {case[1]:g}: {rate:8.1f} tokens/s", flush=True)
    for tp in arguments.tp if arguments.against else ():
        for case, before in found[f"against tp={tp}"].items():
            ratio = found[f"here tp={tp}"][case] / before
            print(f"tp={tp}, {case[0]:3} running, temperature {case[1]:g}: {ratio:.2f} x the other version")


if __name__ == "__main__":
    main()
