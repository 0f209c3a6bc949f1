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
HEAD = """# Models

<!-- Written by tools/models/page.py from docs/models.json. -->

`make test-models` builds a tiny checkpoint of each architecture, with random weights whose answers depend on the
picture. It serves each checkpoint on CPUs, in chunks of 24 tokens, and sends four requests: about one picture, about
another one, about two of different sizes, and with text only. They are sent one by one and then all at once.

- **right**: the length of the prompt and 12 greedy tokens match plain `generate` with the checkpoint's own processor.
- **refused**: the server ends at start with exit code 2 and the message in the table. Any other outcome is a failure.

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
