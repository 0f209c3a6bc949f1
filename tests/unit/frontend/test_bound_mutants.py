"""Every bound on what strangers may take has a test that fails without it: bytes, redirects, time, rate, queues."""

from __future__ import annotations

import pytest
import test_admission
import test_bodies
import test_fetch
import test_fetched
import test_files
import test_poison
import test_pool
import test_room
import test_source
import test_store
import test_uuids
import test_worker_turns
from test_files import root  # noqa: F401 - a fixture of one of the tests

from mmplane.frontend.request.bodies import Bodies
from mmplane.frontend.request.uuids import Uuids
from mmplane.frontend.sources import fetch
from mmplane.frontend.sources.fetch import Fetcher
from mmplane.frontend.sources.fetched import FetchedFiles
from mmplane.frontend.sources.files import Files
from mmplane.items import store as store
from mmplane.items.placement import Placement
from mmplane.items.poison import Poison
from mmplane.items.pool import Pool
from mmplane.items.shelf import Shelf
from mmplane.waiting import turns
from mmplane.waiting.admission import Budget
from mmplane.waiting.turns import Turns
from mutation import Mutant, check_it_is_killed

A_500 = (test_fetch.response("500 Oops"), 502, fetch.ATTEMPTS_MAX)
FETCHING = [
    Mutant(
        "bytes of a fetched file",
        fetch._read,
        "if len(content) + len(chunk) > MEDIA_BYTES_MAX",
        "if False",
        test_source.test_a_body_ends_at_the_cap,
    ),
    Mutant(
        "bytes that a host declares",
        fetch._read,
        "int(declared[:20]) > MEDIA_BYTES_MAX",
        "False",
        test_fetch.test_a_length_beyond_the_cap_is_not_waited_for,
    ),
    Mutant(
        "bytes of what is fetched are reserved",
        fetch._read,
        "grow(len(chunk))",
        "pass",
        test_fetch.test_what_is_fetched_is_reserved_piece_by_piece,
    ),
    Mutant(
        "bytes a second",
        fetch._read,
        "len(content) < RATE_BYTES_MIN * taken_s",
        "False",
        test_fetch.test_a_body_that_is_too_slow_ends,
    ),
    Mutant(
        "seconds of a fetch",
        Fetcher.fetch,
        "asyncio.timeout(FETCH_SECONDS)",
        "asyncio.timeout(None)",
        test_source.test_a_host_that_drips_is_left_alone,
    ),
    Mutant(
        "seconds of silence",
        Fetcher._hop,
        '"read": SILENCE_SECONDS',
        '"read": None',
        test_fetch.test_a_host_that_says_nothing_is_left_alone,
    ),
    Mutant("redirects", Fetcher._follow, "range(REDIRECTS_MAX + 1)", "range(1000)", test_fetch.test_redirects_end),
    Mutant(
        "attempts",
        Fetcher._insist,
        "if attempt + 1 == ATTEMPTS_MAX",
        "if False",
        test_fetch.test_what_a_status_becomes,
        A_500,
    ),
    Mutant(
        "fetches from one host",
        Fetcher._turn,
        "async with gate:",
        "if True:",
        test_fetch.test_one_host_is_asked_only_so_often_at_a_time,
    ),
    Mutant(
        "characters of a URL",
        Fetcher._target,
        "len(url) > URL_LENGTH_MAX or ",
        "",
        test_fetch.test_a_url_that_is_too_long_is_not_dialled,
    ),
    Mutant(
        "bytes of files that are kept",
        FetchedFiles.keep,
        "while self.kept_bytes > self._bytes_max",
        "while False",
        test_fetched.test_the_oldest_go_first,
    ),
    Mutant(
        "bytes of one file that is kept",
        FetchedFiles.keep,
        "if len(file.content) > self._bytes_max // 4",
        "if False",
        test_fetched.test_one_file_does_not_take_all,
    ),
    Mutant(
        "bytes of a local file",
        Files._open,
        " and found.st_size <= MEDIA_BYTES_MAX",
        "",
        test_files.test_length_is_known_before_a_byte_is_read,
    ),
]
BUDGET = [
    Mutant(
        "the budget",
        Budget._fits,
        "if self._reserved_bytes + length_bytes > self._limit_bytes",
        "if False",
        test_admission.test_a_small_item_does_not_wait_for_a_large_ones_room,
    ),
    Mutant(
        "what is kept for items",
        Budget._fits,
        "return self._requests_bytes + length_bytes <= self._requests_bytes_max",
        "return True",
        test_admission.test_items_have_what_is_kept_for_them,
    ),
    Mutant(
        "a tenant's share",
        Budget._fits,
        "if self._held[tenant] + length_bytes > self._tenant_bytes_max",
        "if False",
        test_admission.test_what_grows_stays_within_the_tenants_share,
    ),
    Mutant(
        "a tenant's share while others wait",
        Budget._within_share,
        "self._held[tenant] + waiter.length_bytes <= self._tenant_bytes_max",
        "True",
        test_admission.test_a_tenant_at_its_share_holds_up_nobody_who_holds_more,
    ),
    Mutant(
        "what never fits",
        Budget._check_ever,
        "if length_bytes > most_bytes",
        "if False",
        test_admission.test_what_never_fits_is_told_so_at_once_even_when_the_budget_is_empty,
    ),
    Mutant("requests that wait", Budget.admit, ">= self._waiting_max()", "< 0", test_admission.test_a_queue_has_an_end),
    Mutant(
        "seconds of waiting",
        Budget._wait,
        "asyncio.timeout(WAIT_SECONDS)",
        "asyncio.timeout(None)",
        test_admission.test_a_burst_is_told_to_come_again,
    ),
    Mutant(
        "pixels are reserved",
        store.ItemStore._materialise,
        "self._budget.reserve_item(recipe.decoded_bytes)",
        "self._budget.reserve_item(0)",
        test_store.test_pixels_are_reserved_while_they_are_decoded,
    ),
]
LOOP = [
    Mutant(
        "a worker that was taken lives still",
        store.check_alive,
        "if worker.state is not WorkerState.BUSY",
        "if False",
        test_store.test_a_worker_that_dies_while_its_media_is_copied,
    ),
    Mutant(
        "long media is not copied on the loop",
        Shelf.laid_down,
        "or len(media) <= LONG_BYTES",
        "or True",
        test_store.test_long_media_is_copied_while_the_loop_goes_on,
    ),
]
BODIES = [
    Mutant(
        "bytes of a body",
        Bodies._read,
        "if end_bytes > min(declared_bytes, self._bytes_max)",
        "if False",
        test_bodies.test_more_than_was_declared_is_refused,
        (10,),
    ),
    Mutant(
        "seconds of a body",
        Bodies.read,
        "asyncio.timeout(BODY_SECONDS)",
        "asyncio.timeout(None)",
        test_bodies.test_a_body_that_does_not_come,
    ),
]
TABLES = [
    Mutant(
        "names",
        Uuids.remember,
        "while len(self._digests) > self._names_max",
        "while False",
        test_uuids.test_the_name_that_was_used_longest_ago_goes_first,
    ),
    Mutant(
        "strikes",
        Poison._refusal,
        "if record.strikes >= STRIKES",
        "if False",
        test_poison.test_the_first_death_may_be_anybodys_doing_and_the_second_is_not,
    ),
    Mutant(
        "seconds of poison",
        Poison._record,
        "now_s >= record.until_s",
        "False",
        test_poison.test_it_is_forgotten_after_a_while,
    ),
    Mutant(
        "sizes that are known",
        store._remember,
        "while len(known) >= count_max",
        "while False",
        test_store.test_sizes_are_forgotten_at_the_limit,
    ),
    Mutant(
        "seconds of an item",
        Pool.ask,
        "answered(worker.answer, limit_s=self._item_seconds)",
        "answered(worker.answer, limit_s=1e9)",
        test_pool.test_a_missed_deadline_condemns_once,
    ),
]
TURNS = [
    Mutant(
        "what is slow",
        turns.pace_of,
        "recipe.clip.frames_decoded",
        "len(recipe.clip.indices)",
        test_worker_turns.test_pace_is_what_has_to_be_decoded_and_not_what_is_kept,
    ),
    Mutant(
        "no worker for slow ones",
        Turns.take,
        "if slow or pace is Pace.QUICK",
        "",
        test_worker_turns.test_what_is_slow_waits_for_its_worker_and_holds_nobody_up,
    ),
    Mutant("the paces alternate", Turns.take, "self._last = pace", "pass", test_worker_turns.test_the_paces_alternate),
    Mutant(
        "tenants take turns",
        Turns._pop,
        "self._waiting[pace].pop(tenant)",
        "self._waiting[pace][tenant]",
        test_worker_turns.test_tenants_take_turns,
    ),
]
ROOM = [
    Mutant(
        "an item has a worker and room, or neither",
        Placement.take,
        "if self._patient",
        "if False",
        test_room.test_an_item_waits_for_room_before_it_has_a_worker,
    ),
    Mutant(
        "what never fits the arena",
        Placement.__init__,
        "< length_bytes for region",
        "< 0 for region",
        test_room.test_what_never_fits_is_told_so_while_others_wait,
    ),
    Mutant(
        "items that wait for room",
        Pool.idle,
        ">= self._blocked_max(pace)",
        "< 0",
        test_room.test_a_wait_for_room_that_is_foreseen_is_refused_at_once,
    ),
    Mutant(
        "seconds of waiting for room",
        Turns.take,
        "now_s - since_s >= BLOCKED_SECONDS",
        "False",
        test_worker_turns.test_who_lacks_room_for_too_long_has_waited_in_vain_and_so_have_those_behind,
    ),
    Mutant(
        "who lacks room holds up nobody else's",
        Turns.take,
        "for tenant in tuple(self._waiting[pace])",
        "for tenant in tuple(self._waiting[pace])[:1]",
        test_worker_turns.test_who_lacks_room_holds_up_its_own_tenants_items_of_its_pace_alone,
    ),
    Mutant(
        "a turn ends the block",
        Turns.take,
        "self._blocked_s.pop((pace, tenant), None)",
        "pass",
        test_worker_turns.test_room_that_comes_in_time_ends_the_wait,
    ),
    Mutant(
        "items of one request",
        store.ItemStore.check_together,
        "if sum(wanted.values()) >",
        "if 0 >",
        test_room.test_items_that_never_fit_together,
    ),
]
MUTANTS = FETCHING + BUDGET + LOOP + BODIES + TABLES + TURNS + ROOM


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_its_test_kills(mutant: Mutant, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    # Whoever waits for good is a kill as well, and need not be waited for.
    monkeypatch.setattr("frontend_loop.HANG_S", 2.0)
    check_it_is_killed(mutant, request)
