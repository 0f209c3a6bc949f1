"""Why vLLM makes an image's features itself, by kind."""

from __future__ import annotations

from mmplane.embed.errors import BadMedia, BadOption, Lost, SidecarError, TooLarge, Unprofiled

REASONS = {
    "absent": "the sidecar is not attached",
    "company": "the same request has something that vLLM makes itself",
    "damaged": "it cannot be decoded",
    "decoded": "it came without its bytes",
    "failed": "the sidecar has failed",
    "file": "this kind of file is left to vLLM",
    "large": "it is too large for the sidecar",
    "loader": "the arguments of the loader are not covered",
    "options": "the arguments of the processor are not covered",
    "pixels": "it has more pixels than VLLM_MAX_IMAGE_PIXELS",
}
"""With the rest of "passed over because ..."."""

_OF_ERRORS: dict[type[SidecarError], str] = {
    BadMedia: "damaged",
    BadOption: "options",
    Lost: "absent",
    TooLarge: "large",
    Unprofiled: "file",
}


class NotMade(Exception):
    """The text is one of `REASONS`."""

    @classmethod
    def by(cls, error: SidecarError) -> NotMade:
        """What an answer of the sidecar stands for."""
        return cls(_OF_ERRORS.get(type(error), "failed"))
