"""What a picture costs before SGLang's prefill: decoded and transformed by SGLang, with the plugin, and by the sidecar.

    make .venv-sglang/stamp
    .venv/bin/python benchmarks/sglang_processor.py .venv-sglang --rounds 5 --json processor.json

It measures the tokenizer's side, without an engine: SGLang's real TokenizerManager takes requests
(`_tokenize_one_request`) and makes their features ready to be sent (`wrap_shm_features`, or the plugin's leases).
Nothing is sent: messages are the same for all kinds but for the pointers in them, and SGLang's vision encoder would
take ten seconds for such a picture on a CPU. The hashes and copies that SGLang makes on each rank without the plugin
are not counted either.

The kinds run side by side and take turns in each round, in an order that rotates. A turn is pictures that nobody has
sent before: first `--pictures` requests of one picture, `--at-once` at a time; then one request of 16 pictures.

    pictures/s      in the first part, until the last is ready
    CPU ms          of a picture, in all processes that work on it: the tokenizer's and the sidecar's
    loop ms         the event loop's thread, CPU for each picture
    longest ms      the longest piece of work of the event loop, wall time: only with `--plain-loop`, as SGLang takes
                    uvloop, whose pieces cannot be timed
    16 pictures ms  until a request of 16 pictures is ready
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
SIZE = (1288, 966)
SEVERAL = 16
START_LIMIT_S = 300.0
ARENA_BYTES = 3 * 2**29
KINDS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "SGLang": ({"SGLANG_PLUGINS": "none"}, ()),
    "SGLang, precomputed hash": ({"SGLANG_PLUGINS": "none", "SGLANG_MM_PRECOMPUTE_HASH": "1"}, ()),
    "SGLang, pil": ({"SGLANG_PLUGINS": "none"}, ("--image-processor-backend", "pil")),
    "plugin": ({"SGLANG_PLUGINS": "mmplane", "MMPLANE_SGLANG_PROCESSOR": "off"}, ()),
    "plugin + processor": ({"SGLANG_PLUGINS": "mmplane", "MMPLANE_SGLANG_PROCESSOR": "on"}, ()),
}
PLACE = "MMPLANE_SGLANG_PLACE"
PLAIN, THEIRS = "plain", "theirs"


# In SGLang's environment.


class LoopTimes:
    """How long an event loop's pieces of work take, by wrapping what runs each of them."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        original = asyncio.events.Handle._run

        def run(handle: Any) -> None:
            start_s = time.perf_counter()
            original(handle)
            self.longest_s = max(self.longest_s, time.perf_counter() - start_s)

        asyncio.events.Handle._run = run  # type: ignore[method-assign]


def serve_turns(folder: str, loop: str, options: list[str]) -> None:
    """Read turns from standard input, one JSON object a line, and answer each with its figures."""
    from sglang.srt import runtime_context
    from sglang.srt.managers.tokenizer_manager import TokenizerManager
    from sglang.srt.plugins import load_plugins
    from sglang.srt.server_args import PortArgs, prepare_server_args

    load_plugins()
    server_args = prepare_server_args(
        ["--model-path", folder, "--device", "cpu", "--enable-multimodal", "--context-length", "40000", *options]
    )
    runtime_context.publish(server_args, role="tokenizer")
    manager = TokenizerManager(server_args, PortArgs.init_new(server_args))
    maker = getattr(manager.mm_processor.io_executor, "_maker", None)
    while maker is not None and maker.reason() == "starting":
        time.sleep(0.05)
    assert maker is None or not maker.reason(), maker.reason()
    times = LoopTimes()
    gc.freeze()  # as SGLang's server does when it begins to serve
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop if loop == PLAIN else None) as runner:
        answer({"ready": True})
        for line in sys.stdin:
            turn = json.loads(line)
            times.longest_s = 0.0
            answer(runner.run(take(manager, turn["requests"], turn["at_once"])) | {"longest_s": times.longest_s})


def answer(figures: dict[str, Any]) -> None:
    print("FIGURES " + json.dumps(figures), flush=True)


async def take(manager: Any, requests: list[list[str]], at_once: int) -> dict[str, float]:
    """All requests, so many at a time; each is a list of files."""
    urls = [[url_of(Path(file)) for file in files] for files in requests]
    room = asyncio.Semaphore(at_once)
    start_s, cpu_s, loop_s = time.perf_counter(), time.process_time(), time.thread_time()
    taken = await asyncio.gather(*(one(manager, room, pictures) for pictures in urls))
    figures = {
        "wall_s": time.perf_counter() - start_s,
        "cpu_s": time.process_time() - cpu_s,
        "loop_s": time.thread_time() - loop_s,
    }
    for tokenized in taken:
        forget(tokenized)
    return figures


