"""Stopping gracefully: new requests are turned away, those in flight finish."""

import asyncio
from typing import Any

import pytest
from asgi_caller import Sender, Web, others_go_on, whole


@pytest.mark.parametrize("line", ["GET /", "GET /v2/ping", "POST /v2/queues/q/messages", "GET /nowhere"])
async def test_draining_server_turns_every_request_away_and_says_when_to_come_back(
    web: Web, line: str
) -> None:
    web.app.draining = True
    reply = await web.ask(line)
    assert reply.fault == (503, "Service temporarily unavailable")
    assert "Please try again in a few seconds." in reply.document["description"]
    assert int(reply.headers["retry-after"]) > 0
    assert reply.headers["connection"] == "close"
    assert reply.headers["x-openstack-request-id"].startswith("req-")


async def test_idle_server_is_drained_at_once(web: Web) -> None:
    await web.ask("GET /v2/ping")
    assert web.app.in_flight == 0
    async with asyncio.timeout(1):
        await web.app.drained()


async def test_request_in_flight_finishes_and_only_then_the_server_is_drained(web: Web) -> None:
    arrives = asyncio.Event()
    sender = Sender(
        [{"type": "http.request", "body": b'{"messages": [{"body": 1}]}', "more_body": False}],
        between=arrives.wait,
    )
    request = asyncio.create_task(web.ask("POST /v2/queues/q/messages", sender=sender))
    await others_go_on()
    web.app.draining = True
    drained = asyncio.create_task(web.app.drained())
    await others_go_on()
    assert web.app.in_flight == 1
    assert (await web.ask("GET /v2/ping")).status == 503
    await others_go_on()
    assert not drained.done()
    arrives.set()
    assert (await request).status == 201
    async with asyncio.timeout(1):
        await drained
    web.app.draining = False
    assert await web.queues() == ["q"]


async def test_caller_that_went_away_before_the_answer_is_not_waited_for(web: Web) -> None:
    async def gone(_event: Any) -> None:
        raise ConnectionResetError

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    with pytest.raises(ConnectionResetError):
        await web.app(scope, whole(b"").receive, gone)
    assert web.app.in_flight == 0
    async with asyncio.timeout(1):
        await web.app.drained()
