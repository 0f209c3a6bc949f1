"""What does a picture cost in front of an engine: with the sidecar, transformers, vLLM, SGLang?

    python benchmarks/front_ends.py [--quick] [--rounds 3] [--seconds 6] [--work NAME...] [--only NAME...] [--json FILE]
        [--vllm-python VLLM/bin/python] [--sglang-python SGLANG/bin/python]

`tools/peers/{vllm,sglang}/install.sh FOLDER` make the environments. From encoded bytes to features, all of one
checkpoint in the shape of Qwen2.5-VL, at saturation: `sidecar` (as it encodes by itself: uint8) and `sidecar float32`
through a client in a process of its own; transformers' processor in a pool of 1, 2 and 6 threads, and in a pool of as
many processes as there are cores, with pickled results; vLLM's renderer and SGLang's processor with the pools that
they make by themselves. transformers runs with Pillow here, and with torchvision, which both engines use by default,
where a peer's environment is given.

Two floors take part: the sidecar's decoding alone, and its decoding and transform alone (`alone.py`), in as many
processes as there are cores. A picture's overhead is its CPU less the latter's, of the same round.

No picture comes twice: each has a note in its file. Contestants take turns within a round, in an order that rotates.
CPU is that of all their processes. Each round also measures one fixed decode (a photograph of 1288x966), in this
process.

Bias, declared: nobody speaks HTTP, and no rank reads the features. The sidecar's client is given bytes, as SGLang's
processor is; vLLM's renderer is given data URIs, as its API server is (0.2 ms for each picture). vLLM and SGLang also
tokenise a short prompt. Pools of processes are given pictures one by one, threads whole requests.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from png import pages, png

from mmplane.bench.inputs.sources import Source, photograph
from mmplane.bench.run.environment import environment
from mmplane.media import image
from mmplane.models.tiny import build_tiny

HERE = Path(__file__).with_name("front_ends")
START_SECONDS = 600.0
PIXELS = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 16384}
"""As Qwen2.5-VL's published checkpoints have it."""
CONTEXT = 32768
CORES = len(os.sched_getaffinity(0))
FIXED = Source("image", 0, 1288, 966)
DECODING, BOTH = "decoding alone", "decoding and transform alone"
FLOORS = {"sidecar": BOTH, "sidecar float32": f"{BOTH}, float32"}
"""The sidecar's contestants, and what bounds them."""
RATE_OF_THREADS, RATE_OF_PROCESSES, RATE_OF_VLLM, CPU_OF_VLLM = 4.0, 3.0, 3.0, 0.3
"""Of JPEG: the sidecar's rate over others', at least; its CPU of a picture over vLLM's, at most."""
PNG_OVERHEAD_MS, OVERHEAD_MS, CLIENT_MS, HOLD_MS = 10.0, 1.0, 0.6, 1.0
PHOTOGRAPH = "1288x966 JPEG"


@dataclass(frozen=True)
class Work:
    """`count` pictures a request."""

    kind: str
    count: int
    pictures: tuple[bytes, ...]


def works() -> dict[str, Work]:
    """By name."""
    return {
        "page 1275x1650 PNG": Work("png", 1, (pages()["page"],)),
        "four 1280x720 JPEG": Work("jpeg", 4, photographs(1280, 720)),
        "four 1786x2526 PNG": Work("png", 4, (png(page(1786, 2526)),)),
        "28 of 512x512 JPEG": Work("jpeg", 28, photographs(512, 512)),
        PHOTOGRAPH: Work("jpeg", 1, photographs(1288, 966)),
    }


QUICK = ("page 1275x1650 PNG", "four 1280x720 JPEG", PHOTOGRAPH)


def photographs(width: int, height: int) -> tuple[bytes, ...]:
    """Four JPEGs of one size."""
    return tuple(photograph(Source("image", seed, width, height)) for seed in range(4))


def page(width: int, height: int) -> Image.Image:
    """A page of a PDF, drawn in this size: the PNG benchmark's."""
    return image_of(pages()["page"]).resize((width, height), Image.Resampling.BICUBIC)


def image_of(media: bytes) -> Image.Image:
    """Decoded."""
    return Image.fromarray(image.decode(media))


def model_folder(folder: Path) -> Path:
    """Processor files of a Qwen2.5-VL with a small vocabulary, and a configuration that engines load; no weights."""
    whole, bare = folder / "whole", folder / "model"
    whole.mkdir()
    build_tiny(whole)
    shutil.copytree(whole, bare, ignore=shutil.ignore_patterns("*.safetensors*"))
    for name, changes in (
        ("preprocessor_config.json", PIXELS),
        ("tokenizer_config.json", {"model_max_length": CONTEXT}),
        ("config.json", {}),
    ):
        content = json.loads((bare / name).read_text()) | changes
        if name == "config.json":
            content["text_config"]["max_position_embeddings"] = CONTEXT
        (bare / name).write_text(json.dumps(content))
    return bare


