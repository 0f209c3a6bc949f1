"""Every bound on what strangers may take has a test that fails without it: bytes, redirects, time, rate, queues."""

from __future__ import annotations

from functools import partial

import pytest
import test_addresses
import test_bodies
import test_fetch
import test_fetched
import test_files
import test_intake
import test_nulls
import test_poison
import test_pool
import test_renderer
import test_room
import test_schema
import test_source
import test_store
import test_text
import test_texts
import test_uuids
from test_files import root  # noqa: F401 - a fixture of one of the tests

from mmplane.frontend.body import nulls, schema, unused
from mmplane.frontend.body.completion import CompletionRequest
from mmplane.frontend.body.schema import UserMessage
from mmplane.frontend.chat.text import StopText
from mmplane.frontend.http.endpoint import Endpoint
from mmplane.frontend.request import parser, renderer
from mmplane.frontend.request.bodies import Bodies
from mmplane.frontend.request.intake import Intake
from mmplane.frontend.request.parser_queue import ParserQueue
from mmplane.frontend.request.renderer import Renderer
from mmplane.frontend.sources import addresses, fetch
from mmplane.frontend.sources.fetch import Fetcher
from mmplane.frontend.sources.fetched import FetchedFiles
from mmplane.frontend.sources.files import Files
from mmplane.frontend.sources.uuids import Uuids
from mmplane.items import crew, pace, recipes, store
from mmplane.items.placement import Placement
from mmplane.items.poison import Poison
from mmplane.items.pool import Pool
from mmplane.items.shelf import Shelf
from mmplane.waiting.fair_lock import FairLock
from mmplane.waiting.threads import Threads
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
        "reserved.take(len(chunk))",
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
        Fetcher._hop,
        "self._hosts.turn((TENANT.get(), _host(target))),",
        "",
        test_fetch.test_one_host_is_asked_only_so_often_at_a_time,
    ),
    Mutant(
        "fetches of one tenant",
        Fetcher._hop,
        "self._tenants.turn(TENANT.get()),",
        "",
        test_fetch.test_a_tenant_takes_only_so_many_connections,
    ),
    Mutant(
        "one tenant's turns are not another's",
        Fetcher._hop,
        "(TENANT.get(), _host(target))",
        "_host(target)",
        test_fetch.test_a_tenants_slow_fetches_hold_up_no_other_tenant,
    ),
    Mutant(
        "connections of those who left",
        Fetcher.fetch,
        "await _in_scope(self._insist(url, _Reserved(grow)))",
        "await self._insist(url, _Reserved(grow))",
        test_fetch.test_whoever_leaves_leaves_no_connection,
    ),
    Mutant(
        "bytes of failed attempts",
        Fetcher._insist,
        "reserved.restart()",
        "pass",
        test_fetch.test_what_a_failed_attempt_reserved_is_used_again,
    ),
    Mutant(
        "fetches of one request",
        Intake._contents,
        "asyncio.Semaphore(FETCHES_MAX)",
        "asyncio.Semaphore(1000)",
        test_intake.test_media_is_fetched_together_and_comes_in_order,
    ),
    Mutant(
        "seconds of a request's fetches",
        Intake._contents,
        "asyncio.timeout(FETCHES_SECONDS)",
        "asyncio.timeout(None)",
        test_intake.test_all_of_a_requests_media_has_a_limit_together,
    ),
    Mutant(
        "threads of one name",
        Threads.__init__,
        "Gates(SUBJECT_THREADS_MAX)",
        "Gates(1000)",
        test_fetch.test_slow_names_hold_up_no_others,
    ),
    Mutant(
        "threads of one tenant",
        Threads.__init__,
        "Gates(TENANT_THREADS_MAX)",
        "Gates(1000)",
        test_files.test_a_folder_that_hangs_holds_up_only_its_readers,
    ),
    Mutant(
        "metadata services",
        addresses.Allowed.dials,
        "if is_metadata(address):",
        "if False:",
        test_addresses.test_only_a_network_of_that_one_address_allows_metadata,
        ("100.100.100.200",),
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
        "pixels are reserved",
        store.ItemStore._memory_for,
        "self._budget.reserve_item(recipe.decoded_bytes)",
        "self._budget.reserve_item(0)",
        test_store.test_pixels_are_reserved_while_they_are_decoded,
    ),
]
LOOP = [
    Mutant(
        "a worker that was taken lives still",
        crew.check_alive,
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
        "if end_bytes > (self._bytes_max if grow else min(held_bytes, self._bytes_max))",
        "if False",
        test_bodies.test_more_than_was_declared_is_refused,
        (10,),
    ),
    Mutant(
        "a body of unknown length reserves what has come",
        Endpoint._length,
        "min(FIRST_BYTES, self._config.body_bytes_max), False",
        "self._config.body_bytes_max, True",
        test_bodies.test_a_body_of_unknown_length_reserves_what_has_come,
    ),
    Mutant(
        "quotation marks of a body that is parsed on the loop",
        Bodies.parse,
        "(quotes := quotes_in(body.content)) <= INLINE_QUOTES_MAX",
        "(quotes := 0) == 0",
        test_bodies.test_only_short_prompts_are_rendered_on_the_loop,
        ({"metadata": {"x": '"' * 500}}, False),
    ),
    Mutant(
        "what is rendered on the loop",
        Bodies.parse,
        "if is_short(request)",
        "if True",
        test_bodies.test_only_short_prompts_are_rendered_on_the_loop,
        ({"text": "x" * 1025}, False),
    ),
    Mutant(
        "what cannot fit the context does not go to the parser",
        Bodies.parse,
        "self._renderer.check_length(request)",
        "pass",
        test_bodies.test_text_that_cannot_fit_is_refused_without_the_parser,
    ),
    Mutant(
        "characters of a short prompt",
        renderer.is_short,
        " and request.text_characters <= SHORT_CHARACTERS_MAX",
        "",
        test_renderer.test_what_is_short,
        ([UserMessage("x" * 1025)], False),
    ),
    Mutant(
        "messages and parts of a short prompt",
        renderer.is_short,
        "request.pieces <= SHORT_PIECES_MAX and ",
        "",
        test_renderer.test_what_is_short,
        ([UserMessage("x")] * 17, False),
    ),
    Mutant(
        "characters that are tokenised",
        Renderer.check_length,
        "if characters > self.characters_max",
        "if False",
        test_renderer.test_text_that_cannot_fit_the_context_is_not_tokenised,
    ),
    Mutant(
        "prompts and answers of a text completion",
        CompletionRequest.check,
        "if self.pieces > PROMPTS_MAX or self.pieces * self.samples > SAMPLES_MAX",
        "if False",
        test_texts.test_what_is_refused,
        ({"prompt": ["x"] * 9, "n": 2}, "prompt"),
    ),
    Mutant(
        "tokens of a prompt",
        Renderer._render_chat,
        "if len(encoded) > self.context_tokens",
        "if False",
        test_renderer.test_tokens_beyond_the_context_are_refused,
    ),
    Mutant(
        "objects that a body becomes",
        schema.parse,
        "if (quotes_in(body) if quotes is None else quotes) > QUOTES_MAX",
        "if False",
        test_schema.test_what_decoding_would_make_is_bounded_before_it_begins,
        (test_schema.TEXT_PART,),
    ),
    Mutant(
        "characters of a request",
        schema.parse,
        "if request.text_characters > TEXT_CHARACTERS_MAX",
        "if False",
        test_schema.test_parts_and_characters_of_all_messages_together,
    ),
    Mutant(
        "parts of a request",
        schema._check_messages,
        "if count > PARTS_MAX",
        "if False",
        test_schema.test_parts_and_characters_of_all_messages_together,
    ),
    Mutant(
        "bytes of a field that is not built",
        unused._decoded,
        "if len(memoryview(raw)) > NEUTRAL_BYTES_MAX",
        "if False",
        test_schema.test_a_neutral_value_is_short,
    ),
    Mutant(
        "unknown names that are null",
        nulls.decode,
        "if unknown and names_left",
        "if unknown",
        test_nulls.test_names_are_bounded,
    ),
    Mutant(
        "bytes read to find unknown names that are null",
        nulls.decode,
        "READ_BYTES_MAX // (len(memoryview(body)) or 1)",
        "NAMES_MAX",
        test_nulls.test_a_long_body_has_fewer,
    ),
    Mutant(
        "the prompt has room in the slot",
        parser.answer,
        " or len(made) > len(slot) - start",
        "",
        test_bodies.test_what_is_left_of_a_body_has_to_fit,
        ({"text": "x" * 5000},),
    ),
    Mutant(
        "bytes of a request without its texts",
        parser.answer,
        "len(rendered.rest) > REST_BYTES_MAX or ",
        "",
        test_bodies.test_what_is_left_of_a_body_has_to_fit,
        ({"urls": 1},),
    ),
    Mutant(
        "one job at a time",
        FairLock._take,
        "self._is_held = True",
        "pass",
        test_bodies.test_tenants_take_turns_at_the_parser,
    ),
    Mutant(
        "tenants take turns at the parser",
        FairLock.acquire,
        "self._served = tenant",
        "pass",
        test_bodies.test_tenants_take_turns_at_the_parser,
    ),
    Mutant(
        "seconds of a job",
        ParserQueue.ask,
        "call_later(JOB_SECONDS, self._replace)",
        "call_later(10**6, self._replace)",
        test_bodies.test_a_job_that_takes_too_long_costs_the_parser,
    ),
    Mutant(
        "a deadline ends with its job",
        ParserQueue._end_job,
        "job.overdue.cancel()",
        "pass",
        test_bodies.test_a_deadline_ends_with_its_job,
    ),
    Mutant(
        "what a character of the answer costs",
        StopText._longer,
        "matched = self._shorter[matched - 1]",
        "matched = next(n for n in range(matched - 1, -1, -1) if all("
        "self._text[i] == self._text[matched - n + i] for i in range(n)))",
        test_text.test_a_long_stop_text_costs_no_more_than_a_short_one,
    ),
]
TABLES = [
    Mutant(
        "names",
        Uuids.remember,
        "if self._count > self._names_max",
        "if False",
        test_uuids.test_the_name_that_was_used_longest_ago_goes_first,
    ),
    Mutant(
        "a tenant's names",
        Uuids.remember,
        "max(self._digests.values(), key=len)",
        "next(each for each in self._digests.values() if each)",
        test_uuids.test_a_tenants_many_names_push_out_nobody_elses,
    ),
    Mutant(
        "what is used stays known",
        recipes._recall,
        "known.pop(key, None)",
        "known.get(key)",
        test_store.test_a_recipe_that_is_used_is_not_forgotten,
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
        recipes._remember,
        "while len(known) >= count_max",
        "while False",
        test_store.test_sizes_are_forgotten_at_the_limit,
    ),
    Mutant(
        "seconds of an item",
        Pool.ask,
        "answered(worker.answer, limit_s=limit_s)",
        "answered(worker.answer, limit_s=1e9)",
        test_pool.test_a_missed_deadline_condemns_once,
    ),
]
PACE = [
    Mutant(
        "what is slow",
        pace.pace_of,
        "recipe.clip.frames_decoded",
        "len(recipe.clip.indices)",
        test_pool.test_pace_is_what_has_to_be_decoded_and_not_what_is_kept,
    ),
    Mutant(
        "no worker for slow ones",
        Pool._take,
        "line[0] is Pace.SLOW and not self._spares_one(present)",
        "False",
        test_pool.test_a_slow_item_waits_for_the_last_workers_sibling,
    ),
]
ROOM = [
    Mutant(
        "an item has a worker and room, or neither",
        Placement.take,
        "if not self._patient",
        "if True",
        test_room.test_an_item_waits_for_room_before_it_has_a_worker,
    ),
    Mutant(
        "what never fits the arena",
        Placement.__init__,
        "< length_bytes:",
        "< 0:",
        test_room.test_what_never_fits_is_told_so_while_others_wait,
    ),
    Mutant(
        "a tenant's share of the arena",
        Placement.take,
        "<= self._share_bytes",
        "< 1 << 60",
        test_room.test_a_tenants_items_in_use_leave_room_to_another,
    ),
    Mutant(
        "a tenant's share of the arena, by hits",
        store.ItemStore._check_share,
        "> self._share_bytes",
        "> 1 << 60",
        test_room.test_hits_count_as_well,
    ),
    Mutant(
        "a tenant's share of the front end's region",
        Bodies._move,
        "+ wanted_bytes > self._share_bytes",
        "< 0",
        test_bodies.test_a_tenants_bodies_leave_room_in_the_region_to_another,
    ),
    Mutant(
        "a slot that its asker never saw",
        store.ItemStore._make,
        "place.give_back()  # it was called off",
        "pass  # it was called off",
        test_store.test_whoever_leaves_as_its_turn_comes_leaves_no_slot,
    ),
    Mutant(
        "items of one request",
        store.ItemStore.check_together,
        "if sum(wanted.values()) >",
        "if 0 >",
        test_room.test_items_that_never_fit_together,
    ),
]
MUTANTS = FETCHING + BUDGET + LOOP + BODIES + TABLES + PACE + ROOM


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_its_test_kills(mutant: Mutant, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    # Whoever waits for good is a kill as well, and need not be waited for.
    hurry = partial(monkeypatch.setattr, "frontend_loop.HANG_S", 1.0)
    check_it_is_killed(mutant, request, once_it_passed=hurry)
