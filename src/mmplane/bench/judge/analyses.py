"""The predictions of the five analyses, as a table. Pure.

`quote` is in the words of an analysis; tests/unit/bench/test_predictions.py holds all of them. Where they are absolute
times or rates, `implied` is the ratio that they imply, since no two machines agree on milliseconds. `setting` is where
the prediction is about; the other settings show what becomes of it elsewhere. `because` says what decides the figure,
whatever it is.
"""

from __future__ import annotations

import msgspec

from mmplane.bench.judge import measures
from mmplane.bench.judge.evidence import CLIP
from mmplane.bench.judge.measures import FIFTY, MANY, ONE, TEN, Measure, amount, pickled, ratio, share, tested

INFINITE = float("inf")
LARGE = ("incident:500:90MB", "video-2mb")
"""Pickling counts by the byte."""
HASHED = ("incident:10", "photo", "video-2mb")
"""Analysis A1 speaks of features whose hash takes longer than their making."""
PHOTO = ("incident:500", "photo", "video-2mb")


class Prediction(msgspec.Struct, frozen=True):
    """One claim: the figure of `measure` should lie between `low` and `high` in `setting`, `at` so many requests."""

    id: str
    analysis: str
    quote: str
    what: str
    implied: str
    low: float
    high: float
    measure: Measure
    because: str
    setting: str = "incident"
    at: tuple[int, ...] | None = None
    """Only rows of this pace are judged."""
    test: str | None = None
    """Who counts it, where no bench does."""


def _cpu(delivery: str, against: str, workloads: tuple[str, ...] = CLIP) -> Measure:
    return ratio(measures.cpu_ms, delivery, against, at=TEN, unit="ms of CPU", workloads=workloads)


def _latency(delivery: str, against: str, workloads: tuple[str, ...] = CLIP) -> Measure:
    return ratio(measures.latency_ms, delivery, against, at=ONE, unit="ms", workloads=workloads)


def _rate(delivery: str, against: str, at: tuple[int, ...] = TEN, workloads: tuple[str, ...] = CLIP) -> Measure:
    return ratio(measures.rate, delivery, against, at=at, unit="req/s", workloads=workloads)


