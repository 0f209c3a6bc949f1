"""Whether a checkpoint's fast paths were found to give what transformers gives: compared once, then remembered.

A comparison needs transformers and torch, which workers do without. Where they are loaded anyway it happens in this
process; else a child does it, once for a checkpoint, the versions that compute, this code and this kind of processor.
The verdict is a file in `$XDG_CACHE_HOME/mmplane/verdicts`, and part of the fingerprint.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Literal

import llvmlite.binding
import msgspec

from mmplane.core.keys import digest_parts
from mmplane.core.records import Modality
from mmplane.features.checkpoint.files import CheckpointFiles, versions

log = logging.getLogger("mmplane")

Verdict = Literal["same", "differs", "not compared"]
Verdicts = dict[Modality, Verdict]

COMPARE_SECONDS = 300
"""A child that takes longer is killed, and nobody waits longer for another process's verdict."""

TURN_SECONDS = 0.05
"""How often who waits looks."""


def verdicts_of(model_folder: str, modalities: Iterable[Modality]) -> Verdicts:
    """What is known of each modality, after a comparison where nothing is."""
    files, wanted = CheckpointFiles(model_folder), list(modalities)
    found, missing = _remembered(files), list[Modality]()
    if not set(wanted) <= set(found):
        with _in_turn(files):
            found = _remembered(files)
            missing = [modality for modality in wanted if modality not in found]
            found |= _compared(files, missing)
            _remember(files, {modality: verdict for modality, verdict in found.items() if verdict != "not compared"})
    for modality in wanted:
        _tell(modality, found[modality], now=modality in missing)
    return {modality: found[modality] for modality in wanted}


def _compared(files: CheckpointFiles, modalities: list[Modality]) -> Verdicts:
    if not modalities:
        return {}
    return _compare_here(str(files.folder), modalities) if _loaded() else _compare_apart(files, modalities)


@contextmanager
def _in_turn(files: CheckpointFiles) -> Iterator[None]:
    """One process at a time, where they share the folder: the others find its verdict. Who waited for long goes on."""
    with ExitStack() as stack:
        with suppress(OSError, RuntimeError):
            path = _path(files).with_suffix(".lock")
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(path.open("wb"))
            deadline_s = time.monotonic() + COMPARE_SECONDS
            while not _locked(lock) and time.monotonic() < deadline_s:
                time.sleep(TURN_SECONDS)
        yield


def _locked(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _loaded() -> bool:
    return "transformers" in sys.modules


def _compare_here(model_folder: str, modalities: list[Modality]) -> Verdicts:
    from mmplane.features.reference.parity import compare

    return {modality: "same" if compare(model_folder, modality) else "differs" for modality in modalities}


def _compare_apart(files: CheckpointFiles, modalities: list[Modality]) -> Verdicts:
    unknown: Verdicts = dict.fromkeys(modalities, "not compared")
    if find_spec("transformers") is None or find_spec("torch") is None:
        return unknown
    command = [sys.executable, "-m", "mmplane.features.reference", str(files.folder), *modalities]
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMPARE_SECONDS, check=True)
        return unknown | msgspec.json.decode(done.stdout, type=Verdicts)
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().rpartition("\n")[2]
        log.warning("the fast processors could not be compared with transformers: %s", said or error)
        return unknown


def _tell(modality: Modality, verdict: Verdict, *, now: bool) -> None:
    when = "compared now" if now else "compared before"
    if verdict == "not compared":
        log.warning("%s features were not compared with transformers, which is not installed here or failed", modality)
    elif verdict == "differs":
        log.warning("fast %s features differ from transformers' own, which serve instead (%s)", modality, when)
    else:
        log.log(
            logging.INFO if now else logging.DEBUG,
            "fast %s features are those of transformers (%s; %s)",
            modality,
            when,
            versions(),
        )


def _remembered(files: CheckpointFiles) -> Verdicts:
    with suppress(OSError, RuntimeError, msgspec.MsgspecError):
        return msgspec.json.decode(_path(files).read_bytes(), type=Verdicts)
    return {}


def _remember(files: CheckpointFiles, verdicts: Verdicts) -> None:
    """Where no folder is writable, each process compares for itself."""
    if not verdicts:
        return
    with suppress(OSError, RuntimeError):
        path = _path(files)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(msgspec.json.encode(verdicts))
        fresh.replace(path)


def _path(files: CheckpointFiles) -> Path:
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parts = (files.digest, versions().encode(), _code(), llvmlite.binding.get_host_cpu_name().encode())
    return cache_folder / "mmplane" / "verdicts" / f"{digest_parts(parts).hex()}.json"


@cache
def _code() -> bytes:
    """Over the sources of this package: a change of ours is compared anew."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return digest_parts(source.read_bytes() for source in sources)
