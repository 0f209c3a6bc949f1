"""Two real processes in a real gloo group, each with the ports of a rank, and no server around them."""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

from mmplane.core.errors import bad_media
from mmplane.core.faults import Fault
from mmplane.core.plan import Sampling, Submit
from mmplane.core.records import Enclosed, Item, Layout, Recipe, Slot, Tensor
from mmplane.delivery.delivery import Delivered, Order, Sends
from mmplane.delivery.feature_hash import feature_hash
from mmplane.delivery.ingress import AUTO, EVERY_RANK, ingress_of
from mmplane.delivery.lane import Lane
from mmplane.delivery.meter import Meter
from mmplane.delivery.names import DELIVERIES
from mmplane.delivery.object_collective import ObjectBroadcast
from mmplane.delivery.parcels import Parcels
from mmplane.delivery.rank_ports import RankPorts
from mmplane.media.materialise import Made

LIMIT_S = 60
SIDES = 8


@dataclass
class Bench:
    """What stands in for the processor of a rank: features are the media reversed, and a test may hold it up."""

    ports: RankPorts
    begun: list[bytes] = field(default_factory=list)
    hold: Callable[[bytes], None] = lambda _: None


def features_of(media: bytes) -> bytes:
    return media[::-1]


def run_on_two_ranks(program: Callable[[Bench], Any], *, leader_threads: int = 2) -> list[Any]:
    """What `program` returns on each rank. Whatever it raises is raised here."""
    context = multiprocessing.get_context("fork")
    with tempfile.NamedTemporaryFile() as store:
        pipes = [context.Pipe(duplex=False) for _ in range(2)]
        children = [
            context.Process(target=_rank, args=(rank, store.name, pipes[rank][1], program, leader_threads), daemon=True)
            for rank in range(2)
        ]
        for child in children:
            child.start()
        try:
            results = [_receive(pipe) for pipe, _ in pipes]
        finally:
            for child in children:
                child.kill()
                child.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _receive(pipe: Connection) -> Any:
    assert pipe.poll(LIMIT_S), "a rank hangs"
    return pipe.recv()


def _rank(rank: int, store: str, answer: Connection, program: Callable[[Bench], Any], leader_threads: int) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    timeout = timedelta(seconds=LIMIT_S)
    dist.init_process_group("gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2, timeout=timeout)
    groups = [dist.new_group(backend="gloo") for _ in range(2)]
    try:
        answer.send(program(bench(rank, 2, groups, leader_threads=leader_threads)))
    except BaseException as error:
        answer.send(AssertionError(f"rank {rank}: {error!r}"))
    threading.Event().wait(LIMIT_S)  # until the parent has both answers: the other rank may still need this one


def bench(rank: int, size: int, groups: list[Any], *, threads: int = 2, leader_threads: int = 2) -> Bench:
    """One rank's ports. A group of one has no process group."""

    def materialise(media: memoryview | bytes, recipe: Recipe, out: memoryview) -> Made:
        content = bytes(media)
        made.begun.append(content)
        made.hold(content)
        if content.startswith(b"bad"):
            raise bad_media("not an image")
        out[:] = features_of(content)
        return Made(0.0, 0.0, len(out))

    def view(item: Item) -> dict[str, torch.Tensor]:
        return {"x": torch.frombuffer(bytearray(features_of(item.content_key)), dtype=torch.uint8)}

    meter = Meter()
    ports = RankPorts(
        rank=rank,
        size=size,
        materialise=materialise,
        view=view,
        parcels=Parcels(),
        in_step=ObjectBroadcast(groups[0], rank, meter),
        in_lane=ObjectBroadcast(groups[1], rank, meter),
        lane=Lane(waiting_max=100),
        pool=ThreadPoolExecutor(threads, "materialise"),
        leader_pool=ThreadPoolExecutor(leader_threads, "materialise"),
        item_seconds=LIMIT_S,
        meter=meter,
    )
    made = Bench(ports)
    return made


def hash_of(media: bytes) -> int:
    return feature_hash({"x": torch.tensor(list(features_of(media)), dtype=torch.uint8)})


def order(
    bench: Bench,
    name: str,
    request_id: int,
    *media: bytes,
    fault: Fault | None = None,
    hashed: bool = True,
    ingress: str = AUTO,
) -> Order:
    """An order for these media, whose parcel is where it belongs. Each is `SIDES` bytes."""
    kind = DELIVERIES[name]
    layout = Layout((Tensor("x", "uint8", (SIDES,), 0),), (), SIDES)
    items: list[Item | Enclosed] = []
    parcel = bytearray()
    for content in media:
        assert len(content) == SIDES
        if kind.sends is Sends.SLOTS:
            items.append(Item(content, "image", Slot(0, 0, SIDES, 0), layout.tensors))
        else:
            as_media = kind.sends is Sends.MEDIA
            known = hash_of(content) if hashed and not as_media else None
            recipe = Recipe("image", layout)
            items.append(Enclosed(content, recipe, len(parcel), SIDES, as_media, feature_hash=known))
            parcel += content if as_media else features_of(content)
    relayed = ingress_of(name, ingress) == EVERY_RANK
    if parcel and (bench.ports.leads or relayed):
        bench.ports.parcels.put(request_id, parcel)
    sampling = Sampling(1, 0.0, 1.0, 0, 1)
    submit = Submit(
        request_id, b"", None, 1, tuple(items), ((),) * len(items), sampling, delivery=name,
        parcel_bytes=len(parcel), relayed=relayed, fault=fault, feature_hash=hashed,
    )  # fmt: skip
    return Order.of(submit, tuple(items))


def plain(delivered: Delivered) -> list[bytes] | int:
    """The features' bytes, or the status of the failure."""
    if delivered.failure is not None:
        return delivered.failure.status
    return [bytes(features["x"].tolist()) for features in delivered.features]


def expected(*media: bytes) -> list[bytes]:
    return [features_of(content) for content in media]


def media(count: int) -> Iterator[bytes]:
    return (b"media%03d" % number for number in range(count))
