"""What a sidecar's clients are told, as types."""

from __future__ import annotations

from mmplane.core.errors import UNPROFILED, Failure


class SidecarError(Exception):
    """Base of these errors, and what an error inside the sidecar itself is."""


class BadMedia(SidecarError):
    """The media cannot be decoded, or this model or sidecar takes none of its kind."""


class BadOption(BadMedia, ValueError):
    """An option that there is not, or a value that the checkpoint's processor does not take."""


class Unprofiled(SidecarError):
    """The sidecar's decode profile does not cover this media: the engine has to decode it in its own way."""


class TooLarge(SidecarError):
    """Larger than this sidecar will ever take."""


class Full(SidecarError):
    """There is no room now: the same call may succeed later."""


class Lost(SidecarError):
    """The sidecar, or the process that was working on it, has ended, or does not answer. The call may be repeated."""


class NotAttached(SidecarError):
    """The sidecar refuses this process, and says why."""


_BY_STATUS: dict[int, type[SidecarError]] = {400: BadMedia, 404: BadMedia, 413: TooLarge, 422: BadMedia}
_BY_CODE: dict[str, type[SidecarError]] = {
    "overloaded": Full,
    "unavailable": Lost,
    "invalid_option": BadOption,
    UNPROFILED: Unprofiled,
}


def error_of(failure: Failure) -> SidecarError:
    """The exception that a failure of the sidecar stands for."""
    kind = _BY_CODE.get(failure.code) or _BY_STATUS.get(failure.status, SidecarError)
    return kind(failure.message)
