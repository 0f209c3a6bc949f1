"""Registers the processor and the connector with vLLM, in an API process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from vllm.multimodal import MULTIMODAL_REGISTRY

from mmplane.embed.client import Client
from mmplane.engines.kit.tally import Tally
from mmplane.engines.vllm.make import connector
from mmplane.engines.vllm.make.maker import Maker
from mmplane.engines.vllm.make.plan import CONNECTOR, CONNECTOR_VARIABLE, Plan
from mmplane.engines.vllm.make.processor import Making, MakingContext

_THEIRS = "__mmplane_theirs__"


def install(config: Any, plan: Plan, client: Callable[[], Client | None], tally: Tally) -> Maker:
    """From now on, processors that vLLM creates for this VllmConfig's model use the sidecar's features.

    `client` returns the attached client of this process, or None until there is one; `tally` counts by
    `reasons.REASONS`. May be called again.
    """
    maker = Maker(client, tally)
    model_class: Any = MULTIMODAL_REGISTRY._get_model_cls(config.model_config)
    theirs = vars(model_class).get(_THEIRS) or model_class._processor_factory
    setattr(model_class, _THEIRS, theirs)
    MULTIMODAL_REGISTRY.register_processor(
        type(theirs.processor.__name__, (Making, theirs.processor), {}),
        info=lambda context: theirs.info(
            MakingContext(context.model_config, context.tokenizer, maker=maker, raw=plan.raw)
        ),
        dummy_inputs=theirs.dummy_inputs,
    )(model_class)
    connector.use(maker)
    os.environ[CONNECTOR_VARIABLE] = CONNECTOR
    return maker
