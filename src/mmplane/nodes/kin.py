"""What must be equal on all machines of a group: code, libraries and checkpoint, each with a name for a refusal."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from mmplane.config import Config
from mmplane.core.keys import digest_parts
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.machines.kin import DIGEST_CHARACTERS
from mmplane.machines.records import Kin

LIBRARIES = ("torch", "transformers", "numpy", "safetensors")
WEIGHTS = ("*.safetensors", "*.bin", "*.index.json")
END_BYTES = 64 * 1024
"""How much of the beginning and the end of each file of weights is compared: whole files take minutes to read."""


def kin_of(config: Config, ranks: int) -> Kin:
    """The facts of this machine, which is to run so many ranks. Raises OSError."""
    return (
        ("mmplane", f"{version('mmplane')} ({_code()})"),
        ("python", platform.python_version()),
        *((name, version(name)) for name in LIBRARIES),
        ("byte order", sys.byteorder),
        ("checkpoint", CheckpointFiles(config.model_folder).digest.hex()[:DIGEST_CHARACTERS]),
        ("weights", _weights(Path(config.model_folder))),
        ("number of ranks", str(ranks)),
    )


def _code() -> str:
    """Digest of all our source files, so that local changes count as another version."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return _digest(source.read_bytes() for source in sources)


def _weights(folder: Path) -> str:
    """Digest of the files' names and lengths, and of how each begins and ends."""
    parts: list[bytes] = []
    for path in sorted(path for pattern in WEIGHTS for path in folder.glob(pattern)):
        length_bytes = path.stat().st_size
        with path.open("rb") as file:
            begins = file.read(END_BYTES)
            file.seek(max(0, length_bytes - END_BYTES))
            parts += [path.name.encode(), str(length_bytes).encode(), begins, file.read()]
    return _digest(parts)


def _digest(parts: Iterable[bytes]) -> str:
    return digest_parts(parts).hex()[:DIGEST_CHARACTERS]