class Contestant:
    """One of the processes; it is ready when this returns."""

    def __init__(self, python: str, script: str, *arguments: object) -> None:
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        if "sglang" in script:
            stubs = Path(__file__).parents[1] / "tools" / "peers" / "sglang" / "stubs"
            environment |= {"SGLANG_USE_CPU_ENGINE": "1", "PYTHONPATH": str(stubs)}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as the process
        self._process = subprocess.Popen(
            [python, str(HERE / script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def wait(self) -> None:
        """Until it is ready."""
        self._answer()

    def measure(self, work: Work, paths: list[str], seconds: float) -> dict[str, Any]:
        """One window."""
        assert self._process.stdin is not None
        outstanding = max(2, 4 * CORES // work.count) if work.count > 1 else 4 * CORES
        order = {"pictures": paths, "count": work.count, "outstanding": outstanding, "seconds": seconds}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it and what it has started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise SystemExit(f"{self._process.args} has ended:\n{self._log.read().decode(errors='replace')[-4000:]}")
        found: dict[str, Any] = json.loads(line)
        return found


def contestants(model: Path, options: argparse.Namespace) -> Iterator[tuple[str, list[Any]]]:
    """Name, and how it is started."""
    own = sys.executable
    yield "sidecar", [own, "sidecar.py", model, CORES, "auto"]
    yield "sidecar float32", [own, "sidecar.py", model, CORES, "float32"]
    for name, encoding in ((DECODING, "none"), *zip(FLOORS.values(), ("uint8", "float32"), strict=True)):
        yield name, [own, "alone.py", model, CORES, encoding]
    torchvision = options.sglang_python or options.vllm_python
    for backend, python in (("pil", own), ("torchvision", torchvision)):
        if python:
            for threads in (1, 2, 6):
                yield f"{threads} threads, {backend}", [python, "in_threads.py", model, backend, threads]
            yield f"processes, {backend}", [python, "in_processes.py", model, backend, CORES]
    if options.vllm_python:
        yield "vLLM", [options.vllm_python, "in_vllm.py", model]
    if options.sglang_python:
        yield "SGLang", [options.sglang_python, "in_sglang.py", model]


def spent_ms(run: Any, repeats: int = 5) -> float:
    """The median CPU of this thread."""
    spent = []
    for _ in range(repeats):
        began_s = time.thread_time()
        run()
        spent.append((time.thread_time() - began_s) * 1000)
    return statistics.median(spent)


def measured(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A row of medians for each work and contestant."""
    chosen = {name: work for name, work in works().items() if name in (options.work or works())}
    model = model_folder(folder)
    paths = {name: written(folder, number, work) for number, (name, work) in enumerate(chosen.items())}
    fixed = photograph(FIXED)
    rounds: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    with ExitStack() as stack:
        there = {}
        for name, command in contestants(model, options):
            if not options.only or name in (*options.only, DECODING, *FLOORS.values()):
                there[name] = Contestant(*command)
                stack.callback(there[name].close)
        for contestant in there.values():
            contestant.wait()
        for turn in range(options.rounds):
            for work_name, work in chosen.items():
                fixed_ms = spent_ms(lambda: image.decode(fixed))
                names = list(there)
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    found = figures(there[name].measure(work, paths[work_name], options.seconds))
                    rounds[work_name, name].append(found | {"fixed_ms": fixed_ms})
                    print(f"  {turn} {work_name}: {name} {found['pictures_per_s']:.1f}/s", file=sys.stderr)
    for (work_name, name), each in rounds.items():
        if name in FLOORS:
            for one, floor in zip(each, rounds[work_name, FLOORS[name]], strict=True):
                one["overhead_ms"] = one["cpu_ms"] - floor["cpu_ms"]
    return [
        {"work": work, "kind": chosen[work].kind, "contestant": name, **medians(found), "rounds": found}
        for (work, name), found in rounds.items()
    ]


def written(folder: Path, number: int, work: Work) -> list[str]:
    """The work's pictures as files."""
    paths = []
    for at, media in enumerate(work.pictures):
        path = folder / f"{number}-{at}"
        path.write_bytes(media)
        paths.append(str(path))
    return paths


def figures(window: dict[str, Any]) -> dict[str, float]:
    """Of one window, by picture."""
    pictures = max(window.pop("pictures"), 1)
    cpu_s, own_s, wall_s = window.pop("cpu_s"), window.pop("own_cpu_s"), window.pop("wall_s")
    return {
        "pictures_per_s": pictures / wall_s,
        "cpu_ms": cpu_s * 1000 / pictures,
        "own_cpu_ms": own_s * 1000 / pictures,
        **window,
    }


def medians(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Of all rounds; CPU also as a ratio to the fixed decode of the same round."""
    found = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    return found | {"cpu_of_fixed_decode": statistics.median(each["cpu_ms"] / each["fixed_ms"] for each in rounds)}


def targets(rows: list[dict[str, Any]]) -> list[tuple[bool, str]]:
    """What is wanted of each work, and whether it is so."""
    said = []
    for work in dict.fromkeys(row["work"] for row in rows):
        of = {row["contestant"]: row for row in rows if row["work"] == work}
        if "sidecar" in of:
            said += [(good, f"{work}: {text}") for good, text in wanted(of, of["sidecar"])]
    return said


def wanted(of: dict[str, dict[str, Any]], own: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """Of one work. Where decoding and transform bound it, what they alone would reach is said."""
    floor = of[BOTH]
    if own["kind"] == "jpeg":
        for group, least in (("threads", RATE_OF_THREADS), ("processes", RATE_OF_PROCESSES), ("vLLM", RATE_OF_VLLM)):
            rates = [row["pictures_per_s"] for name, row in of.items() if group in name]
            if rates:
                ratio, bound = (row["pictures_per_s"] / max(rates) for row in (own, floor))
                yield ratio >= least, f"{ratio:.2f} x the rate of {group} (at least {least:g}; {BOTH}: {bound:.2f})"
        if "vLLM" in of:
            ratio, bound = (row["cpu_ms"] / of["vLLM"]["cpu_ms"] for row in (own, floor))
            yield ratio <= CPU_OF_VLLM, f"{ratio:.2f} x the CPU of vLLM (at most {CPU_OF_VLLM:g}; {BOTH}: {bound:.2f})"
    else:
        over_ms = own["cpu_ms"] - of[DECODING]["cpu_ms"]
        yield over_ms <= PNG_OVERHEAD_MS, f"{over_ms:.1f} ms of CPU beside decoding (at most {PNG_OVERHEAD_MS:g})"
    if own["work"] == PHOTOGRAPH:
        yield own["own_cpu_ms"] <= CLIENT_MS, f"{own['own_cpu_ms']:.2f} ms of a client's CPU (at most {CLIENT_MS:g})"
        over_ms = own["overhead_ms"]
        yield over_ms <= OVERHEAD_MS, f"{over_ms:.2f} ms beside decoding and transforming (at most {OVERHEAD_MS:g})"
    longest_ms = own["hold_cpu_ms_max"]
    yield longest_ms <= HOLD_MS, f"the client's loop held for {longest_ms:.2f} ms of CPU at most ({HOLD_MS:g})"


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text."""
    lines = [f"{'work':20} {'contestant':35} {'/s':>7} {'CPU ms':>8} {'own':>6} {'x decode':>8} {'over parts':>10}"]
    for row in sorted(rows, key=lambda row: (row["work"], -row["pictures_per_s"])):
        over = f"{row['overhead_ms']:10.2f}" if "overhead_ms" in row else ""
        lines.append(
            f"{row['work']:20} {row['contestant']:35} {row['pictures_per_s']:7.1f} {row['cpu_ms']:8.2f} "
            f"{row['own_cpu_ms']:6.2f} {row['cpu_of_fixed_decode']:8.2f} {over}"
        )
    return "\n".join(lines)


def options_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of one window")
    parser.add_argument("--quick", action="store_true", help="three works, one round, short windows")
    parser.add_argument("--work", action="append", choices=[*works()], help="these alone")
    parser.add_argument("--only", action="append", metavar="NAME", help="these contestants alone")
    parser.add_argument("--vllm-python", metavar="PATH")
    parser.add_argument("--sglang-python", metavar="PATH")
    parser.add_argument("--json", type=Path)
    return parser


def main() -> None:
    """Measure, print, compare with what is wanted; 1 if something is missed."""
    options = options_parser().parse_args()
    if options.quick:
        options.rounds, options.seconds, options.work = 1, 2.0, options.work or list(QUICK)
    where = environment(()) | {"command": shlex.join(["python", *sys.argv])}
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(options, Path(folder))
    said = targets(rows)
    print(table(rows))
    for good, text in said:
        print("met   " if good else "missed", text)
    print(where)
    if options.json:
        options.json.write_text(json.dumps({"environment": where, "rows": rows, "targets": said}, indent=1) + "\n")
    sys.exit(not all(good for good, _ in said))


if __name__ == "__main__":
    main()
