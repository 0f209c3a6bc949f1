"""The stages of a request, by name: what histograms, traces, timelines and alerts mean by them. Pure.

A request is in one *phase* at a time. Two phases are made of stages that others measure:

    queue  body  fetch  key  probe  prompt  materialise  hold  prefill  generate  reply
                                                │         └─ admission  deliver  encode          (leader, every rank)
                                                └─ slot_wait  decode  transform  handoff | flight         (worker)

Each process measures its own part, where it happens, and says it in an answer that it sends anyway: when it began on
CLOCK_MONOTONIC, which all processes of a machine share, and how long it took.
"""

from __future__ import annotations

from mmplane.core.records import Name, Record

PHASES = (
    "queue",  # until the budget has room for the body
    "body",  # read and parsed
    "fetch",  # base64 decoded, or loaded from a host or a file
    "key",  # digested
    "probe",  # headers read; into clips and sounds a worker looks
    "prompt",  # template, tokens, length check
    "materialise",  # until its items are ready to be sent
    "hold",  # from there until every rank holds it
    "prefill",  # until its first token
    "generate",  # until its last
    "reply",  # until the answer has been sent
)

SUMS = {
    "materialise": (
        "slot_wait",  # for a worker, memory to decode in and a slot
        "flight",  # for another request's materialisation of the same item
        "decode",
        "transform",
        "handoff",  # to the worker and back
    ),
    "hold": (
        "admission",  # in the leader's queue, and until all ranks agreed
        "deliver",  # until the slowest rank had the features, apart from making them
        "encode",  # vision or audio tower, on the slowest rank
    ),
}
"""Phases that are measured in parts; what is left of a phase beside them is the front end's own work."""

STAGES = tuple(stage for phase in PHASES for stage in SUMS.get(phase, (phase,)))
"""What has a histogram."""


class Span(Record, frozen=True):
    """That a process was at a stage: from `began_s` on CLOCK_MONOTONIC, for so many seconds."""

    stage: Name
    process: Name
    began_s: float
    seconds: float
