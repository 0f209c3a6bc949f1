"""A plugin of SGLang that breaks it, by the size of an image in patches.

Building the inputs of one of `FAULTY` raises ValueError. Where a design of mmplane's builds, one of `STRUCK` meets a
fault at one point of one rank.
"""

import os
from dataclasses import replace

FAULTY = (6, 20)
"""Rows and columns of patches: an image of 280x84 pixels."""

STRUCK = {
    (8, 10): ("materialise", 0),
    (8, 14): ("materialise", 1),
    (8, 18): ("before_collective", 0),
    (8, 22): ("before_collective", 1),
    (8, 26): ("in_collective", 0),
    (8, 30): ("in_collective", 1),
}
"""Images of 140x112 pixels and wider."""


def load() -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    target = "sglang.srt.managers.schedule_batch.MultimodalInputs.from_processor_output"
    HookRegistry.register(target, refuse, HookType.AROUND)
    if os.environ.get("MMPLANE_SGLANG_DESIGN"):
        _strike()


def refuse(original, obj, **options):
    """Around `MultimodalInputs.from_processor_output`."""
    if FAULTY in _grids(obj):
        raise ValueError("injected by a test")
    return original(obj, **options)


def _strike():
    from mmplane.core.faults import Fault
    from mmplane.engines.sglang.building import building

    order_of = building.order_of

    def struck(number, request):
        faults = [Fault(*STRUCK[grid]) for grid in _grids(request.mm_inputs) if grid in STRUCK]
        return replace(order_of(number, request), fault=faults[0] if faults else None)

    building.order_of = struck


def _grids(mm_inputs):
    grids = [item.model_specific_data.get("image_grid_thw") for item in mm_inputs.mm_items]
    return [tuple(grid.flatten().tolist()[1:]) for grid in grids if grid is not None]
