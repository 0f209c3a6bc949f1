"""Replaces SGLang's loading threads: a picture's file goes to the sidecar, and an undecoded image stands for it.

The undecoded image is Pillow's own image of the file, without its pixels loaded, together with the hold on its
features. So anything else that SGLang does with it is correct, and only costs a decoding in SGLang's process.
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
"""Pictures that one process of SGLang's requests at a time. Each thread only waits for the sidecar."""

_HOLD = "mmplane_hold"
OPTIONS = ("max_dynamic_patch", "preprocess_kwargs", "max_long_side_pixel")
"""Fields of `ImageData`: options of one picture."""


def hold_of(image: object) -> SidecarHold | None:
    """The hold on the features of a picture that was not decoded."""
    return getattr(image, _HOLD, None)


def pixels_of(image: Image.Image) -> Image.Image:
    """Return what SGLang's loader would return for it."""
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


class Source(NamedTuple):
    """The source of a picture's file: a URL, a path, base64 or the bytes. With `reason` SGLang has to load it."""

    data: str | bytes = b""
    reason: str = ""


def source_of(function: str, args: tuple[Any, ...]) -> Source | None:
    """Return the picture that a call of SGLang's loads, or None if it loads none from a file."""
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
    """Read the file like SGLang's `load_image`. Raises what that raises."""
    if isinstance(data, str) and data.startswith("file://"):
        data = unquote(urlparse(data).path)
    content: bytes = get_image_bytes(data)
    return content


class Loading:
    """The executor to which SGLang's processor submits its loading. `theirs` are SGLang's own threads."""

    def __init__(self, theirs: Any, maker: Maker) -> None:
        self._theirs = theirs
        self._maker = maker
        self._ours = ThreadPoolExecutor(THREADS, thread_name_prefix="mmplane-media")

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """See `Executor.submit`."""
        source = source_of(getattr(function, "__name__", ""), args)
        reason = None if source is None else self._maker.reason() or source.reason
        if source is not None and not reason:
            return self._ours.submit(self._load, source.data, partial(function, *args, **kwargs))
        if reason:
            self._maker.pass_over(reason)
        theirs: Future[Any] = self._theirs.submit(function, *args, **kwargs)
        return theirs

    def shutdown(self, *args: Any, **kwargs: Any) -> None:
        """See `Executor.shutdown`."""
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
