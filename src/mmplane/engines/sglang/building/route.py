"""`GET` and `PUT /mmplane/design` on SGLang's own HTTP server: the switch, with the access rules of its admin routes.

    curl localhost:30000/mmplane/design
    curl -X PUT localhost:30000/mmplane/design -d '{"name": "leader", "share": 0.2}'

With several tokenizer processes a request to the server reaches only one of them, so the switch is refused.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
from sglang.srt.utils.auth import AuthLevel, auth_level
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mmplane.engines.sglang.building.choice import Choice, current
from mmplane.engines.sglang.designs.names import DESIGNS

PATH = "/mmplane/design"
SERVER = "sglang.srt.entrypoints.http_server"


class Switch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`share` of new requests use this design; 1.0 makes it the settled one, 0.0 ends the trial."""

    name: str
    share: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 1.0


def attach(*, workers: int) -> None:
    """Add the route to the HTTP server of this process, if it has one and was started with a design."""
    server, choice = sys.modules.get(SERVER), current()
    if server is not None and choice is not None:
        server.app.add_route(PATH, _endpoint(choice, workers), methods=["GET", "PUT"])


def _endpoint(choice: Choice, workers: int) -> Any:
    async def design(request: Request) -> Response:
        if request.method == "PUT":
            if workers > 1:
                return _refusal(409, "several tokenizer processes: choose a design at start")
            try:
                wanted = msgspec.json.decode(await request.body(), type=Switch)
            except msgspec.MsgspecError as error:
                return _refusal(400, str(error))
            if wanted.name not in DESIGNS:
                return _refusal(400, f"no such design: the designs are {', '.join(DESIGNS)}")
            choice.rollout.put(wanted.name, wanted.share)
        rollout = choice.rollout
        return JSONResponse({"design": rollout.settled, "trial": rollout.trial, "share": rollout.share})

    auth_level(AuthLevel.ADMIN_OPTIONAL)(design)
    return design


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message}}, status)
