"""The reasons why vLLM makes an image's features itself."""

from __future__ import annotations

from mmplane.embed.errors import BadMedia, BadOption, Lost, SidecarError, TooLarge, Unprofiled

REASONS = {
    "absent": "the sidecar is not attached",
    "company": "vLLM makes something else in the same request itself",
    "damaged": "it cannot be decoded",
    "decoded": "it arrived without its bytes",
    "failed": "the sidecar has failed",
    "file": "this kind of file is left to vLLM",
    "large": "it is too large for the sidecar",
    "loader": "the arguments of the loader are not covered",
    "options": "the arguments of the processor are not covered",
    "pixels": "it has more pixels than VLLM_MAX_IMAGE_PIXELS",
}
"""Each text completes the sentence "passed over because ..."."""

_OF_ERRORS: dict[type[SidecarError], str] = {
    BadMedia: "damaged",
    BadOption: "options",
    Lost: "absent",
    TooLarge: "large",
    Unprofiled: "file",
}


class NotMade(Exception):
    """The sidecar does not make the image. The text is one of `REASONS`."""

    @classmethod
    def by(cls, error: SidecarError) -> NotMade:
        """The reason that an error of the sidecar stands for."""
        return cls(_OF_ERRORS.get(type(error), "failed"))
