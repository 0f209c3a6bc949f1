"""The workload of the incident, `incident:MS[:BYTES]`: materialising an item takes MS milliseconds and no core.

The media has two megabytes and the features have BYTES (`10MB`, `500KB` or a number; 10 MB by default). Only the
decoder is simulated, by the server's `--decoder`; ranks, collectives and pickles are real. The number of workers is the
size of the pool in analysis B2 on any machine, because waiting takes no core.
"""

from __future__ import annotations

import re

from mmplane.bench.inputs.workloads import Workload, showing
from mmplane.core.simulation import Simulation

FEATURES_BYTES = 10_000_000
WORKERS = 4
IN_FLIGHT = 100
"""Requests that a server prepares at once; with fewer, batches of 50 would not form."""
SIDE = 64
_NAME = re.compile(r"incident:(\d{1,5})(?::(\d{1,10})(KB|MB)?)?")
_UNITS = {None: 1, "KB": 1000, "MB": 1_000_000}


def incident(name: str) -> Workload | None:
    """Return the workload of this name, or None if it is not an incident workload. Raises ValueError."""
    if (found := _NAME.fullmatch(name)) is None:
        return None
    ms, count, unit = found.groups()
    simulation = Simulation(int(ms), int(count) * _UNITS[unit] if count else FEATURES_BYTES)
    return Workload(
        name,
        f"two megabytes of media, {ms} ms without a core, {simulation.features_bytes / 1e6:g} MB of features",
        24,
        10,
        1,
        showing("simulated", SIDE, SIDE, features_bytes=simulation.features_bytes),
        ("--decoder", simulation.decoder, "--running-max", str(IN_FLIGHT)),
        simulation=simulation,
        workers=WORKERS,
    )
