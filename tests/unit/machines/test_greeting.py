"""A greeting opens for who has the key and speaks the protocol, now; for nobody else, whatever is sent."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import msgspec
import pytest

from mmplane.core.records import Record
from mmplane.machines import greeting
from mmplane.machines.greeting import AWAITED, Greeting, Refusal, Side, State, key_of
from mmplane.machines.records import PROTOCOL, Accepted, Challenge, FromMachine, FromServer, Hello, Refused, Response
from mmplane.wire.link import encode
from mutation import Mutant, check_it_is_killed

KEY, OTHER_KEY = key_of(b"k" * 32), key_of(b"o" * 32)
MUTATIONS = 10_000
ANY: Any = msgspec.msgpack.Decoder(Challenge | Response | Accepted | Refused | Hello)


def nonce(seed: int) -> bytes:
    return random.Random(seed).randbytes(32)


def both(server_key: bytes = KEY, machine_key: bytes = KEY, seed: int = 0) -> tuple[Greeting, Greeting]:
    return Greeting(Side.SERVER, server_key, nonce(seed)), Greeting(Side.MACHINE, machine_key, nonce(seed + 1))


def said(server: Greeting, machine: Greeting) -> list[Record]:
    """All records of a greeting, in order. Raises Refusal."""
    records = [server.begin()]
    for side in (machine, server, machine):
        heard = records[-1]
        assert heard is not None
        records.append(side.hear(heard))
    return [record for record in records if record is not None]


def test_both_sides_open_with_the_same_key() -> None:
    server, machine = both()
    assert [type(record) for record in said(server, machine)] == [Challenge, Response, Accepted]
    assert (server.state, machine.state) == (State.OPEN, State.OPEN)


def check_another_key_is_refused() -> None:
    server, machine = both(machine_key=OTHER_KEY)
    with pytest.raises(Refusal, match="the machine has a different cluster key"):
        said(server, machine)
    assert State.OPEN not in (server.state, machine.state)


def test_another_key_is_refused() -> None:
    check_another_key_is_refused()


def check_a_server_without_the_key_is_found_out() -> None:
    server, machine = both()
    challenge = server.begin()
    assert challenge is not None
    machine.hear(challenge)
    with pytest.raises(Refusal, match="the server has a different cluster key"):
        machine.hear(Accepted(bytes(32)))
    assert machine.state is State.REFUSED


def test_a_server_without_the_key_is_found_out() -> None:
    check_a_server_without_the_key_is_found_out()


def check_a_replay_is_refused() -> None:
    _, response, _ = said(*both())
    later = Greeting(Side.SERVER, KEY, nonce(7))
    later.begin()
    with pytest.raises(Refusal):
        later.hear(response)


def test_a_replayed_response_fits_no_other_challenge() -> None:
    check_a_replay_is_refused()


def check_a_proof_is_not_reflected() -> None:
    """What one side proves never serves as the other's proof, even with the same nonces."""
    server, machine = both()
    challenge, response, _ = said(server, machine)
    assert isinstance(response, Response)
    fresh = Greeting(Side.MACHINE, KEY, nonce(1))
    fresh.hear(challenge)
    with pytest.raises(Refusal):
        fresh.hear(Accepted(response.proof))


def test_a_proof_is_not_reflected() -> None:
    check_a_proof_is_not_reflected()


@pytest.mark.parametrize("theirs", [0, PROTOCOL + 1])
def test_another_protocol_is_refused_and_both_are_named(theirs: int) -> None:
    server, machine = both()
    with pytest.raises(Refusal, match=f"the machine speaks protocol {PROTOCOL} and the server {theirs}"):
        machine.hear(Challenge(theirs, nonce(3)))
    with pytest.raises(Refusal, match=f"the server speaks protocol {PROTOCOL} and the machine {theirs}"):
        server.hear(Response(theirs, nonce(3), bytes(32)))


def test_every_state_takes_one_record_at_most_and_a_refusal_is_for_good() -> None:
    records = (
        Challenge(PROTOCOL, nonce(0)),
        Response(PROTOCOL, nonce(0), nonce(1)),
        Accepted(nonce(1)),
        Hello("m", "jobs"),
    )
    for side, state, record in product(Side, State, records):
        made = Greeting(side, KEY, nonce(5))
        made.state = state
        if AWAITED.get((side, state)) is type(record) and isinstance(record, Challenge):
            continue
        with pytest.raises(Refusal):
            made.hear(record)
        assert made.state is State.REFUSED
        with pytest.raises(Refusal):
            made.hear(record)


def test_a_refusal_of_the_server_is_told() -> None:
    _, machine = both()
    with pytest.raises(Refusal, match="no room here"):
        machine.hear(Refused("no room here"))


def test_ten_thousand_mutated_greetings_open_nothing() -> None:
    """Of each record of a good greeting some bytes are changed: it is refused, and the other side does not open."""
    source = random.Random(20261128)
    refused = 0
    for number in range(MUTATIONS):
        server, machine = both(seed=number)
        challenge = server.begin()
        assert challenge is not None
        step = number % 3
        try:
            heard = _mutant(challenge, source) if step == 0 else challenge
            response = machine.hear(heard)
            accepted = server.hear(_mutant(response, source) if step == 1 else response)
            machine.hear(_mutant(accepted, source) if step == 2 else accepted)
        except (Refusal, msgspec.MsgspecError, UnicodeDecodeError):
            refused += 1
            opened = server.state is State.OPEN, machine.state is State.OPEN
            assert opened == (step == 2, False)
            continue
        pytest.fail(f"mutation {number} was accepted")
    assert refused == MUTATIONS


def _mutant(record: Record | None, source: random.Random) -> Record:
    assert record is not None
    good = encode(record)
    changed = bytearray(good)
    while bytes(changed) == good:
        for _ in range(source.randint(1, 4)):
            place = source.randrange(len(changed))
            changed[place] = source.randrange(256)
        if source.random() < 0.2:
            del changed[source.randrange(1, len(changed)) :]
    found: Record = ANY.decode(changed)
    if found == record:  # another spelling of the same values
        raise Refusal("the same")
    return found


def test_records_that_are_too_large_are_no_records() -> None:
    for record in (Hello("n" * 65, "jobs"), Hello("n", "jobs", 97), Hello("n", "jobs", 1, (("a", "b"),) * 65)):
        with pytest.raises(msgspec.ValidationError):
            msgspec.msgpack.decode(encode(record), type=FromMachine)
    for record in (Refused("r" * 513), Challenge(PROTOCOL, b"short")):
        with pytest.raises(msgspec.ValidationError):
            msgspec.msgpack.decode(encode(record), type=FromServer | Challenge)


MUTANTS = [
    Mutant(
        "the proof",
        Greeting._check,
        "not hmac.compare_digest",
        "False and hmac.compare_digest",
        check_another_key_is_refused,
    ),
    Mutant(
        "the server's proof",
        Greeting._check,
        "not hmac.compare_digest",
        "False and hmac.compare_digest",
        check_a_server_without_the_key_is_found_out,
    ),
    Mutant("a fresh nonce", Greeting._proof, ", server, machine]", ", machine]", check_a_replay_is_refused),
    Mutant("the side in a proof", Greeting._proof, "side.value.encode()", "b''", check_a_proof_is_not_reflected),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_what_a_greeting_checks_is_tested(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)


def test_keys_of_a_file_are_32_bytes_and_say_nothing_of_it() -> None:
    assert len(greeting.key_of(b"x")) == 32
    assert greeting.key_of(b"x") != greeting.key_of(b"y")
