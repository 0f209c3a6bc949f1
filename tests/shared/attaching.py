"""Processes that attach to a sidecar, and pictures for them."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from blake3 import blake3
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmplane import Leased


def picture(name: str, side: int = 32) -> bytes:
    """A square PNG of noise, another one for each name, which is in the file too."""
    note, out = PngInfo(), io.BytesIO()
    note.add_text("name", name)
    pixels = blake3(name.encode()).digest(3 * side * side)
    Image.frombytes("RGB", (side, side), pixels).save(out, "PNG", pnginfo=note)
    return out.getvalue()


APART = ("unshare", "--user", "--map-root-user", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child")


class Attached:
    """A process of its own that is attached: `attached.py`. One command at a time, one JSON answer each.

    With `apart` it is in user, PID and mount namespaces of its own.
    """

    def __init__(self, path: str, role: str, *arguments: object, apart: bool = False) -> None:
        program = Path(__file__).with_name("attached.py")
        command = [*(APART if apart else ()), sys.executable, str(program), path, role, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, command: str, argument: str | bytes = "") -> Any:
        """One command; its answer."""
        self.begin(command, argument)
        return self._answer()

    def begin(self, command: str, argument: str | bytes = "") -> None:
        assert self.process.stdin is not None
        text = argument if isinstance(argument, str) else base64.b64encode(argument).decode()
        self.process.stdin.write(f"{command} {text}\n")
        self.process.stdin.flush()

    def end(self) -> Any:
        """The answer to what was begun."""
        return self._answer()

    def open(self, leased: Leased) -> str:
        """What a rank sees: the hex of its digest."""
        seen: str = self.tell("open", leased.encode())
        return seen

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline() or '"it ended"')


@contextmanager
def attached(path: str, *roles: tuple[object, ...]) -> Iterator[list[Attached]]:
    with ExitStack() as stack:
        processes = []
        for role in roles:
            processes.append(Attached(path, *role))  # type: ignore[arg-type]
            stack.callback(processes[-1].kill)
        for process in processes:
            assert process.end() == "attached"
        yield processes
