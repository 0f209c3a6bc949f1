"""Runs inside SGLang's environment, without a server: `python processor_checks.py FOLDER BACKEND FILES`.

SGLang's real processor for the checkpoint in FOLDER, with the plugin's in it and a sidecar beside. Every picture goes
both ways, and what becomes of it must be equal. One JSON line for each check.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import traceback
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

import numpy as np
from PIL import Image
from sglang.srt import runtime_context
from sglang.srt.managers import multimodal_processor
from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.plugins.hook_registry import HookRegistry, HookType
from sglang.srt.server_args import prepare_server_args
from sglang.srt.utils.hf_transformers_utils import get_config, get_processor
from transformers import AutoConfig

from mmplane.embed.sidecar import Sidecar
from mmplane.engines.kit.sidecar import Place
from mmplane.engines.sglang.launcher import PLACE_VARIABLE
from mmplane.engines.sglang.made import made_of
from mmplane.engines.sglang.processor import install, trial
from mmplane.engines.sglang.processor.maker import STARTING, Maker
from mmplane.engines.sglang.processor.refusal import Overloaded

ARENA_BYTES = 96 * 2**20
LIMIT_S = 120.0
SIDES = (28, 29, 56, 57, 83, 112, 140, 199, 280, 333, 500)
PROMPTS = (
    ("", "", ""),
    ("  two spaces ", "\n\n", " "),
    ("\u00e9t\u00e9 \u4f60\u597d ", "\U0001f600", "\u0301"),
    ("<|im_start|>user\n", "<|im_end|>", "<|im_start|>assistant\n"),
    ("<|image_pad", "|image_pad|>", "<|"),
)
"""Words before, between and after two pictures."""
OPTIONS = ("--mm-process-config", json.dumps({"image": {"image_mean": [0.4, 0.5, 0.6]}}))
"""Of the server with Pillow's bits: what an operator can set for all pictures."""


def processor_of(folder: str, config: Any, server_args: Any, socket: str) -> Any:
    """SGLang's processor as a tokenizer process has it, once the trial is over."""
    Place(socket, (1,)).publish(PLACE_VARIABLE)
    theirs = get_processor(folder, image_processor_backend=server_args.image_processor_backend)
    made = multimodal_processor.get_mm_processor(config, server_args, theirs, "default")
    deadline_s = monotonic() + LIMIT_S
    while made.io_executor._maker.reason() == STARTING and monotonic() < deadline_s:
        sleep(0.05)
    return made


class Both:
    """SGLang's processor, and each of its two ways."""

    def __init__(self, processor: Any, server_args: Any) -> None:
        self.processor = processor
        self.server_args = server_args
        self.backend = "pil" if server_args.image_processor_backend == "pil" else "torchvision"
        self.maker: Maker = processor.io_executor._maker

    def raised(self, way: Any, files: list[Any], words: Sequence[str] = ()) -> Any:
        """What SGLang's processor gives, or the exception. `words` stand before and after each picture."""
        return asyncio.run(self._raised(way, files, words or ["Look: ", *[" and "] * (len(files) - 1), ""]))

    async def _raised(self, way: Any, files: list[Any], words: Sequence[str]) -> Any:
        text = self.processor.mm_tokens.image_token.join(words)
        request = GenerateReqInput(text=text, image_data=list(files), rid="check")
        self.maker.try_out(way)
        try:
            return await self.processor.process_mm_data_async(
                image_data=list(files), audio_data=None, input_text=text, request_obj=request, max_req_input_len=None
            )
        except Exception as error:
            return error
        finally:
            self.maker.try_out(None)

    def outcome(self, way: Any, files: list[Any]) -> Any:
        """The same; of an exception kind and text."""
        found = self.raised(way, files)
        return (type(found), re.sub("0x[0-9a-f]+", "", str(found))) if isinstance(found, Exception) else found

    def equal(self, *files: Any) -> bool:
        """Both ways give the same. Whether the sidecar made it."""
        theirs, ours = self.outcome("theirs", list(files)), self.outcome("ours", list(files))
        if isinstance(theirs, tuple) or isinstance(ours, tuple):
            assert theirs == ours, (theirs, ours)
            return False
        wrong = trial.first_difference(theirs, ours)
        assert wrong is None, wrong
        made = [made_of(item.feature) is not None for item in ours.mm_items]
        assert len(set(made)) == 1, "some features of a request were copied"
        return made[0]


