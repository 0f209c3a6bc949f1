"""A plugin of SGLang that breaks it: building the inputs of an image of `FAULTY` patches raises ValueError."""

FAULTY = (6, 20)
"""Rows and columns of patches: an image of 280x84 pixels."""


def load() -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    target = "sglang.srt.managers.schedule_batch.MultimodalInputs.from_processor_output"
    HookRegistry.register(target, refuse, HookType.AROUND)


def refuse(original, obj, **options):
    """Around `MultimodalInputs.from_processor_output`."""
    for item in obj.mm_items:
        grid = item.model_specific_data.get("image_grid_thw")
        if grid is not None and tuple(grid.flatten().tolist()[1:]) == FAULTY:
            raise ValueError("injected by a test")
    return original(obj, **options)
