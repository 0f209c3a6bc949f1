"""The control messages between the supervisor, the nursery and the children. Some records carry descriptors."""

from __future__ import annotations

from mmplane.core.records import Count, Name, Record


class Spawn(Record, frozen=True, tag="spawn"):
    """Supervisor -> nursery: fork a child. `descriptors` names the descriptors that come with it, in order."""

    carries = True
    spawn_id: Count
    role: Name
    index: Count
    of: Count
    incarnation: Count
    epoch: Count
    config: bytes
    descriptors: tuple[str, ...]


class Spawned(Record, frozen=True, tag="spawned"):
    """Nursery -> supervisor: the child runs. Its pidfd comes with the record."""

    carries = True
    spawn_id: Count
    pid: Count


class Refused(Record, frozen=True, tag="refused"):
    """Nursery -> supervisor: the system refused to fork (a limit on processes, memory), and why."""

    spawn_id: Count
    reason: str


class Halted(Record, frozen=True, tag="halted"):
    """Nursery -> supervisor: a child was stopped (SIGSTOP) or continued."""

    pid: Count
    stopped: bool


class Killed(Record, frozen=True, tag="killed"):
    """Nursery -> supervisor: a child was ended by this signal."""

    pid: Count
    signal: Count


class Preloaded(Record, frozen=True, tag="preloaded"):
    """Nursery -> supervisor: all imports are done."""

    import_ms: float


class Ready(Record, frozen=True, tag="ready"):
    """Child -> supervisor: it can serve."""


class Beat(Record, frozen=True, tag="beat"):
    """Child -> supervisor: heartbeat from the child's own loop, at least once a second unless it is stuck.

    With `computing` it comes from a thread, while the loop computes a step or an item.
    """

    computing: bool = False


class Probing(Record, frozen=True, tag="probing"):
    """Rank -> supervisor: it is about to give the model a read-only item, which may crash it (invariant 7)."""


class Serving(Record, frozen=True, tag="serving"):
    """Front end -> supervisor: for the first time, a real picture has passed through all ranks."""


class Replace(Record, frozen=True, tag="replace"):
    """Front end -> supervisor: worker `index` of this incarnation missed its deadline; kill and replace it."""

    index: Count
    incarnation: Count


class WorkerUp(Record, frozen=True, tag="worker_up"):
    """Supervisor -> front end: a worker runs (index 0 is the parser). The link to it comes with the record."""

    carries = True
    index: Count
    incarnation: Count


class WorkerGone(Record, frozen=True, tag="worker_gone"):
    """Supervisor -> front end: this worker is dead, as its pidfd has confirmed. Its leases end."""

    index: Count
    incarnation: Count


class RanksUp(Record, frozen=True, tag="ranks_up"):
    """Supervisor -> front end: a rank group is ready. The link to its leader and its stream come with the record."""

    carries = True
    incarnation: Count
    kv_tokens: Count
    dtype: Name


class RanksGone(Record, frozen=True, tag="ranks_gone"):
    """Supervisor -> front end: the whole group is dead. Its leases end, and requests in flight fail."""

    incarnation: Count


class OutOfService(Record, frozen=True, tag="out_of_service"):
    """Supervisor -> front end: these processes are stalled, or have no working successor yet. Empty: all is well."""

    names: tuple[Name, ...]


class Running(Record, frozen=True):
    """One process. `rank 1` has the role `rank` and the index 1."""

    role: Name
    index: Count
    pid: Count


class Everyone(Record, frozen=True, tag="everyone"):
    """Supervisor -> front end: all processes of this server. Sent whenever one has started or ended."""

    running: tuple[Running, ...]


class Attach(Record, frozen=True, tag="attach"):
    """Supervisor -> leader: there is a new front end. Drop everything of the old one. Carries the link and stream."""

    carries = True
    epoch: Count


class RanksReady(Record, frozen=True, tag="ranks_ready"):
    """Leader -> supervisor: the model is loaded and warmed up, with room for keys and values of `kv_tokens`."""

    kv_tokens: Count
    dtype: Name


class Drain(Record, frozen=True, tag="drain"):
    """Supervisor -> front end or render process: finish running requests within `limit_s`, then send `Drained`."""

    limit_s: float


class Drained(Record, frozen=True, tag="drained"):
    """Front end or render process -> supervisor: no request is in flight any more."""


class Meeting(Record, frozen=True, tag="meeting"):
    """Where the ranks of several machines meet: a store at `host` and `port`.

    This machine has the address `address` and `ranks` of the group, from number `first` on. A node reports it to its
    supervisor when its server starts the group.
    """

    host: Name
    port: Count
    address: Name
    first: Count
    ranks: Count


class Ends(Record, frozen=True, tag="ends"):
    """Supervisor -> stand-in or node: the group starts. Its links to ranks of another machine come with the record."""

    carries = True
    meeting: Meeting


class Unloadable(Record, frozen=True, tag="unloadable"):
    """Child -> supervisor: it can never start. `reason` is for the operator (a wrong folder, an unknown model)."""

    reason: str


class Renew(Record, frozen=True, tag="renew"):
    """Outpost -> supervisor: its server now serves something else. End, and load that."""


ToNursery = Spawn
FromNursery = Spawned | Refused | Halted | Killed | Preloaded
FromChild = Ready | Beat | Probing | Serving | Replace | RanksReady | Drained | Unloadable | Renew | Meeting
ToFrontend = WorkerUp | WorkerGone | RanksUp | RanksGone | OutOfService | Everyone | Drain
ToRank = Attach
ToStandIn = Attach | Ends
ToNode = Ends | RanksGone | OutOfService | Everyone | Drain
ToRender = Drain
