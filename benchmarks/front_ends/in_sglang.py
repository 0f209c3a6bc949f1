"""(e) SGLang's processor as its tokenizer process has it, without HTTP: `in_sglang.py MODEL`, in SGLang's environment.

From encoded bytes to what would go to the scheduler; its own pools of threads, as many as it takes by itself.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.managers.multimodal_processor import get_mm_processor, import_processors
from sglang.srt.managers.tokenizer_manager import get_processor_wrapper
from sglang.srt.multimodal.transport import determine_tensor_transport_mode
from sglang.srt.runtime_context import get_context
from sglang.srt.server_args import ServerArgs
from window import serve

PLACE = "<|vision_start|><|image_pad|><|vision_end|>"


async def main(model: str) -> None:
    arguments = ServerArgs(model_path=model, device="cpu", enable_multimodal=True, context_length=32768)
    arguments.resolve_once()
    get_context().set_server_args(arguments)
    import_processors("sglang.srt.multimodal.processors")
    config = ModelConfig.from_server_args(arguments)
    mode = determine_tensor_transport_mode()
    processor: Any = get_mm_processor(config.hf_config, arguments, get_processor_wrapper(), mode, model_config=config)

    async def request(pictures: list[bytes]) -> None:
        text = PLACE * len(pictures) + "What is this?"
        asked = GenerateReqInput(text=text, image_data=pictures)
        await processor.process_mm_data_async(
            image_data=pictures, audio_data=None, input_text=text, request_obj=asked, max_req_input_len=32768
        )

    await serve(request)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
