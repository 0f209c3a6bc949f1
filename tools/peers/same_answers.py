"""Whether the built-in model gives the same answers in SGLang and under plain transformers.

    tools/peers/sglang/install.sh VENV
    .venv/bin/python tools/peers/same_answers.py VENV [--pictures 30] [--tp 1]

Starts a real SGLang server with the model's folder, asks it for drawn numbers, and compares its answers with those of
`model.generate` in this process. SGLang computes in bfloat16 here, transformers in float32.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from mmplane.demo import LOOKS, QUESTION, draw
from mmplane.models.tiny import build_tiny

START_LIMIT_S = 240.0
TOKENS_MAX = 16


def expected(folder: Path, pictures: list[bytes]) -> list[str]:
    """The greedy answers of plain transformers, in float32."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    answers = []
    for picture in pictures:
        features = processor(images=Image.open(io.BytesIO(picture)).convert("RGB"), return_tensors="pt")
        count = int(features["image_grid_thw"].prod()) // 4
        ids = tokenizer(prompt.replace("<|image_pad|>", "<|image_pad|>" * count), return_tensors="pt")["input_ids"]
        kinds = (ids == model.config.image_token_id).int()
        output = model.generate(
            input_ids=ids, mm_token_type_ids=kinds, **features, max_new_tokens=TOKENS_MAX, do_sample=False
        )
        answers.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
    return answers


def served(venv: Path, folder: Path, tp: int, pictures: list[bytes]) -> list[str]:
    """SGLang's answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = Path(__file__).parent / "sglang" / "serve.sh"
    with tempfile.TemporaryFile() as log:
        command = ["bash", str(script), str(venv), str(folder), str(tp), str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                if not ready(client, process):
                    log.seek(0)
                    raise SystemExit("SGLang did not start:\n" + log.read().decode(errors="replace")[-3000:])
                return [ask(client, picture) for picture in pictures]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> bool:
    """Whether the server came to answer /health."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            if client.get("/health").is_success:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    return False


def ask(client: httpx.Client, picture: bytes) -> str:
    """One greedy answer."""
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
    body = {"model": "tiny", "temperature": 0, "max_tokens": TOKENS_MAX}
    body |= {"messages": [{"role": "user", "content": content}]}
    answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    return str(answer["choices"][0]["message"]["content"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--pictures", type=int, default=30)
    parser.add_argument("--tp", type=int, default=1)
    options = parser.parse_args()
    numbers = [str(number) for number in random.Random(3).sample(range(1000, 10000), options.pictures)]
    pictures = [draw(number, *LOOKS[at % len(LOOKS)]) for at, number in enumerate(numbers)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "tiny"
        build_tiny(folder)
        ours = expected(folder, pictures)
        theirs = served(options.venv, folder, options.tp, pictures)
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    right = [sum(a == n for a, n in zip(answers, numbers, strict=True)) for answers in (ours, theirs)]
    print(f"{same} of {len(numbers)} answers are the same; right: transformers {right[0]}, SGLang {right[1]}")
    raise SystemExit(same != len(numbers))


if __name__ == "__main__":
    main()
