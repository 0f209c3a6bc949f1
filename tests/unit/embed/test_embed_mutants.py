"""What keeps planes and processes apart has a test that fails without it (hazard R25)."""

from __future__ import annotations

import pytest
import test_embedded_plane as tests

from mmplane import Inbox
from mmplane.arena import label
from mmplane.embed.windows import Windows
from mutation import Mutant, check_it_is_killed

MUTANTS = [
    Mutant(
        "a record of another plane is read",
        Inbox.open,
        "leased.plane != windows.plane",
        "False",
        tests.test_a_record_of_another_plane_is_refused,
    ),
    Mutant(
        "another region is taken for the address's",
        label.check_label,
        "found != ",
        "not ",
        tests.test_an_address_that_leads_to_another_region_by_now_is_refused,
    ),
    Mutant(
        "two producers own one region",
        label.own,
        'os.pread(fd, 1, mark) != b"\\0"',
        "False",
        tests.test_an_address_has_one_producer_for_its_life,
    ),
    Mutant("a forked rank ends leases", Windows._end, "self.is_mine", "True", tests.test_a_forked_rank_ends_nothing),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_mutant_is_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
