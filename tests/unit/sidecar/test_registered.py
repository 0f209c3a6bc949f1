"""A rank whose device registers the regions: those that are there, those that come later, until the rank leaves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sidecar_rig import PAGE_BYTES, Rig

from attaching import picture
from mmplane import Inbox

A = picture("a")


class Driver:
    """It remembers lengths by address."""

    def __init__(self) -> None:
        self.registered: dict[int, int] = {}

    def register(self, address: int, length_bytes: int) -> Callable[[], object]:
        self.registered[address] = length_bytes
        return lambda: self.registered.pop(address)


def test_a_rank_has_each_region_registered_until_it_leaves(rig: Rig) -> None:
    driver = Driver()
    inbox = Inbox(rig.socket, access=driver.register)
    assert sorted(driver.registered.values()) == sorted(rig.lengths_bytes)
    with rig.client(arena_bytes=8 * PAGE_BYTES) as client:
        client.wait_ranks(0)
        hold = client.put(b"k" * 32, {"f": np.arange(PAGE_BYTES, dtype=np.uint8)})
        array = inbox.open(hold.lease(0)).arrays(np)["f"]
        assert 8 * PAGE_BYTES in driver.registered.values(), "it came later"
        inbox.close()
        assert driver.registered, "an array is alive"
        assert array[5] == 5
        del array, hold
        assert not driver.registered


def test_features_of_workers_lie_in_registered_memory(rig: Rig) -> None:
    driver = Driver()
    inbox = Inbox(rig.socket, access=driver.register)
    with rig.client() as client:
        client.wait_ranks(0)
        array = inbox.open(client.materialise(A).lease(0)).arrays(np)["f"]
        assert any(start <= array.ctypes.data < start + length for start, length in driver.registered.items())
        del array
    inbox.close()
    assert not driver.registered
