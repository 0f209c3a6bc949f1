"""What a reader pastes from the README works: the curl is a valid request with a real picture, the Python runs."""

from __future__ import annotations

import ast
import base64
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from mmplane.features.reference.huggingface import HuggingFaceImageProcessor
from mmplane.features.reference.parity import materialise
from mmplane.frontend.body.schema import ChatRequest, parse
from mmplane.frontend.sources.data_uri import decode_data_uri
from mmplane.media.image import decode
from mmplane.models.tiny import build_tiny

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
START, TRACE = ROOT / "docs" / "start.md", ROOT / "docs" / "trace.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

BASE64_BYTES_MAX = 1000
"""A picture that is larger than this does not paste well."""


def fences(document: Path, language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


def curl_body() -> bytes:
    (command,) = [block for block in fences(README, "bash") if block.startswith("curl ")]
    words = shlex.split(command)
    assert words[:2] == ["curl", "http://127.0.0.1:8000/v1/chat/completions"]
    return words[words.index("-d") + 1].encode()


def test_the_first_page_of_the_docs_shows_the_same() -> None:
    for language in ("bash", "python"):
        shown = [block for block in fences(README, language) if block.startswith(("curl", "import openai"))]
        assert [block for block in fences(START, language) if block.startswith(("curl", "import openai"))] == shown


def curl_request() -> ChatRequest:
    return parse(curl_body())


def curl_picture() -> str:
    (image,) = curl_request().media
    return str(json.loads(bytes(image.source or b"")))


def test_curl_is_a_request_to_the_built_in_model() -> None:
    request = curl_request()
    assert request.model == "tiny"
    assert request.mmplane is not None
    assert request.mmplane.trace
    assert json.loads(curl_body())


def test_curl_shows_a_picture_that_is_small_enough_to_paste() -> None:
    url = curl_picture()
    assert len(url.partition(",")[2]) < BASE64_BYTES_MAX
    pixels = decode(decode_data_uri(url.encode()))
    assert pixels.shape == (84, 168, 3)
    assert pixels.std() > 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.name))
def test_python_compiles(document: Path) -> None:
    for block in fences(document, "python"):
        ast.parse(block)


def test_the_openai_example_has_five_lines() -> None:
    (block,) = [block for block in fences(README, "python") if "openai" in block]
    assert len(block.splitlines()) == 5


def test_the_digest_snippet_gives_the_digest_of_the_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = [block for block in fences(TRACE, "python") if "blake3" in block]
    build_tiny(tmp_path / "tiny")
    picture = tmp_path / "picture.png"
    picture.write_bytes(base64.b64decode(curl_picture().partition(",")[2]))
    monkeypatch.setattr(sys, "argv", ["digest.py", str(tmp_path / "tiny"), str(picture)])
    exec(compile(block, "trace.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip() == _digest(tmp_path / "tiny", picture.read_bytes())


def _digest(folder: Path, media: bytes) -> str:
    """What a rank reports for this image: blake3 over the first tensor of its slot."""
    processor = HuggingFaceImageProcessor.load(str(folder))
    features = next(iter(materialise(processor, decode(media)).values()))
    return blake3(features.tobytes()).hexdigest()


def test_the_documents_name_no_machine() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"(?<![\w.])/(?:work|root|farm|home|tmp)/", document.read_text()), document.name
