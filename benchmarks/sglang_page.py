"""Renders docs/results-sglang.md from the rows that `results_sglang.py` has measured. Pure."""

from __future__ import annotations

from typing import Any

HEAD = """# The designs of the analyses inside SGLang, measured

`make results-sglang` writes this page and `docs/results-sglang.json`, and a test checks that they agree.
[sglang.md](sglang.md#the-designs-of-the-analyses) describes the designs.

Each server is a real SGLang 0.5.23 on the CPU with a tiny Qwen2.5-VL. Its encoder and decoder take most of a request's
time, so requests/s and latencies mainly reflect them and not the designs. Compare the designs by the columns for the
loop and the CPU. Photographs have 224x224 to 616x420 pixels, no two are equal, and each request asks for four tokens.

- *loop*: wall time per request of a rank's only thread to receive it, build its inputs and agree, without the model
- *send*: wall time per request of the tokenizer's event loop to send it
- *CPU*: CPU time per request of each process; on ranks without the time that the model took on the loop's thread
- *p99*: for fewer than 100 requests, the maximum

Clips are not measured: SGLang's decoders for them are not in the test environment.
"""


def page_of(run: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return the page's text."""
    parts = [HEAD, _where(run)]
    for tp in sorted({row["tp"] for row in rows}):
        for at_once in sorted({row["at_once"] for row in rows}):
            chosen = [row for row in rows if (row["tp"], row["at_once"]) == (tp, at_once)]
            if chosen:
                parts.append(_table(f"## TP={tp}, {at_once} at once", tp, chosen))
    return "\n".join(parts)


def _where(run: dict[str, Any]) -> str:
    command = "make results-sglang" + (" QUICK=1" if run["quick"] else "")
    note = f"**{run['note']}** " if run["note"] else ""
    return (
        f"{note}{run['cores']} cores of {run['cpu']}, {run['memory_gib']} GiB, kernel {run['kernel']}, "
        f"load {run['load_before']:.1f} before, commit {run['commit']}, {run['at']}: `{command}`\n"
    )


def _table(title: str, tp: int, rows: list[dict[str, Any]]) -> str:
    ranks = [f"rank{rank}" for rank in range(tp)]
    names = ["", "requests", "req/s", "p50 ms", "p99 ms", "send ms", *(f"loop {rank} ms" for rank in ranks)]
    names += ["CPU tokenizer ms", *(f"CPU {rank} ms" for rank in ranks), "CPU others ms"]
    lines = [title, "", _line(names), _line(["---"] * len(names))]
    for row in rows:
        loop, cpu = row["loop_ms"], row["cpu_ms"]
        others = sum(spent_ms for role, spent_ms in cpu.items() if role != "tokenizer" and role not in ranks)
        cells = [row["kind"], row["requests"], f"{row['per_s']:.2f}", f"{row['p50_ms']:.0f}", f"{row['p99_ms']:.0f}"]
        cells += [f"{loop.get('tokenizer', 0.0):.2f}", *(f"{loop[rank]:.2f}" for rank in ranks)]
        cells += [f"{cpu['tokenizer']:.0f}", *(f"{cpu[rank]:.0f}" for rank in ranks), f"{others:.0f}"]
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _line(cells: list[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
