"""A test must be able to fail: each rule of the waiting room broken on purpose, and the test that must notice."""

from __future__ import annotations

from functools import partial

import pytest
import test_budget
import test_lines
import test_share
import test_waiting_room

from mmplane.waiting.budget import Budget
from mmplane.waiting.lines import Lines
from mmplane.waiting.room import WaitingRoom
from mmplane.waiting.share import Share
from mutation import Mutant, check_it_is_killed

MUTANTS = [
    Mutant(
        "the budget",
        Budget._fit,
        "if self._reserved_bytes + length_bytes > self._limit_bytes",
        "if False",
        test_budget.test_a_small_item_does_not_wait_for_a_large_ones_room,
    ),
    Mutant(
        "what is kept for items",
        Budget._fit,
        "self._share.total_held + length_bytes > self._requests_bytes_max",
        "False",
        test_budget.test_items_have_what_is_kept_for_them,
    ),
    Mutant(
        "a tenant's share",
        Share.allows,
        "if own + amount > self.each_max",
        "if False",
        test_budget.test_what_grows_stays_within_the_tenants_share,
    ),
    Mutant(
        "what is left for a tenant that holds nothing",
        Share.allows,
        "not own or",
        "True or",
        test_share.test_two_greedy_tenants_do_not_shut_out_a_third,
    ),
    Mutant(
        "a tenant at its share holds up nobody",
        Budget._fit,
        "Fit.OWN_SHARE",
        "Fit.NO_ROOM",
        test_budget.test_nothing_is_kept_for_a_tenant_at_its_share,
    ),
    Mutant(
        "what never fits",
        Budget._check_ever,
        "if length_bytes > (self._kept_bytes if tenant is None else self._share.each_max)",
        "if False",
        test_budget.test_what_never_fits_is_told_so_at_once_even_when_the_budget_is_empty,
    ),
    Mutant(
        "who waits, of one tenant",
        WaitingRoom.wait,
        "> self._waiting_most(line)",
        "< 0",
        test_waiting_room.test_one_tenants_waiters_are_not_anothers,
    ),
    Mutant(
        "waiters of one tenant are not another's",
        WaitingRoom.wait,
        "self._lines.count(line) >",
        "self._lines.waiting >",
        test_waiting_room.test_one_tenants_waiters_are_not_anothers,
    ),
    Mutant(
        "seconds of waiting",
        Lines.next,
        "now_s - since_s >= STALLED_SECONDS",
        "False",
        test_lines.test_a_line_that_does_not_move_is_given_up,
    ),
    Mutant(
        "a wait ends though nothing happens",
        WaitingRoom._look_again,
        "in_vain_s is not None",
        "False",
        test_waiting_room.test_a_line_is_refused_when_it_has_not_moved_though_nothing_happens,
    ),
    Mutant(
        "a grant to a waiter that has gone (A1)",
        WaitingRoom._serve,
        "if waiter.turn.done()",
        "if False",
        test_waiting_room.test_a_turn_that_comes_as_its_waiter_goes_is_given_back,
    ),
    Mutant(
        "a grant that its waiter never saw (A1)",
        WaitingRoom.wait,
        "self._give_back(waiter.turn.result())",
        "pass",
        test_waiting_room.test_a_turn_that_comes_as_its_waiter_goes_is_given_back,
    ),
    Mutant(
        "what is freed is kept for who was passed over (A22)",
        Lines.next,
        "if fit is Fit.NO_ROOM and self._is_passed_over(line, now_s)",
        "if False",
        test_lines.test_who_was_passed_over_for_long_is_passed_over_no_more,
    ),
    Mutant(
        "nothing is kept for a tenant at its own share",
        Lines.next,
        "if fit is Fit.NO_ROOM and self._is_passed_over(line, now_s)",
        "if self._is_passed_over(line, now_s)",
        test_lines.test_nothing_is_kept_for_a_tenant_at_its_own_share,
    ),
    Mutant(
        "who does not fit holds up its own line alone (A22)",
        Lines.next,
        "for line in sorted(self._lines, key=lambda line: (not self._is_passed_over(line, now_s), self._held(line)))",
        "for line in list(self._lines)[:1]",
        test_lines.test_who_does_not_fit_holds_up_its_own_line_alone,
    ),
    Mutant(
        "a turn ends the stall",
        Lines.next,
        "self._stalled_s.pop(line, None)",
        "pass",
        test_lines.test_a_turn_in_time_ends_the_stall,
    ),
    Mutant(
        "tenants take turns",
        Lines._pop,
        "self._lines.pop(line)",
        "self._lines[line]",
        test_lines.test_tenants_take_turns,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_its_test_kills(mutant: Mutant, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    # Whoever waits for good is a kill as well, and need not be waited for.
    hurry = partial(monkeypatch.setattr, "frontend_loop.HANG_S", 1.0)
    check_it_is_killed(mutant, request, once_it_passed=hurry)
