"""What must be equal on two machines for equal features; each fact has a name, so that a refusal can show both values.

transformers and torch only count if they make features themselves. The kind of processor does not count, because media
machines may have other CPUs, and bytes (`uint8`) are computed with integers only.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmplane.config import Config
from mmplane.core.keys import digest_parts
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.choice import Processors
from mmplane.machines.records import Kin

COMPUTING = ("numpy", "pillow", "numba", "av", "imagecodecs", "pi-heif", "simplejpeg", "soundfile", "soxr", "ml-dtypes")
"""Packages that decode media or compute features."""
LIBRARY = ("transformers", "torch")
"""Packages that make features if mmplane has no processor."""
OURS = "mmplane.features.families."
SOURCES = ("features", "media")
DIGEST_CHARACTERS = 16


def kin_of(config: Config, processors: Processors) -> Kin:
    """The facts of the processors that this process has chosen."""
    generic = not all(type(each).__module__.startswith(OURS) for each in processors.present.values())
    packages = (*COMPUTING, *LIBRARY) if generic else COMPUTING
    return (
        ("mmplane", f"{_version('mmplane')} ({_code()})"),
        ("checkpoint", CheckpointFiles(config.model_folder).digest.hex()[:DIGEST_CHARACTERS]),
        ("encoding", processors.encoding),
        ("backend", config.backend),
        ("decode profile", processors.decode_profile),
        *((modality, type(each).__name__) for modality, each in sorted(processors.present.items())),
        *((name, _version(name)) for name in packages),
    )


def differences(server: Kin, machine: Kin) -> str:
    """Describe the differences; empty if there are none."""
    ours, theirs = dict(server), dict(machine)
    return ", ".join(
        f"{name} is {ours.get(name, 'missing')} on the server and {theirs.get(name, 'missing')} on the machine"
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    )


@cache
def _code() -> str:
    """Digest of the source files that make features, so that local changes count as another version."""
    folder = Path(__file__).parents[1]
    sources = sorted(path for name in SOURCES for path in (folder / name).rglob("*.py"))
    return digest_parts(source.read_bytes() for source in sources).hex()[:DIGEST_CHARACTERS]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
