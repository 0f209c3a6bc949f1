"""What pictures cost in vLLM's API process: its renderer alone, as vLLM has it, with `make`, and with `make,carry`.

    .venv-vllm/bin/python benchmarks/vllm_front.py CHECKPOINT --rounds 7 --json front.json

Each kind is a process of its own with vLLM's renderer and no engine; `make` has a sidecar beside it. They take turns
within each round, in an order that rotates. In a turn a process renders 96 requests with a new photograph of 1288x966
each, 8 at once; the same 96 again; and one request with 6 new photographs. Photographs differ by a comment alone, so
that all cost the same.

- decode: CPU of vLLM's media threads, in `ImageMediaIO.load_base64`
- preprocessing: CPU of its one thread for media, in `BaseMultiModalProcessor.apply`
- process: CPU of all threads of the API process, the client's half included: it makes the data URIs beforehand
- decoded: images decoded in the API process, and made by the sidecar

Bias, declared: the sidecar's own CPU is not counted as the API process's; `machine` counts it: the CPU of both.
`make` copies features into vLLM's own cache; with `make,carry` they stay in the arena, as in the plugin.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

KINDS = ("vLLM", "make", "make,carry")
SIZE = (1288, 966)
PICTURES, AT_ONCE, MANY = 96, 8, 6
REGION_BYTES = 64 * 1024**2
ARENA_BYTES = 1024**3
"""Filled by one turn: later ones write memory that the kernel has already given, as a server that has run for long."""


class Front:
    """A renderer in this process, and what it costs."""

    def __init__(self, kind: str, folder: str, stack: contextlib.ExitStack) -> None:
        import torch  # noqa: F401
        from PIL import ImageFile
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.multimodal.media.image import ImageMediaIO
        from vllm.multimodal.processing import BaseMultiModalProcessor
        from vllm.renderers import renderer_from_config

        config = AsyncEngineArgs(
            model=folder, max_model_len=32768, enforce_eager=True, dtype="bfloat16", limit_mm_per_prompt={"image": MANY}
        ).create_engine_config()
        self.client = self._make(config, stack) if kind != "vLLM" else None
        self.renderer = renderer_from_config(config)
        if kind == "make,carry":
            from mmplane.engines.kit.tally import Tally
            from mmplane.engines.vllm import metrics
            from mmplane.engines.vllm.cache import ArenaCache

            tally = Tally(metrics.REASONS, logging.getLogger("mmplane"))
            self.renderer._mm_processor_cache = ArenaCache(lambda: self.client, tally)
        self.spent: dict[str, float] = defaultdict(float)
        self._time(ImageMediaIO, "load_base64", "decode ms")
        self._time(BaseMultiModalProcessor, "apply", "preprocessing ms")
        own = ImageFile.ImageFile.load

        def load(image: Any) -> Any:
            if image.tile:
                self.spent["decoded"] += 1
            return own(image)

        ImageFile.ImageFile.load = load  # type: ignore[method-assign]

    def _make(self, config: Any, stack: contextlib.ExitStack) -> Any:
        from mmplane.embed.sidecar import Sidecar
        from mmplane.engines.kit.tally import Tally
        from mmplane.engines.vllm.make.install import install
        from mmplane.engines.vllm.make.plan import plan
        from mmplane.engines.vllm.make.reasons import REASONS

        planned = plan(config)
        sidecar = stack.enter_context(Sidecar.start(**{**planned.sidecar, "arena_bytes": ARENA_BYTES}))
        client = stack.enter_context(sidecar.connect(arena_bytes=REGION_BYTES))
        install(config, planned, lambda: client, Tally(REASONS, logging.getLogger("mmplane")))
        self._sidecar_pid = sidecar._process.pid
        return client

    def _time(self, owner: Any, name: str, label: str) -> None:
        own = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            try:
                return own(*args, **kwargs)
            finally:
                self.spent[label] += (time.thread_time() - start) * 1e3

        setattr(owner, name, timed)

    def turn(self, requests: list[list[str]]) -> dict[str, float]:
        """Cost for each picture of these requests, each a list of data URIs."""
        pictures = sum(map(len, requests))
        self.spent.clear()
        made = self._materialisations()
        cpu, other, wall = time.process_time(), self._sidecar_s(), time.perf_counter()
        asyncio.run(self._render(requests))
        wall = time.perf_counter() - wall
        cpu = time.process_time() - cpu
        other = self._sidecar_s() - other
        return {
            **{label: self.spent[label] / pictures for label in ("decode ms", "preprocessing ms")},
            "process ms": cpu * 1e3 / pictures,
            "machine ms": (cpu + other) * 1e3 / pictures,
            "wall ms": wall * 1e3 / len(requests),
            "pictures/s": pictures / wall,
            "decoded": self.spent["decoded"],
            "made": self._materialisations() - made,
        }

    def _materialisations(self) -> int:
        return 0 if self.client is None else self.client.statistics()["materialisations"]

    def _sidecar_s(self) -> float:
        if self.client is None:
            return 0.0
        return sum(cpu_s(pid) for pid in tree(self._sidecar_pid))

    async def _render(self, requests: list[list[str]]) -> None:
        from vllm.renderers import ChatParams

        room = asyncio.Semaphore(AT_ONCE)

        async def one(urls: list[str]) -> None:
            content = [{"type": "image_url", "image_url": {"url": each}} for each in urls]
            messages = [[{"role": "user", "content": [*content, {"type": "text", "text": "What is it?"}]}]]
            async with room:
                await self.renderer.render_chat_async(messages, ChatParams(), self.renderer.default_chat_tok_params)

        await asyncio.gather(*(one(urls) for urls in requests))


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def photographs(number: int, count: int) -> list[str]:
    """Data URIs of pictures that differ by a comment in the file."""
    import numpy as np
    from PIL import Image

    low = np.random.default_rng(0).integers(0, 256, (SIZE[1] // 6, SIZE[0] // 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(low).resize(SIZE, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    found = []
    for one in range(count):
        comment = f"{number}/{one}".encode()
        content = file.getvalue()
        content = content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]
        found.append("data:image/jpeg;base64," + base64.b64encode(content).decode())
    return found


def child(kind: str, folder: str) -> None:
    """One kind, for which each line of standard input is a turn's number."""
    from vllm.utils.gc_utils import freeze_gc_heap

    with contextlib.ExitStack() as stack:
        front = Front(kind, folder, stack)
        freeze_gc_heap()  # as vLLM's server does when it begins to serve
        print("READY", flush=True)
        for line in sys.stdin:
            number = int(line)
            new = [[each] for each in photographs(2 * number, PICTURES)]
            many = [photographs(2 * number + 1, MANY)]
            turns = {"new": front.turn(new), "repeat": front.turn(new), f"{MANY} in one": front.turn(many)}
            print("TURN", json.dumps(turns), flush=True)


