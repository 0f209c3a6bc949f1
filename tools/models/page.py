"""Writes docs/models.md from the suite's verdicts: `tools/models/page.py VERDICTS.json > docs/models.md`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from architectures import ARCHITECTURES  # noqa: E402

REASON_MAX = 160
SECONDS_ALLOWED = 30
"""Within which each verdict should be known."""
HEAD = """# Models

<!-- Written by tools/models/page.py from docs/models.json. -->

`make test-models` builds a tiny checkpoint of each architecture, with random weights whose answers depend on the
picture. It serves each checkpoint on CPUs, in chunks of 24 tokens, and sends four requests: about one picture, about
another one, about two of different sizes, and with text only. They are sent one by one and then all at once.

- **right**: the length of the prompt and 12 greedy tokens match plain `generate` with the checkpoint's own processor.
- **refused**: the server ends at start with exit code 2 and the message in the table. Any other outcome is a failure.

The seconds are those from the start of the server to the last answer or the refusal, on a machine of two cores that had
other work meanwhile. They leave out a real start's imports (6 to 11 s there), which the suite does once for all.

The configurations are small, and no published weights were used. To try your own checkpoint, run
`mmplane doctor --model PATH`.

| checkpoints | model type | 1 rank | 2 ranks | message |
|---|---|---|---|---|
"""


def page(verdicts: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return the page's text."""
    right = {tp: sum(by_tp[tp]["kind"] == "right" for by_tp in verdicts.values()) for tp in ("1", "2")}
    rows = [_row(name, verdicts[name]) for name in ARCHITECTURES]
    summary = f"\n{right['1']} of {len(verdicts)} architectures are right with 1 rank, and {right['2']} with 2 ranks.\n"
    return HEAD + "".join(rows) + summary + _slowest(verdicts)


def slow(verdicts: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """The verdicts that took longer than allowed, the slowest first."""
    every = [(each["seconds"], f"{name} tp={tp}") for name, by_tp in verdicts.items() for tp, each in by_tp.items()]
    return [f"{what} ({seconds:.0f} s)" for seconds, what in sorted(every, reverse=True) if seconds > SECONDS_ALLOWED]


def _slowest(verdicts: dict[str, dict[str, dict[str, Any]]]) -> str:
    slowest = max(each["seconds"] for by_tp in verdicts.values() for each in by_tp.values())
    late = ", ".join(slow(verdicts)) or "none"
    return f"The slowest verdict took {slowest:.0f} s. Longer than {SECONDS_ALLOWED} s: {late}.\n"


def _row(name: str, by_tp: dict[str, dict[str, Any]]) -> str:
    row = ARCHITECTURES[name]
    said = " ".join(dict.fromkeys(_short(by_tp[tp]["reason"]) for tp in ("1", "2") if by_tp[tp]["reason"]))
    kinds = " | ".join(f"{by_tp[tp]['kind']}, {by_tp[tp]['seconds']:.1f} s" for tp in ("1", "2"))
    return f"| {row.models} | `{row.config['model_type']}` | {kinds} | {said} |\n"


def _short(reason: str) -> str:
    said = reason.partition(" Check out")[0].partition(" None of these")[0]
    said = re.sub(r"/tmp/\w+/", "", said).replace("|", "\\|")
    return said if len(said) <= REASON_MAX else said[:REASON_MAX].rpartition(" ")[0] + " ..."


if __name__ == "__main__":
    print(page(json.loads(Path(sys.argv[1]).read_text())), end="")
