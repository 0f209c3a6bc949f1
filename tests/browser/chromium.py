"""A headless Chromium that a test drives: DevTools' protocol over a pipe, and what the pages' console says."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = os.environ.get("MMPLANE_CHROMIUM", "chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
LIMIT_S = 100
"""It only ends a test that failed."""
SAID = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Page:
    """The browser's one page. `console` is all that it complained about."""

    def __init__(self, to: int, answers: int) -> None:
        self._to = os.fdopen(to, "wb", buffering=0)
        self._answers = os.fdopen(answers, "rb", buffering=0)
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.console: list[str] = []
        target = self._call("Target.getTargets")["targetInfos"]
        (page,) = [each["targetId"] for each in target if each["type"] == "page"]
        self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def close(self) -> None:
        """Without the pipe the browser ends."""
        self._to.close()
        self._answers.close()

    def open(self, url: str, *, width: int = 1216, height: int = 900, dark: bool = False) -> None:
        """Go there, and wait until everything that the page names is loaded."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Page.navigate", url=url)
        while self._read().get("method") != "Page.loadEventFired":
            pass

    def ask(self, expression: str) -> Any:
        """The value of an expression, once the promise that it may be has one. Raises AssertionError for an error."""
        found = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        turn = f"() => ({condition}) ? done() : setTimeout(turn, 50)"
        self.ask(f"new Promise(done => {{ const turn = {turn}; turn(); }})")

    def drop(self, content: bytes) -> None:
        """Drag this picture onto the page."""
        text = base64.b64encode(content).decode()
        self.ask(f"""{{
            const bytes = Uint8Array.from(atob("{text}"), each => each.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], "picture.png", {{type: "image/png"}}));
            for (const name of ["dragover", "drop"])
              document.body.dispatchEvent(new DragEvent(name, {{dataTransfer, bubbles: true, cancelable: true}}));
        }}""")

    def type(self, text: str) -> None:
        """As a keyboard does, into what has the focus."""
        self._call("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        """A screenshot of what is in view, as WebP."""
        shot = self._call("Page.captureScreenshot", format="webp", quality=80)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = self._answers.read(2**16)
            assert chunk, "the browser has ended"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        if decoded.get("method") in SAID and decoded["params"].get("entry", {}).get("level") != "verbose":
            self.console.append(json.dumps(decoded["params"]))
        return decoded


@contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """A browser of one's own, with an empty profile."""
    theirs_in, to = os.pipe()
    answers, theirs_out = os.pipe()
    # The protocol's pipes are descriptors 3 and 4, and `timeout` ends a browser that hangs, which ends a read as well.
    script = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec timeout {LIMIT_S} "$@"'
    command = ["bash", "-c", script, "bash", CHROMIUM, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [*command, "about:blank"], pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(theirs_in)
    os.close(theirs_out)
    page = None
    try:
        page = Page(to, answers)
        yield page
    finally:
        process.terminate()
        if page is not None:
            page.close()
        process.wait(60)
