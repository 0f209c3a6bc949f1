"""What a media machine loads: some settings of the server, and the checkpoint's small JSON files. No weights."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec

from mmplane.config import Config
from mmplane.core.keys import digest_parts
from mmplane.features.checkpoint.files import NAMES, CheckpointFiles
from mmplane.features.choice import Processors, verdicts_for
from mmplane.machines.records import FILE_BYTES_MAX, Assignment, Files
from mmplane.models.cached import cache_folder

SETTINGS = (
    "accept_embeddings",
    "backend",
    "body_bytes_max",
    "decode_profile",
    "decoder",
    "device",
    "encoding",
    "generic",
    "item_seconds",
    "verdicts",
    "video_frames_max",
)
"""Fields of the configuration that affect features, and limits of one item."""


def assignment_of(config: Config, processors: Processors) -> tuple[Assignment, Files]:
    """Return what the machines of this server load, with the files' contents. Raises ValueError for a long file."""
    settings = {name: getattr(config, name) for name in SETTINGS}
    settings |= {"encoding": processors.encoding, "verdicts": verdicts_for(config)}
    folder = CheckpointFiles(config.model_folder).folder
    files = {name: path.read_bytes() for name in NAMES if (path := folder / name).is_file()}
    for name, content in files.items():
        if len(content) > FILE_BYTES_MAX:
            raise ValueError(f"{name} of this checkpoint is longer than {FILE_BYTES_MAX} bytes")
    lengths = tuple((name, len(content)) for name, content in files.items())
    return Assignment(msgspec.msgpack.encode(settings), lengths), files


def configured(assignment: Assignment, folder: str, own: dict[str, Any]) -> Config:
    """Build a machine's configuration from the server's `assignment`, the files' `folder` and its `own` settings.

    Raises ValueError for an unknown setting.
    """
    given = msgspec.msgpack.decode(assignment.settings, type=dict[str, Any])
    if unknown := given.keys() - set(SETTINGS):
        raise ValueError(f"the server sends settings that this version does not know: {', '.join(sorted(unknown))}")
    fixed = {"kind": "outpost", "model": folder, "model_folder": folder, "tp": 1}
    return msgspec.convert(given | own | fixed, Config)


def digest_of(assignment: Assignment, files: Files) -> bytes:
    """Return 32 bytes; if they are equal, nothing has to be loaded again."""
    parts = (part for name, content in files.items() for part in (name.encode(), content))
    return digest_parts((assignment.settings, *parts))


def keep(files: Files) -> str:
    """Return a folder with these files, named by content: equal files share it. Raises OSError, ValueError."""
    if unknown := files.keys() - set(NAMES):
        raise ValueError(f"the server sends files that this version does not know: {', '.join(sorted(unknown))}")
    name = digest_parts(part for pair in files.items() for part in (pair[0].encode(), pair[1])).hex()[:32]
    cache = cache_folder() / "machines"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / name
    if not folder.is_dir():
        fresh = Path(mkdtemp(dir=cache))
        for each, content in files.items():
            (fresh / each).write_bytes(content)
        try:
            fresh.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    return str(folder)
