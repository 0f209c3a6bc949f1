"""A test must be able to fail: each mutant breaks one rule of the ranks on purpose, and the simulation must notice.

A mutant that survives means that the simulation, not the scheduler, is broken.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pytest
from mutant_hunt import killed_by
from rank_simulation import Simulation
from simulated_ports import Violation
from simulated_rank import Parts

from mmplane.core.plan import Abort, Failed, Finish, Held, Plan, Position, Submit
from mmplane.ranks.plan.chain import Chain, _marks
from mmplane.ranks.plan.leader import _ABORTED, Diverged, Leader
from mmplane.ranks.plan.port import Drawn
from mmplane.ranks.plan.request import Phase, Request
from mmplane.ranks.plan.schedule import Schedule
from mmplane.ranks.plan.step import Segment, Sequence, SequenceId, Step
from mutation import mutated

# Leaders.


class DoesNotWaitForAll(Leader):
    def _settle(self) -> list[int]:
        for request in self._requests.values():
            if request.phase is Phase.PREPARING and request.held:
                first = next(iter(request.held.values()))
                for rank in range(self._tp):
                    request.held.setdefault(rank, first)
        return super()._settle()


class HearsOnlyItsOwnFailures(Leader):
    def held(self, held: Held) -> None:
        super().held(held if held.rank == 0 else msgspec.structs.replace(held, failure=None))


class ReleasesBeforeAllHaveAnswered(Leader):
    def abort(self, abort: Abort) -> None:
        request = self._requests.get(abort.request_id)
        if request is not None and request.phase is Phase.PREPARING and not request.aborted and abort.sample < 0:
            self.outbox.append(Failed(abort.request_id, _ABORTED))
        super().abort(abort)


class ForgetsWhoIsStillPreparing(Leader):
    def abort(self, abort: Abort) -> None:
        request = self._requests.get(abort.request_id)
        if request is not None and request.phase is Phase.PREPARING and abort.sample < 0:
            self._finish.append(Finish(abort.request_id, -1, "abort"))
            self._forget(request)
            self.outbox.append(Failed(abort.request_id, _ABORTED))
        else:
            super().abort(abort)

    def held(self, held: Held) -> None:
        if held.request_id in self._requests:
            super().held(held)


class AdmitsTheAborted(Leader):
    def _settle(self) -> list[int]:
        for request in self._requests.values():
            request.aborted &= request.phase is not Phase.PREPARING
        return super()._settle()


class LeaksSeats(Leader):
    def _forget(self, request: Request) -> None:
        super()._forget(request)
        self._samples += request.submit.sampling.samples > 1


class LeaksMemory(Schedule):
    def _give_back(self, blocks: array[int], kept: int) -> None:
        super()._give_back(blocks[: len(blocks) - (self.number % 8 == 0)], kept)


class FreesTwice(Leader):
    def abort(self, abort: Abort) -> None:
        if abort.request_id not in self._requests:
            self._samples = max(0, self._samples - 1)
        super().abort(abort)


class CountsOneSample(Leader):
    def _blocks_of(self, submit: Submit) -> int:
        return self._schedule.blocks.count_for(submit.prompt_tokens + submit.sampling.tokens_max)


class BelievesThatThereIsRoom(Leader):
    def _has_room(self, request: Request, wanted: int) -> bool:
        return True


class LetsTheSmallOvertake(Leader):
    def _choose(self) -> list[Submit]:
        self._waiting = type(self._waiting)(sorted(self._waiting, key=lambda each: self._requests[each].blocks))
        return super()._choose()


class AbortsAllForOne(Leader):
    def abort(self, abort: Abort) -> None:
        super().abort(Abort(abort.request_id))


class NeverAbortsASample(Leader):
    def abort(self, abort: Abort) -> None:
        if abort.sample < 0:
            super().abort(abort)


class LeavesTheWaitingToTheNextFrontEnd(Leader):
    def abort_all(self) -> None:
        for request_id, request in list(self._requests.items()):
            if request.phase is not Phase.WAITING:
                self.abort(Abort(request_id))


class SettlesBeforeTheFollowers(Leader):
    @property
    def settled(self) -> bool:
        return not self._requests and not self._finish


class GoesOneTokenTooFar(Leader):
    def sampled(self, drawn: tuple[SequenceId, ...], tokens: tuple[Drawn, ...]) -> None:
        for request_id, _ in drawn:
            request = self._requests[request_id]
            sampling = request.submit.sampling
            more = msgspec.structs.replace(sampling, tokens_max=sampling.tokens_max + 1)
            request.submit = msgspec.structs.replace(request.submit, sampling=more)
        super().sampled(drawn, tokens)
        for request_id, _ in drawn:
            if (request := self._requests.get(request_id)) is not None:
                sampling = request.submit.sampling
                less = msgspec.structs.replace(sampling, tokens_max=sampling.tokens_max - 1)
                request.submit = msgspec.structs.replace(request.submit, sampling=less)


class LosesAnAdmission(Leader):
    def propose(self) -> Plan | None:
        plan = super().propose()
        if plan is not None and len(plan.admit) > 1:
            return msgspec.structs.replace(plan, admit=plan.admit[1:])
        return plan


class AdmitsAgain(Leader):
    def propose(self) -> Plan | None:
        plan = super().propose()
        running = [each for each, request in self._requests.items() if request.phase is Phase.RUNNING]
        if plan is not None and plan.number % 16 == 0 and running and running[0] not in plan.admit:
            return msgspec.structs.replace(plan, admit=(*plan.admit, running[0]))
        return plan


# Schedules of one rank: it looks at something of its own.


class AdmitsWhatItHolds(Schedule):
    def apply(self, plan: Plan) -> Step:
        own = tuple(each for each in self.prepared if (each, 0) not in self.sequences and each not in plan.admit)
        return super().apply(msgspec.structs.replace(plan, admit=(*plan.admit, *own)))


class EvictsWhenItIsFull(Schedule):
    def apply(self, plan: Plan) -> Step:
        if len(self.prepared) > 2:
            del self.prepared[next(iter(self.prepared))]
        return super().apply(plan)


class KeepsItsFailuresToItself(Schedule):
    """Drops a request that it cannot serve without asking anybody."""

    def apply(self, plan: Plan) -> Step:
        kept = tuple(submit for submit in plan.prepare if submit.request_id % 3)
        return super().apply(msgspec.structs.replace(plan, prepare=kept))


class HasAnOrderOfItsOwn(Schedule):
    def _prefilling(self, decoding: list[Segment]) -> list[Segment]:
        self.sequences = dict(sorted(self.sequences.items(), key=lambda pair: pair[0][0] * 7 % 5))
        return super()._prefilling(decoding)


class HasAnotherBudget(Schedule):
    def _prefilling(self, decoding: list[Segment]) -> list[Segment]:
        self.prefill_tokens += self.number == 6
        return super()._prefilling(decoding)


# Schedules that all ranks share: they agree, and are wrong.


class YoungestFirst(Schedule):
    def _prefilling(self, decoding: list[Segment]) -> list[Segment]:
        self.sequences = dict(reversed(self.sequences.items()))
        try:
            return super()._prefilling(decoding)
        finally:
            self.sequences = dict(reversed(self.sequences.items()))


class PrefillsBeyondTheBudget(Schedule):
    def _prefilling(self, decoding: list[Segment]) -> list[Segment]:
        self.prefill_tokens += 1
        try:
            return super()._prefilling(decoding)
        finally:
            self.prefill_tokens -= 1


class PrefillsOnePromptAStep(Schedule):
    def _prefilling(self, decoding: list[Segment]) -> list[Segment]:
        segments = super()._prefilling(decoding)
        for segment in segments[1:]:
            self.sequences[segment.sequence].computed -= segment.count
        return segments[:1]


class StarvesADecode(Schedule):
    def _extend(self, sequence: Sequence, count: int, segments: list[Segment]) -> int:
        last = list(self.sequences.values())[-1]
        if sequence is last and sequence.decodes and self.number % 3 == 0:
            return 0
        return super()._extend(sequence, count, segments)


class ForksTooEarly(Schedule):
    def _draw(self, segments: tuple[Segment, ...]) -> Any:
        drawn = super()._draw(segments)
        for request_id, sample in drawn:
            self.sequences[request_id, sample].computed -= sample > 0
        return drawn


class DrawsOneSample(Schedule):
    def _prefilling(self, decoding: list[Segment]) -> list[Segment]:
        return [replace(segment, draws=min(segment.draws, 1)) for segment in super()._prefilling(decoding)]


class ComputesAChunkAgain(Schedule):
    def _prefilling(self, decoding: list[Segment]) -> list[Segment]:
        segments = super()._prefilling(decoding)
        for segment in segments:
            if segment.draws == 0:
                self.sequences[segment.sequence].computed -= 1
        return segments


class KeepsThePrepared(Schedule):
    def _finish(self, plan: Plan) -> Any:
        prepared = dict(self.prepared)
        drop, requests = super()._finish(plan)
        self.prepared |= {each: prepared[each] for each in requests if prepared[each].submit.sampling.samples > 1}
        return drop, requests


class WritesIntoSharedBlocks(Schedule):
    def _extend(self, sequence: Sequence, count: int, segments: list[Segment]) -> int:
        self.blocks.is_shared = lambda _: False  # type: ignore[method-assign]
        return super()._extend(sequence, count, segments)


class LosesACopy(Schedule):
    def apply(self, plan: Plan) -> Step:
        step = super().apply(plan)
        return replace(step, copies=step.copies[1:])


class FindsWhatIsNotComputed(Schedule):
    """Says of a block that it is complete when its first token is."""

    def _publish(self, segments: tuple[Segment, ...]) -> None:
        tokens = self.blocks.block_tokens
        for segment in segments:
            self.sequences[segment.sequence].computed += tokens - 1
        super()._publish(segments)
        for segment in segments:
            self.sequences[segment.sequence].computed -= tokens - 1


class ForgetsTheAnswerWhenItPreempts(Schedule):
    def _preempt(self, sequence: Sequence) -> None:
        super()._preempt(sequence)
        del sequence.tokens[1:]


class EndsARequestWithItsFirstSample(Schedule):
    def _finish(self, plan: Plan) -> Any:
        whole = tuple(msgspec.structs.replace(finish, sample=-1) for finish in plan.finish)
        return super()._finish(msgspec.structs.replace(plan, finish=whole))


def on_one_rank(mutant: type[Schedule]) -> Parts:
    return Parts(schedule=lambda rank, *arguments: (mutant if rank == 1 else Schedule)(*arguments))


def on_all_ranks(mutant: type[Schedule]) -> Parts:
    return Parts(schedule=lambda _rank, *arguments: mutant(*arguments))


LOCAL = (AdmitsWhatItHolds, EvictsWhenItIsFull, KeepsItsFailuresToItself, HasAnOrderOfItsOwn, HasAnotherBudget)
MUTANTS: dict[str, Callable[..., Simulation]] = (
    {
        mutant.__name__: partial(Simulation, leader=mutant)
        for mutant in Leader.__subclasses__()
        if mutant.__module__ == __name__  # those of parcels have a file of their own
    }
    | {mutant.__name__: partial(Simulation, parts=on_one_rank(mutant)) for mutant in LOCAL}
    | {
        mutant.__name__: partial(Simulation, parts=on_all_ranks(mutant))
        for mutant in Schedule.__subclasses__()
        if mutant not in LOCAL
    }
)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_kills(name: str) -> None:
    assert killed_by(MUTANTS[name], name) is not None, "it survived"


def test_the_hunt_spares_the_real_one() -> None:
    assert killed_by(Simulation, seeds=20) is None


class LiesAboutItsLog(Schedule):
    """Does what all do, and says something else."""

    def apply(self, plan: Plan) -> Step:
        step = super().apply(plan)
        if self.number == 5:
            self.digest = bytes(16)
        return step


def test_the_leader_itself_notices_another_log() -> None:
    error = killed_by(partial(Simulation, parts=on_one_rank(LiesAboutItsLog)))
    assert isinstance(error, Diverged)


def test_the_simulation_notices_where_the_leader_is_deaf() -> None:
    class Deaf(Leader):
        def position(self, position: Position) -> None:
            own = dict(self._own).get(position.number, position.digest)
            super().position(msgspec.structs.replace(position, digest=own))

    error = killed_by(partial(Simulation, leader=Deaf, parts=on_one_rank(HasAnOrderOfItsOwn)), "Deaf")
    assert isinstance(error, AssertionError)


@pytest.mark.parametrize(
    ("function", "piece", "instead"),
    [
        (_marks, " + item.content_key", ""),
        (Chain._close, "[CHAIN_VERSION, self.salt]", "[CHAIN_VERSION]"),
        (Chain._close, "[before, ids, *marks]", "[ids, *marks]"),
    ],
    ids=["another picture's", "another tenant's", "another prefix's"],
)
def test_keys_and_values_of_something_else_are_noticed(function: Any, piece: str, instead: str) -> None:
    with mutated(function, piece, instead):
        error = killed_by(Simulation, piece)
    assert isinstance(error, Violation)
