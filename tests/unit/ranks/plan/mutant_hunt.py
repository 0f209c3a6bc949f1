"""Does the simulation notice a mutant? The seed that is known to is tried first; `make fuzz` searches all anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from rank_simulation import Simulation

SEEDS = 1000
"""As many as `make test` runs of the real one."""

KNOWN = {
    "AbortsAllForOne": 14,
    "BelievesThatThereIsRoom": 723,
    "BroadcastsWhatIsDoneFirst": 7,
    "CancelsParcelsOfThePrepared": 5,
    "CountsOneSample": 417,
    "Deaf": 7,
    "DecodesWhatIsCached": 7,
    "DoesNotBroadcastWhatWasCancelled": 5,
    "EvictsWhenItIsFull": 5,
    "FailsBeforeTheCollective": 41,
    "FallsBackLocally": 99,
    "FindsWhatIsNotComputed": 306,
    "ForgetsTheAnswerWhenItPreempts": 103,
    "ForgetsTheBatch": 5,
    "ForgetsWhoIsStillPreparing": 5,
    "HasAnOrderOfItsOwn": 17,
    "HearsOnlyItsOwnFailures": 5,
    "IgnoresCancelledWork": 12,
    "KeepsEarlyParcelsOfTheDead": 5,
    "KeepsItsFailureToItself": 5,
    "KeepsParcelsOfFailures": 5,
    "LeaksWhatFailed": 5,
    "LeavesOutWhatWasCancelled": 30,
    "LeavesTheCollectiveOutWhenItFails": 56,
    "LeavesTheWaitingToTheNextFrontEnd": 5,
    "LosesAnAdmission": 81,
    "MixesUpItems": 7,
    "MixesUpTheBatch": 5,
    "NeverAbortsASample": 13,
    "NeverEndsWhatWasCancelled": 5,
    "NewestFirst": 111,
    "PrefillsOnePromptAStep": 30,
    "ReleasesBeforeAllHaveAnswered": 5,
    "ReusesWhatItEvicted": 7,
    "ReusesWithoutSaying": 7,
    "SettlesBeforeTheFollowers": 5,
    "TellsNobodyWhatItEvicts": 7,
    "WaitsForParcelsOfTheDead": 5,
    "YoungestFirst": 7,
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