PREDICTIONS = (
    Prediction(
        "I1", "incident", "2,000 ms of CPU for 500 ms of useful work",
        "CPU of `original` against `arena`, which works once",
        "4 x", 3.0, 4.4, _cpu("original", "arena"),
        "Four ranks materialise what one process could; the rest is what each request costs anyway.",
    ),
    Prediction(
        "I2", "incident", "CPU fell by 75 %", "CPU of the commit (`leader`) against `original`", "0.25 x", 0.2, 0.35,
        _cpu("leader", "original"),
        "One decode instead of four, and in exchange a pickle on the leader and an unpickle on each follower.",
    ),
    Prediction(
        "I3", "incident", "throughput collapsed", "rate of the commit against `original`, high concurrency",
        "below 0.8 x", 0.0, 0.8, _rate("leader", "original", MANY),
        "Both work through their requests one after the other on the only thread of a loop; what the commit adds is a "
        "pickle, a transfer and an unpickle for each.",
        at=MANY,
    ),
    Prediction(
        "I4", "incident", "throughput collapsed", "the same with features of 90 MB, 10 at once",
        "below 0.8 x", 0.0, 0.8,
        _rate("leader", "original", TEN, LARGE),
        "As above; the larger the features, the more the commit adds to each.", at=TEN,
    ),
    Prediction(
        "I5", "incident", "CPU sat at 99.9 %", "busiest thread of the commit, share of one core", "99.9 %", 0.9, 1.05,
        share(measures.busiest, "leader", at=MANY, what="of one core"),
        "The figure can only mean the scheduler's thread: it is busy while anything waits, and the other cores are "
        "not.",
        at=MANY,
    ),
    Prediction(
        "I6", "incident", "can pass 500 ms", "pickling and unpickling the finished object, 90 MB", "over 500 ms",
        500.0, INFINITE,
        pickled("finished", None, measures.there_and_back, "ms", "video"),
        "Pickle copies every byte, and torch's way of pickling a tensor copies it more than once; memory bandwidth "
        "decides.",
    ),
    Prediction(
        "A1.1", "A1", "CPU -75 % vs original (80 -> 20 ms)", "hash of the features, `eager` against `original`",
        "0.25 x", 0.2, 0.3,
        ratio(measures.hash_ms, "eager", "original", at=ONE, unit="ms of hashing", workloads=HASHED),
        "Each rank hashes the same bytes in `original`, and `eager` hashes once in the front end.",
    ),
    Prediction(
        "A1.2", "A1", "latency -65 % vs the commit (100 -> 35 ms)", "latency of `eager` against `leader`", "0.35 x",
        0.25, 0.45,
        _latency("eager", "leader", HASHED),
        "Both move the features once more than `original`: `leader` pickles them and each follower unpickles them, "
        "`eager` streams bytes to "
        "every rank.",
    ),
    Prediction(
        "A1.3", "A1", "+17 % vs original", "latency of `eager` against `original`", "1.17 x", 1.05, 1.3,
        _latency("eager", "original", HASHED),
        "`original` sends the small file and works in parallel; `eager` sends the features to every rank.",
    ),
    Prediction(
        "A2.1", "A2", "saves repeats only", "CPU with A2's cache against none, no repeats", "1 x", 0.9, 1.1,
        measures.repeats("leader", 0),
        "Without repeats a cache finds nothing; what is left is noise.", setting="cores",
    ),
    Prediction(
        "A2.2", "A2", "saves repeats only", "CPU with A2's cache against none, 80 % repeats",
        "0.2 x of what is cached", 0.0, 0.9,
        measures.repeats("leader", 80),
        "Every repeat saves materialising and broadcasting; each rank keeps its own copy, so TP copies are paid in "
        "memory.", setting="cores",
    ),
    Prediction(
        "A2.3", "A2", "gives false hits", "wrong features served by a key of dict names", "0 here", 0, 0,
        tested(0, "wrong of 2"),
        "Here the key is a digest of the content; the test's mutant takes the proposed key and is caught.",
        test="tests/unit/ranks/plan/test_cache_keys.py::test_the_proposed_key_serves_the_wrong_features",
    ),
    Prediction(
        "A3", "A3", "main thread not blocked", "loop stall (p99) of `leader-async` against `leader`", "near 0 x", 0.0,
        0.25,
        ratio(measures.stall_ms, "leader-async", "leader", at=TEN, unit="ms of stall"),
        "The pool takes the work off the loop; what is left are the moments in which pickling holds the interpreter's "
        "lock.",
    ),
    Prediction(
        "A4.1", "A4", "pickled size of object vs dict", "size of the finished object against the raw dict, photograph",
        "larger", 1.0, INFINITE,
        pickled("finished", "raw", measures.megabytes, "MB", "image"),
        "The dict holds the JPEG, the object its pixels as float32, each frame twice.",
    ),
    Prediction(
        "A4.2", "A4", "pickled size of object vs dict", "time to pickle and unpickle, the same two", "larger", 1.0,
        INFINITE,
        pickled("finished", "raw", measures.there_and_back, "ms", "image"),
        "The time grows by more than the size: a tensor of torch is copied more than once to be pickled.",
    ),
    Prediction(
        "A4.3", "A4", "pickled size of object vs dict", "size of the finished object against the raw dict, clip",
        "larger", 1.0, INFINITE,
        pickled("finished", "raw", measures.megabytes, "MB", "video"),
        "The dict holds two megabytes of H.264, the object eight frames of it as float32.",
    ),
    Prediction(
        "A4.4", "A4", "pickled size of object vs dict", "time to pickle and unpickle, the same two, clip",
        "larger", 1.0, INFINITE,
        pickled("finished", "raw", measures.there_and_back, "ms", "video"),
        "As with the photograph, and memory bandwidth is the limit.",
    ),
    Prediction(
        "A4.5", "A4", "every consumer accepts the new type", "deliveries whose ranks get the same features", "all", 10,
        10,
        tested(10, "of 10"),
        "One conformance suite runs over all deliveries, objects and dicts alike.",
        test="tests/process/test_deliveries.py::test_right_answers",
    ),
    Prediction(
        "A4.6", "A4", "what happens when construction fails in the tokenizer",
        "requests lost by one that cannot be materialised", "0 others", 0, 0,
        tested(0, "others"),
        "A failure is a value that travels instead of the payload: one request gets an error, its neighbours answers.",
        test="tests/process/test_deliveries.py::test_one_bad_between_two_good",
    ),
    Prediction(
        "B1.1", "B1", "CPU 2,000 -> 500 ms", "CPU of `eager` against `original`", "0.25 x", 0.2, 0.35,
        _cpu("eager", "original"),
        "One decode instead of four, and in exchange the features cross a socket to every rank.",
    ),
    Prediction(
        "B1.2", "B1", "latency 500 (original) / 750 (commit)",
        "latency of the commit against `original`, one at a time", "1.5 x", 1.2, 1.7,
        _latency("leader", "original"), "Pickle, broadcast and unpickle come after the decode, one after the other.",
        at=ONE,
    ),
    Prediction(
        "B1.3", "B1", "/ 650 ms", "latency of `eager` against `original`, one at a time", "1.3 x", 1.05, 1.45,
        _latency("eager", "original"),
        "The features are sent after they are made; how long that takes is their size over the socket's rate.", at=ONE,
    ),
    Prediction(
        "B1.4", "B1", "10 concurrent: 2 / 1.3", "rate of the commit against `original`, 10 at once", "0.65 x", 0.5, 0.8,
        _rate("leader", "original"), "Both are serial on one thread, so each rate is one over its latency.", at=TEN,
    ),
    Prediction(
        "B1.5", "B1", "/ 1.7 req/s", "rate of `eager` against `original`, 10 at once", "0.85 x", 0.7, 1.0,
        _rate("eager", "original"),
        "The analysis counts one materialisation at a time; with B2's threads several run at once.", at=TEN,
    ),
    Prediction(
        "B1.6", "B1", "CPU use < 70 %", "busiest thread of `eager`, share of one core", "below 70 %", 0.0, 0.7,
        share(measures.busiest, "eager", at=TEN, what="of one core"),
        "No rank materialises; what is left for the busiest thread is to move features.", at=TEN,
    ),
    Prediction(
        "B2", "B2", "scales the tokenizer", "rate of `eager`, 10 at once against one at a time",
        "up to 4 x with 4 threads", 2.0, 4.4,
        measures.scaling("eager"),
        "Four threads materialise at once where cores are free; where they are not, threads share them.", at=TEN,
    ),
    Prediction(
        "B3", "B3", "less to send", "bytes that `eager-compact` sends against `eager`", "below 1 x", 0.0, 0.99,
        ratio(measures.sent_bytes, "eager-compact", "eager", at=TEN, unit="bytes", workloads=PHOTO),
        "Features of 8-bit pixels travel as those pixels, which is exact; plain bytes that look random cannot be "
        "packed.", setting="cores",
    ),
    Prediction(
        "B4.1", "B4", "520 ms latency", "latency of `arena` against `original`, one at a time", "1.04 x", 0.85, 1.1,
        _latency("arena", "original"),
        "The worker decodes as a rank would, and a record of a few hundred bytes follows.", at=ONE,
    ),
    Prediction(
        "B4.2", "B4", "high throughput", "rate of `arena` against `original`, 10 at once", "above 1 x", 1.0, INFINITE,
        _rate("arena", "original"),
        "Workers materialise different requests at once, and no rank's loop waits for them.", at=TEN,
    ),
    Prediction(
        "C1.1", "C1", "serialisation 500 -> 50 ms", "pickling the raw dict against the finished object, 90 MB",
        "0.1 x", 0.0, 0.15,
        pickled("raw", "finished", measures.there_and_back, "ms", "video"),
        "The dict is as small as the file, and a tensor of torch is copied more than once to be pickled.",
    ),
    Prediction(
        "C1.2", "C1", "2-3x the commit's throughput", "rate of `delayed` against `leader`", "2 to 3 x", 2.0, 3.0,
        _rate("delayed", "leader"),
        "`delayed` saves the collective of features and nothing of the decode, which stays on the loop of every rank.",
        at=TEN,
    ),
    Prediction(
        "C2.1", "C2", "a further 1.5-2x", "rate of `leader-async` against `leader`", "1.5 to 2 x", 1.5, 2.0,
        _rate("leader-async", "leader"),
        "The pool's threads (four, as A3 has it) decode at once; broadcasts stay one after the other.", at=TEN,
    ),
    Prediction(
        "C2.2", "C2", "a further 1.5-2x", "rate of `delayed-async` against `delayed`", "1.5 to 2 x", 1.5, 2.0,
        _rate("delayed-async", "delayed"), "The pool's two threads decode two requests at once on every rank.", at=TEN,
    ),
    Prediction(
        "C3", "C3", "3-5x the commit's throughput", "rate of `delayed-async` against `leader`", "3 to 5 x", 3.0, 5.0,
        _rate("delayed-async", "leader"), "It is C1 times C2, and each of them is what its own row says.", at=TEN,
    ),
    Prediction(
        "C4", "C4", "sync/async chosen at run time", "requests lost when the delivery is switched among 100 that run",
        "0", 0, 0,
        tested(0, "of 100"), "The choice travels in the request's record, so what is in flight ends as it began.",
        test="tests/process/test_switching.py::test_in_the_middle_of_100_requests",
    ),
    Prediction(
        "C5.1", "C5", "100 concurrent requests; mean and p99",
        "latency of `delayed-async` against `leader`, 100 at once (mean)", "below 1 x",
        0.0, 1.0, ratio(measures.latency_ms, "delayed-async", "leader", at=MANY, unit="ms"),
        "With 100 at once latency is mostly waiting, so it is the inverse of the rate.", at=MANY,
    ),
    Prediction(
        "C5.2", "C5", "100 concurrent requests; mean and p99",
        "latency of `delayed-async` against `leader`, 100 at once (p99)", "below 1 x",
        0.0, 1.0, ratio(measures.p99_ms, "delayed-async", "leader", at=MANY, unit="ms"),
        "The last of 100 has waited for all before it; fewer than 200 requests make p99 their maximum.", at=MANY,
    ),
    Prediction(
        "C5.3", "C5", "metrics for broadcast time", "time in broadcasts, `delayed` against `leader`", "below 1 x", 0.0,
        0.5,
        ratio(measures.broadcast_ms, "delayed", "leader", at=TEN, unit="ms"),
        "The dict is as small as the file; the object as large as the features.",
        at=TEN,
    ),
    Prediction(
        "C5.4", "C5", "materialise time per rank", "median of the slowest rank against the quickest, `original`",
        "1 x", 1.0, 1.25,
        amount(measures.uneven, "original", at=TEN, unit="x"),
        "All ranks do the same work; what differs is when each gets a core.", at=TEN,
    ),
    Prediction(
        "D1.1", "D1", "10 broadcasts 572 -> 210 ms (-63 %)",
        "time in broadcasts, `leader-batch` against `leader`, 10 at once", "0.37 x", 0.3, 0.45,
        ratio(measures.broadcast_ms, "leader-batch", "leader", at=TEN, unit="ms a request"),
        "Batching saves a collective's fixed cost; every byte is pickled and sent all the same.", at=TEN,
    ),
    Prediction(
        "D1.2", "D1", "throughput +6 % (batch 10)", "rate of `leader-batch` against `leader`, 10 at once", "1.06 x",
        1.02, 1.1,
        _rate("leader-batch", "leader"),
        "The fixed cost that is saved is small beside a decode.", at=TEN,
    ),
    Prediction(
        "D1.3", "D1", "+10 % (batch 50)", "rate of `leader-batch` against `leader`, 50 at once", "1.1 x", 1.04, 1.16,
        _rate("leader-batch", "leader", FIFTY),
        "As with ten: larger batches share one fixed cost, and wait for each other's decodes.", at=FIFTY,
    ),
    Prediction(
        "D1.4", "D1", "CPU < 60 %", "busiest thread of `leader-batch`, share of one core", "below 60 %", 0.0, 0.6,
        share(measures.busiest, "leader-batch", at=TEN, what="of one core"),
        "The leader's loop still does all the work of all requests.", at=TEN,
    ),
    Prediction(
        "D1.5", "D1", "p99 < 600 ms", "p99 of `leader-batch` against the mean of `original`, 10 at once",
        "1.2 x of 500 ms", 0.0, 1.2,
        measures.p99_over_mean("leader-batch", "original"),
        "A request waits for its whole batch; ten decodes of half a second on one thread cannot end within one.",
        at=TEN,
    ),
    Prediction(
        "D1.6", "D1", "QPS > 1.8 (commit 1.5)", "rate of `leader-batch` against `leader`, 10 at once", "above 1.2 x",
        1.2, INFINITE,
        _rate("leader-batch", "leader"),
        "The analysis predicts +6 % above and +20 % here; at most one of them can hold.", at=TEN,
    ),
    Prediction(
        "D1.7", "D1", "(commit 1.5)", "rate of `leader` against `original`, 10 at once", "0.75 x of 2 req/s", 0.65,
        0.85,
        _rate("leader", "original"), "The same ratio that B1 puts at 0.65.", at=TEN,
    ),
    Prediction(
        "D1.8", "D1", "no leak", "memory after a long run against its beginning", "0 %", -0.05, 0.05, measures.growth,
        "The result cache is popped by request id and bounded.", setting="cores",
    ),
    Prediction(
        "D1.9", "D1", "sent in one collective", "collectives of a request, `leader-batch` against `leader`, 50 at once",
        "1/50 x", 0.0, 0.1,
        ratio(measures.collectives, "leader-batch", "leader", at=FIFTY, unit="collectives a request"),
        "One for each batch that forms, so one over the batch's size.", at=FIFTY,
    ),
    Prediction(
        "D1.10", "D1", "results wait in a cache, popped by request id", "results found by their request id", "100 %",
        0.99, 1.0,
        share(measures.found, "leader-batch", at=FIFTY, what="of the results"),
        "A result is stored by every batch before its request looks for it.",
        at=FIFTY,
    ),
    Prediction(
        "D1.11", "D1", "FIFO bound 1,000", "most results in the cache of `leader-batch`", "at most 1,000", 0, 1000,
        amount(measures.entries, "leader-batch", at=MANY, unit="results"),
        "A result leaves with its request, so the bound is never met.", at=MANY,
    ),
    Prediction(
        "D1.12", "D1", "skipped when TP=1", "collectives of any delivery with one rank", "0", 0, 0,
        tested(0, "collectives"),
        "With one rank no delivery enters a collective.",
        test="tests/unit/delivery/test_contract.py::test_without_a_group_there_is_no_collective",
    ),
)  # fmt: skip
