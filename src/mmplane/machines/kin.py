"""What must be equal on two machines for their features to be equal, each by name, so that a refusal can name both.

transformers and torch count only where they make features themselves. The kind of processor does not count: media
machines may have other ones. Bytes (`uint8`) come from whole numbers alone.
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
"""Packages that decode media or compute features of it."""
LIBRARY = ("transformers", "torch")
"""Packages that make features where no processor of ours does."""
OURS = "mmplane.features.families."
SOURCES = ("features", "media")
DIGEST_CHARACTERS = 16


def kin_of(config: Config, processors: Processors) -> Kin:
    """Of the processors that this process has chosen."""
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
    """What differs, in words; empty if nothing does."""
    ours, theirs = dict(server), dict(machine)
    return ", ".join(
        f"{name} is {ours.get(name, 'missing')} on the server and {theirs.get(name, 'missing')} on the machine"
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    )


@cache
def _code() -> str:
    """Over the sources that make features: a version that was changed by hand is another one."""
    folder = Path(__file__).parents[1]
    sources = sorted(path for name in SOURCES for path in (folder / name).rglob("*.py"))
    return digest_parts(source.read_bytes() for source in sources).hex()[:DIGEST_CHARACTERS]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
