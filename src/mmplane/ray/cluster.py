"""The one module that imports Ray: a cluster's machines, the hosts on them, and what they should run.

Whoever holds a connection is a driver. When the cluster's GCS dies, Ray ends its drivers a minute later, so only the
scout, `mmplane ray` and `mmplane doctor --ray` import this. What goes through Ray is bytes of records.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
import ray
from ray.experimental import internal_kv
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mmplane.ray.address import answers, refusal
from mmplane.ray.facts import Facts, read
from mmplane.ray.host import DRAIN_S, Host
from mmplane.ray.wanted import Node, Standing, Wanted, decoded, encoded

NAMESPACE = "mmplane"
START_LIMIT_S = 120.0
"""A host imports Ray, on a machine that may be busy."""
ANSWER_LIMIT_S = 30.0
_KEY = b"wanted"
T = TypeVar("T")
_host = ray.remote(Host)
_read = ray.remote(read)


def connect(address: str) -> str:
    """Become a driver of the cluster whose GCS is at HOST:PORT; the address of its dashboard, if it has one.

    Raises ValueError with what to do.
    """
    if (reason := answers(address)) is not None:
        raise ValueError(f"no Ray answers at {address} ({reason}): is the cluster's head running?")
    try:
        context = ray.init(address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # noqa: BLE001 - Ray raises what it likes
        raise ValueError(refusal(address, str(error))) from None
    return str(context.dashboard_url or "")


def nodes() -> list[Node]:
    """Machines that are alive."""
    return [
        Node(each["NodeID"], each["NodeManagerAddress"], each["NodeManagerHostname"])
        for each in ray.nodes()
        if each["Alive"]
    ]


def hosts() -> list[str]:
    """Names of the hosts that are there, or being started."""
    return sorted(ray.util.list_named_actors())


def wanted() -> tuple[Wanted, ...] | None:
    """What the machines should run; None in a cluster that was never told. Raises ValueError."""
    content = internal_kv._internal_kv_get(_KEY, namespace=NAMESPACE)
    return None if content is None else decoded(content)


def want(each: tuple[Wanted, ...]) -> None:
    """Write down what the machines should run from now on."""
    internal_kv._internal_kv_put(_KEY, encoded(each), overwrite=True, namespace=NAMESPACE)


def start(name: str, node: Node, each: Wanted) -> None:
    """Have a host started there, unless it is there. It outlives this driver."""
    _host.options(
        name=name,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        scheduling_strategy=_there(node),
    ).remote(msgspec.msgpack.encode(each.words))


def end(names: Iterable[str]) -> None:
    """End these hosts and what they started, all at once."""
    actors = _actors(names)
    _within(DRAIN_S + ANSWER_LIMIT_S, [actor.end.remote() for actor in actors.values()])
    for actor in actors.values():
        ray.kill(actor, no_restart=True)


def standings(names: Iterable[str], limit_s: float = ANSWER_LIMIT_S) -> dict[str, Standing | str]:
    """How each host does, or why it does not say."""
    asked = {name: actor.standing.remote() for name, actor in _actors(names).items()}
    _within(limit_s, list(asked.values()))
    return {name: _answer(reference, Standing) for name, reference in asked.items()}


def facts() -> list[Facts | str]:
    """What each machine's Ray is set to, or why it could not be asked."""
    asked = {each: _read.options(num_cpus=0, scheduling_strategy=_there(each)).remote() for each in nodes()}
    _within(START_LIMIT_S, list(asked.values()))
    found = {node: _answer(reference, Facts) for node, reference in asked.items()}
    return [f"{node.name}: {each}" if isinstance(each, str) else each for node, each in found.items()]


def _there(node: Node) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node.id, soft=False)


def _actors(names: Iterable[str]) -> dict[str, Any]:
    """Those that are not gone meanwhile."""
    found = {}
    for name in names:
        with suppress(ValueError):
            found[name] = ray.get_actor(name)
    return found


def _within(limit_s: float, references: list[Any]) -> None:
    if references:
        ray.wait(references, num_returns=len(references), timeout=limit_s)


def _answer(reference: Any, kind: type[T]) -> T | str:
    try:
        return msgspec.msgpack.decode(ray.get(reference, timeout=0), type=kind)
    except Exception as error:  # noqa: BLE001 - Ray raises what was raised there
        return str(error).strip().partition("\n")[0] or type(error).__name__