def answer(process: subprocess.Popen[str], word: str) -> str:
    """The rest of the line that begins with this word."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line.removeprefix(word)
    raise SystemExit(f"a renderer has ended with {process.wait()}")


def main() -> None:
    """All kinds in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a checkpoint's folder: tools/peers/vllm/tiny_model.py makes one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=KINDS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder)
        return
    # vLLM would load all installed plugins, mmplane's too. Each kind installs what it measures itself.
    environment = {**os.environ, "VLLM_PLUGINS": "", "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    environment["VLLM_LOGGING_LEVEL"] = "ERROR"
    command = [sys.executable, __file__, options.folder, "--child"]
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    found: dict[str, list[dict[str, dict[str, float]]]] = {kind: [] for kind in KINDS}
    with contextlib.ExitStack() as stack:
        processes = {
            kind: stack.enter_context(subprocess.Popen([*command, kind], env=environment, text=True, **pipe))
            for kind in KINDS
        }
        for process in processes.values():
            answer(process, "READY")
        for number in range(-1, options.rounds):  # the first warms up
            shift = number % len(KINDS)
            for kind in KINDS[shift:] + KINDS[:shift]:
                stdin = processes[kind].stdin
                assert stdin is not None
                print(number + 1, file=stdin, flush=True)
                turns = json.loads(answer(processes[kind], "TURN"))
                if number >= 0:
                    found[kind].append(turns)
        for process in processes.values():
            assert process.stdin is not None
            process.stdin.close()
    show(found, options.json)


def show(found: dict[str, list[dict[str, dict[str, float]]]], path: Path | None) -> None:
    """Medians, and beside each the ratio to vLLM's."""
    medians = {
        kind: {what: {name: median(turn[what][name] for turn in turns) for name in turns[0][what]} for what in turns[0]}
        for kind, turns in found.items()
    }
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}; medians of {len(found['vLLM'])} rounds")
    for what, names in medians["vLLM"].items():
        print(f"\n{what:18}" + "".join(f"{kind:>22}" for kind in KINDS))
        for name, base in names.items():
            cells = []
            for kind in KINDS:
                value = medians[kind][what][name]
                cells.append(f"{value:.2f}" + (f" ({value / base:.2f} x)" if base and kind != "vLLM" else ""))
            print(f"{name:18}" + "".join(f"{cell:>22}" for cell in cells))
    if path:
        path.write_text(json.dumps({"load": load, "medians": medians, "turns": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
