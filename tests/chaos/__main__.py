"""The kill matrix: `python -m tests.chaos [--rounds 500] [--seed N]`; one JSON line a round, a summary at the end.

It needs `tests/process` on PYTHONPATH: `make chaos` sees to that.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import Any

from preloaded import Preloaded
from tests.chaos.holds import Holds
from tests.chaos.play import Ground
from tests.chaos.table import SIGNALS, VICTIMS, rounds

from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny


def main() -> int:
    """0 only if every round ended as it must."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=500, help="fewer than 336 leave cells of the matrix out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--first", type=int, default=0, help="the number of the round to begin with: goes on from there"
    )
    parser.add_argument("--only", default="", help="rounds whose name contains this, as in 'worker SIGSTOP'")
    options = parser.parse_args()
    began_s = monotonic()
    seen = []
    with tempfile.TemporaryDirectory(prefix="chaos-model-") as folder:
        build_tiny(Path(folder) / "tiny", weights=SHIPPED_WEIGHTS)
        holds = Holds()
        preloaded = Preloaded(holds.environment)
        ground = Ground(Path(folder) / "tiny", holds, preloaded)
        try:
            for round_ in rounds(options.rounds, options.seed):
                if round_.number >= options.first and options.only in str(round_):
                    seen.append(ground.play(round_))
                    print(json.dumps(seen[-1]), flush=True)
        finally:
            ground.close()
            preloaded.close()
            holds.close()
    print(summary(seen, monotonic() - began_s), file=sys.stderr)
    return 0 if seen and all(each["ok"] for each in seen) else 1


def summary(seen: Iterable[dict[str, Any]], took_s: float) -> str:
    """A line for each victim and signal, and the failed rounds."""
    seen = list(seen)
    lines = [f"{len(seen)} rounds in {took_s / 60:.0f} minutes"]
    for victim in VICTIMS:
        for signal in SIGNALS:
            of = [each for each in seen if (each["victim"], each["signal"]) == (victim, signal)]
            answers = {code: sum(each.get("answers", {}).get(code, 0) for each in of) for code in ("200", "503", "0")}
            lines.append(
                f"{victim:10} {signal}: {len(of)} rounds, {sum(not each['ok'] for each in of)} failed; noticed after "
                f"at most {_most(of, 'noticed_s')} s, back after {_most(of, 'back_s')} s; answers {answers}, a refusal "
                f"after at most {_most(of, 'refused_s_max')} s"
            )
    lines += [f"FAILED {each['number']}: {each['why']}" for each in seen if not each["ok"]]
    return "\n".join(lines)


def _most(seen: list[dict[str, Any]], name: str) -> float | None:
    return max((each[name] for each in seen if each.get(name) is not None), default=None)


if __name__ == "__main__":
    sys.exit(main())
