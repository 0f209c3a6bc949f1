"""A burst of pictures during which a process is killed: how many named segments SGLang leaves."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import httpx
import psutil
from PIL import Image
from sglang_live import SGLang, is_alive, part, text, until

PICTURES, EACH = 200, 10
LIMIT_S = 120.0


def killed_in_a_burst(server: SGLang, victim: psutil.Process) -> int:
    """200 pictures in requests at once; `victim` is killed with the first answer. Segments once SGLang has ended.

    They are removed then.
    """
    with ThreadPoolExecutor(PICTURES // EACH) as threads:
        asked = [threads.submit(_ask, server, at) for at in range(PICTURES // EACH)]
        wait(asked, LIMIT_S, FIRST_COMPLETED)
        victim.kill()
        until(lambda: not any(map(is_alive, server.processes)), LIMIT_S, "every process has ended")
    left = server.segments()
    for path in left:
        path.unlink()
    return len(left)


def _ask(server: SGLang, at: int) -> int:
    """The status; 0 when the server has gone meanwhile."""
    pictures = [part(Image.new("RGB", (112, 112), (at, number, 9))) for number in range(EACH)]
    try:
        return server.chat([*pictures, text("What are these?")]).status_code
    except httpx.HTTPError:
        return 0
