"""A checkpoint is served right or refused with the true reason: each kind of refusal, on tiny checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from tiny_checkpoint import build

from mmplane.config import Config
from mmplane.features import facts
from mmplane.features.facts import Facts, reason
from mmplane.ranks.model import anatomy, loading, probe
from mmplane.ranks.model.anatomy import Unsupported, check_ranks, check_undivided, undivided
from mmplane.ranks.model.attention import PackedAttention
from mmplane.ranks.model.loading import try_out
from mmplane.ranks.model.runner import Runner
from mutation import mutated

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    built: dict[str, str] = {}

    def folder_of(name: str, **text: Any) -> str:
        key = f"{name}{text}"
        if key not in built:
            row = ARCHITECTURES[name]
            config = {**row.config, "text_config": {**row.config["text_config"], **text}}
            folder = tmp_path_factory.mktemp("models") / name
            build(replace(row, config=config), folder)
            built[key] = str(folder)
        return built[key]

    return folder_of


def tried(folder: str) -> None:
    torch.set_num_threads(1)
    try_out(Config(model=folder, model_folder=folder, served_name="x", device="cpu"))


@pytest.mark.parametrize(
    "name",
    [
        "qwen2_5_vl",
        "llava",
        "smolvlm",
        "ernie4_5_vl_moe",
        "video_llama_3",
        "got_ocr2",
        "ovis2",
        "gemma3",
        "qwen3_5",
        "mllama",
    ],
)
def test_what_can_be_served_passes(name: str, folder_of: Callable[..., str]) -> None:
    tried(folder_of(name))


def test_what_a_processor_gives_beside_pictures(folder_of: Callable[..., str]) -> None:
    """Picture tokens of Gemma 3 see each other, which `token_type_ids` say: as if they did not, it is refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomy, "WHOLE_RUNS", frozenset())
        with pytest.raises(Unsupported, match="its answers depend on token_type_ids"):
            tried(folder_of("gemma3"))


