"""Wraps the creation of SGLang's processor: the sidecar makes its pictures once a trial has shown identical bits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Thread
from typing import Any

from sglang.srt.multimodal.processors.base_processor import BaseMultimodalProcessor

from mmplane.embed.client import Client
from mmplane.embed.errors import SidecarError
from mmplane.engines.kit.attach import attach
from mmplane.engines.kit.sidecar import Place
from mmplane.engines.sglang.launcher import PLACE_VARIABLE
from mmplane.engines.sglang.processor import launch, refusal, trial
from mmplane.engines.sglang.processor.loading import Loading
from mmplane.engines.sglang.processor.maker import Maker
from mmplane.engines.sglang.processor.runs import shorten
from mmplane.engines.sglang.processor.swapped import Swapped
from mmplane.engines.sglang.topology import options_of

log = logging.getLogger("mmplane")


def make(
    original: Callable[..., Any],
    hf_config: Any,
    server_args: Any,
    processor: Any,
    transport_mode: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Wraps `get_mm_processor`: this process tokenises, unless it creates no pools. Ranks have a processor as well."""
    place = Place.inherited(PLACE_VARIABLE)
    own = getattr(processor, "image_processor", None)
    if (
        place is None
        or place.board
        or own is None
        or kwargs.get("skip_mm_pool")
        or isinstance(launch.wanted(options_of(server_args), hf_config), str)
    ):
        return original(hf_config, server_args, processor, transport_mode, *args, **kwargs)
    maker = Maker(shown=bool(server_args.enable_metrics))
    processor.image_processor = Swapped(own, maker)
    shorten(processor, maker)
    made = original(hf_config, server_args, processor, transport_mode, *args, **kwargs)
    reason = unfit(made)
    if reason is not None:
        log.warning("mmplane: processor: off: %s", reason)
        return made
    made.io_executor = Loading(made.io_executor, maker)
    made.process_mm_data_async = refusal.unwrapped(made.process_mm_data_async)
    refusal.answer_natively()
    Thread(target=_begin, args=(made, maker, place), name="mmplane: trial", daemon=True).start()
    return made


def unfit(processor: Any) -> str | None:
    """Return why this processor of SGLang's is not changed, or None."""
    kind = type(processor)
    if kind._load_single_item.__func__ is not BaseMultimodalProcessor._load_single_item.__func__:
        return f"{kind.__name__} loads pictures in its own way"
    if kind.smart_rgb_conversion:
        return f"{kind.__name__} blends transparent pictures in its own way"
    if processor.mm_preprocess_cache.enabled:
        return "SGLang's preprocess cache would keep the arena's memory"
    return None


def _begin(processor: Any, maker: Maker, place: Place) -> None:
    try:
        client = attach(lambda: Client(place.socket, groups=len(place.groups))).result()
        maker.attach(client, processor.image_config)
        makes = "encoding" in client.statistics()
        wrong = (
            trial.difference(processor, maker)
            if makes
            else "the sidecar cannot make this model's pictures: see its log"
        )
    except SidecarError as error:
        wrong = str(error)
    except Exception as error:
        log.exception("mmplane: processor: the trial failed")
        wrong = f"{type(error).__name__}: {error}"
    if wrong is None:
        maker.begin()
        log.info("mmplane: processor: on: pictures are decoded and transformed by the sidecar, with SGLang's own bits")
    elif launch.chosen() == "on" and wrong == trial.BITS:
        maker.begin()
        log.warning("mmplane: processor: on, as %s says: %s", launch.VARIABLE, wrong)
    else:
        maker.refuse("off")
        log.warning("mmplane: processor: off: %s", wrong)
