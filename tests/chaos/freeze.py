"""Freezing (hazard R22): all processes of a server are stopped, in any order, and go on in any order, under load.

    python -m tests.chaos.freeze [--seconds 600] [--seed N]

No process may be replaced and no answer may be wrong or missing. It needs `tests/process` on PYTHONPATH: `make
chaos-freeze` sees to that.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic, sleep

from live import Live, serving
from pictures import noise, part, text

from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny

FLAGS = ("--stall-seconds", "3", "--item-seconds", "5")
"""Freezes are longer than any silence or item may take."""
CLIENTS = 3
FREEZE_S = (1.0, 20.0)
BETWEEN_S = (0.2, 3.0)


@dataclass
class Seen:
    """What clients got, and what was done meanwhile."""

    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    freezes: int = 0
    frozen_s: float = 0.0
    replaced: list[str] = field(default_factory=list)


def ask(live: Live, seed: int) -> tuple[int, str]:
    """Status and tokens."""
    answer = live.chat([part(noise(seed)), text("What?")], max_tokens=16, mmplane={"trace": True})
    return answer.status_code, str(answer.json()["mmplane"]["trace"]["token_ids"]) if answer.is_success else answer.text


def freeze(pids: list[int], random: Random, seconds: float) -> None:
    """Stop all of them, and let all of them go on; each time in an order of its own."""
    for pid in random.sample(pids, len(pids)):
        os.kill(pid, signal.SIGSTOP)
    sleep(seconds)
    for pid in random.sample(pids, len(pids)):
        os.kill(pid, signal.SIGCONT)


def play(live: Live, *, seconds: float, random: Random, freeze_s: tuple[float, float] = FREEZE_S) -> Seen:
    """Freeze and thaw for so long while clients ask for new and old pictures."""
    right = {seed: ask(live, seed) for seed in range(CLIENTS)}
    assert all(status == 200 for status, _ in right.values()), right
    seen, ended = Seen(), threading.Event()

    def client(own: int) -> None:
        fresh = 1000 * (own + 1)
        while not ended.is_set():
            fresh += 1
            status, said = ask(live, fresh)  # passes a worker
            if status != 200:
                seen.wrong.append(f"{status} {said}")
            if (answer := ask(live, own)) != right[own]:
                seen.wrong.append(f"{answer} instead of {right[own]}")
            seen.answers += 2

    before = live.pids()
    threads = [threading.Thread(target=client, args=(own,)) for own in range(CLIENTS)]
    for thread in threads:
        thread.start()
    began_s = monotonic()
    try:
        while monotonic() - began_s < seconds:
            sleep(random.uniform(*BETWEEN_S))  # the server works
            frozen_s = random.uniform(*freeze_s)
            freeze(list(before.values()), random, frozen_s)
            seen.freezes += 1
            seen.frozen_s += frozen_s
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    after = live.pids()
    seen.replaced = sorted(title for title in before | after if before.get(title) != after.get(title))
    return seen


def main() -> int:
    """0 only if nothing was replaced and no answer was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.freeze", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # A shell's background job ignores SIGINT, and so would the server, which it ends.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="freeze-model-") as folder:
        build_tiny(Path(folder) / "tiny", weights=SHIPPED_WEIGHTS)
        with serving(Path(folder) / "tiny", *FLAGS, executed=True) as live:
            seen = play(live, seconds=options.seconds, random=Random(options.seed))
            failed = bool(seen.wrong or seen.replaced)
            if failed:
                print("".join(live.log))
    print(f"frozen {seen.freezes} times, {seen.frozen_s:.0f} s in all; {seen.answers} answers, {len(seen.wrong)} wrong")
    print(f"replaced: {seen.replaced or 'nobody'}", *seen.wrong[:10], sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
