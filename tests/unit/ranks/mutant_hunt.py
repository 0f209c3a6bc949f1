"""Does the simulation notice a mutant?"""

from __future__ import annotations

from collections.abc import Callable

from rank_simulation import Simulation

SEEDS = 1000
"""As many as `make test` runs of the real one."""


def killed_by(simulation: Callable[..., Simulation], seeds: int = SEEDS) -> Exception | None:
    """What the first seed that notices raises."""
    for seed in range(seeds):
        try:
            simulation(seed, (2, 4)[seed % 2]).run()
        except Exception as error:
            return error
    return None
