"""A request's media is fetched together, within limits; the first failure ends the rest."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest

from frontend_loop import in_loop
from mmplane.core.errors import RequestError, bad_media
from mmplane.frontend.body.schema import ChatRequest, parse
from mmplane.frontend.request import intake as intake_module
from mmplane.frontend.request.intake import FETCHES_MAX, Intake


class Hosts:
    """A source whose hosts answer when they are told to."""

    def __init__(self) -> None:
        self.answers: dict[str, asyncio.Future[bytes]] = {}
        self.tenants: set[str] = set()
        self.now = self.most = self.asked = self.cancelled = 0

    def of(self, url: str) -> asyncio.Future[bytes]:
        return self.answers.setdefault(url, asyncio.get_running_loop().create_future())

    async def load_json(self, url: Any, grow: Any, *, tenant: str) -> bytes:
        self.tenants.add(tenant)
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await asyncio.shield(self.of(json.loads(bytes(url))))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1


def request_of(count: int) -> ChatRequest:
    parts = [{"type": "image_url", "image_url": {"url": f"http://cat.test/{each}"}} for each in range(count)]
    return parse(json.dumps({"model": "tiny", "messages": [{"role": "user", "content": parts}]}).encode())


def contents(hosts: Hosts, count: int) -> asyncio.Task[list[Any]]:
    intake = Intake(cast("Any", None), cast("Any", hosts), frames_max=1)
    return asyncio.create_task(intake._contents(request_of(count).media, lambda _: None, (), "alice"))


async def until_quiet() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@in_loop
async def test_media_is_fetched_together_and_comes_in_order() -> None:
    hosts = Hosts()
    task = contents(hosts, 16)
    await until_quiet()
    assert hosts.asked == hosts.most == FETCHES_MAX
    for number in reversed(range(16)):
        hosts.of(f"http://cat.test/{number}").set_result(b"%d" % number)
    assert await task == [b"%d" % number for number in range(16)]
    assert (hosts.most, hosts.tenants) == (FETCHES_MAX, {"alice"})


def test_images_that_are_not_alone_are_asked_for_as_such() -> None:
    intake = Intake(cast("Any", None), cast("Any", None), frames_max=1, several='{"several":true}')
    for count, arguments in ((1, ""), (2, '{"several":true}'), (3, '{"several":true}')):
        request = request_of(count)
        assert [ask.arguments for ask in intake._asks(request.media, request)] == [arguments] * count


@in_loop
async def test_the_first_failure_ends_the_others() -> None:
    hosts = Hosts()
    task = contents(hosts, 16)
    await until_quiet()
    hosts.of("http://cat.test/3").set_exception(bad_media("no cat"))
    with pytest.raises(RequestError, match="no cat"):
        await task
    assert (hosts.now, hosts.cancelled) == (0, hosts.asked - 1)
    assert hosts.asked <= FETCHES_MAX + 1, "the next one in turn may have begun"


@in_loop
async def test_a_client_that_leaves_ends_all() -> None:
    hosts = Hosts()
    task = contents(hosts, 16)
    await until_quiet()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (hosts.now, hosts.cancelled) == (0, FETCHES_MAX)


@in_loop
async def test_all_of_a_requests_media_has_a_limit_together() -> None:
    hosts = Hosts()
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(intake_module, "FETCHES_SECONDS", 0.05)
        with pytest.raises(RequestError) as late:
            await contents(hosts, 16)
    assert (late.value.status, late.value.code) == (504, "fetch_timeout")
    assert hosts.now == 0
