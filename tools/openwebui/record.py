"""What Open WebUI sends for a chat about a picture: `make record-openwebui` writes it for tests/clients.

    python tools/openwebui/record.py ENVIRONMENT RECORDING SCREENSHOT

It starts a server with the built-in model and Open WebUI in front of it. In a headless Chromium it drops a picture onto
Open WebUI's page, asks which number it shows, and waits until the answer is on the page and Open WebUI asks no more.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from chromium import Page, browsing
from live import serving

from mmplane.demo import LOOKS, QUESTION, draw
from polling import until

NUMBER = "4821"
START_LIMIT_S = 300.0
ANSWER_LIMIT_S = 60.0
POSTS = 4
"""The chat, and what Open WebUI then asks by itself: questions to follow, a title for the chat, and tags."""
TEXT_MAX = 160
"""Characters of a text that are recorded: Open WebUI's own instructions are long, and not ours."""
DATA_URI = re.compile(r"^data:image/[\w.+-]+;base64,[A-Za-z0-9+/=]+$")


class Recorder(BaseHTTPRequestHandler):
    """Passes requests on to the server at `upstream`, and keeps them."""

    upstream = ""
    requests: list[dict[str, Any]]

    def do_GET(self) -> None:
        self._pass_on(None)

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["content-length"])))

    def _pass_on(self, body: bytes | None) -> None:
        told = {"method": self.command, "path": self.path}
        headers = {"content-type": "application/json"}
        with httpx.stream(self.command, self.upstream + self.path, content=body, headers=headers, timeout=60) as answer:
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers["content-type"])
            self.end_headers()
            with suppress(BrokenPipeError):  # it leaves when the page does
                for chunk in answer.iter_raw():
                    self.wfile.write(chunk)
        self.requests.append(told | {"body": json.loads(body) if body else None, "status": answer.status_code})

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def recording(upstream: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a recorder before this server, and what it keeps."""
    requests: list[dict[str, Any]] = []
    handler = type("Handler", (Recorder,), {"upstream": upstream, "requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{host.server_port}", requests
        finally:
            host.shutdown()
            thread.join()


@contextmanager
def open_webui(environment: Path, api: str, folder: Path) -> Iterator[str]:
    """Open WebUI with this server as its only connection, and no accounts: its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "DATA_DIR": str(folder),
        "WEBUI_AUTH": "False",
        "WEBUI_SECRET_KEY": "none",
        "OPENAI_API_BASE_URL": f"{api}/v1",
        "OPENAI_API_KEY": "none",
        "ENABLE_OLLAMA_API": "False",
        "OFFLINE_MODE": "True",
        "HF_HUB_OFFLINE": "1",
        "ENABLE_VERSION_UPDATE_CHECK": "False",
        "RAG_EMBEDDING_ENGINE": "openai",
        "ANONYMIZED_TELEMETRY": "False",
        "SCARF_NO_ANALYTICS": "true",
        "DO_NOT_TRACK": "true",
        "NO_PROXY": "127.0.0.1",
    }
    told = {name: value for name, value in os.environ.items() if not name.startswith(("MMPLANE_", "PYTHONPATH"))}
    command = [environment / "bin" / "open-webui", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=told | settings, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text()[-4000:]
        with suppress(httpx.HTTPError):
            return httpx.get(f"{url}/health").is_success
        return False

    try:
        until(ready, START_LIMIT_S, "Open WebUI is ready")
        yield url
    finally:
        process.terminate()
        process.wait(60)


def set_up(url: str) -> None:
    """The settings that a person would make in the page: the likeliest token, no tools of Open WebUI's own, no news.

    Its tools take 25,000 characters of each prompt, more than the built-in model's context.
    """
    http = httpx.Client(base_url=f"{url}/api/v1")
    person = http.post("/auths/signin", json={"email": "", "password": ""}).raise_for_status().json()
    http.headers["authorization"] = f"Bearer {person['token']}"
    chosen = {
        "params": {"temperature": 0, "function_calling": "legacy"},
        "showChangelog": False,
        "version": version_of(url),
    }
    http.post("/users/user/settings/update", json={"ui": chosen}).raise_for_status()


def version_of(url: str) -> str:
    """Open WebUI's own."""
    version: str = httpx.get(f"{url}/api/version").json()["version"]
    return version


def chat(page: Page, url: str, picture: bytes, screenshot: Path) -> None:
    """Drop the picture, type the question, send, and wait for the answer."""
    page.open(url)
    page.until("document.getElementById('chat-input')")
    encoded = base64.b64encode(picture).decode()
    page.ask(f"""{{
        const bytes = Uint8Array.from(atob("{encoded}"), each => each.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], "picture.png", {{type: "image/png"}}));
        document.getElementById("chat-input").dispatchEvent(
            new DragEvent("drop", {{dataTransfer, bubbles: true, cancelable: true}}));
    }}""")
    page.until("document.querySelector(\"img[src*='/api/v1/files/']\")")
    page.ask("document.getElementById('chat-input').focus()")
    page.type(QUESTION)
    page.until("document.getElementById('send-message-button')?.disabled === false")
    page.ask("document.getElementById('send-message-button').click()")
    page.until(f"document.body.innerText.includes('{NUMBER}')")
    page.picture(screenshot)


def main(environment: Path, recorded: Path, screenshot: Path) -> None:
    """Chat, and write what was asked."""
    with (
        tempfile.TemporaryDirectory() as place,
        serving("tiny") as live,
        recording(live.url) as (api, requests),
        open_webui(environment, api, Path(place)) as url,
    ):
        set_up(url)
        with browsing(Path(place) / "chromium") as page:
            chat(page, url, draw(NUMBER, *LOOKS[0]), screenshot)
            until(lambda: len(posts(kept(requests))) == POSTS, ANSWER_LIMIT_S, "Open WebUI has asked for all it wants")
        version = version_of(url)
    recorded.parent.mkdir(exist_ok=True)
    lines = [{"recorded": f"Open WebUI {version}", "by": "make record-openwebui"}, *kept(requests)]
    recorded.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(f"{len(requests)} requests, {len(kept(requests))} of them different; {[each['status'] for each in requests]}")


def posts(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the model was asked."""
    return [request for request in requests if request["method"] == "POST"]


def kept(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each request once, without pictures, names and most of the text."""
    unique = {json.dumps(stripped(request)): None for request in list(requests)}
    return [json.loads(line) for line in unique]


def stripped(value: Any) -> Any:
    """The same value with pictures as PICTURE, and with long texts cut."""
    if isinstance(value, dict):
        return {key: stripped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [stripped(each) for each in value]
    if isinstance(value, str):
        return "PICTURE" if DATA_URI.match(value) else value[:TEXT_MAX]
    return value


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
