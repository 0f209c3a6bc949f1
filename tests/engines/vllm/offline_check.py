"""Runs inside vLLM's environment: `python offline_check.py MODEL`. What `LLM` says to two requests, as JSON."""

from __future__ import annotations

import json
import sys

from PIL import Image
from vllm import LLM, SamplingParams

from mmplane.engines.vllm.process import here


def main() -> None:
    llm = LLM(sys.argv[1], enforce_eager=True, dtype="bfloat16", max_model_len=8192)
    picture = {"type": "image_pil", "image_pil": Image.linear_gradient("L").convert("RGB").resize((560, 448))}
    asked = [
        [{"role": "user", "content": [picture, {"type": "text", "text": words}]}] for words in ("What?", "What is it?")
    ]
    answers = [llm.chat(one, SamplingParams(max_tokens=6, temperature=0, logprobs=0))[0].outputs[0] for one in asked]
    said = [(list(answer.token_ids), answer.cumulative_logprob) for answer in answers]
    frontend = here().frontend
    carried = None if frontend is None else frontend.tally.figures()["features_carried"]
    print("ANSWER " + json.dumps({"said": said, "carried": carried}))


if __name__ == "__main__":
    main()
