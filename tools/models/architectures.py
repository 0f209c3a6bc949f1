"""The architectures that people serve, one row each: a small configuration, and the processor's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VOCABULARY = 320
FIRST = 256
"""Id of the first special token: those below are bytes."""
HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SQUARE = {"height": 56, "width": 56}

Json = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One architecture. `models` are checkpoints that have it.

    `config` is that of its class; `images` and `processor` are its processor's files. `special` are its tokens: the
    first stands for an image in a message, and those with a name are attributes of the tokenizer. `written` is what
    the template writes for an image.
    """

    models: str
    config: Json
    images: Json
    processor: Json
    special: Mapping[str, str] = field(default_factory=dict)
    written: str = ""
    begins: str = ""
    """What the template writes before the messages."""
    more: tuple[str, ...] = ()
    """Special tokens without a name."""
    seed: int = 0
    embedding: float = 1.0
    """Size of a token's embedding: smaller where a model makes it larger than an image's."""

    @property
    def tokens(self) -> list[str]:
        """All special tokens, in the order of their ids."""
        return ["<pad>", "<bos>", "<eos>", *self.special.values(), *self.more]


def text(kind: str, **more: Any) -> Json:
    """A language model of two layers."""
    return {
        "model_type": kind,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096,
        "pad_token_id": FIRST,
        "bos_token_id": FIRST + 1,
        "eos_token_id": FIRST + 2,
        "tie_word_embeddings": False,
    } | more


def vision(kind: str, **more: Any) -> Json:
    """A vision tower of two layers for images of 56 pixels."""
    return {
        "model_type": kind,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
    } | more


def mrope(*sections: int) -> Json:
    """Positions of time, height and width."""
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(sections)}


def token(place: int) -> int:
    """The id of a row's special token, counted from 0."""
    return FIRST + 3 + place


QWEN = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}
QWEN_WRITTEN = "<|vision_start|><|image_pad|><|vision_end|>"
QWEN_IDS = {
    "image_token_id": token(0),
    "video_token_id": token(1),
    "vision_start_token_id": token(2),
    "vision_end_token_id": token(3),
}
QWEN_IMAGES = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "size": {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 40},
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
}
QWEN3_IMAGES = QWEN_IMAGES | {"patch_size": 16} | HALVES
QWEN3_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 16,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0],
}
GLM = {
    "image_token": "<|image|>",
    "video_token": "<|video|>",
    "image_start": "<|begin_of_image|>",
    "image_end": "<|end_of_image|>",
    "video_start": "<|begin_of_video|>",
    "video_end": "<|end_of_video|>",
}
GLM_IDS = {
    "image_token_id": token(0),
    "video_token_id": token(1),
    "image_start_token_id": token(2),
    "image_end_token_id": token(3),
    "video_start_token_id": token(4),
    "video_end_token_id": token(5),
}
GLM_IMAGES = {"image_processor_type": "Glm4vImageProcessor", "size": {"shortest_edge": 3136, "longest_edge": 31360}}
GLM_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_heads": 2,
    "out_hidden_size": 64,
    "image_size": 56,
    "patch_size": 14,
}
PIXTRAL = {"image_token": "[IMG]", "image_break": "[IMG_BREAK]", "image_end": "[IMG_END]"}
PIXTRAL_IMAGES = {
    "image_processor_type": "PixtralImageProcessor",
    "patch_size": {"height": 8, "width": 8},
    "size": {"longest_edge": 96},
}
PIXTRAL_VISION = vision("pixtral", image_size=96, patch_size=8, head_dim=16)
CLIP_IMAGES = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 56},
    "crop_size": {"height": 56, "width": 56},
}
LLAVA = {"processor_class": "LlavaProcessor", "patch_size": 14, "vision_feature_select_strategy": "default"}
NEXT_PINPOINTS = [[56, 112], [112, 56], [112, 112]]
NEXT_IMAGES = CLIP_IMAGES | {
    "image_processor_type": "LlavaNextImageProcessor",
    "image_grid_pinpoints": NEXT_PINPOINTS,
}
IMAGE = {"image_token": "<image>"}
IDEFICS = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}
IDEFICS_IMAGES = {
    "image_processor_type": "Idefics3ImageProcessor",
    "size": {"longest_edge": 112},
    "max_image_size": {"longest_edge": 56},
}
ROWS_OF_TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4))
GEMMA = {"boi_token": "<start_of_image>", "image_token": "<image_soft_token>", "eoi_token": "<end_of_image>"}
GEMMA_IDS = {"boi_token_index": token(0), "image_token_index": token(1), "eoi_token_index": token(2)}
AYA = {
    "image_token": "<image>",
    "start": "<|START_OF_IMG|>",
    "end": "<|END_OF_IMG|>",
    "patch": "<|IMG_PATCH|>",
    "break": "<|IMG_LINE_BREAK|>",
    "global": "TILE_GLOBAL",
}
INTERNVL = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
OMNI = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
OMNI_AUDIO = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "num_mel_bins": 80,
    "output_dim": 64,
    "max_source_positions": 1500,
    "n_window": 100,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

