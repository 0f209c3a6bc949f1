"""What the answer must be: plain transformers in one process, written without a look at mmplane's code."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForMultimodalLM, AutoTokenizer


@dataclass(frozen=True)
class Expected:
    """Greedy tokens, and the smallest difference between the two best logits on the way."""

    tokens: list[int]
    margin: float


class Reference:
    """`model.generate` with the checkpoint's own processor."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)  # beside servers that want the same cores, threads that wait for each other are slower
        self.folder = folder
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    @cached_property
    def image_processor(self) -> Any:
        processor = AutoImageProcessor.from_pretrained(self.folder, backend="pil")
        assert type(processor).__name__.endswith("Pil")
        return processor

    @cached_property
    def model(self) -> Any:
        model = AutoModelForMultimodalLM.from_pretrained(self.folder, dtype=torch.float32)
        return model.eval()

    def features(self, media: bytes) -> dict[str, torch.Tensor]:
        """The processor's own output for one image."""
        image = Image.open(io.BytesIO(media)).convert("RGB")
        return dict(self.image_processor(images=image, return_tensors="pt"))

    def expected(self, content: Any, media: list[bytes], tokens_max: int) -> Expected:
        """The greedy answer to one user message; `content` is in OpenAI's form."""
        if not isinstance(content, str):
            content = [{"type": "image"} if part["type"] == "image_url" else part for part in content]
        prompt = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        features = [self.features(image) for image in media]
        for each in features:
            prompt = prompt.replace(self._placeholder, "<mark>" * self._count(each), 1)
        ids = self.tokenizer(prompt.replace("<mark>", self._placeholder), add_special_tokens=False, return_tensors="pt")
        inputs = {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"]}
        image_token = self.model.config.image_token_id
        if features:
            inputs |= {name: torch.cat([each[name] for each in features]) for name in features[0]}
        if "image_grid_thw" in inputs:
            inputs["mm_token_type_ids"] = (inputs["input_ids"] == image_token).int()
        return self.answer(inputs, tokens_max)

    def prompt(self, content: Any, placeholders: dict[str, str]) -> str:
        """One user message in the checkpoint's own words; `placeholders` names the kind of part of each media type."""
        kinds = [{"type": placeholders[part["type"]]} if part["type"] in placeholders else part for part in content]
        prompt: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": kinds}], add_generation_prompt=True, tokenize=False
        )
        return prompt

    def answer(self, inputs: dict[str, Any], tokens_max: int) -> Expected:
        """The greedy answer to these inputs of the model."""
        output = self.model.generate(
            **inputs, max_new_tokens=tokens_max, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        best = torch.cat(output.logits).topk(2, dim=-1).values
        tokens = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        return Expected(tokens, float((best[:, 0] - best[:, 1]).min()))

    @cached_property
    def _placeholder(self) -> str:
        token: str = self.tokenizer.convert_ids_to_tokens(self.model.config.image_token_id)
        return token

    def _count(self, features: dict[str, torch.Tensor]) -> int:
        if "image_grid_thw" in features:
            return int(features["image_grid_thw"].prod()) // 4
        vision = self.model.config.vision_config
        return int((vision.image_size // vision.patch_size) ** 2)
