"""Normalises paths: a base URL that ends in a slash before `/v1`, a slash at the end, a proxy's prefix."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send


class Paths:
    """Forwards requests with canonical paths, so that later checks see only one spelling of each route.

    A proxy may strip `root`, the prefix under which it publishes this server, or leave it.
    """

    def __init__(self, app: ASGIApp, root: str = "") -> None:
        self._app = app
        self._root = canonical(root) if root else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        await self._app({**scope, "path": canonical(scope["path"], self._root)}, receive, send)


def canonical(path: str, root: str = "") -> str:
    """Return the path below `root`, with single slashes and no slash at its end."""
    path = re.sub("/{2,}", "/", path)
    if root and f"{path}/".startswith(f"{root}/"):
        path = path[len(root) :]
    return path.rstrip("/") or "/"
