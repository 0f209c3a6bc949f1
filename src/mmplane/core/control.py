"""Control: what the supervisor, the nursery and the children say to each other. Descriptors ride beside a record."""

from __future__ import annotations

from mmplane.core.records import Count, Name, Record


class Spawn(Record, frozen=True, tag="spawn"):
    """Supervisor -> nursery: fork a child. `descriptors` names the descriptors that ride along, in order."""

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
    """Nursery -> supervisor: the child runs; its pidfd rides along."""

    carries = True
    spawn_id: Count
    pid: Count


class Refused(Record, frozen=True, tag="refused"):
    """Nursery -> supervisor: the system did not let it fork (a limit on processes, memory), and why."""

    spawn_id: Count
    reason: str


class Halted(Record, frozen=True, tag="halted"):
    """Nursery -> supervisor: a child was stopped (SIGSTOP), or goes on."""

    pid: Count
    stopped: bool


class Killed(Record, frozen=True, tag="killed"):
    """Nursery -> supervisor: a child has ended by this signal."""

    pid: Count
    signal: Count


class Preloaded(Record, frozen=True, tag="preloaded"):
    """Nursery -> supervisor: everything is imported."""

    import_ms: float


class Ready(Record, frozen=True, tag="ready"):
    """Child -> supervisor: it can serve."""


class Beat(Record, frozen=True, tag="beat"):
    """Child -> supervisor, from the child's own loop, at least once a second unless it is stuck.

    `computing`: from a thread, while the loop computes a step or an item.
    """

    computing: bool = False


class Probing(Record, frozen=True, tag="probing"):
    """Rank -> supervisor: it is about to show the model a read-only item, which may kill it (invariant 7)."""


class Serving(Record, frozen=True, tag="serving"):
    """Front end -> supervisor: a real picture has passed all ranks for the first time."""


class Replace(Record, frozen=True, tag="replace"):
    """Front end -> supervisor: worker `index` of this incarnation missed its deadline; kill and replace it."""

    index: Count
    incarnation: Count


class WorkerUp(Record, frozen=True, tag="worker_up"):
    """Supervisor -> front end: a worker (0: the parser) runs; the link to it rides along."""

    carries = True
    index: Count
    incarnation: Count


class WorkerGone(Record, frozen=True, tag="worker_gone"):
    """Supervisor -> front end: that worker is dead and its handle says so: its claims end."""

    index: Count
    incarnation: Count


class RanksUp(Record, frozen=True, tag="ranks_up"):
    """Supervisor -> front end: a rank group is ready; the link to its leader and its stream ride along."""

    carries = True
    incarnation: Count
    kv_bytes_per_token: Count
    dtype: Name


class RanksGone(Record, frozen=True, tag="ranks_gone"):
    """Supervisor -> front end: the whole group is dead: its claims end, what was in flight fails."""

    incarnation: Count


class OutOfService(Record, frozen=True, tag="out_of_service"):
    """Supervisor -> front end: these stand still, or did and have no successor that works. None: all is well."""

    names: tuple[Name, ...]


class Running(Record, frozen=True):
    """One process: `rank 1` has role `rank` and index 1."""

    role: Name
    index: Count
    pid: Count


class Everyone(Record, frozen=True, tag="everyone"):
    """Supervisor -> front end: all processes of this server, whenever one has started or ended."""

    running: tuple[Running, ...]


class Attach(Record, frozen=True, tag="attach"):
    """Supervisor -> leader: a new front end; drop everything of the old one. The new link and stream ride along."""

    carries = True
    epoch: Count


class RanksReady(Record, frozen=True, tag="ranks_ready"):
    """Leader -> supervisor: model loaded, warmed up. `kv_bytes_per_token` is per rank, `dtype` what it computes in."""

    kv_bytes_per_token: Count
    dtype: Name


class Drain(Record, frozen=True, tag="drain"):
    """Supervisor -> front end or render process: finish what runs within so many seconds, then say `Drained`."""

    limit_s: float


class Drained(Record, frozen=True, tag="drained"):
    """Front end or render process -> supervisor: nothing is in flight any more."""


class Unloadable(Record, frozen=True, tag="unloadable"):
    """Child -> supervisor: it can never start, and why (for the operator; a wrong folder, an unknown architecture)."""

    reason: str


class Renew(Record, frozen=True, tag="renew"):
    """Outpost -> supervisor: its server serves something else now; end, and load that."""


ToNursery = Spawn
FromNursery = Spawned | Refused | Halted | Killed | Preloaded
FromChild = Ready | Beat | Probing | Serving | Replace | RanksReady | Drained | Unloadable | Renew
ToFrontend = WorkerUp | WorkerGone | RanksUp | RanksGone | OutOfService | Everyone | Drain
ToRank = Attach
ToRender = Drain