ARCHITECTURES: dict[str, Row] = {
    "qwen2_vl": Row(
        "Qwen2-VL",
        {
            "model_type": "qwen2_vl",
            "text_config": text("qwen2_vl_text", rope_parameters=mrope(2, 3, 3)),
            "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "patch_size": 14},
            **QWEN_IDS,
        },
        QWEN_IMAGES,
        {"processor_class": "Qwen2VLProcessor"},
        QWEN,
        QWEN_WRITTEN,
    ),
    "qwen2_5_vl": Row(
        "Qwen2.5-VL",
        {
            "model_type": "qwen2_5_vl",
            "text_config": text(
                "qwen2_5_vl_text",
                rope_parameters=mrope(2, 3, 3),
                use_sliding_window=True,
                sliding_window=24,
                max_window_layers=1,
            ),
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_heads": 2,
                "out_hidden_size": 64,
                "fullatt_block_indexes": [1],
                "window_size": 56,
            },
            **QWEN_IDS,
        },
        QWEN_IMAGES,
        {"processor_class": "Qwen2_5_VLProcessor"},
        QWEN,
        QWEN_WRITTEN,
        seed=6,
    ),
    "qwen3_vl": Row(
        "Qwen3-VL",
        {
            "model_type": "qwen3_vl",
            "text_config": text("qwen3_vl_text", rope_parameters=mrope(3, 3, 2)),
            "vision_config": QWEN3_VISION,
            **QWEN_IDS,
        },
        QWEN3_IMAGES,
        {"processor_class": "Qwen3VLProcessor"},
        QWEN,
        QWEN_WRITTEN,
        seed=2,
    ),
    "qwen3_vl_moe": Row(
        "Qwen3-VL-MoE",
        {
            "model_type": "qwen3_vl_moe",
            "text_config": text("qwen3_vl_moe_text", rope_parameters=mrope(3, 3, 2), **MOE),
            "vision_config": QWEN3_VISION,
            **QWEN_IDS,
        },
        QWEN3_IMAGES,
        {"processor_class": "Qwen3VLProcessor"},
        QWEN,
        QWEN_WRITTEN,
        seed=1,
    ),
    "qwen3_5": Row(
        "Qwen3.5",
        {
            "model_type": "qwen3_5",
            "text_config": text(
                "qwen3_5_text",
                rope_parameters=mrope(1, 1, 0) | {"partial_rotary_factor": 0.25},
                layer_types=["linear_attention", "full_attention"],
                linear_num_value_heads=4,
                linear_num_key_heads=2,
                linear_key_head_dim=16,
                linear_value_head_dim=16,
            ),
            "vision_config": {k: v for k, v in QWEN3_VISION.items() if k != "deepstack_visual_indexes"},
            **QWEN_IDS,
        },
        QWEN3_IMAGES,
        {"processor_class": "Qwen3VLProcessor"},
        QWEN,
        QWEN_WRITTEN,
        seed=5,
    ),
    "glm4v": Row(
        "GLM-4.1V",
        {
            "model_type": "glm4v",
            "text_config": text("glm4v_text", rope_parameters=mrope(2, 1, 1) | {"partial_rotary_factor": 0.5}),
            "vision_config": GLM_VISION,
            **GLM_IDS,
        },
        GLM_IMAGES,
        {"processor_class": "Glm4vProcessor"},
        GLM,
        "<|begin_of_image|><|image|><|end_of_image|>",
    ),
    "glm4v_moe": Row(
        "GLM-4.5V",
        {
            "model_type": "glm4v_moe",
            "text_config": text(
                "glm4v_moe_text",
                rope_parameters=mrope(2, 1, 1) | {"partial_rotary_factor": 0.5},
                n_routed_experts=4,
                num_experts_per_tok=2,
                moe_intermediate_size=32,
                first_k_dense_replace=1,
            ),
            "vision_config": GLM_VISION,
            **GLM_IDS,
        },
        GLM_IMAGES,
        {"processor_class": "Glm4vProcessor"},
        GLM,
        "<|begin_of_image|><|image|><|end_of_image|>",
        seed=2,
    ),
    "glm46v": Row(
        "GLM-4.6V",
        {
            "model_type": "glm46v",
            "text_config": text("glm4v_text", rope_parameters=mrope(2, 1, 1) | {"partial_rotary_factor": 0.5}),
            "vision_config": {"model_type": "glm4v_vision", **GLM_VISION},
            **GLM_IDS,
        },
        GLM_IMAGES | {"image_processor_type": "Glm46VImageProcessor"},
        {"processor_class": "Glm46VProcessor"},
        GLM,
        "<|begin_of_image|><|image|><|end_of_image|>",
    ),
    "internvl": Row(
        "InternVL3",
        {
            "model_type": "internvl",
            "text_config": text("qwen2"),
            "vision_config": vision("internvl_vision", image_size=[56, 56], patch_size=[14, 14]),
            "image_token_id": token(2),
            "image_seq_length": 4,
            "tie_word_embeddings": False,
        },
        {"image_processor_type": "GotOcr2ImageProcessor", "size": SQUARE, "crop_to_patches": True, "max_patches": 3},
        {"processor_class": "InternVLProcessor", "image_seq_length": 4},
        INTERNVL,
        "<IMG_CONTEXT>\n",
        seed=2,
    ),
    "llava": Row(
        "LLaVA-1.5",
        {
            "model_type": "llava",
            "text_config": text("llama"),
            "vision_config": vision("clip_vision_model"),
            "image_token_index": token(0),
            "image_seq_length": 16,
        },
        CLIP_IMAGES,
        LLAVA | {"num_additional_image_tokens": 1},
        IMAGE,
        "<image>\n",
    ),
    "llava_next": Row(
        "LLaVA-1.6 (Mistral)",
        {
            "model_type": "llava_next",
            "text_config": text("mistral", sliding_window=24),
            "vision_config": vision("clip_vision_model"),
            "image_token_index": token(0),
            "image_grid_pinpoints": NEXT_PINPOINTS,
        },
        NEXT_IMAGES,
        LLAVA | {"processor_class": "LlavaNextProcessor", "num_additional_image_tokens": 1},
        IMAGE,
        "<image>\n",
        seed=1,
    ),
    "granite_vision": Row(
        "Granite Vision 3",
        {
            "model_type": "llava_next",
            "text_config": text("granite"),
            "vision_config": vision("siglip_vision_model"),
            "vision_feature_select_strategy": "full",
            "vision_feature_layer": [-2, -1],
            "image_token_index": token(0),
            "image_grid_pinpoints": NEXT_PINPOINTS,
        },
        NEXT_IMAGES,
        LLAVA | {"processor_class": "LlavaNextProcessor", "vision_feature_select_strategy": "full"},
        IMAGE,
        "<image>\n",
    ),
    "llava_onevision": Row(
        "LLaVA-OneVision",
        {
            "model_type": "llava_onevision",
            "text_config": text("qwen2"),
            "vision_config": vision("siglip_vision_model", vision_use_head=False),
            "vision_feature_select_strategy": "full",
            "vision_aspect_ratio": "anyres_max_4",
            "image_token_index": token(0),
            "video_token_index": token(1),
            "image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]],
        },
        {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "size": SQUARE,
            "image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]],
        },
        {
            "processor_class": "LlavaOnevisionProcessor",
            "num_image_tokens": 16,
            "vision_feature_select_strategy": "full",
            "vision_aspect_ratio": "anyres_max_4",
        },
        {"image_token": "<image>", "video_token": "<video>"},
        "<image>\n",
    ),
    "vipllava": Row(
        "ViP-LLaVA",
        {
            "model_type": "vipllava",
            "text_config": text("llama"),
            "vision_config": vision("clip_vision_model"),
            "vision_feature_layers": [-2, -1],
            "image_token_index": token(0),
            "image_seq_length": 16,
        },
        CLIP_IMAGES,
        LLAVA | {"num_additional_image_tokens": 1},
        IMAGE,
        "<image>\n",
        seed=1,
    ),
    "pixtral": Row(
        "Pixtral 12B",
        {
            "model_type": "llava",
            "text_config": text("mistral", sliding_window=None),
            "vision_config": PIXTRAL_VISION,
            "image_token_index": token(0),
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
            "image_seq_length": 1,
        },
        PIXTRAL_IMAGES,
        {"processor_class": "PixtralProcessor", "patch_size": 8},
        PIXTRAL,
        "[IMG]",
    ),
    "mistral3": Row(
        "Mistral Small 3.1, 3.2",
        {
            "model_type": "mistral3",
            "text_config": text("mistral", sliding_window=None),
            "vision_config": PIXTRAL_VISION,
            "image_token_index": token(0),
            "spatial_merge_size": 2,
            "tie_word_embeddings": False,
        },
        PIXTRAL_IMAGES,
        {"processor_class": "PixtralProcessor", "patch_size": 8, "spatial_merge_size": 2},
        PIXTRAL,
        "[IMG]",
        seed=1,
    ),
    "lighton_ocr": Row(
        "LightOnOCR",
        {
            "model_type": "lighton_ocr",
            "text_config": text("qwen3"),
            "vision_config": PIXTRAL_VISION,
            "image_token_id": token(0),
            "spatial_merge_size": 2,
            "tie_word_embeddings": False,
        },
        PIXTRAL_IMAGES,
        {"processor_class": "LightOnOcrProcessor", "patch_size": 8, "spatial_merge_size": 2},
        {"image_token": "<|image_pad|>", "image_break_token": "<|vision_pad|>", "image_end_token": "<|vision_end|>"},
        "<|image_pad|>",
    ),
    "aya_vision": Row(
        "Aya Vision",
        {
            "model_type": "aya_vision",
            "text_config": text("cohere2", sliding_window=24, layer_types=["sliding_attention", "full_attention"]),
            "vision_config": vision("siglip_vision_model", vision_use_head=False),
            "image_token_index": token(3),
            "tie_word_embeddings": False,
        },
        {"image_processor_type": "GotOcr2ImageProcessor", "size": SQUARE, "crop_to_patches": True, "max_patches": 3},
        {
            "processor_class": "AyaVisionProcessor",
            "patch_size": 14,
            "img_size": 56,
            "downsample_factor": 2,
        },
        AYA,
        "<image>",
        more=tuple(f"TILE_{place}" for place in range(1, 10)),
    ),
    "aria": Row(
        "Aria",
        {
            "model_type": "aria",
            "text_config": text("aria_text", moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1),
            "vision_config": vision("idefics3_vision", image_size=490, patch_size=14),
            "projector_patch_to_query_dict": {"1225": 4, "4900": 8},
            "image_token_index": token(0),
        },
        {"image_processor_type": "AriaImageProcessor", "max_image_size": 490, "min_image_size": 336},
        {"processor_class": "AriaProcessor", "size_conversion": {"490": 4, "980": 8}},
        IMAGE,
        "<image>",
    ),
    "gemma3": Row(
        "Gemma 3",
        {
            "model_type": "gemma3",
            "text_config": text(
                "gemma3_text",
                sliding_window=24,
                layer_types=["sliding_attention", "full_attention"],
                query_pre_attn_scalar=16,
            ),
            "vision_config": vision("siglip_vision_model", vision_use_head=False),
            "mm_tokens_per_image": 4,
            "tie_word_embeddings": False,
            **GEMMA_IDS,
        },
        {"image_processor_type": "Gemma3ImageProcessor", "size": SQUARE, "image_seq_length": 4, **HALVES},
        {"processor_class": "Gemma3Processor", "image_seq_length": 4},
        GEMMA,
        "<start_of_image>",
        embedding=0.1,
    ),
    "paligemma": Row(
        "PaliGemma",
        {
            "model_type": "paligemma",
            "text_config": text("gemma"),
            "vision_config": vision("siglip_vision_model", vision_use_head=False, projection_dim=64),
            "projection_dim": 64,
            "hidden_size": 64,
            "vocab_size": VOCABULARY,
            "image_token_index": token(0),
        },
        {"image_processor_type": "SiglipImageProcessor", "size": SQUARE, "image_seq_length": 16},
        {"processor_class": "PaliGemmaProcessor"},
        IMAGE,
        "<image>",
        embedding=0.1,
    ),
    "idefics3": Row(
        "Idefics3",
        {
            "model_type": "idefics3",
            "text_config": text("llama"),
            "vision_config": vision("idefics3_vision"),
            "image_token_id": token(0),
            "scale_factor": 2,
        },
        IDEFICS_IMAGES,
        {"processor_class": "Idefics3Processor", "image_seq_len": 4},
        IDEFICS,
        "<image>",
        more=ROWS_OF_TILES,
    ),
    "smolvlm": Row(
        "SmolVLM",
        {
            "model_type": "smolvlm",
            "text_config": text("llama"),
            "vision_config": vision("smolvlm_vision"),
            "image_token_id": token(0),
            "scale_factor": 2,
        },
        IDEFICS_IMAGES | {"image_processor_type": "SmolVLMImageProcessor"},
        {"processor_class": "SmolVLMProcessor", "image_seq_len": 4},
        IDEFICS,
        "<image>",
        more=ROWS_OF_TILES,
    ),
    "qwen2_5_omni_thinker": Row(
        "Qwen2.5-Omni (thinker)",
        {
            "model_type": "qwen2_5_omni_thinker",
            "text_config": text("qwen2_5_omni_text", rope_parameters=mrope(2, 3, 3)),
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_heads": 2,
                "out_hidden_size": 64,
                "fullatt_block_indexes": [1],
                "window_size": 56,
            },
            "audio_config": OMNI_AUDIO,
            "image_token_id": token(0),
            "audio_token_id": token(1),
            "video_token_id": token(2),
            "image_token_index": token(0),
            "audio_token_index": token(1),
            "video_token_index": token(2),
            "vision_start_token_id": token(3),
            "vision_end_token_id": token(4),
            "audio_start_token_id": token(5),
            "audio_end_token_id": token(6),
        },
        QWEN_IMAGES,
        {"processor_class": "Qwen2_5OmniProcessor"},
        OMNI,
        "<|vision_bos|><|IMAGE|><|vision_eos|>",
    ),
    "qwen3_omni_moe_thinker": Row(
        "Qwen3-Omni (thinker)",
        {
            "model_type": "qwen3_omni_moe_thinker",
            "text_config": text("qwen3_omni_moe_text", rope_parameters=mrope(3, 3, 2), **MOE),
            "vision_config": QWEN3_VISION,
            "audio_config": OMNI_AUDIO | {"downsample_hidden_size": 16, "conv_chunksize": 100},
            "image_token_id": token(0),
            "audio_token_id": token(1),
            "video_token_id": token(2),
            "vision_start_token_id": token(3),
            "vision_end_token_id": token(4),
            "audio_start_token_id": token(5),
            "audio_end_token_id": token(6),
        },
        QWEN3_IMAGES,
        {"processor_class": "Qwen3OmniMoeProcessor"},
        OMNI,
        "<|vision_bos|><|IMAGE|><|vision_eos|>",
        seed=1,
    ),
    "ernie4_5_vl_moe": Row(
        "ERNIE-4.5-VL",
        {
            "model_type": "ernie4_5_vl_moe",
            "text_config": text(
                "ernie4_5_vl_moe_text",
                rope_parameters=mrope(3, 3, 2),
                moe_num_experts=4,
                moe_k=2,
                moe_intermediate_size=[32, 16],
                moe_num_shared_experts=1,
                mlp_layer_types=["dense", "sparse"],
            ),
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_heads": 2,
                "out_hidden_size": 64,
            },
            "image_token_id": token(0),
            "image_start_token_id": token(1),
            "image_end_token_id": token(2),
            "video_token_id": token(3),
            "video_start_token_id": token(4),
            "video_end_token_id": token(5),
            "tie_word_embeddings": False,
        },
        {
            "image_processor_type": "Ernie4_5_VLMoeImageProcessor",
            "size": {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 40},
        },
        {"processor_class": "Ernie4_5_VLMoeProcessor"},
        {
            "image_token": "<|IMAGE_PLACEHOLDER|>",
            "image_start_token": "<|IMAGE_START|>",
            "image_end_token": "<|IMAGE_END|>",
            "video_token": "<|VIDEO_PLACEHOLDER|>",
            "video_start_token": "<|VIDEO_START|>",
            "video_end_token": "<|VIDEO_END|>",
        },
        "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
    ),
    "gemma4": Row(
        "Gemma 4 (causal)",
        {
            "model_type": "gemma4",
            "text_config": text(
                "gemma4_text",
                sliding_window=24,
                layer_types=["sliding_attention", "full_attention"],
                hidden_size_per_layer_input=0,
                global_head_dim=16,
                num_kv_shared_layers=0,
                use_bidirectional_attention=None,
                vocab_size_per_layer_input=VOCABULARY,
            ),
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 16,
                "patch_size": 14,
                "pooling_kernel_size": 2,
                "position_embedding_size": 64,
            },
            "boi_token_id": token(0),
            "image_token_id": token(1),
            "eoi_token_id": token(2),
            "tie_word_embeddings": False,
        },
        {
            "image_processor_type": "Gemma4ImageProcessor",
            "patch_size": 14,
            "pooling_kernel_size": 2,
            "max_soft_tokens": 70,
        },
        {"processor_class": "Gemma4Processor", "image_seq_length": 70},
        {
            "boi_token": "<|image>",
            "image_token": "<|image|>",
            "eoi_token": "<image|>",
            "boa_token": "<|audio>",
            "audio_token": "<|audio|>",
            "eoa_token": "<audio|>",
        },
        "<|image|>",
        more=("<|video|>",),
        seed=6,
    ),
    "mllama": Row(
        "Llama 3.2 Vision",
        {
            "model_type": "mllama",
            "text_config": text(
                "mllama_text_model",
                cross_attention_layers=[1],
                rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            ),
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_global_layers": 1,
                "attention_heads": 2,
                "image_size": 56,
                "patch_size": 14,
                "vision_output_dim": 64,
                "intermediate_layers_indices": [0],
                "max_num_tiles": 4,
                "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
            },
            "image_token_index": token(0),
        },
        {"image_processor_type": "MllamaImageProcessor", "size": SQUARE, "max_image_tiles": 4},
        {"processor_class": "MllamaProcessor"},
        {"image_token": "<|image|>"},
        "<|image|>",
        begins="<bos>",
        more=("<|python_tag|>",),
    ),
    "llama4": Row(
        "Llama 4",
        {
            "model_type": "llama4",
            "text_config": text(
                "llama4_text", num_local_experts=2, intermediate_size_mlp=128, interleave_moe_layer_step=2
            ),
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 56,
                "patch_size": 14,
                "vision_output_dim": 64,
                "projector_input_dim": 64,
                "projector_output_dim": 64,
            },
            "image_token_index": token(0),
        },
        {"image_processor_type": "Llama4ImageProcessorFast", "size": SQUARE, "max_patches": 4},
        {"processor_class": "Llama4Processor", "patch_size": 14},
        {
            "patch": "<|patch|>",
            "image_token": "<|image|>",
            "start": "<|image_start|>",
            "end": "<|image_end|>",
            "across": "<|tile_x_separator|>",
            "down": "<|tile_y_separator|>",
        },
        "<|image|>",
    ),
    "deepseek_vl": Row(
        "DeepSeek-VL",
        {
            "model_type": "deepseek_vl",
            "text_config": text("llama"),
            "vision_config": vision("siglip_vision_model", vision_use_head=False),
            "image_token_id": token(0),
            "tie_word_embeddings": False,
        },
        {"image_processor_type": "DeepseekVLImageProcessor", "size": SQUARE, **HALVES},
        {"processor_class": "DeepseekVLProcessor", "num_image_tokens": 16},
        {"image_token": "<image_placeholder>"},
        "<image_placeholder>",
    ),
    "ovis2": Row(
        "Ovis2",
        {
            "model_type": "ovis2",
            "text_config": text("qwen2"),
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 56,
                "patch_size": 14,
                "vocab_size": 64,
                "hidden_stride": 2,
                "num_visual_indicator_tokens": 5,
            },
            "image_token_id": token(1),
            "visual_indicator_token_ids": [token(place) for place in range(2, 7)],
            "hidden_size": 64,
            "vocab_size": VOCABULARY,
        },
        {"image_processor_type": "Ovis2ImageProcessor", "size": SQUARE, "max_patches": 3},
        {"processor_class": "Ovis2Processor", "image_seq_length": 4},
        {"image_token": "<image>"},
        "<image>",
        more=("<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"),
        seed=1,
    ),
    "got_ocr2": Row(
        "GOT-OCR2",
        {
            "model_type": "got_ocr2",
            "text_config": text("qwen2"),
            "vision_config": {
                "hidden_size": 32,
                "mlp_dim": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 256,
                "patch_size": 4,
                "window_size": 4,
                "output_channels": 16,
                "global_attn_indexes": [1],
            },
            "image_token_index": token(0),
            "image_seq_length": 256,
        },
        {"image_processor_type": "GotOcr2ImageProcessor", "size": {"height": 256, "width": 256}},
        {"processor_class": "GotOcr2Processor"},
        {"image_token": "<imgpad>"},
        "<imgpad>",
        seed=1,
    ),
    "phi4_multimodal": Row(
        "Phi-4-multimodal",
        text(
            "phi4_multimodal",
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        )
        | {
            "original_max_position_embeddings": 4096,
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 56,
                "crop_size": 56,
                "patch_size": 14,
                "image_token_id": token(0),
            },
            "audio_config": {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_blocks": 1,
                "num_attention_heads": 2,
                "audio_token_id": token(1),
            },
        },
        {"image_processor_type": "Phi4MultimodalImageProcessor", "size": SQUARE, "dynamic_hd": 4},
        {"processor_class": "Phi4MultimodalProcessor"},
        {"image_token": "<|endoftext10|>", "audio_token": "<|endoftext11|>"},
        "<|endoftext10|>",
    ),
    "minicpmv4_6": Row(
        "MiniCPM-V 4.6",
        {
            "model_type": "minicpmv4_6",
            "text_config": text("qwen3"),
            "vision_config": vision("minicpmv4_6_vision", image_size=112),
            "image_token_id": token(0),
        },
        {"image_processor_type": "MiniCPMV4_6ImageProcessor", "scale_resolution": 112},
        {"processor_class": "MiniCPMV4_6Processor"},
        {
            "image_token": "<unit>",
            "video_token": "<video>",
            "image_start_token": "<image>",
            "image_end_token": "</image>",
            "slice_start_token": "<slice>",
            "slice_end_token": "</slice>",
            "image_id_start_token": "<image_id>",
            "image_id_end_token": "</image_id>",
        },
        "<unit>",
        seed=5,
    ),
    "lfm2_vl": Row(
        "LFM2-VL",
        {
            "model_type": "lfm2_vl",
            "text_config": text("lfm2", layer_types=["conv", "full_attention"], full_attn_idxs=[1], block_ff_dim=128),
            "vision_config": {
                "model_type": "siglip2_vision_model",
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "patch_size": 16,
                "num_patches": 64,
                "vision_use_head": False,
            },
            "image_token_id": token(0),
        },
        {"image_processor_type": "Lfm2VlImageProcessorFast", "max_image_tokens": 16, "min_image_tokens": 4},
        {"processor_class": "Lfm2VlProcessor"},
        {
            "image_token": "<image>",
            "image_start_token": "<|image_start|>",
            "image_end_token": "<|image_end|>",
            "image_thumbnail_token": "<|img_thumbnail|>",
        },
        "<image>",
    ),
    "cohere2_vision": Row(
        "Command A Vision",
        {
            "model_type": "cohere2_vision",
            "text_config": text("cohere2", sliding_window=24, layer_types=["sliding_attention", "full_attention"]),
            "vision_config": vision("siglip_vision_model", vision_use_head=False),
            "image_token_id": token(0),
            "alignment_intermediate_size": 64,
        },
        {"image_processor_type": "Cohere2VisionImageProcessorFast", "size": SQUARE},
        {"processor_class": "Cohere2VisionProcessor"},
        {"image_token": "<|IMG_PATCH|>", "boi_token": "<|START_OF_IMG|>", "eoi_token": "<|END_OF_IMG|>"},
        "<|IMG_PATCH|>",
    ),
    "paddleocr_vl": Row(
        "PaddleOCR-VL",
        {
            "model_type": "paddleocr_vl",
            "text_config": text("paddleocr_vl_text", rope_parameters=mrope(2, 3, 3)),
            "vision_config": vision("paddleocr_vl_vision"),
            "image_token_id": token(0),
            "vision_start_token_id": token(1),
            "vision_end_token_id": token(2),
            "tie_word_embeddings": False,
        },
        {"image_processor_type": "PaddleOCRVLImageProcessor", "min_pixels": 3136, "max_pixels": 31360, **HALVES},
        {"processor_class": "PaddleOCRVLProcessor"},
        {"image_token": "<|IMAGE_PLACEHOLDER|>", "start": "<|IMAGE_START|>", "end": "<|IMAGE_END|>"},
        "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
    ),
    "video_llama_3": Row(
        "VideoLLaMA3",
        {
            "model_type": "video_llama_3",
            "text_config": text("qwen2"),
            "vision_config": vision("video_llama_3_vision"),
            "image_token_id": token(0),
            "video_token_id": token(1),
        },
        {"image_processor_type": "VideoLlama3ImageProcessor", "size": {"shortest_edge": 3136, "longest_edge": 31360}},
        {"processor_class": "VideoLlama3Processor"},
        {"image_token": "<image>", "video_token": "<video>"},
        "<image>",
        seed=2,
    ),
}
"""By a short name."""
