"""Every limit of a connection has a mutant without it, and the test named beside it must kill that."""

from __future__ import annotations

from functools import partial

import pytest
import test_connections
import test_crowd

from mmplane.frontend.http import connections, head
from mmplane.frontend.http.connections import Connection
from mmplane.frontend.http.crowd import Crowd
from mutation import Mutant, check_it_is_killed

ENDLESS = test_connections.test_what_does_not_end
TWO_WAYS = test_connections.test_what_could_be_read_in_two_ways
LATE = test_connections.test_what_does_not_come_in_time
LEAVES = test_connections.test_a_client_that_leaves_with_more_behind_it
TOO_MUCH = test_connections.test_too_much_behind_a_request_ends_the_connection_after_its_answer
READS = test_connections.test_how_a_client_reads
UNFETCHED = test_connections.test_an_answer_that_nobody_fetches

HEADS = [
    Mutant(f"bytes: {what}", Connection._feed, "self._loose_bytes > HEAD_BYTES_MAX", "False", ENDLESS, (what,))
    for what in ("a header line", "line breaks before a request", "an extension of a chunk", "trailers", "a trailer")
] + [
    Mutant(
        "bytes of a head",
        head.check_head,
        "> HEAD_BYTES_MAX",
        "> 10**9",
        test_connections.test_a_head_of_the_largest_size_passes,
    ),
    Mutant("bytes of a URL", Connection.on_url, "> URL_BYTES_MAX:", "> 10**9:", ENDLESS, ("a URL",)),
    Mutant(
        "headers",
        Connection.on_header,
        "> HEADERS_MAX",
        "> 10**9",
        test_connections.test_so_many_headers_and_no_more,
    ),
    Mutant(
        "trailers are dropped",
        Connection.on_header,
        "if self._phase is Phase.HEAD",
        "if True",
        test_connections.test_trailers_are_no_headers,
    ),
    Mutant(
        "upgrades are ignored",
        Connection.on_headers_complete,
        "if self.parser.should_upgrade()",
        "if False",
        test_connections.test_an_upgrade_is_ignored,
        ("h2c", False),
    ),
    Mutant("no proxy", Connection.on_headers_complete, 'b"CONNECT"', 'b"X"', TWO_WAYS, ("CONNECT",)),
    Mutant(
        "frozen time",
        Connection._arm,
        "frozen_s < FROZEN_SECONDS",
        "True",
        test_connections.test_time_in_which_this_process_was_frozen_does_not_count,
    ),
    Mutant("two of one name", head.check_head, "counts[name] > 1", "False", TWO_WAYS, ("two keys",)),
    Mutant("two Hosts", head.check_head, "counts[name] > 1", "False", TWO_WAYS, ("two Hosts",)),
    Mutant("no Host", head.check_head, 'not counts[b"host"]', "False", TWO_WAYS, ("no Host",)),
    Mutant(
        "digits of a length",
        head.check_head,
        "len(length) > LENGTH_DIGITS_MAX",
        "False",
        TWO_WAYS,
        ("a length of 5,001 digits",),
    ),
    Mutant("other codings", head.check_head, '!= b"chunked"', '== b""', TWO_WAYS, ("gzip",)),
    Mutant("HTTP/1.0", head.check_head, 'or version == "1.0"', "", TWO_WAYS, ("chunked in HTTP/1.0",)),
]
DEADLINES = [
    Mutant(
        "seconds of a head",
        Connection.data_received,
        "self._arm(HEAD_SECONDS, self._late_head)",
        "pass",
        LATE,
        ("one byte",),
    ),
    Mutant(
        "seconds of a second head",
        Connection.on_response_complete,
        "self._arm(HEAD_SECONDS, self._late_head)",
        "pass",
        LATE,
        ("half a second head",),
    ),
    Mutant("seconds of a body", Connection._look_at_body, ">= self._body_ends_s", "< 0", LATE, ("half a body",)),
    Mutant(
        "the rate of a body",
        Connection._look_at_body,
        "self._body_bytes < BODY_BYTES_PER_S * LOOK_SECONDS",
        "False",
        LATE,
        ("a body that crawls",),
    ),
    *(
        Mutant(f"seconds of nothing: {what}", Connection._await_nothing, "self._arm", "print", LATE, (what,))
        for what in ("nothing", "no further request", "the rest of a refused body")
    ),
    Mutant("reading", Connection._look_at_reading, "if self._reads()", "if True", READS, ("not at all",)),
    Mutant("the rate of reading", Connection._reads, "SEND_BYTES_PER_S *", "0 *", READS, ("a byte at a time",)),
    *(
        Mutant(
            f"answers that nobody fetches: {how!r}",
            Connection._look_at_reading,
            "if self._reads()",
            "if True",
            UNFETCHED,
            (how,),
        )
        for how in (b"", b"connection: close\r\n")
    ),
]
AHEAD = [
    Mutant(
        "bytes ahead",
        Connection.data_received,
        "self._ahead_bytes > AHEAD_BYTES_MAX",
        "False",
        LEAVES,
        ("a large body",),
    ),
    Mutant("requests ahead", Connection.on_headers_complete, "> AHEAD_MAX", "> 10**9", TOO_MUCH, ("many requests",)),
    Mutant(
        "reading goes on",
        Connection.on_headers_complete,
        "self.flow.resume_reading()",
        "pass",
        LEAVES,
        ("a request",),
    ),
    Mutant(
        "all requests hear that the client is gone",
        Connection.connection_lost,
        "for cycle in self._cycles",
        "for cycle in ()",
        LEAVES,
        ("a request",),
    ),
]
REFUSED = [
    Mutant(
        "the rest of a body is no request",
        connections._answer,
        "if cycle.more_body",
        "if False",
        test_connections.test_the_rest_of_a_refused_body_ends_the_connection,
    ),
    Mutant(
        "bytes of a refused body",
        Connection._discard,
        "> DISCARD_BYTES_MAX",
        "< 0",
        test_connections.test_a_refused_body_is_not_read_for_ever,
    ),
]
CROWD = [
    Mutant(
        "a share",
        Crowd.admit,
        "mine >= self._address_max or",
        "",
        test_crowd.test_an_address_has_a_quarter,
    ),
    Mutant(
        "so many in all",
        Crowd.admit,
        "self._connections >= self._connections_max",
        "False",
        test_crowd.test_nobody_goes_for_one_who_would_have_as_many,
    ),
    Mutant(
        "the greediest goes",
        Crowd._evict,
        "max(capped",
        "min(capped",
        test_crowd.test_when_the_table_is_full_the_newest_of_the_greediest_goes,
    ),
    Mutant(
        "a network of 64 bits",
        Crowd._address,
        ">> 64",
        ">> 0",
        test_crowd.test_one_network_of_64_bits_is_one_address,
    ),
]


@pytest.mark.parametrize("mutant", HEADS + DEADLINES + AHEAD + REFUSED + CROWD, ids=str)
def test_its_test_kills(mutant: Mutant, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    # Whoever waits for good is a kill as well, and need not be waited for.
    hurry = partial(monkeypatch.setattr, "frontend_loop.HANG_S", 1.0)
    check_it_is_killed(mutant, request, once_it_passed=hurry)
