"""A checkpoint with room for larger pictures: the same model and processor, with a higher limit of pixels.

Only runners without a model use it: it is for measuring what bytes cost, up to features of 256 MB.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROCESSOR = "preprocessor_config.json"


@contextmanager
def roomy(folder: str, pixels_max: int) -> Iterator[str]:
    """A folder of links to `folder`, whose image processor takes so many pixels, for the block."""
    with tempfile.TemporaryDirectory(prefix="mmplane-bench-model-") as made:
        for path in Path(folder).iterdir():
            if path.name != PROCESSOR:
                (Path(made) / path.name).symlink_to(path.resolve())
        settings = json.loads((Path(folder) / PROCESSOR).read_text())
        if "size" in settings:
            settings["size"]["longest_edge"] = pixels_max
        settings["max_pixels"] = pixels_max
        (Path(made) / PROCESSOR).write_text(json.dumps(settings))
        yield made
