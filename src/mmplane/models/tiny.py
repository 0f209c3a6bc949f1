"""`tiny`: a Qwen2.5-VL of about 3.3 million parameters with a byte-level tokenizer, written as a Hugging Face folder.

Everything about it is in this file, but for the weights: they are trained by `training/` and ship beside it, in
`weights/`, with a model card. Without them the folder gets random ones, scaled so that greedy decoding depends on the
picture. All head counts, widths and the vocabulary divide by 4, so that tensor parallelism of 1, 2 and 4 works.

What is not to like: the embeddings are not tied, because transformers' tensor parallelism shards the head and not the
embedding; that costs 0.08 million parameters.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from mmplane.models.cached import SHIPPED_WEIGHTS, tiny_folder

SERVED_NAME = "tiny"
"""The name under which a server offers this model."""

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
FILE_MODE = 0o644
VOCABULARY_SIZE = 320
"""256 bytes, the special tokens, and padding."""

CHAT_TEMPLATE = """\
{% if tools %}<|im_start|>system
You may call these functions:
<tools>
{% for tool in tools %}{{ tool | tojson }}{{ '\\n' }}{% endfor %}</tools>
A call is an object with its name and arguments:
<tool_call>
{"name": ..., "arguments": ...}
</tool_call><|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ 'user' if m['role'] == 'tool' else m['role'] }}
{% if m['role'] == 'tool' %}<tool_response>
{% endif %}\
{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}\
{% if c['type'] in ['image','image_url'] %}<|vision_start|><|image_pad|><|vision_end|>\
{% elif c['type'] in ['video','video_url'] %}<|vision_start|><|video_pad|><|vision_end|>\
{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}\
{% if m['role'] == 'tool' %}{{ '\\n</tool_response>' }}{% endif %}\
{% for call in m['tool_calls'] or [] %}{% if m['content'] or not loop.first %}{{ '\\n' }}{% endif %}<tool_call>
{"name": {{ call['function']['name'] | tojson }}, "arguments": {{ call['function']['arguments'] | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

IMAGE_PROCESSOR: dict[str, Any] = {
    "do_convert_rgb": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "max_pixels": 1003520,
    "merge_size": 2,
    "min_pixels": 3136,
    "patch_size": 14,
    "processor_class": "Qwen2_5_VLProcessor",
    "temporal_patch_size": 2,
}

_RANDOM_SEED = 20
_RANDOM_GAIN = 4.0
_RANDOM_HEAD_GAIN = 16.0


def tiny_config() -> Qwen2_5_VLConfig:
    """The architecture: vision 4 x 128 with full attention in blocks 1 and 3, text 3 x 256, 4 heads each."""
    ids = {token: 256 + index for index, token in enumerate(SPECIAL_TOKENS)}
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 256,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "vocab_size": VOCABULARY_SIZE,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 10000.0},
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": False,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_heads": 4,
            "out_hidden_size": 256,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1, 3],
            "in_channels": 3,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    config.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    config.dtype = torch.bfloat16
    return config


def byte_tokenizer(special_tokens: Sequence[str]) -> Tokenizer:
    """One token per byte, and the special ones from 256 on."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special_tokens))
    return tokenizer


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer: bytes, and the special tokens of Qwen2.5-VL."""
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(SPECIAL_TOKENS),
        eos_token=SPECIAL_TOKENS[2],
        pad_token=SPECIAL_TOKENS[0],
        additional_special_tokens=list(SPECIAL_TOKENS),
        chat_template=CHAT_TEMPLATE,
        model_max_length=8192,
    )


def random_weights() -> dict[str, torch.Tensor]:
    """Random weights, the same on every call, of a larger scale than usual: small ones give nearly flat logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        model = Qwen2_5_VLForConditionalGeneration(tiny_config())
    weights = {name: value.float() for name, value in model.state_dict().items()}
    for name, value in weights.items():
        if value.ndim > 1:
            value.mul_(_RANDOM_HEAD_GAIN if name == "lm_head.weight" else _RANDOM_GAIN)
    return {name: value.to(torch.bfloat16).contiguous() for name, value in weights.items()}


def build_tiny(folder: Path, *, weights: Path | None = None) -> None:
    """Write the whole model folder: configuration, weights, tokenizer with chat template, image processor.

    `weights` is a safetensors file; by default it is the shipped one where there is one, and else the random weights.
    Files of the same names in `folder` are overwritten. Raises ValueError for weights that do not fit the model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config()
    config.save_pretrained(folder)
    _write_json(folder / "generation_config.json", _generation(config))
    _write_tokenizer(folder)
    _write_json(folder / "preprocessor_config.json", IMAGE_PROCESSOR)
    source = weights if weights is not None else SHIPPED_WEIGHTS
    if weights is None and not source.exists():
        _write_weights(random_weights(), folder)
        return
    found = load_file(source)
    _check_shapes(found, source.name, config)
    _write_weights(found, folder)


def ensure_tiny(cache_folder: Path) -> Path:
    """The model's folder inside `cache_folder`, built if it is not there yet. Several processes may call at once."""
    folder = tiny_folder(cache_folder)
    if folder.is_dir():
        return folder
    cache_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder, prefix=".tiny-", ignore_cleanup_errors=True) as temporary:
        built = Path(temporary) / folder.name
        build_tiny(built)
        for file in built.iterdir():
            file.chmod(FILE_MODE)  # safetensors' are for their owner alone
        try:
            built.rename(folder)
        except OSError:  # another process was first: its folder has the same content
            if not folder.is_dir():
                raise
    return folder


def _write_weights(weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Under the names of published Qwen2.5-VL checkpoints, which transformers and every engine know."""
    published = {
        name.replace("model.language_model.", "model.", 1).replace("model.visual.", "visual.", 1): value
        for name, value in weights.items()
    }
    save_file(published, folder / "model.safetensors", metadata={"format": "pt"})


def _check_shapes(found: dict[str, torch.Tensor], source: str, config: Qwen2_5_VLConfig) -> None:
    with torch.device("meta"):
        wanted = Qwen2_5_VLForConditionalGeneration(config).state_dict()
    if {name: value.shape for name, value in wanted.items()} != {name: value.shape for name, value in found.items()}:
        raise ValueError(f"{source} holds other parameters than the tiny model has")


def _write_tokenizer(folder: Path) -> None:
    tiny_tokenizer().save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    _write_json(path, json.loads(path.read_text()) | {"processor_class": "Qwen2_5_VLProcessor"})


def _generation(config: Qwen2_5_VLConfig) -> dict[str, Any]:
    text = config.text_config
    stop, pad = text.eos_token_id, text.pad_token_id
    return {"bos_token_id": text.bos_token_id, "do_sample": False, "eos_token_id": stop, "pad_token_id": pad}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":  # `python -m mmplane.models.tiny CACHE_FOLDER` prints the model's folder
    print(ensure_tiny(Path(sys.argv[1])))
