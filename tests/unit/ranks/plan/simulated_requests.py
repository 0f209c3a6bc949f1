"""Requests of the simulation: how they are drawn, what must become of them, and what has."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import get_args

from simulated_ports import check, enclosed, features_of, in_arena

from mmplane.core.errors import Failure
from mmplane.core.faults import Fault, Point
from mmplane.core.plan import Admitted, Failed, Sampling, Submit, Token
from mmplane.delivery.delivery import Sends
from mmplane.delivery.ingress import EVERY_RANK, INGRESS, LEADER
from mmplane.delivery.names import DELIVERIES

POINTS = tuple(point for point in get_args(Point) if point != "construct")
IN_COLLECTIVE = {"before_collective", "in_collective", "after_collective"}
LEADER_MAKES = {"leader", "leader-batch", "leader-async"}
ALL_MAKE = {"original", "delayed", "delayed-async"}
SHARED = (LEADER_MAKES | ALL_MAKE) - {"original"}


@dataclass
class Shape:
    """How large a group is, and how unlucky."""

    tp: int
    running_max: int
    kv_blocks: int
    block_tokens: int
    salts: tuple[bytes, ...]
    """Of tenants; without one nothing is reused."""
    prefill_tokens: int
    requests: int
    lag_max: int
    """Plans that a follower may be behind."""
    names: tuple[str, ...]
    """Deliveries that are in use."""
    keys: int
    """Different pictures."""
    cache_bytes: int
    embedding_bytes: int
    token_min: int
    """The lowest token that is drawn: with 2 no answer ends by itself."""
    failing: float
    aborting: float
    leaving: float
    crashing: float
    slow: float
    writing: bool
    """Whether the model writes into what it is given."""
    haste: float
    """How likely a thread in the background gets a turn."""

    @classmethod
    def draw(cls, random: Random, tp: int) -> Shape:
        running_max = random.randint(1, 6)
        block_tokens = random.choice((1, 2, 4))
        return cls(
            tp=tp,
            running_max=running_max,
            kv_blocks=running_max * random.choice((4, 8, 12, 20, 40)) // block_tokens,
            block_tokens=block_tokens,
            salts=random.choice(((b"",), (b"a",), (b"a", b"b"), (b"", b"a"))),
            prefill_tokens=random.choice((1, 3, 8, 100)),
            requests=random.randint(1, 14),
            lag_max=random.choice((0, 0, 1, 6)),
            names=random.choice((tuple(DELIVERIES), (random.choice(tuple(DELIVERIES)),))),
            keys=random.choice((2, 4, 9)),
            cache_bytes=random.choice((0, 20, 40, 500)),
            embedding_bytes=random.choice((0, 20, 40, 500)),
            token_min=random.choice((0, 2)),
            failing=random.choice((0.0, 0.2, 0.6)),
            aborting=random.choice((0.0, 0.05, 0.2)),
            leaving=random.choice((0.0, 0.0, 0.03)),
            crashing=random.choice((0.0, 0.0, 0.02)),
            slow=random.choice((0.0, 0.0, 0.4)),
            writing=random.choice((False, True)),
            haste=random.choice((0.1, 0.6)),
        )


@dataclass
class Client:
    """One request as the front end knows it."""

    submit: Submit
    parcel: bytes
    outcome: Admitted | Failed | None = None
    aborted: bool = False
    """The leader has been told that nobody waits for it."""
    lost: bool = False
    """The leader, or the front end before it had told the leader, is gone."""
    reused: frozenset[int] = frozenset()
    """Items that the plan takes from the ranks' caches."""
    stopped: set[int] = field(default_factory=set)
    tokens: dict[int, list[Token]] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether nobody waits for anything of it."""
        if self.lost:
            return True
        if self.outcome is None:
            return False
        return self.aborted or isinstance(self.outcome, Failed) or not self.open

    @property
    def open(self) -> set[int]:
        """Samples that should still produce tokens."""
        ended = {sample for sample, tokens in self.tokens.items() if tokens[-1].reason}
        return set(range(self.submit.sampling.samples)) - ended - self.stopped

    def never_fits(self, shape: Shape) -> bool:
        sampling = self.submit.sampling
        shared = self.submit.prompt_tokens // shape.block_tokens
        longest = -(-(self.submit.prompt_tokens + sampling.tokens_max) // shape.block_tokens)
        blocks = shared + (longest - shared) * sampling.samples
        return blocks > shape.kv_blocks or sampling.samples > shape.running_max

    def strikes(self, tp: int) -> bool:
        """Whether the injected fault must make it fail."""
        fault, name = self.submit.fault, self.submit.delivery
        if fault is None or fault.rank >= tp or not self.submit.items:
            return False
        if fault.point == "encode":
            return True
        if len(self.reused) == len(self.submit.items):
            return False
        match fault.point:
            case "view":
                return name not in ALL_MAKE | LEADER_MAKES
            case "materialise":
                return name in ALL_MAKE or (name in LEADER_MAKES and fault.rank == 0)
            case "in_collective":
                return name in SHARED and tp > 1
            case _:
                return name in SHARED

    def check_failure(self, failure: Failure, shape: Shape) -> None:
        """A failure must have a cause that was put there."""
        what = f"request {self.submit.request_id} failed of nothing: {failure}"
        if failure.status == 413:
            check(self.never_fits(shape), what)
        elif failure.status == 503:
            check(self.aborted or shape.slow, what)
        else:
            check(self.strikes(shape.tp), what)

    def receive(self, token: Token, end_tokens: frozenset[int]) -> None:
        check(isinstance(self.outcome, Admitted), "a token came before its request was admitted")
        check(not self.aborted, "a token came after its request was aborted")
        check(not self.lost, "a token came of a request that was lost")
        check(token.sample in self.open, "it came after its sample had ended:", token)
        tokens = self.tokens.setdefault(token.sample, [])
        tokens.append(token)
        sampling = self.submit.sampling
        reason = "length" if len(tokens) == sampling.tokens_max else None
        if token.token in end_tokens and not sampling.ignore_end:
            reason = "stop"
        check(token.reason == reason, "it should say", reason, token)


def draw_client(random: Random, shape: Shape, request_id: int, earlier: Sequence[Client]) -> Client:
    samples = random.choice((1, 1, 2, 2, 3, shape.running_max + 1))
    tokens_max = random.choice((1, 2, 6, 12, shape.kv_blocks * shape.block_tokens // 3 + 1))
    sampling = Sampling(tokens_max, 1.0, 1.0, random.randrange(9), samples, ignore_end=random.random() < 0.3)
    fault = None
    if random.random() < shape.failing:
        fault = Fault(random.choice(POINTS), random.randrange(shape.tp))
    name = random.choice(shape.names)
    keys = [b"picture%d" % random.randrange(shape.keys) for _ in range(random.choice((0, 1, 1, 2, 3)))]
    if random.random() < 0.2:
        # Some records are so long that few of them fit into one plan.
        return client(request_id, bytes(30_000), random.randint(1, 12), sampling, keys, name, fault)
    salt = random.choice(shape.salts)
    said = [each for each in earlier if each.submit.salt]
    if said and random.random() < 0.6:  # a later turn of the same conversation, perhaps of another tenant
        before = random.choice(said)
        ids = [*array("i", before.submit.prompt), *(token.token for token in before.tokens.get(0, ()))]
        places = list(zip([item.content_key for item in before.submit.items], before.submit.placeholders, strict=True))
        if random.random() < 0.2:  # about another picture
            places = [(_alike(random, keys, key), runs) for key, runs in places]
    else:
        ids = [random.randrange(2) for _ in range(random.randint(1, 6))]
        places = []
        for key in keys:
            length = len(features_of(key))
            places.append((key, ((len(ids), length),)))
            ids += [9] * length
    ids += [random.randrange(2) for _ in range(random.randint(1, 6))]
    prompt = array("i", ids).tobytes()
    runs = tuple(runs for _, runs in places)
    return client(request_id, prompt, len(ids), sampling, [key for key, _ in places], name, fault, runs, salt)


def _alike(random: Random, keys: Sequence[bytes], key: bytes) -> bytes:
    """A picture with as many rows as this one: another one, if there is one."""
    return random.choice([each for each in keys if len(features_of(each)) == len(features_of(key))] or [key])


def client(
    request_id: int,
    prompt: bytes,
    prompt_tokens: int,
    sampling: Sampling,
    keys: list[bytes],
    name: str,
    fault: Fault | None = None,
    runs: tuple[tuple[tuple[int, int], ...], ...] = (),
    salt: bytes = b"",
) -> Client:
    kind = DELIVERIES[name]
    items, parcel = [], b""
    for key in keys:
        if kind.sends is Sends.SLOTS:
            items.append(in_arena(key))
        else:
            media = kind.sends is Sends.MEDIA
            items.append(enclosed(key, len(parcel), media=media))
            parcel += key if media else features_of(key)
    possible = INGRESS[name] or (LEADER,)
    relayed = possible[request_id % len(possible)] == EVERY_RANK
    submit = Submit(
        request_id,
        prompt,
        None,
        prompt_tokens,
        tuple(items),
        runs or tuple(((0, len(features_of(key))),) for key in keys),
        sampling,
        digests=True,
        keep=request_id % 4 > 0,
        delivery=name,
        parcel_bytes=len(parcel),
        relayed=relayed,
        cache=kind.sends is not Sends.SLOTS,
        fault=fault,
        salt=b"" if fault else salt,
    )
    return Client(submit, parcel)
