"""The errors that a sidecar's clients see."""

from __future__ import annotations

from mmplane.core.errors import UNPROFILED, Failure


class SidecarError(Exception):
    """Base of these errors, and the type of an internal error of the sidecar."""


class BadMedia(SidecarError):
    """The media cannot be decoded, or this model or sidecar does not accept media of its kind."""


class BadOption(BadMedia, ValueError):
    """The option does not exist, or the checkpoint's processor does not accept its value."""


class Unprofiled(SidecarError):
    """The sidecar's decode profile does not cover this media: the engine must decode it itself."""


class TooLarge(SidecarError):
    """The media is larger than this sidecar will ever accept."""


class Full(SidecarError):
    """There is no room now: the same call may succeed later."""


class Lost(SidecarError):
    """The sidecar, or the process that worked on the request, has ended or does not answer. You may call again."""


class NotAttached(SidecarError):
    """The sidecar refuses this process; the message says why."""


_BY_STATUS: dict[int, type[SidecarError]] = {400: BadMedia, 404: BadMedia, 413: TooLarge, 422: BadMedia}
_BY_CODE: dict[str, type[SidecarError]] = {
    "overloaded": Full,
    "unavailable": Lost,
    "invalid_option": BadOption,
    UNPROFILED: Unprofiled,
}


def error_of(failure: Failure) -> SidecarError:
    """The exception for a failure of the sidecar."""
    kind = _BY_CODE.get(failure.code) or _BY_STATUS.get(failure.status, SidecarError)
    return kind(failure.message)
