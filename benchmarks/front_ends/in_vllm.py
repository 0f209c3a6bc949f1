"""(d) vLLM's renderer as its API server has it, without HTTP and an engine: `in_vllm.py MODEL`, in vLLM's environment.

From data URIs to what would go to the engine: media threads, chat template, tokens, hashes, processor.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from typing import Any

from vllm import AsyncEngineArgs, envs
from vllm.config import VllmConfig
from vllm.renderers.params import ChatParams
from vllm.renderers.registry import renderer_from_config
from window import serve


def part(media: bytes) -> dict[str, Any]:
    kind = "jpeg" if media.startswith(b"\xff\xd8") else "png"
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{base64.b64encode(media).decode()}"}}


async def main(model: str) -> None:
    envs.VLLM_CPU_KVCACHE_SPACE = 0
    arguments = AsyncEngineArgs(model=model, max_model_len=32768)
    config = VllmConfig(model_config=arguments.create_model_config())
    renderer: Any = renderer_from_config(config)

    async def request(pictures: list[bytes]) -> None:
        content = [*map(part, pictures), {"type": "text", "text": "What is this?"}]
        await renderer.render_chat_async([[{"role": "user", "content": content}]], ChatParams())

    await serve(request)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
