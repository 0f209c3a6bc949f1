"""docs/models.md from the suite's verdicts: `tools/models/page.py VERDICTS.json > docs/models.md`."""

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
HEAD = """# Models

<!-- Written by tools/models/page.py from docs/models.json. -->

`make test-models` builds a tiny checkpoint of each architecture, with random weights whose answers depend on the
picture, and serves it on CPUs, in chunks of 24 tokens. It asks about one picture, another, two of different sizes, and
by text alone, one by one and at once.

- **right**: the prompt's length and 12 greedy tokens are those of plain `generate` with the checkpoint's own processor.
- **refused**: the server ends at start with exit code 2 and this sentence. Nothing else is accepted.

The configurations are small, and nothing was read from published weights. `mmplane doctor --model PATH` tries a
checkpoint of your own.

| checkpoints | model type | 1 rank | 2 ranks | what is said |
|---|---|---|---|---|
"""


def page(verdicts: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The page's text."""
    right = {tp: sum(by_tp[tp]["kind"] == "right" for by_tp in verdicts.values()) for tp in ("1", "2")}
    rows = [_row(name, verdicts[name]) for name in ARCHITECTURES]
    summary = f"\nOf {len(verdicts)} architectures, {right['1']} are right with 1 rank and {right['2']} with 2.\n"
    return HEAD + "".join(rows) + summary


def _row(name: str, by_tp: dict[str, dict[str, Any]]) -> str:
    row = ARCHITECTURES[name]
    said = " ".join(dict.fromkeys(_short(by_tp[tp]["reason"]) for tp in ("1", "2") if by_tp[tp]["reason"]))
    kinds = " | ".join(by_tp[tp]["kind"] for tp in ("1", "2"))
    return f"| {row.models} | `{row.config['model_type']}` | {kinds} | {said} |\n"


def _short(reason: str) -> str:
    said = reason.partition(" Check out")[0].partition(" None of these")[0]
    said = re.sub(r"/tmp/\w+/", "", said).replace("|", "\\|")
    return said if len(said) <= REASON_MAX else said[:REASON_MAX].rpartition(" ")[0] + " ..."


if __name__ == "__main__":
    print(page(json.loads(Path(sys.argv[1]).read_text())), end="")