def noise(width: int, height: int, *, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def the_trial_has_passed(both: Both) -> None:
    assert both.maker.reason() == "", both.maker.reason()
    assert both.maker._client is not None
    assert both.maker._client.statistics()["materialisations"] == len(trial.SIZES)
    assert both.maker.tally.figures() == {"features_seen": 0, "features_carried": 0}


def every_kind_of_file_has_the_same_bits(both: Both) -> None:
    made = {path.name: both.equal(path.read_bytes()) for path in sorted(Path(FILES).iterdir())}
    assert len(made) > 100
    assert sum(made.values()) > 80, [name for name, one in made.items() if not one]


def every_size_has_the_same_bits(both: Both) -> None:
    for at, width in enumerate(SIDES):
        for height in (SIDES[-1 - at], SIDES[(at * 3) % len(SIDES)]):
            assert both.equal(encoded(noise(width, height))), (width, height)
            assert both.equal(encoded(noise(width, height), "JPEG", quality=85)), (width, height)


def pictures_of_one_request_are_not_copied_together(both: Both) -> None:
    files = [encoded(noise(60 + 31 * at, 200 - 13 * at)) for at in range(4)]
    assert both.equal(*files)
    assert both.equal(files[0], files[0], files[2])


def a_prompt_has_the_same_tokens_though_its_pictures_are_not_tokenised(both: Both) -> None:
    files = [encoded(noise(280, 196)), encoded(noise(112, 84, seed=1))]
    own, tokenised = both.processor._processor.tokenizer.__class__.__mro__[1], []

    def noted(self: Any, text: Any, *args: Any, **kwargs: Any) -> Any:
        tokenised.append(len(text[0]))
        return call(self, text, *args, **kwargs)

    for words in PROMPTS:
        call, own.__call__ = own.__call__, noted
        try:
            theirs, ours = (both.raised(way, files, words) for way in ("theirs", "ours"))
        finally:
            own.__call__ = call
        assert (wrong := trial.first_difference(theirs, ours)) is None, wrong
        (whole, short), tokenised = tokenised, []
        assert short < whole / 2, words


def one_picture_that_is_left_to_sglang_leaves_the_request_to_it(both: Both) -> None:
    before = both.maker.tally.reasons()
    assert not both.equal(encoded(noise(90, 70)), noise(64, 64))
    assert both.maker.tally.reasons() == before | {"decoded": before["decoded"] + 1}


def every_way_to_name_a_file_is_read(both: Both) -> None:
    file = encoded(noise(100, 80, seed=3))
    plain = b64encode(file).decode()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        path.write_bytes(file)
        for data in (file, plain, f"data:image/png;base64,{plain}", str(path), f"file://{path}"):
            assert both.equal(data), data


def a_bad_picture_is_sglangs_own_error(both: Both) -> None:
    for bad in (b"no picture", encoded(noise(300, 200), "JPEG")[:2000], "data:image/png;base64,!", "/no/such/file.png"):
        assert not both.equal(bad)
        assert isinstance(both.outcome("ours", [bad]), tuple)
    assert both.equal(encoded(noise(50, 50)))


def a_file_is_made_once_for_all(both: Both) -> None:
    file = encoded(noise(120, 90, seed=9))
    client = both.maker._client
    assert client is not None
    before = client.statistics()["materialisations"]
    first, second = (both.outcome("ours", [file]).mm_items[0] for _ in range(2))
    assert client.statistics()["materialisations"] == before + 1
    assert made_of(first.feature).hold.key == made_of(second.feature).hold.key


def a_full_sidecar_refuses_the_request(both: Both) -> None:
    held: list[Any] = []
    while not held or not isinstance(held[-1], Exception):
        held.append(both.raised("ours", [encoded(noise(900, 700, seed=100 + len(held)))]))
    assert isinstance(held.pop(), Overloaded)
    assert len(held) > 2
    assert both.maker.tally.reasons()["full"] == 1
    held.clear()
    assert both.equal(encoded(noise(900, 700, seed=99)))


def other_families_have_the_same_bits(both: Both) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "features"))
    from checkpoints import FAMILIES

    for family, (kind, architecture, special) in OTHERS.items():
        known = replace(FAMILIES[family], model_type=kind, special=FAMILIES[family].special | special)
        with TemporaryDirectory() as folder, sidecar_of(known.write(Path(folder)), both.backend) as sidecar:
            processor = processor_of(folder, config_of(kind, architecture, folder), both.server_args, sidecar.socket)
            other = Both(processor, both.server_args)
            for width, height in ((50, 70), (333, 500), (28, 300)):
                assert other.equal(encoded(noise(width, height))), family
                assert other.equal(encoded(noise(width, height), "JPEG"), encoded(noise(height, width))), family


