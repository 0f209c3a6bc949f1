"""More pictures than there is room for: some are served, the rest is told to come again, and nothing is left (R8)."""

from __future__ import annotations

from pathlib import Path

from burst import burst, peak_bytes
from live import serving

from polling import until

BUDGET_BYTES = 256 << 20
FLAGS = ("--budget-bytes", str(BUDGET_BYTES), "--images-max", "28", "--workers", "2", "--runner", "null")


def test_a_burst(tiny_folder: Path) -> None:
    with serving(tiny_folder, *FLAGS, tp=1) as live:
        with peak_bytes(live) as memory:
            statuses, refusals = burst(live, requests=15, pictures=28, clients=15)
        assert set(statuses) <= {200, 503}
        assert statuses[200] > 0
        assert all(int(refusal.headers["retry-after"]) > 0 for refusal in refusals)
        assert memory["peak"] < BUDGET_BYTES
        until(lambda: live.statistics()["requests"]["in_flight"] == 0, 60, "all have ended")
        until(lambda: live.statistics()["arena"]["leases"] == 0, 60, "nobody holds anything")
        after = live.statistics()
        assert (after["budget"]["reserved_bytes"], after["budget"]["waiting"]) == (0, 0)
        assert after["arena"]["regions"][0]["free_bytes"] == after["arena"]["regions"][0]["length_bytes"]
