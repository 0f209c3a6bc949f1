"""The predictions of the five analyses, as a table. Pure.

`quote` is taken from an analysis; tests/unit/bench/test_predictions.py has all of them. If it is an absolute time or
rate, `implied` is the ratio that follows from it, because no two machines agree on milliseconds. `setting` is the one
that the prediction is about; the other settings show how it does elsewhere. `because` explains what determines the
figure, whatever its value is.
"""

from __future__ import annotations

import msgspec

from mmplane.bench.judge import measures
from mmplane.bench.judge.evidence import CLIP
from mmplane.bench.judge.measures import FIFTY, MANY, ONE, TEN, Measure, amount, pickled, ratio, share, tested

INFINITE = float("inf")
LARGE = ("incident:500:90MB", "video-2mb")
"""For pickling, whose cost grows with the number of bytes."""
HASHED = ("incident:10", "photo", "video-2mb")
"""Analysis A1 is about features that take longer to hash than to make."""
PHOTO = ("incident:500", "photo", "video-2mb")


class Prediction(msgspec.Struct, frozen=True):
    """One claim: in `setting`, with `at` concurrent requests, `measure` should lie between `low` and `high`."""

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
    """If set, only rows with one of these numbers of concurrent requests are judged."""
    test: str | None = None
    """The test that counts it, if no benchmark does."""


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
        "Four ranks materialise what one process could; each request also has a fixed cost.",
    ),
    Prediction(
        "I2", "incident", "CPU fell by 75 %", "CPU of the commit (`leader`) against `original`", "0.25 x", 0.2, 0.35,
        _cpu("leader", "original"),
        "There is one decode instead of four, but also a pickle on the leader and an unpickle on each follower.",
    ),
    Prediction(
        "I3", "incident", "throughput collapsed", "rate of the commit against `original`, high concurrency",
        "below 0.8 x", 0.0, 0.8, _rate("leader", "original", MANY),
        "Both process their requests one after the other on the loop's only thread; the commit adds a "
        "pickle, a transfer and an unpickle to each.",
        at=MANY,
    ),
    Prediction(
        "I4", "incident", "throughput collapsed", "the same with features of 90 MB, 10 at once",
        "below 0.8 x", 0.0, 0.8,
        _rate("leader", "original", TEN, LARGE),
        "The reason is the same as above, and the commit adds more to each request if the features are larger.", at=TEN,
    ),
    Prediction(
        "I5", "incident", "CPU sat at 99.9 %", "busiest thread of the commit, share of one core", "99.9 %", 0.9, 1.05,
        share(measures.busiest, "leader", at=MANY, what="of one core"),
        "The figure can only refer to the scheduler's thread, which is busy while anything waits; the other cores are "
        "idle.",
        at=MANY,
    ),
    Prediction(
        "I6", "incident", "can pass 500 ms", "pickling and unpickling the finished object, 90 MB", "over 500 ms",
        500.0, INFINITE,
        pickled("finished", None, measures.there_and_back, "ms", "video"),
        "Pickle copies every byte, and torch copies a tensor more than once to pickle it; memory bandwidth is "
        "the limit.",
    ),
    Prediction(
        "A1.1", "A1", "CPU -75 % vs original (80 -> 20 ms)", "hash of the features, `eager` against `original`",
        "0.25 x", 0.2, 0.3,
        ratio(measures.hash_ms, "eager", "original", at=ONE, unit="ms of hashing", workloads=HASHED),
        "In `original` each rank hashes the same bytes; with `eager` the front end hashes them once.",
    ),
    Prediction(
        "A1.2", "A1", "latency -65 % vs the commit (100 -> 35 ms)", "latency of `eager` against `leader`", "0.35 x",
        0.25, 0.45,
        _latency("eager", "leader", HASHED),
        "Both transfer the features, which `original` does not: `leader` pickles them and each follower unpickles "
        "them, and `eager` streams the bytes to every rank.",
    ),
    Prediction(
        "A1.3", "A1", "+17 % vs original", "latency of `eager` against `original`", "1.17 x", 1.05, 1.3,
        _latency("eager", "original", HASHED),
        "`original` sends the small file and works in parallel; `eager` sends the features to every rank.",
    ),
    Prediction(
        "A2.1", "A2", "saves repeats only", "CPU with A2's cache against none, no repeats", "1 x", 0.9, 1.1,
        measures.repeats("leader", 0),
        "Without repeats a cache finds nothing, so the difference is noise.", setting="cores",
    ),
    Prediction(
        "A2.2", "A2", "saves repeats only", "CPU with A2's cache against none, 80 % repeats",
        "0.2 x of what is cached", 0.0, 0.9,
        measures.repeats("leader", 80),
        "Every repeat saves materialising and broadcasting; the price is memory, because each rank keeps its own "
        "copy.", setting="cores",
    ),
    Prediction(
        "A2.3", "A2", "gives false hits", "wrong features served by a key of dict names", "0 here", 0, 0,
        tested(0, "wrong of 2"),
        "Here the key is a digest of the content; a mutant with the proposed key fails the test.",
        test="tests/unit/ranks/plan/test_cache_keys.py::test_the_proposed_key_serves_the_wrong_features",
    ),
    Prediction(
        "A3", "A3", "main thread not blocked", "loop stall (p99) of `leader-async` against `leader`", "near 0 x", 0.0,
        0.25,
        ratio(measures.stall_ms, "leader-async", "leader", at=TEN, unit="ms of stall"),
        "The pool does the work outside the loop; the loop only stalls while pickling holds the interpreter's "
        "lock.",
    ),
    Prediction(
        "A4.1", "A4", "pickled size of object vs dict", "size of the finished object against the raw dict, photograph",
        "larger", 1.0, INFINITE,
        pickled("finished", "raw", measures.megabytes, "MB", "image"),
        "The dict holds the JPEG; the object holds its pixels as float32, each frame twice.",
    ),
    Prediction(
        "A4.2", "A4", "pickled size of object vs dict", "time to pickle and unpickle, the same two", "larger", 1.0,
        INFINITE,
        pickled("finished", "raw", measures.there_and_back, "ms", "image"),
        "The time grows by more than the size, because torch copies a tensor more than once to pickle it.",
    ),
    Prediction(
        "A4.3", "A4", "pickled size of object vs dict", "size of the finished object against the raw dict, clip",
        "larger", 1.0, INFINITE,
        pickled("finished", "raw", measures.megabytes, "MB", "video"),
        "The dict holds two megabytes of H.264; the object holds eight frames of it as float32.",
    ),
    Prediction(
        "A4.4", "A4", "pickled size of object vs dict", "time to pickle and unpickle, the same two, clip",
        "larger", 1.0, INFINITE,
        pickled("finished", "raw", measures.there_and_back, "ms", "video"),
        "The reason is the same as for the photograph, and memory bandwidth is the limit.",
    ),
    Prediction(
        "A4.5", "A4", "every consumer accepts the new type", "deliveries whose ranks get the same features", "all", 10,
        10,
        tested(10, "of 10"),
        "The same conformance suite runs over all deliveries, with objects and with dicts.",
        test="tests/process/test_deliveries.py::test_right_answers",
    ),
    Prediction(
        "A4.6", "A4", "what happens when construction fails in the tokenizer",
        "requests lost by one that cannot be materialised", "0 others", 0, 0,
        tested(0, "others"),
        "A failure travels as a value in place of the payload: one request gets an error, the others get answers.",
        test="tests/process/test_deliveries.py::test_one_bad_between_two_good",
    ),
    Prediction(
        "B1.1", "B1", "CPU 2,000 -> 500 ms", "CPU of `eager` against `original`", "0.25 x", 0.2, 0.35,
        _cpu("eager", "original"),
        "There is one decode instead of four, but the features cross a socket to every rank.",
    ),
    Prediction(
        "B1.2", "B1", "latency 500 (original) / 750 (commit)",
        "latency of the commit against `original`, one at a time", "1.5 x", 1.2, 1.7,
        _latency("leader", "original"), "Pickle, broadcast and unpickle follow the decode, one after the other.",
        at=ONE,
    ),
    Prediction(
        "B1.3", "B1", "/ 650 ms", "latency of `eager` against `original`, one at a time", "1.3 x", 1.05, 1.45,
        _latency("eager", "original"),
        "The features are sent after they are made, which takes their size divided by the rate of the socket.", at=ONE,
    ),
    Prediction(
        "B1.4", "B1", "10 concurrent: 2 / 1.3", "rate of the commit against `original`, 10 at once", "0.65 x", 0.5, 0.8,
        _rate("leader", "original"),
        "Both run serially on one thread, so the rate is the inverse of the latency.", at=TEN,
    ),
    Prediction(
        "B1.5", "B1", "/ 1.7 req/s", "rate of `eager` against `original`, 10 at once", "0.85 x", 0.7, 1.0,
        _rate("eager", "original"),
        "The analysis assumes one materialisation at a time; with B2's threads several run at once.", at=TEN,
    ),
    Prediction(
        "B1.6", "B1", "CPU use < 70 %", "busiest thread of `eager`, share of one core", "below 70 %", 0.0, 0.7,
        share(measures.busiest, "eager", at=TEN, what="of one core"),
        "No rank materialises, so the busiest thread only moves features.", at=TEN,
    ),
    Prediction(
        "B2", "B2", "scales the tokenizer", "rate of `eager`, 10 at once against one at a time",
        "up to 4 x with 4 threads", 2.0, 4.4,
        measures.scaling("eager"),
        "Four threads materialise at once if enough cores are free; otherwise they share the cores.", at=TEN,
    ),
    Prediction(
        "B3", "B3", "less to send", "bytes that `eager-compact` sends against `eager`", "below 1 x", 0.0, 0.99,
        ratio(measures.sent_bytes, "eager-compact", "eager", at=TEN, unit="bytes", workloads=PHOTO),
        "Features of 8-bit pixels are sent as those pixels, without loss; bytes that look random cannot be "
        "packed.", setting="cores",
    ),
    Prediction(
        "B4.1", "B4", "520 ms latency", "latency of `arena` against `original`, one at a time", "1.04 x", 0.85, 1.1,
        _latency("arena", "original"),
        "The worker decodes as fast as a rank would, and then sends only a record of a few hundred bytes.", at=ONE,
    ),
    Prediction(
        "B4.2", "B4", "high throughput", "rate of `arena` against `original`, 10 at once", "above 1 x", 1.0, INFINITE,
        _rate("arena", "original"),
        "Workers materialise several requests at once, and no rank's loop waits for them.", at=TEN,
    ),
    Prediction(
        "C1.1", "C1", "serialisation 500 -> 50 ms", "pickling the raw dict against the finished object, 90 MB",
        "0.1 x", 0.0, 0.15,
        pickled("raw", "finished", measures.there_and_back, "ms", "video"),
        "The dict is as small as the file, and torch copies a tensor more than once to pickle it.",
    ),
    Prediction(
        "C1.2", "C1", "2-3x the commit's throughput", "rate of `delayed` against `leader`", "2 to 3 x", 2.0, 3.0,
        _rate("delayed", "leader"),
        "`delayed` saves the transfer of the features, but every rank still decodes on its loop.",
        at=TEN,
    ),
    Prediction(
        "C2.1", "C2", "a further 1.5-2x", "rate of `leader-async` against `leader`", "1.5 to 2 x", 1.5, 2.0,
        _rate("leader-async", "leader"),
        "The pool's threads (four, as in A3) decode at once; broadcasts still run one after the other.", at=TEN,
    ),
    Prediction(
        "C2.2", "C2", "a further 1.5-2x", "rate of `delayed-async` against `delayed`", "1.5 to 2 x", 1.5, 2.0,
        _rate("delayed-async", "delayed"), "The pool's two threads decode two requests at once on every rank.", at=TEN,
    ),
    Prediction(
        "C3", "C3", "3-5x the commit's throughput", "rate of `delayed-async` against `leader`", "3 to 5 x", 3.0, 5.0,
        _rate("delayed-async", "leader"), "C3 combines C1 and C2, so the ratio is the product of their rows.", at=TEN,
    ),
    Prediction(
        "C4", "C4", "sync/async chosen at run time", "requests lost when the delivery is switched among 100 that run",
        "0", 0, 0,
        tested(0, "of 100"),
        "The request's record carries the choice, so requests in flight finish with the delivery that they started "
        "with.",
        test="tests/process/test_switching.py::test_in_the_middle_of_100_requests",
    ),
    Prediction(
        "C5.1", "C5", "100 concurrent requests; mean and p99",
        "latency of `delayed-async` against `leader`, 100 at once (mean)", "below 1 x",
        0.0, 1.0, ratio(measures.latency_ms, "delayed-async", "leader", at=MANY, unit="ms"),
        "With 100 at once, latency is mostly waiting, so it is proportional to the inverse of the rate.", at=MANY,
    ),
    Prediction(
        "C5.2", "C5", "100 concurrent requests; mean and p99",
        "latency of `delayed-async` against `leader`, 100 at once (p99)", "below 1 x",
        0.0, 1.0, ratio(measures.p99_ms, "delayed-async", "leader", at=MANY, unit="ms"),
        "The last of 100 has waited for all others; for fewer than 200 requests, p99 is the maximum.", at=MANY,
    ),
    Prediction(
        "C5.3", "C5", "metrics for broadcast time", "time in broadcasts, `delayed` against `leader`", "below 1 x", 0.0,
        0.5,
        ratio(measures.broadcast_ms, "delayed", "leader", at=TEN, unit="ms"),
        "The dict is as small as the file; the object is as large as the features.",
        at=TEN,
    ),
    Prediction(
        "C5.4", "C5", "materialise time per rank", "median of the slowest rank against the quickest, `original`",
        "1 x", 1.0, 1.25,
        amount(measures.uneven, "original", at=TEN, unit="x"),
        "All ranks do the same work, but they get a core at different times.", at=TEN,
    ),
    Prediction(
        "D1.1", "D1", "10 broadcasts 572 -> 210 ms (-63 %)",
        "time in broadcasts, `leader-batch` against `leader`, 10 at once", "0.37 x", 0.3, 0.45,
        ratio(measures.broadcast_ms, "leader-batch", "leader", at=TEN, unit="ms a request"),
        "Batching saves the fixed cost of collectives, but every byte is still pickled and sent.", at=TEN,
    ),
    Prediction(
        "D1.2", "D1", "throughput +6 % (batch 10)", "rate of `leader-batch` against `leader`, 10 at once", "1.06 x",
        1.02, 1.1,
        _rate("leader-batch", "leader"),
        "The fixed cost that is saved is small compared to a decode.", at=TEN,
    ),
    Prediction(
        "D1.3", "D1", "+10 % (batch 50)", "rate of `leader-batch` against `leader`, 50 at once", "1.1 x", 1.04, 1.16,
        _rate("leader-batch", "leader", FIFTY),
        "Larger batches share one fixed cost, as with ten, but their requests wait for each other's decodes.", at=FIFTY,
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
        "A request waits for its whole batch; ten decodes of half a second on one thread take five seconds.",
        at=TEN,
    ),
    Prediction(
        "D1.6", "D1", "QPS > 1.8 (commit 1.5)", "rate of `leader-batch` against `leader`, 10 at once", "above 1.2 x",
        1.2, INFINITE,
        _rate("leader-batch", "leader"),
        "The analysis predicts +6 % in the row above and +20 % here; at most one of them can hold.", at=TEN,
    ),
    Prediction(
        "D1.7", "D1", "(commit 1.5)", "rate of `leader` against `original`, 10 at once", "0.75 x of 2 req/s", 0.65,
        0.85,
        _rate("leader", "original"), "It is the same ratio that B1 predicts as 0.65.", at=TEN,
    ),
    Prediction(
        "D1.8", "D1", "no leak", "memory after a long run against its beginning", "0 %", -0.05, 0.05, measures.growth,
        "The result cache is bounded, and results are removed by request id.", setting="cores",
    ),
    Prediction(
        "D1.9", "D1", "sent in one collective", "collectives of a request, `leader-batch` against `leader`, 50 at once",
        "1/50 x", 0.0, 0.1,
        ratio(measures.collectives, "leader-batch", "leader", at=FIFTY, unit="collectives a request"),
        "There is one collective per batch, so the figure is the inverse of the batch size.", at=FIFTY,
    ),
    Prediction(
        "D1.10", "D1", "results wait in a cache, popped by request id", "results found by their request id", "100 %",
        0.99, 1.0,
        share(measures.found, "leader-batch", at=FIFTY, what="of the results"),
        "Every batch stores its results before their requests look for them.",
        at=FIFTY,
    ),
    Prediction(
        "D1.11", "D1", "FIFO bound 1,000", "most results in the cache of `leader-batch`", "at most 1,000", 0, 1000,
        amount(measures.entries, "leader-batch", at=MANY, unit="results"),
        "A result is removed with its request, so the bound is never reached.", at=MANY,
    ),
    Prediction(
        "D1.12", "D1", "skipped when TP=1", "collectives of any delivery with one rank", "0", 0, 0,
        tested(0, "collectives"),
        "With one rank no delivery enters a collective.",
        test="tests/unit/delivery/test_contract.py::test_without_a_group_there_is_no_collective",
    ),
)  # fmt: skip
