"""A checkpoint that accepts larger pictures: the same model and processor, with a higher limit on pixels.

Only runners without a model use it, to measure the cost of features of up to 256 MB.
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
    """Provide, for the block, a folder of links to `folder` whose image processor accepts this many pixels."""
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