def url_of(file: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(file.read_bytes()).decode()


async def one(manager: Any, room: asyncio.Semaphore, pictures: list[str]) -> Any:
    from sglang.srt.managers.io_struct import GenerateReqInput
    from sglang.srt.managers.mm_utils import wrap_shm_features

    text = manager.mm_processor.mm_tokens.image_token * len(pictures) + "What is this?"
    request = GenerateReqInput(text=text, image_data=pictures, sampling_params={"max_new_tokens": 1})
    request.normalize_batch_and_arguments()
    async with room:
        manager._init_req_state(request)
        try:
            return wrap_shm_features(await manager._tokenize_one_request(request))
        finally:
            del manager.rid_to_state[request.rid]


def forget(tokenized: Any) -> None:
    """What was made for a message that is not sent. Leases of the plugin end with the object."""
    for item in tokenized.mm_inputs.mm_items:
        pointer, item.feature = item.feature, None
        if getattr(pointer, "shm_name", "").startswith("psm_") or hasattr(pointer, "_shm_handle"):
            pointer.close_and_unlink()


# Outside.


class Kind:
    """One of the five, as a process of its own; those with the plugin have a sidecar."""

    def __init__(self, name: str, venv: Path, folder: Path, loop: str, stack: ExitStack) -> None:
        from mmplane.embed.inbox import Inbox
        from mmplane.embed.sidecar import Sidecar
        from mmplane.engines.kit.sidecar import Place

        self.name = name
        changes, options = KINDS[name]
        stubs = ROOT / "tools" / "peers" / "sglang" / "stubs"
        environment = os.environ | {
            "SGLANG_USE_CPU_ENGINE": "1",
            "HF_HUB_OFFLINE": "1",
            "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1",
            "PYTHONPATH": os.pathsep.join([str(stubs), *filter(None, [os.environ.get("PYTHONPATH")])]),
            **changes,
        }
        self.sidecar: Any = None
        if changes["SGLANG_PLUGINS"] == "mmplane":
            python, sys.executable = sys.executable, str(venv / "bin" / "python")
            makes = changes["MMPLANE_SGLANG_PROCESSOR"] == "on"
            how: Any = {"backend": "torchvision", "profile": "sglang", "encoding": "float32"} if makes else {}
            room: Any = {"arena_bytes": ARENA_BYTES} if makes else {"producers_bytes": ARENA_BYTES}
            self.sidecar = stack.enter_context(Sidecar.start(model=folder if makes else None, **how, **room))
            sys.executable = python
            region_bytes = 0 if makes else ARENA_BYTES
            Place(self.sidecar.socket, (1,), region_bytes).publish(PLACE)
            environment[PLACE] = os.environ.pop(PLACE)
            self._rank = Inbox(self.sidecar.socket, group=0, rank=0, ranks=1)
        command = [str(venv / "bin" / "python"), __file__, "--serve-turns", str(folder), loop, *options]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        stack.callback(self._process.kill)
        self._figures()

    def turn(self, requests: list[list[str]], at_once: int) -> dict[str, float]:
        """The figures of one turn; CPU of both processes."""
        before_s = self._sidecar_cpu_s()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"requests": requests, "at_once": at_once}) + "\n")
        self._process.stdin.flush()
        figures = self._figures()
        figures["cpu_s"] += self._sidecar_cpu_s() - before_s
        return figures

    def _figures(self) -> dict[str, float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("FIGURES "):
                figures: dict[str, float] = json.loads(line.removeprefix("FIGURES "))
                return figures
        raise SystemExit(f"{self.name} has ended")

    def _sidecar_cpu_s(self) -> float:
        import psutil

        if self.sidecar is None:
            return 0.0
        root = psutil.Process(self.sidecar._process.pid)
        times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
        return float(sum(each.user + each.system for each in times))


def pictures(folder: Path, count: int) -> list[str]:
    """Photographs of which no two are alike."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    photograph = Image.fromarray(load_sample_image("china.jpg")).resize(SIZE)
    found = []
    for at in range(count):
        pixels = np.asarray(photograph).copy()
        pixels[at % SIZE[1], :, at % 3] = at % 256
        pixels[:, (7 * at) % SIZE[0]] = (at // 256, at % 256, 99)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=90)
        path = folder / f"{at}.jpg"
        path.write_bytes(file.getvalue())
        found.append(str(path))
    return found


def checkpoint(folder: Path) -> Path:
    """`tiny`, with a limit of pixels that lets such pictures be."""
    from mmplane.models.tiny import build_tiny

    build_tiny(folder)
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    settings.pop("size", None)
    path.write_text(json.dumps(settings | {"min_pixels": 56 * 56, "max_pixels": 16384 * 28 * 28}))
    return folder


def measure(venv: Path, rounds: int, count: int, at_once: int, loop: str) -> list[dict[str, Any]]:
    """A row for each turn."""
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = checkpoint(scratch / "tiny")
        files = iter(pictures(scratch, (rounds + 1) * len(KINDS) * (count + SEVERAL)))
        kinds = [Kind(name, venv, folder, loop, stack) for name in KINDS]
        for round_number in range(rounds + 1):
            for at in range(len(kinds)):
                kind = kinds[(at + round_number) % len(kinds)]
                single = kind.turn([[next(files)] for _ in range(count)], at_once)
                several = kind.turn([[next(files) for _ in range(SEVERAL)]], 1)
                if round_number:  # the first warms up
                    row = {
                        "kind": kind.name,
                        "pictures/s": count / single["wall_s"],
                        "CPU ms": single["cpu_s"] / count * 1e3,
                        "loop ms": single["loop_s"] / count * 1e3,
                        "16 pictures ms": several["wall_s"] * 1e3,
                    }
                    if loop == PLAIN:
                        row["longest ms"] = max(single["longest_s"], several["longest_s"]) * 1e3
                    rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Medians over the rounds."""
    columns = [name for name in rows[0] if name != "kind"]
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_kind[row["kind"]].append(row)
    lines = ["| kind | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for kind, its in by_kind.items():
        lines.append(f"| {kind} | " + " | ".join(f"{median(row[name] for row in its):.1f}" for name in columns) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table."""
    if sys.argv[1:2] == ["--serve-turns"]:
        serve_turns(sys.argv[2], sys.argv[3], sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path, help="SGLang's environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=16, help="requests of one picture in a turn")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--plain-loop", action="store_true", help="asyncio's own event loop")
    parser.add_argument("--json", type=Path, help="write every turn there")
    given = parser.parse_args()
    loop = PLAIN if given.plain_loop else THEIRS
    rows = measure(given.venv.absolute(), given.rounds, given.pictures, given.at_once, loop)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
