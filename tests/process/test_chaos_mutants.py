"""The tests of the tests: what the kill matrix is there to find is broken on purpose, and it finds it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from preloaded import Preloaded
from tests.chaos.holds import Holds
from tests.chaos.play import Ground
from tests.chaos.table import Round

PATIENCE, CONTROL_PATIENCE = 2.0, 6.0
"""Times the limits of `make chaos`: a mutant takes all of them, and of the control they end a hang."""
WARM_ANSWERS = 6
"""Enough where more than the mutant may be found."""
KILL = Round(number=0, victim="worker", signal="SIGKILL", stage="decode", holder="worker", seed=7)


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that names the mutant which is on."""
    file = tmp_path_factory.mktemp("mutants") / "on"
    file.touch()
    return file


@pytest.fixture(scope="module")
def ground(switch: Path, trained_folder: Path, holds: Holds) -> Iterator[Ground]:
    preloaded = Preloaded(holds.environment | {"MMPLANE_TEST_MUTANT": str(switch)})
    ground = Ground(trained_folder, holds, preloaded, patience=PATIENCE, short=True)
    yield ground
    ground.close()
    preloaded.close()


def test_nothing_is_found_without_one(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ground, "patience", CONTROL_PATIENCE)
    assert ground.play(KILL)["why"] == []


@pytest.mark.parametrize(
    ("mutant", "seen_as"),
    [
        ("the dead keep what they held", ("leased, written or reserved",)),
        ("links of the dead stay open", ("supervisor: descriptors",)),
        # A picture of another size has another number of tokens: the front end itself refuses it then.
        ("others' pictures", ("a wrong answer", "a different number of tokens")),
    ],
)
def test_it_is_found(
    mutant: str, seen_as: tuple[str, ...], ground: Ground, switch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ground, "warm_answers", WARM_ANSWERS)
    switch.write_text(mutant)
    try:
        why = ground.play(KILL)["why"]
    finally:
        switch.write_text("")
    assert any(sign in each for each in why for sign in seen_as), why
