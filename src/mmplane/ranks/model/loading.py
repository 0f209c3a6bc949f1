"""Loading: joins the process group, loads this rank's share of the model, tests it on one item."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from transformers import MODEL_FOR_MULTIMODAL_LM_MAPPING, AutoConfig, AutoModelForMultimodalLM, DistributedConfig

from mmplane.config import Config
from mmplane.core.control import Probing
from mmplane.delivery.meter import Meter
from mmplane.features.choice import Processors, choose
from mmplane.process.child import Control
from mmplane.process.priority import unhurried
from mmplane.ranks.model.accelerator import accelerator_is
from mmplane.ranks.model.anatomy import Anatomy, check_ranks, check_undivided, embed_indicators, undivided
from mmplane.ranks.model.cache import Memory
from mmplane.ranks.model.divided import call_directly
from mmplane.ranks.model.drawing import Drawing
from mmplane.ranks.model.experts import experts_read_rightly
from mmplane.ranks.model.gathering import Gathering
from mmplane.ranks.model.grammar import Grammars
from mmplane.ranks.model.graphs import SPARE_BLOCKS, Recorded, Recorder
from mmplane.ranks.model.kinds import not_reused
from mmplane.ranks.model.meeting import Place
from mmplane.ranks.model.null import NullRunner
from mmplane.ranks.model.probe import Probe, verify
from mmplane.ranks.model.progress import progress_logged
from mmplane.ranks.model.rebuild import Rebuild
from mmplane.ranks.model.recording import record_decoding
from mmplane.ranks.model.runner import Runner
from mmplane.ranks.model.sizing import room_for
from mmplane.ranks.model.transfer import Transfer
from mmplane.ranks.plan.blocks import BLOCK_TOKENS
from mmplane.ranks.plan.inbox import Inbox
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.room import Room, Sizes


@dataclass(frozen=True)
class Loaded:
    """The loaded model, the processor, and what the leader must know about them."""

    runner: Runner | NullRunner
    processors: Processors
    end_tokens: frozenset[int]
    dtype: str
    row_bytes: int
    """The size of embeddings for each token of an item; 0 if there are none."""
    room: Room
    not_reused: str | None = None
    """Why later requests cannot reuse what earlier ones computed."""
    whole_runs: bool = False
    """Whether a step computes all tokens of an image or none."""


def load(
    config: Config, place: Place, gathering: Gathering, inbox: Inbox, control: Control, clock: LoopClock
) -> Loaded:
    """Join the group and load what `--runner` selects.

    Raises Unsupported, ValueError, OSError, and whatever transformers and the model's own code raise.
    """
    rank, tp = gathering.rank, gathering.size
    device = _device(config, place)
    _join(place, rank, tp, device, config)
    processors = choose(config)
    processors.warm()
    if config.runner != "hf":
        step_ms = 0.0 if config.runner == "null" else float(config.runner.removeprefix("sim:"))
        plain = {modality: Rebuild(form, torch.float32) for modality, form in processors.byte_forms.items()}
        null = NullRunner(rank=rank, clock=clock, rebuild=plain, step_ms=step_ms)
        room = Room(config.kv_bytes // BLOCK_TOKENS, 0, Sizes(1))
        return Loaded(null, processors, frozenset(), "float32", 0, room)
    model = _model(config, rank, tp, device)
    rebuild = {modality: Rebuild(form, model.dtype, device) for modality, form in processors.byte_forms.items()}
    probe = Probe(config.model_folder, config.backend, processors)
    control.tell(Probing())  # every rank sends it, because the one that dies first may not be the leader
    parts: dict[str, Any] = {"rank": rank, "device": device, "clock": clock, "rebuild": rebuild}
    tried = Runner(model, probe.inbox(copy=False), Memory(probe.blocks, BLOCK_TOKENS), **parts)
    sizes = verify(tried, probe, copy=config.copy_features)
    row_bytes, end_tokens = tried.widest_bytes, _end_tokens(model)
    room = room_for(config, sizes, rank=rank, device=device)
    on_gpu = device.type == "cuda"
    memory = Memory(room.blocks + SPARE_BLOCKS * on_gpu, BLOCK_TOKENS)
    if on_gpu:
        memory.begin(tried.memory)
    drawing = Drawing(Grammars(config.model_folder, model.config.get_text_config().vocab_size, end_tokens), end_tokens)
    transfer = Transfer(device)
    transfer.register(inbox.regions())
    parts |= {"row_bytes": row_bytes, "drawing": drawing, "gathering": gathering, "transfer": transfer}
    runner = Runner(model, inbox, memory, **parts)
    if on_gpu:
        how = Recorded(tried.axes, room.tokens, device)
        record_decoding(runner, how, running_max=config.running_max, tp=tp, recorder=Recorder)
    dtype = str(model.dtype).removeprefix("torch.")
    reason = not_reused(model.config)
    return Loaded(runner, processors, end_tokens, dtype, row_bytes, room, reason, runner.whole_runs)


def try_out(config: Config) -> Any:
    """Load a whole checkpoint into this process, on the CPU, and test it like a rank. Returns its configuration.

    Raises what `load` raises.
    """
    device, processors = torch.device("cpu"), choose(config)
    model = _model(config, 0, 1, device)
    rebuild = {modality: Rebuild(form, model.dtype, device) for modality, form in processors.byte_forms.items()}
    probe = Probe(config.model_folder, config.backend, processors)
    clock = LoopClock(0, Meter())
    memory = Memory(probe.blocks, BLOCK_TOKENS)
    runner = Runner(model, probe.inbox(copy=True), memory, rank=0, device=device, clock=clock, rebuild=rebuild)
    verify(runner, probe, copy=True)
    return model.config


def _model(config: Config, rank: int, tp: int, device: torch.device) -> Any:
    options: dict[str, Any] = {"dtype": torch.float32 if device.type == "cpu" else "auto"}
    described = AutoConfig.from_pretrained(config.model_folder, trust_remote_code=False)
    kind = MODEL_FOR_MULTIMODAL_LM_MAPPING.get(type(described), None)
    if kind is None:
        raise ValueError("transformers has no model of this type that accepts pictures or sounds and generates text")
    check_ranks(described, kind, tp)
    if tp > 1:
        options["config"] = undivided(described)
        options["distributed_config"] = DistributedConfig(tp_size=tp, tp_plan="auto")
    elif device.type == "cuda":
        options["device_map"] = device
    # Some towers only have eager attention; a language model must have SDPA (`Anatomy.of`).
    options["attn_implementation"] = "sdpa" if kind._supports_sdpa else "eager"
    # It creates six groups of one rank.
    rightly = experts_read_rightly(described.model_type)
    with unhurried(), progress_logged(rank, config.model_folder), accelerator_is(device), rightly:
        model = AutoModelForMultimodalLM.from_pretrained(config.model_folder, trust_remote_code=False, **options)
    check_undivided(model, Anatomy.of(model).language)
    embed_indicators(model)
    call_directly(model)
    return model.eval()


def _end_tokens(model: Any) -> frozenset[int]:
    for source in (model.generation_config, model.config.get_text_config()):
        tokens = getattr(source, "eos_token_id", None)
        if tokens is not None:
            return frozenset([tokens] if isinstance(tokens, int) else tokens)
    return frozenset()


def _device(config: Config, place: Place) -> torch.device:
    if config.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.device_count() < place.ranks_here:
        raise ValueError(
            f"--device cuda: torch finds {torch.cuda.device_count()} GPUs for {place.ranks_here} ranks; "
            f"try --device cpu"
        )
    return torch.device("cuda", place.local)


def _join(place: Place, rank: int, tp: int, device: torch.device, config: Config) -> None:
    """Join the process group."""
    if tp == 1:
        return
    store = place.join(rank, tp, collective_limit(config))
    backend = "gloo"
    if device.type == "cuda":  # needs one GPU for each rank, so this project's tests do not run it
        torch.cuda.set_device(device)
        backend = "nccl"
    with unhurried():
        dist.init_process_group(backend, store=store, rank=rank, world_size=tp, timeout=collective_limit(config))


def collective_limit(config: Config) -> timedelta:
    """How long a collective may take before its rank ends. A group is replaced, never repaired.

    It is longer than all limits of the supervisor, so that the supervisor decides first, and longer than one item, for
    which the other ranks wait in a background broadcast. A rank that has loaded its share waits in a collective for the
    slowest rank.
    """
    longest_s = max(config.load_seconds, config.compute_stall_seconds)
    return timedelta(seconds=longest_s + 4 * config.stall_seconds + config.item_seconds)
