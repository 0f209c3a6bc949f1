"""One request whose inputs cannot be built ends the server: by default nothing catches the exception.

    python sglang_unguarded.py      # in SGLang's environment, some seconds, no server

The scheduler's handlers catch `_MultimodalInputProcessingError` alone and turn it into that request's 500. Only the
path of `--enable-broadcast-mm-inputs-process` raises it; by default `MultimodalInputs.from_processor_output` raises
what it likes, through the event loop, and the launcher is told to end. Exits with 1 when SGLang guards it by itself.
"""

from types import SimpleNamespace
from unittest.mock import patch

from sglang.srt.managers import scheduler
from sglang.srt.managers.schedule_batch import Modality, MultimodalDataItem, MultimodalProcessorOutput

GUARDED = scheduler._MultimodalInputProcessingError
"""What `handle_generate_request` and `handle_embedding_request` turn into a 500."""


def faulty():
    """The features are a list of numbers: `hash_feature` raises TypeError."""
    item = MultimodalDataItem(modality=Modality.IMAGE, feature=[1.5, 2.5], model_specific_data={})
    return MultimodalProcessorOutput(mm_items=[item])


def proposed(self, mm_inputs):
    """`Scheduler._get_multimodal_inputs` with the guard that the other path has already."""
    try:
        return original(self, mm_inputs)
    except GUARDED:
        raise
    except Exception as error:
        scheduler.logger.exception("Failed to build the multimodal inputs of a request")
        raise GUARDED("The multimodal inputs of this request could not be built.") from error


original = scheduler.Scheduler._get_multimodal_inputs


def raised(function):
    """What a scheduler gets to see."""
    this = SimpleNamespace(model_config=SimpleNamespace(requires_mm_token_modalities=False))
    settings = SimpleNamespace(enable_broadcast_mm_inputs_process=False)
    with patch.object(scheduler, "get_mm", return_value=settings), patch.object(scheduler.logger, "exception"):
        try:
            function(this, faulty())
        except Exception as error:
            return error
    return None


def main():
    """Exit code 0: reproduced, and solved by the proposal."""
    for way, function in (("SGLang", original), ("proposed", proposed)):
        error = raised(function)
        what = "that request's 500" if isinstance(error, GUARDED) else "the end of the server"
        print(f"{way:9} raises {type(error).__name__}: {error} -> {what}")
    reproduced = not isinstance(raised(original), GUARDED)
    solved = isinstance(raised(proposed), GUARDED)
    print("reproduced" if reproduced else "NOT reproduced", "and", "solved" if solved else "NOT solved")
    return 0 if reproduced and solved else 1


if __name__ == "__main__":
    raise SystemExit(main())
