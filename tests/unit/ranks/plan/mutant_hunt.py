"""Does the simulation notice a mutant? The seed that is known to is tried first; `make fuzz` searches all anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from rank_simulation import Simulation

SEEDS = 1000
"""As many as `make test` runs of the real one."""

KNOWN = {
    "AbortsAllForOne": 4,
    "BroadcastsWhatIsDoneFirst": 5,
    "CancelsParcelsOfThePrepared": 12,
    "Deaf": 45,
    "DecodesWhatIsCached": 10,
    "FallsBackLocally": 26,
    "ForgetsTheBatch": 5,
    "ForgetsWhatItReused": 138,
    "ForgetsWhoIsStillPreparing": 12,
    "FreesTwice": 11,
    "HasAnOrderOfItsOwn": 30,
    "HearsOnlyItsOwnFailures": 7,
    "IgnoresCancelledWork": 39,
    "KeepsEarlyParcelsOfTheDead": 78,
    "KeepsParcelsOfFailures": 9,
    "LeaksMemory": 12,
    "LeavesTheCollectiveOutWhenItFails": 12,
    "LeavesTheWaitingToTheNextFrontEnd": 4,
    "LosesAnAdmission": 30,
    "MixesUpItems": 10,
    "MixesUpTheBatch": 5,
    "NeverAbortsASample": 116,
    "NewestFirst": 16,
    "PrefillsOnePromptAStep": 50,
    "ReleasesBeforeAllHaveAnswered": 12,
    "ReusesWhatItEvicted": 3,
    "ReusesWithoutSaying": 29,
    "SettlesBeforeTheFollowers": 4,
    "TellsNobodyWhatItEvicts": 11,
    "WaitsForParcelsOfTheDead": 12,
}
"""Seeds of the mutants that not every run meets; the others die within the first four."""


def killed_by(simulation: Callable[..., Simulation], name: str = "", seeds: int = SEEDS) -> Exception | None:
    """What the first seed that notices raises. `name` is the mutant's."""
    for seed in _order(name, seeds):
        try:
            simulation(seed, (2, 4)[seed % 2]).run()
        except Exception as error:
            return error
    return None


def _order(name: str, seeds: int) -> Iterator[int]:
    if name in KNOWN and "MMPLANE_FUZZ_EXAMPLES" not in os.environ:
        yield KNOWN[name]  # if it no longer notices, another may
    yield from range(seeds)
