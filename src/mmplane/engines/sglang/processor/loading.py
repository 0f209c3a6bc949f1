"""In the place of SGLang's loading threads: a picture's file goes to the sidecar, and stands for it undecoded.

What stands for a picture is Pillow's own image of the file, of which nobody has asked for the pixels yet, with the hold
on its features. So whatever else SGLang does with it is right, and costs a decoding in its own process.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import unquote, urlparse

from PIL import Image
from sglang.srt.managers.schedule_batch import Modality
from sglang.srt.utils.common import ImageData, get_image_bytes

from mmplane.embed.hold import SidecarHold
from mmplane.engines.sglang.processor.maker import Maker

THREADS = 32
"""Pictures that one process of SGLang's has made at a time. A thread waits for the sidecar and does nothing else."""

_HOLD = "mmplane_hold"
OPTIONS = ("max_dynamic_patch", "preprocess_kwargs", "max_long_side_pixel")
"""Of `ImageData`: what one picture may be asked for with."""


def hold_of(image: object) -> SidecarHold | None:
    """The hold on the features of a picture that was not decoded."""
    return getattr(image, _HOLD, None)


def pixels_of(image: Image.Image) -> Image.Image:
    """What SGLang's loader would have made of it."""
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


class Source(NamedTuple):
    """Where a picture's file is: a URL, a path, base64 or the bytes. With `reason` it is not for the sidecar."""

    data: str | bytes = b""
    reason: str = ""


def source_of(function: str, args: tuple[Any, ...]) -> Source | None:
    """The picture that a call of SGLang's loads; None if it loads none from a file."""
    if len(args) < 2 or function not in ("_load_single_item", "decode_media_snapshot"):
        return None
    data, modality = args[0] if function == "_load_single_item" else args[0].data, args[1]
    if modality != Modality.IMAGE:
        return Source(reason=modality.name.lower())
    if function == "_load_single_item" and not (len(args) < 5 or args[4]):
        return Source(reason="alpha")
    if isinstance(data, ImageData):
        if any(getattr(data, name, None) is not None for name in OPTIONS):
            return Source(reason="options")
        data = data.url
    if isinstance(data, str | bytes):
        return Source(data)
    return None if isinstance(data, dict) else Source(reason="decoded")


def content_of(data: str | bytes) -> bytes:
    """The file, as SGLang's `load_image` gets at it. Raises what that raises."""
    if isinstance(data, str) and data.startswith("file://"):
        data = unquote(urlparse(data).path)
    content: bytes = get_image_bytes(data)
    return content


class Loading:
    """What SGLang's processor submits its loading to. `theirs` are its own threads."""

    def __init__(self, theirs: Any, maker: Maker) -> None:
        self._theirs = theirs
        self._maker = maker
        self._ours = ThreadPoolExecutor(THREADS, thread_name_prefix="mmplane-media")

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """As an executor's."""
        source = source_of(getattr(function, "__name__", ""), args)
        reason = None if source is None else self._maker.reason() or source.reason
        if source is not None and not reason:
            return self._ours.submit(self._load, source.data, partial(function, *args, **kwargs))
        if reason:
            self._maker.pass_over(reason)
        theirs: Future[Any] = self._theirs.submit(function, *args, **kwargs)
        return theirs

    def shutdown(self, *args: Any, **kwargs: Any) -> None:
        """As an executor's."""
        self._ours.shutdown(*args, **kwargs)
        self._theirs.shutdown(*args, **kwargs)

    def _load(self, data: str | bytes, original: Callable[[], Any]) -> Any:
        try:
            content = content_of(data)
        except Exception:  # noqa: BLE001 - SGLang's own loader says in its own words what is wrong
            return original()
        hold = self._maker.make(content)
        if hold is None:
            return original()
        image = Image.open(BytesIO(content))
        setattr(image, _HOLD, hold)
        return image
