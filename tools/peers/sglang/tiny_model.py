# tiny_model.py FOLDER: a Qwen2.5-VL of 0.4 M random parameters with a byte-level tokenizer, for servers under test.
import json, os, torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from tokenizers import Tokenizer, models, pre_tokenizers, decoders
from transformers import PreTrainedTokenizerFast
import sys

out = sys.argv[1]  # folder to write
os.makedirs(out, exist_ok=True)
# byte-level BPE tokenizer with no merges
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
vocab = {c: i for i, c in enumerate(alphabet)}
tok = Tokenizer(models.BPE(vocab=vocab, merges=[]))
tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tok.decoder = decoders.ByteLevel()
sp = [
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
]
tok.add_special_tokens(sp)
ft = PreTrainedTokenizerFast(
    tokenizer_object=tok, eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=sp
)
ft.chat_template = """{% for m in messages %}<|im_start|>{{ m['role'] }}
{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}{% if c['type'] in ['image','image_url'] %}<|vision_start|><|image_pad|><|vision_end|>{% elif c['type'] in ['video','video_url'] %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
ft.save_pretrained(out)
ids = {s: ft.convert_tokens_to_ids(s) for s in sp}
V = 320
cfg = Qwen2_5_VLConfig(
    text_config=dict(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=V,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|im_end|>"],
        tie_word_embeddings=False,
    ),
    vision_config=dict(
        depth=2,
        hidden_size=64,
        intermediate_size=128,
        num_heads=4,
        out_hidden_size=64,
        patch_size=14,
        spatial_merge_size=2,
        temporal_patch_size=2,
        window_size=112,
        fullatt_block_indexes=[1],
        in_channels=3,
    ),
    image_token_id=ids["<|image_pad|>"],
    video_token_id=ids["<|video_pad|>"],
    vision_start_token_id=ids["<|vision_start|>"],
    vision_end_token_id=ids["<|vision_end|>"],
)
cfg.architectures = ["Qwen2_5_VLForConditionalGeneration"]
torch.manual_seed(0)
m = Qwen2_5_VLForConditionalGeneration(cfg).to(torch.bfloat16)
m.save_pretrained(out)
json.dump(
    {
        "min_pixels": 3136,
        "max_pixels": 1003520,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
    },
    open(out + "/preprocessor_config.json", "w"),
)
tc = json.load(open(out + "/tokenizer_config.json"))
tc["processor_class"] = "Qwen2_5_VLProcessor"
json.dump(tc, open(out + "/tokenizer_config.json", "w"), indent=1)
print(ids, sum(p.numel() for p in m.parameters()))
