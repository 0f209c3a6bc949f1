"""Files under one folder, and nothing else by any path (S11)."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from frontend_loop import in_loop
from mmplane.core.errors import RequestError
from mmplane.frontend.sources import files as files_module
from mmplane.frontend.sources.addresses import Allowed
from mmplane.frontend.sources.files import Files
from mmplane.frontend.sources.source import Source
from mmplane.waiting.threads import SUBJECT_THREADS_MAX, TENANT_THREADS_MAX


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a cat.png").write_bytes(b"a cat")
    (folder / "link.png").symlink_to("sub/a cat.png")
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "out").symlink_to(tmp_path)
    (folder / "absolute.png").symlink_to(folder / "sub" / "a cat.png")
    (folder / "up.png").symlink_to("../secret")
    (tmp_path / "media-too").mkdir()
    (tmp_path / "media-too" / "x").write_bytes(b"secret")
    os.mkfifo(folder / "fifo")
    return folder


async def load(root: Path, path: str) -> bytes:
    files = Files(str(root))
    try:
        return await files.load(path, lambda _: None)
    finally:
        files.close()


@pytest.mark.parametrize("path", ["sub/a%20cat.png", "sub/../sub/a%20cat.png", "link.png"])
@in_loop
async def test_a_file_in_the_folder(root: Path, path: str) -> None:
    assert await load(root, f"file://{root}/{path}") == b"a cat"
    assert await load(root, f"file://localhost{root}/{path}") == b"a cat"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "file://{root}/../secret",
        "file://{root}/%2e%2e/secret",
        "file://{root}/sub/../../secret",
        "file://{root}/out/secret",
        "file://{root}/up.png",
        "file://{root}/absolute.png",
        "file://{root}/fifo",
        "file://{root}/sub",
        "file://{root}/",
        "file://{root}",
        "file://{root}/missing",
        "file://{root}//etc/passwd",
        "file://{root}-too/x",
        "file://{root}/sub/a%20cat.png/",
        "file://{root}/sub/a%20cat.png%00.png",
        "file://host{root}/link.png",
        "file:///proc/self/environ",
        "file://[",
        "file:cat.png",
        "file://{root}/" + "a" * 5000,
    ],
)
@in_loop
async def test_everything_else_is_refused_in_few_words(root: Path, url: str) -> None:
    with pytest.raises(RequestError) as refused:
        await load(root, url.format(root=root))
    assert refused.value.status == 400
    assert str(root) not in refused.value.message


@in_loop
async def test_a_link_that_is_swapped_leads_nowhere(root: Path) -> None:
    """The check and the use are one system call, so a swap between them does not exist: it is before or after."""
    descriptor = os.open(root, os.O_PATH)
    (root / "x").symlink_to("link.png")
    os.close(files_module.open_beneath(descriptor, "x"))
    (root / "x").unlink()
    (root / "x").symlink_to("/etc/passwd")
    with pytest.raises(OSError):
        files_module.open_beneath(descriptor, "x")
    os.close(descriptor)


@in_loop
async def test_length_is_known_before_a_byte_is_read(root: Path) -> None:
    (root / "large").write_bytes(bytes(2000))
    grown: list[int] = []
    files = Files(str(root))
    assert len(await files.load(f"file://{root}/large", grown.append)) == 2000
    assert grown == [2000]
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(files_module, "MEDIA_BYTES_MAX", 1999)
        with pytest.raises(RequestError) as refused:
            await files.load(f"file://{root}/large", grown.append)
    assert (refused.value.status, grown) == (413, [2000])
    files.close()


@in_loop
async def test_files_are_off_unless_the_operator_names_a_folder(root: Path) -> None:
    source = Source(Allowed(["*"]))
    with pytest.raises(RequestError) as refused:
        await source.load(f"file://{root}/link.png")
    assert refused.value.code == "invalid_url"
    await source.close()
    with pytest.raises(ValueError, match="--media-root"):
        Source(Allowed([]), media_root=str(root / "missing"))


@in_loop
async def test_a_folder_that_hangs_holds_up_only_its_readers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system that stands still: hashing goes on, and so do other tenants' files."""
    free, opened = threading.Event(), []
    really = files_module.open_beneath

    def hanging(folder: int, path: str) -> int:
        opened.append(path)
        if path.startswith("stuck") and not free.wait(60):
            raise OSError("nobody ended the test")
        return really(folder, path.partition("/")[2] if path.startswith("stuck") else path)

    files = Files(str(root))
    monkeypatch.setattr(files_module, "open_beneath", hanging)
    url = f"file://{root}/"
    stuck = [
        asyncio.create_task(files.load(f"{url}stuck{number}/sub/a cat.png", lambda _: None, tenant="a"))
        for number in range(2 * TENANT_THREADS_MAX)
        for _ in range(2 * SUBJECT_THREADS_MAX)
    ]
    try:
        while len(opened) < TENANT_THREADS_MAX:  # noqa: ASYNC110 - threads count
            await asyncio.sleep(0)
        assert await files.load(f"{url}sub/a cat.png", lambda _: None, tenant="b") == b"a cat"
        assert await asyncio.gather(*(asyncio.to_thread(len, "hash") for _ in range(8))) == [4] * 8
        assert len(opened) == TENANT_THREADS_MAX + 2
        for task in stuck[1:]:
            task.cancel()
        await asyncio.gather(*stuck[1:], return_exceptions=True)
    finally:
        free.set()
    assert await stuck[0] == b"a cat"
    assert len(opened) == TENANT_THREADS_MAX + 3, "whoever gave up while it waited opens nothing"
    files.close()
