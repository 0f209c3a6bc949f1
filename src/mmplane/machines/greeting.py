"""Mutual authentication: two machines prove to each other that they hold the same key. Pure: records in, records out.

        server                          machine
    AWAITING ──── Challenge ────>   AWAITING
        │    <─── Response ─────       │ PROVEN
      OPEN   ──── Accepted ────>     OPEN

A proof is a keyed BLAKE3 digest over the side, the protocol and both nonces. A recorded proof fits no other nonce, and
one side's proof is never valid for the other side. Any unexpected record is refused, and a refused greeting stays
refused.

The traffic that follows is neither encrypted nor signed. Use TLS for that (`mmplane.machines.pin`); without it the
network has to be trusted (docs/cluster.md).
"""

from __future__ import annotations

import hmac
from enum import Enum

from blake3 import blake3

from mmplane.core.keys import digest_parts
from mmplane.core.records import Record
from mmplane.machines.records import PROTOCOL, SECRET_BYTES, Accepted, Challenge, Refused, Response

GREETING_BYTES_MAX = 1024
"""Maximum length of a record in a greeting."""

ToServer = Response
ToMachine = Challenge | Accepted | Refused


class Refusal(Exception):
    """The other side is refused, or refuses this one. The text says why.

    `outdated`: this machine has loaded something else than the server serves.
    """

    def __init__(self, reason: str, *, outdated: bool = False) -> None:
        super().__init__(reason)
        self.outdated = outdated


class Side(Enum):
    """The two ends of the connection."""

    SERVER = "server"
    MACHINE = "machine"


class State(Enum):
    """The state of a greeting."""

    AWAITING = "awaiting"
    PROVEN = "proven"
    OPEN = "open"
    REFUSED = "refused"


AWAITED: dict[tuple[Side, State], type[Record]] = {
    (Side.SERVER, State.AWAITING): Response,
    (Side.MACHINE, State.AWAITING): Challenge,
    (Side.MACHINE, State.PROVEN): Accepted,
}
"""The only record that is accepted in each state; in all other states there is none."""


class Greeting:
    """One side of one greeting. `nonce` is 32 fresh random bytes."""

    def __init__(self, side: Side, key: bytes, nonce: bytes) -> None:
        assert len(key) == len(nonce) == SECRET_BYTES
        self._side = side
        self._key = key
        self._nonce = nonce
        self._theirs = b""
        self.state = State.AWAITING

    def begin(self) -> Record | None:
        """The first record of this side, if it starts."""
        return Challenge(PROTOCOL, self._nonce) if self._side is Side.SERVER else None

    def hear(self, record: Record) -> Record | None:
        """Return the answer to a record, if any. Raises Refusal; the connection must then be closed."""
        awaited = AWAITED.get((self._side, self.state))
        state, self.state = self.state, State.REFUSED
        if isinstance(record, Refused) and self._side is Side.MACHINE:
            raise Refusal(f"the server refuses: {record.reason}", outdated=record.outdated)
        if awaited is None or not isinstance(record, awaited):
            raise Refusal(f"{type(record).__name__} arrived unexpectedly")
        match record:
            case Challenge():
                self._check_protocol(record.protocol)
                self._theirs = record.nonce
                self.state = State.PROVEN
                return Response(PROTOCOL, self._nonce, self._proof(Side.MACHINE))
            case Response():
                self._check_protocol(record.protocol)
                self._theirs = record.nonce
                self._check(record.proof, Side.MACHINE)
                self.state = State.OPEN
                return Accepted(self._proof(Side.SERVER))
            case Accepted():
                assert state is State.PROVEN
                self._check(record.proof, Side.SERVER)
                self.state = State.OPEN
        return None

    def _check_protocol(self, theirs: int) -> None:
        if theirs != PROTOCOL:
            other = Side.MACHINE if self._side is Side.SERVER else Side.SERVER
            raise Refusal(
                f"the {self._side.value} speaks protocol {PROTOCOL} and the {other.value} {theirs}: "
                f"install the same version of mmplane on both"
            )

    def _check(self, proof: bytes, side: Side) -> None:
        if not hmac.compare_digest(proof, self._proof(side)):
            raise Refusal(f"the {side.value} has a different cluster key")

    def _proof(self, side: Side) -> bytes:
        server, machine = self._nonce, self._theirs
        if self._side is Side.MACHINE:
            server, machine = machine, server
        parts = digest_parts([b"mmplane-greeting", side.value.encode(), bytes([PROTOCOL]), server, machine])
        return blake3(parts, key=self._key).digest()


def key_of(secret: bytes) -> bytes:
    """Derive the 32 bytes for proofs from a key file's content."""
    return blake3(secret, derive_key_context="mmplane 2026 cluster key").digest()
