"""What must hold of memory that a GPU reads has a test that fails without it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
import test_gpu_hooks
import test_kit_device
from test_kit_device import Rank

from mmplane.embed.windows import Windows
from mmplane.engines.kit import device
from mmplane.engines.kit.device import Device
from mmplane.engines.sglang import gpu as sglang
from mmplane.engines.vllm import gpu as vllm
from mutation import Mutant, check_it_is_killed


def fresh(test: Callable[[Rank], None]) -> Callable[[], None]:
    """The test on a rank of its own, each time that it is run."""

    def run() -> None:
        with closing(Rank()) as rank:
            test(rank)

    return run


def hooked(test: Callable[[Rank], None]) -> Callable[[pytest.MonkeyPatch], None]:
    """The same for a rank that the plugins have begun."""

    def run(monkeypatch: pytest.MonkeyPatch) -> None:
        with closing(Rank()) as rank:
            monkeypatch.setattr(device, "_current", rank.device)
            rank.map()
            test(rank)

    return run


def refused(caplog: pytest.LogCaptureFixture) -> None:
    """A driver that refuses."""
    caplog.clear()
    with closing(Rank()) as rank:
        test_kit_device.test_a_driver_that_refuses_leaves_the_rank_its_private_mapping(rank, 2, caplog)


def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was forked."""
    with closing(Rank()) as rank, monkeypatch.context() as patch:
        test_kit_device.test_a_forked_process_leaves_the_registration_alone(rank, patch)


LEASE = fresh(test_kit_device.test_a_lease_lasts_until_the_copy_is_done)

MUTANTS = [
    Mutant("a lease waits for its copy", Device.keep, "self._pending.append((event, kept))", "kept.clear()", LEASE),
    Mutant("the event is behind the copy", Device.keep, "event.record()", "pass", LEASE),
    Mutant("the event has passed", Device.drain, "self._pending[0][0].query()", "True", LEASE),
    Mutant(
        "what is waited for is bounded",
        Device.keep,
        "len(self._pending) > PENDING_MAX",
        "False",
        fresh(test_kit_device.test_no_more_than_so_many_copies_are_waited_for),
    ),
    Mutant(
        "the driver's refusal is heard",
        Device.register,
        "int(error) != 0",
        "False",
        refused,
    ),
    Mutant(
        "what is refused is mapped private",
        Windows.map,
        'mapping = WindowMapping(fd, length_bytes, "private", populate=populate)',
        "pass",
        refused,
    ),
    Mutant(
        "memory is unregistered before it is unmapped",
        Windows.map,
        "finalize(mapping, unregister).atexit = False",
        "pass",
        fresh(test_kit_device.test_a_region_is_registered_once_on_the_ranks_gpu_until_nobody_uses_it),
    ),
    Mutant(
        "registered on this rank's GPU",
        Device.register,
        "self._torch.cuda.device(self._index)",
        "self._torch.cuda.device(0)",
        fresh(test_kit_device.test_a_region_is_registered_once_on_the_ranks_gpu_until_nobody_uses_it),
    ),
    Mutant(
        "a forked process ends no registration",
        Device._unregister,
        "os.getpid() == self._pid",
        "True",
        forked,
    ),
    Mutant(
        "SGLang's copies are waited for",
        sglang.embed,
        "gpu.keep(arrays)",
        "pass",
        hooked(test_gpu_hooks.test_whatever_an_item_has_in_the_arena_is_kept),
    ),
    Mutant(
        "SGLang's features stay in the arena",
        sglang.embed,
        "item.feature = feature",
        "pass",
        hooked(test_gpu_hooks.test_sglang_gets_its_host_array_back_and_the_lease_lasts_for_the_copy),
    ),
    Mutant(
        "vLLM's copies are waited for",
        vllm.copy,
        "gpu.keep(arrays_in(tensors))",
        "pass",
        hooked(test_gpu_hooks.test_vllm_copies_what_a_request_has_let_go_of),
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_mutant_is_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
