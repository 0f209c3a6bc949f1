"""Two of vLLM's renderers for one model in one process: as vLLM has them, and with `make` at a sidecar.

Runs inside vLLM's environment.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.renderers import ChatParams, renderer_from_config

from mmplane.embed.client import Client
from mmplane.embed.sidecar import Sidecar
from mmplane.engines.kit.tally import Tally
from mmplane.engines.vllm.make.install import install
from mmplane.engines.vllm.make.maker import Maker
from mmplane.engines.vllm.make.plan import CONNECTOR, CONNECTOR_VARIABLE, plan
from mmplane.engines.vllm.make.reasons import REASONS

log = logging.getLogger("mmplane")

ADDRESS = re.compile("0x[0-9a-fA-F]+")
LENGTH_MAX = 16384
REGION_BYTES = 64 * 1024**2


@dataclass
class Rig:
    """`client` may be None, as before the sidecar is there."""

    plain: Any
    made: Any
    maker: Maker
    sidecar: Sidecar
    client: Client | None

    def render(
        self, renderer: Any, files: Sequence[bytes | None], *, uuid: str | None = None, **asked: Any
    ) -> Mapping[str, Any]:
        """What a chat request with these files and arguments becomes. Raises what vLLM raises."""
        connector = CONNECTOR if renderer is self.made else "http"
        named = {} if uuid is None else {"uuid": uuid}
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": each and {"url": url(each)}, **named} for each in files
        ]
        content.append({"type": "text", "text": "What is it?"})
        extras = {name: asked[name] for name in ("mm_processor_kwargs",) if name in asked}

        async def go() -> Any:
            messages = [[{"role": "user", "content": content}]]
            params = ChatParams(**asked)
            return await renderer.render_chat_async(
                messages, params, renderer.default_chat_tok_params, prompt_extras=extras
            )

        with patch.dict(os.environ, {CONNECTOR_VARIABLE: connector}):
            _, (prompt,) = asyncio.run(go())
        found: Mapping[str, Any] = prompt
        return found

    def same(self, files: Sequence[bytes | None], **asked: Any) -> None:
        """Both renderers make the same of these files: all but the memory, or the same error."""
        theirs, ours = (outcome(self, renderer, files, asked) for renderer in (self.plain, self.made))
        if isinstance(theirs, str) or isinstance(ours, str):
            assert ours == theirs, (ours, theirs)
            return
        for name in ("prompt_token_ids", "mm_hashes", "mm_placeholders"):
            assert ours[name] == theirs[name], name
        for one, other in zip(ours["mm_kwargs"]["image"], theirs["mm_kwargs"]["image"], strict=True):
            assert_same_item(one, other)

    def forget(self) -> None:
        """Both caches are empty, and nothing is counted."""
        for renderer in (self.plain, self.made):
            renderer.clear_mm_cache()
        self.maker.tally = Tally(REASONS, log)

    def counts(self) -> dict[str, int]:
        """How many images were made by the sidecar, and by vLLM for each reason."""
        tally = self.maker.tally
        counts = {"made": tally.figures()["features_carried"], **tally.reasons()}
        assert sum(counts.values()) == tally.figures()["features_seen"]
        return {name: count for name, count in counts.items() if count}

    def materialisations(self) -> int:
        """How many items the sidecar has made."""
        assert self.client is not None
        made: int = self.client.statistics()["materialisations"]
        return made


@contextmanager
def rig_of(folder: str, *, sidecar_bytes: int | None = None, **settings: Any) -> Iterator[Rig]:
    """For this checkpoint; `settings` are vLLM's."""
    arguments = AsyncEngineArgs(model=folder, max_model_len=LENGTH_MAX, enforce_eager=True, **settings)
    config = arguments.create_engine_config()
    plain = renderer_from_config(config)
    model_class = MULTIMODAL_REGISTRY._get_model_cls(config.model_config)
    planned = plan(config)
    with (
        Sidecar.start(**{**planned.sidecar, "workers": 2, "arena_bytes": sidecar_bytes}) as sidecar,
        sidecar.connect(arena_bytes=REGION_BYTES) as client,
        patch.object(model_class, "_processor_factory", model_class._processor_factory),
        patch.dict(os.environ),
    ):
        rig: Rig
        maker = install(config, planned, lambda: rig.client, Tally(REASONS, log))
        rig = Rig(plain, renderer_from_config(config), maker, sidecar, client)
        yield rig


def outcome(
    rig: Rig, renderer: Any, files: Sequence[bytes | None], asked: Mapping[str, Any]
) -> Mapping[str, Any] | str:
    """What it becomes, or the error's class and text."""
    try:
        return rig.render(renderer, files, **asked)
    except Exception as error:
        return f"{type(error).__name__}: {ADDRESS.sub('AT', str(error))}"


def assert_same_item(ours: Any, theirs: Any) -> None:
    """Elements, their fields, dtypes, shapes and bits."""
    assert (ours is None) == (theirs is None)
    for name in theirs or ():
        one, other = ours[name], theirs[name]
        assert type(one.field) is type(other.field), name  # its slices are those of the batch that it was made in
        assert (one.data.dtype, one.data.shape) == (other.data.dtype, other.data.shape), name
        assert torch.equal(one.data, other.data), name
    assert ours is None or ours.keys() == theirs.keys()


def url(content: bytes) -> str:
    """A data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()