def test_a_processor_that_puts_other_tokens_into_the_prompt(
    folder_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LLaVA-OneVision cuts a picture that is alone, and not one of several."""
    folder = folder_of("llava_onevision")
    tried(folder)
    monkeypatch.setattr(facts, "SEVERAL", {})
    with pytest.raises(Unsupported, match=r"puts 34 tokens into a prompt .* and mmplane \d+"):
        tried(folder)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("paligemma", "prefix LM"),
        ("minicpmv4_6", "number their images"),
    ],
)
def test_the_reason_is_one_sentence_with_the_class(name: str, why: str, folder_of: Callable[..., str]) -> None:
    folder = folder_of(name)
    with pytest.raises(Exception, match=why) as refused:
        tried(folder)
    said = reason(folder, refused.value)
    assert said.startswith(Facts.of(folder).architecture)
    assert "\n" not in said


def test_windows_are_tried_although_no_prompt_is_as_long(folder_of: Callable[..., str]) -> None:
    folder = folder_of("llava_next", sliding_window=2048)
    tried(folder)
    blind = mutated(PackedAttention.__call__, "layer = int(", "sliding_window = None\n    layer = int(")
    with blind, pytest.raises(Unsupported, match="differ by"):
        tried(folder)


def test_an_effect_of_one_percent_is_not_tolerated(folder_of: Callable[..., str]) -> None:
    with mutated(Runner.forward, "return logits", "return logits * 1.01"), pytest.raises(Unsupported, match=r"0\.01"):
        tried(folder_of("llava"))


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU serves in bfloat16, as a GPU does."""
    monkeypatch.setattr(loading, "torch", SimpleNamespace(**vars(torch) | {"float32": torch.bfloat16}))


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_5"])
def test_in_a_shorter_dtype_the_models_own_noise_is_tolerated(name: str, folder_of: Callable[..., str]) -> None:
    tried(folder_of(name))


@pytest.mark.usefixtures("bfloat16")
def test_in_a_shorter_dtype_more_than_that_is_not(folder_of: Callable[..., str]) -> None:
    with mutated(Runner.forward, "return logits", "return logits * 1.1"), pytest.raises(Unsupported, match=r"by 0\.1"):
        tried(folder_of("qwen2_5_vl"))


# Ranks.


def test_towers_are_loaded_whole(folder_of: Callable[..., str]) -> None:
    """transformers would split these over ranks, which encode items out of step."""
    from transformers import AutoConfig

    for name in ("ernie4_5_vl_moe", "gemma4"):
        config = AutoConfig.from_pretrained(folder_of(name))
        assert config.vision_config.base_model_tp_plan
        assert not undivided(config).vision_config.base_model_tp_plan
        assert config.get_text_config().base_model_tp_plan


def test_a_tower_of_which_a_rank_has_a_share_is_refused() -> None:
    class Share(torch.nn.Parameter):
        def full_tensor(self) -> None: ...

    model = torch.nn.Module()
    model.language, model.lm_head, model.tower = (torch.nn.Linear(2, 2) for _ in range(3))
    model.language.weight = Share(torch.zeros(2, 2))
    check_undivided(model, model.language)
    model.tower.weight = Share(torch.zeros(2, 2))
    with pytest.raises(Unsupported, match=r"splits tower\.weight over ranks"):
        check_undivided(model, model.language)


@pytest.mark.parametrize(
    ("name", "tp", "why"),
    [
        ("llava", 3, "does not divide its num_attention_heads"),
        ("llava", 4, "does not divide its num_key_value_heads"),
        ("mllama", 2, "no plan to split it"),
    ],
)
def test_ranks_that_cannot_share_a_model(name: str, tp: int, why: str, folder_of: Callable[..., str]) -> None:
    from transformers import MODEL_FOR_MULTIMODAL_LM_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(folder_of(name))
    kind = MODEL_FOR_MULTIMODAL_LM_MAPPING[type(config)]
    check_ranks(config, kind, 1)
    with pytest.raises(ValueError, match=why):
        check_ranks(config, kind, tp)


# Mutants: a probe that looks at less lets what is wrong pass.


@pytest.mark.parametrize(
    ("function", "piece", "instead", "killer", "arguments"),
    [
        (
            probe.compare,
            "if name in runner.takes - TARGETS",
            "if name in GIVEN | {'pixel_values'}",
            test_what_a_processor_gives_beside_pictures,
            (),
        ),
        (probe.compare, "if difference <= tolerance", "if True", test_an_effect_of_one_percent_is_not_tolerated, ()),
        (
            probe.narrowed,
            "width > WINDOW_TOKENS",
            "width > 4096",
            test_windows_are_tried_although_no_prompt_is_as_long,
            (),
        ),
        (
            check_undivided,
            "if names:",
            "if not names:",
            lambda _: test_a_tower_of_which_a_rank_has_a_share_is_refused(),
            (),
        ),
    ],
    ids=["blind to what is beside pictures", "tolerant", "windows as they are", "shares are allowed"],
)
def test_mutants(
    function: Any,
    piece: str,
    instead: str,
    killer: Callable[..., None],
    arguments: tuple[Any, ...],
    folder_of: Callable[..., str],
) -> None:
    with mutated(function, piece, instead), pytest.raises((Exception, pytest.fail.Exception)):
        killer(*arguments, folder_of)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(
    ("piece", "instead", "killer"),
    [
        (
            "runner.dtype != torch.float32",
            "False",
            partial(test_in_a_shorter_dtype_the_models_own_noise_is_tolerated, "qwen2_5_vl"),
        ),
        ("NOISE_FACTOR * noise", "0.5", test_in_a_shorter_dtype_more_than_that_is_not),
    ],
    ids=["the tolerance of float32", "more than the noise"],
)
def test_mutants_in_a_shorter_dtype(
    piece: str, instead: str, killer: Callable[..., None], folder_of: Callable[..., str]
) -> None:
    with mutated(probe.verify, piece, instead), pytest.raises((Exception, pytest.fail.Exception)):
        killer(folder_of)