CHECKS: tuple[Callable[[Both], None], ...] = (
    the_trial_has_passed,
    every_kind_of_file_has_the_same_bits,
    every_size_has_the_same_bits,
    pictures_of_one_request_are_not_copied_together,
    a_prompt_has_the_same_tokens_though_its_pictures_are_not_tokenised,
    one_picture_that_is_left_to_sglang_leaves_the_request_to_it,
    every_way_to_name_a_file_is_read,
    a_bad_picture_is_sglangs_own_error,
    a_file_is_made_once_for_all,
    a_full_sidecar_refuses_the_request,
    other_families_have_the_same_bits,
)

_PADDLE = {"image_token": "<|IMAGE_PLACEHOLDER|>", "vision_start": "<|IMAGE_START|>", "vision_end": "<|IMAGE_END|>"}
_GEMMA = {"boi_token": "<start_of_image>", "image_token": "<image_soft_token>", "eoi_token": "<end_of_image>"}
OTHERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "qwen3_vl": ("qwen3_vl", "Qwen3VLForConditionalGeneration", {}),
    "gemma3": ("gemma3", "Gemma3ForConditionalGeneration", _GEMMA),
    "paddle_ocr": ("paddleocr_vl", "PaddleOCRVLForConditionalGeneration", _PADDLE),
}
"""Of the unit tests' families: the type of model, SGLang's class, and the tokens that SGLang spells out."""
TOKENS = {
    "image_token": ("image_token_id", "image_token_index"),
    "video_token": ("video_token_id",),
    "vision_start": ("vision_start_token_id",),
    "vision_end": ("vision_end_token_id",),
    "boi_token": ("boi_token_index",),
    "eoi_token": ("eoi_token_index",),
}


def config_of(kind: str, architecture: str, folder: str) -> Any:
    """A configuration with the tokens of the folder's tokenizer."""
    config = AutoConfig.for_model(kind)
    config.architectures = [architecture]
    special = json.loads((Path(folder) / "tokenizer_config.json").read_text())["extra_special_tokens"]
    tokenizer = json.loads((Path(folder) / "tokenizer.json").read_text())
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    for name, fields in TOKENS.items():
        for field in fields:
            setattr(config, field, ids.get(special.get(name)))
    if kind == "paddleocr_vl":
        config.vision_config.tokens_per_second = 2
    return config


def sidecar_of(folder: str, backend: Any) -> Sidecar:
    return Sidecar.start(
        model=folder, backend=backend, profile="sglang", encoding="float32", workers=1, arena_bytes=ARENA_BYTES
    )


def main() -> None:
    """All checks with one processor."""
    HookRegistry.register("sglang.srt.managers.multimodal_processor.get_mm_processor", install.make, HookType.AROUND)
    HookRegistry.apply_hooks()
    options = ("--image-processor-backend", "pil", *OPTIONS) if BACKEND == "pil" else ()
    server_args = prepare_server_args(["--model-path", FOLDER, "--device", "cpu", "--enable-multimodal", *options])
    runtime_context.publish(server_args, role="tokenizer")
    multimodal_processor.import_processors("sglang.srt.multimodal.processors")
    with sidecar_of(FOLDER, BACKEND) as sidecar:
        config = get_config(FOLDER, trust_remote_code=False)
        both = Both(processor_of(FOLDER, config, server_args, sidecar.socket), server_args)
        for check in CHECKS:
            error = None
            try:
                check(both)
            except Exception:
                error = traceback.format_exc()
            print("CHECK " + json.dumps({"name": check.__name__, "error": error}), flush=True)


if __name__ == "__main__":
    FOLDER, BACKEND, FILES = sys.argv[1:]
    main()
