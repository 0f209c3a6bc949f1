"""What is left when processes are killed: no memory of ours, and no process of ours."""

from __future__ import annotations

import signal
from collections.abc import Callable

import psutil
from vllm_live import VLLM, is_alive, maps_an_arena, part, segments, text
from vllm_work import CHINA, answer

from polling import until

LIMIT_S = 60.0
VLLMS_OWN = ("psm_", "sem.", "vllm")
"""What vLLM itself leaves in /dev/shm when it is killed, with the plugin or without."""


def test_kill(running: Callable[[], VLLM], tp: int) -> None:
    """With one rank an API server, with two a worker; what vLLM leaves alive then is killed too."""
    server = running()
    answer(server, [part(CHINA), text("What?")])
    sidecars = server.titled("mmplane: ")
    assert sidecars
    assert sum(map(maps_an_arena, filter(is_alive, server.processes))) >= 1 + tp
    victim = server.processes[0] if tp == 1 else server.titled("Worker")[0]
    victim.send_signal(signal.SIGKILL)
    until(lambda: not any(map(is_alive, sidecars)), LIMIT_S, "the sidecar has ended")
    server.kill()
    until(lambda: not any(map(is_alive, server.processes)), LIMIT_S, "all processes have ended")
    left = segments() - server.segments
    assert [name for name in left if not name.startswith(VLLMS_OWN)] == []
    assert not any(maps_an_arena(process) for process in mine())


def mine() -> list[psutil.Process]:
    """This process and what it has started."""
    return [psutil.Process(), *psutil.Process().children(recursive=True)]
