"""The status page at `/`: one file that loads nothing, with a policy that lets it send requests only to this server."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files

from mmplane.core.stages import SUMS
from mmplane.observe.colours import STAGE_COLOURS, SUM_COLOUR

_COLOURS = json.dumps(dict(STAGE_COLOURS) | dict.fromkeys(SUMS, SUM_COLOUR))
PAGE = (files("mmplane.observe") / "status.html").read_bytes().replace(b"$colours", _COLOURS.encode())


def _allowed(element: bytes) -> str:
    """The digest of the page's only script or style, as a policy names it."""
    (content,) = re.findall(rb"<%b>(.*?)</%b>" % (element, element), PAGE, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


HEADERS = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src {_allowed(b'script')}",
            f"style-src {_allowed(b'style')}",
            "img-src blob:",  # the picture that was dropped on the page
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
