"""The names of a request's stages, for histograms, traces, timelines and alerts. Pure.

A request is in one *phase* at a time. Two phases consist of stages that other processes measure:

    queue  body  fetch  key  probe  prompt  materialise  hold  prefill  generate  reply
                                                │         └─ admission  deliver  encode          (leader, every rank)
                                                └─ slot_wait  decode  transform  handoff | flight         (worker)

Each process measures its own part and reports it in an answer that it sends anyway: when it began on CLOCK_MONOTONIC,
which all processes of a machine share, and how long it took.
"""

from __future__ import annotations

from mmplane.core.records import Name, Record

PHASES = (
    "queue",  # waits until the budget has room for the body
    "body",  # read and parsed
    "fetch",  # base64 decoded, or loaded from a host or a file
    "key",  # media are hashed
    "probe",  # headers are read; a worker examines clips and sounds
    "prompt",  # template, tokens, length check
    "materialise",  # until the request's items are ready to be sent
    "hold",  # from there until every rank holds the request
    "prefill",  # until the first token
    "generate",  # until the last token
    "reply",  # until the answer has been sent
)

SUMS = {
    "materialise": (
        "slot_wait",  # waits for a worker, memory to decode in and a slot
        "flight",  # waits for another request's materialisation of the same item
        "decode",
        "transform",
        "handoff",  # messages travel to the worker and back
    ),
    "hold": (
        "admission",  # in the leader's queue, then until all ranks have agreed
        "deliver",  # until the slowest rank has the features, without the time to make them
        "encode",  # vision or audio tower, on the slowest rank
    ),
}
"""The parts of those phases that are measured in parts. The rest of such a phase is the front end's own work."""

STAGES = tuple(stage for phase in PHASES for stage in SUMS.get(phase, (phase,)))
"""The stages with a histogram."""


class Span(Record, frozen=True):
    """The time that a process spent in a stage: from `began_s` on CLOCK_MONOTONIC, for `seconds`."""

    stage: Name
    process: Name
    began_s: float
    seconds: float
