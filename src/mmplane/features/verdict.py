"""Compares a checkpoint's fast paths with transformers, once, and remembers the verdicts.

A comparison needs transformers and torch, and torchvision for its backend, which workers do without. If they are
already loaded, as in an engine, the comparison runs in this process. Otherwise a child process does it, once for a
checkpoint, a backend, the versions of the computing packages, this code and this kind of processor. The verdict is a
file in `$XDG_CACHE_HOME/mmplane/verdicts`, and part of the fingerprint.
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
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Literal

import llvmlite.binding
import msgspec

from mmplane.core.keys import digest_parts
from mmplane.core.records import BackendName, Modality
from mmplane.features.checkpoint.files import CheckpointFiles, versions

log = logging.getLogger("mmplane")

Verdict = Literal["same", "differs", "not compared"]
Verdicts = dict[Modality, Verdict]

COMPARE_SECONDS = 300
"""Time limit of a child, and of waiting for another process's verdict."""

TURN_SECONDS = 0.05
"""How often a waiting process checks."""


@dataclass(frozen=True)
class Subject:
    """The subject of a comparison: a checkpoint's processors, with one backend for images."""

    files: CheckpointFiles
    backend: BackendName = "pil"

    @property
    def versions(self) -> str:
        """Versions of the computing packages."""
        return versions(self.backend)

    @property
    def needs(self) -> tuple[str, ...]:
        """Packages without which nothing can be compared."""
        return ("transformers", "torch", "torchvision") if self.backend == "torchvision" else ("transformers", "torch")

    @property
    def theirs(self) -> str:
        """The implementations that are considered correct."""
        return "transformers" if self.backend == "pil" else f"transformers with {self.backend}"


def verdicts_of(model_folder: str, modalities: Iterable[Modality], backend: BackendName = "pil") -> Verdicts:
    """Return what is known of each modality; compare if nothing is known."""
    subject, wanted = Subject(CheckpointFiles(model_folder), backend), list(modalities)
    found, missing = _remembered(subject), list[Modality]()
    if not set(wanted) <= set(found):
        with _in_turn(subject):
            found = _remembered(subject)
            missing = [modality for modality in wanted if modality not in found]
            found |= _compared(subject, missing)
            _remember(subject, {modality: verdict for modality, verdict in found.items() if verdict != "not compared"})
    for modality in wanted:
        _tell(subject, modality, found[modality], now=modality in missing)
    return {modality: found[modality] for modality in wanted}


def _compared(subject: Subject, modalities: list[Modality]) -> Verdicts:
    if not modalities:
        return {}
    return _compare_here(subject, modalities) if _loaded() else _compare_apart(subject, modalities)


@contextmanager
def _in_turn(subject: Subject) -> Iterator[None]:
    """Let one process at a time compare if they share the folder; others find its verdict. Waiting has a limit."""
    with ExitStack() as stack:
        with suppress(OSError, RuntimeError):
            path = _path(subject).with_suffix(".lock")
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


def _compare_here(subject: Subject, modalities: list[Modality]) -> Verdicts:
    from mmplane.features.reference.parity import compare

    folder = str(subject.files.folder)
    try:
        return {
            modality: "same" if compare(folder, modality, subject.backend) else "differs" for modality in modalities
        }
    except ValueError as error:
        log.warning("the fast processors could not be compared with %s: %s", subject.theirs, error)
        return dict.fromkeys(modalities, "not compared")


def _compare_apart(subject: Subject, modalities: list[Modality]) -> Verdicts:
    unknown: Verdicts = dict.fromkeys(modalities, "not compared")
    if not all(map(find_spec, subject.needs)):
        return unknown
    program = [sys.executable, "-m", "mmplane.features.reference"]
    command = [*program, str(subject.files.folder), subject.backend, *modalities]
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMPARE_SECONDS, check=True)
        return unknown | msgspec.json.decode(done.stdout, type=Verdicts)
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().rpartition("\n")[2]
        log.warning("the fast processors could not be compared with %s: %s", subject.theirs, said or error)
        return unknown


def _tell(subject: Subject, modality: Modality, verdict: Verdict, *, now: bool) -> None:
    theirs, when = subject.theirs, "compared now" if now else "compared before"
    if verdict == "not compared":
        log.warning("%s features were not compared with %s, which is not installed here or failed", modality, theirs)
    elif verdict == "differs":
        log.warning("fast %s features differ from those of %s, which serves instead (%s)", modality, theirs, when)
    else:
        log.log(
            logging.INFO if now else logging.DEBUG,
            "fast %s features are those of %s (%s; %s)",
            modality,
            theirs,
            when,
            subject.versions,
        )


def _remembered(subject: Subject) -> Verdicts:
    with suppress(OSError, RuntimeError, msgspec.MsgspecError):
        return msgspec.json.decode(_path(subject).read_bytes(), type=Verdicts)
    return {}


def _remember(subject: Subject, verdicts: Verdicts) -> None:
    """If no folder is writable, each process compares for itself."""
    if not verdicts:
        return
    with suppress(OSError, RuntimeError):
        path = _path(subject)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(msgspec.json.encode(verdicts))
        fresh.replace(path)


def _path(subject: Subject) -> Path:
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    what, processor = f"{subject.backend} {subject.versions}", llvmlite.binding.get_host_cpu_name()
    parts = (subject.files.digest, what.encode(), _code(), processor.encode())
    return cache_folder / "mmplane" / "verdicts" / f"{digest_parts(parts).hex()}.json"


@cache
def _code() -> bytes:
    """Digest of this package's sources, so that changed code is compared anew."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return digest_parts(source.read_bytes() for source in sources)
