"""The order of effects and of replies when many requests are in flight on one connection."""

import asyncio
from typing import Any

import msgspec
import pytest
from ws_site import Site, ask, post, receive, request, text

from sukkal.model import QueueKey, View

EVERYTHING = View(include_claimed=True, include_delayed=True)


async def stored(site: Site, queue: str) -> list[Any]:
    """Bodies in the order in which the store has them."""
    page = await site.stage.messages.page(
        QueueKey("acme", queue), view=EVERYTHING, after=None, limit=10_000, now=site.now
    )
    return [msgspec.json.decode(message.body) for message in page]


async def test_replies_come_in_the_order_of_the_requests_whatever_they_ask(site: Site) -> None:
    asked = [
        post("q", 1),
        "{",
        text("queue_get_stats", queue_name="q"),
        post("q", 2),
        post("r", 3),
        text("nonsense"),
        msgspec.msgpack.encode(request("message_list", queue_name="q", echo=True)),
        post("q", 4),
        text("queue_delete", queue_name="q"),
    ]
    async with site.connect() as socket:
        for frame in asked:
            await socket.send(frame)
        replies = [await receive(socket) for _ in asked]
    assert [reply["headers"]["status"] for reply in replies] == [201, 400, 200, 201, 201, 400, 200, 201, 204]
    assert replies[2]["body"]["messages"]["total"] == 1
    assert [message["body"] for message in replies[6]["body"]["messages"]] == [1, 2]


async def test_thousand_pipelined_posts_are_stored_in_order_and_each_is_answered(site: Site) -> None:
    async with site.connect() as socket:
        sending = asyncio.create_task(_send_all(socket, [post("q", number) for number in range(1000)]))
        replies = [await receive(socket) for _ in range(1000)]
        await sending
    assert [reply["request"]["body"]["messages"][0]["body"] for reply in replies] == list(range(1000))
    assert await stored(site, "q") == list(range(1000))


async def _send_all(socket: Any, frames: list[str]) -> None:
    for frame in frames:
        await socket.send(frame)


async def test_posts_to_a_queue_that_is_known_overlap(site: Site) -> None:
    async with site.connect() as socket:
        await ask(socket, post("q", 0))
        first = site.stage.messages.hold_after("append")
        await socket.send(post("q", 1))
        await first.reached()
        second = site.stage.messages.hold_after("append")
        await socket.send(post("q", 2))
        await second.reached()
        assert site.connection.session.in_flight == 2
        second.open()
        first.open()
        bodies = [(await receive(socket))["request"]["body"]["messages"][0]["body"] for _ in range(2)]
    assert bodies == [1, 2], "replies keep their order, though the second was done first"


async def test_posts_to_a_new_queue_wait_until_its_record_is_made(site: Site) -> None:
    gate = site.stage.documents.hold_before("put")
    async with site.connect() as socket:
        for number in range(3):
            await socket.send(post("new", number))
        await gate.reached()
        assert site.connection.session.in_flight == 1
        gate.open()
        assert [(await receive(socket))["headers"]["status"] for _ in range(3)] == [201] * 3
    assert await stored(site, "new") == [0, 1, 2]


@pytest.mark.parametrize(
    "action", ["queue_get_stats", "claim_create", "queue_purge", "queue_delete", "queue_get"]
)
async def test_other_actions_wait_for_the_posts_before_them_and_hold_back_those_after(
    site: Site, action: str
) -> None:
    async with site.connect() as socket:
        await ask(socket, post("q", 0))
        gate = site.stage.messages.hold_before("append")
        await socket.send(post("q", 1))
        await gate.reached()
        calls = len(site.stage.messages.calls), len(site.stage.documents.calls)
        await socket.send(text(action, queue_name="q"))
        await socket.send(post("q", 2))
        await socket.ping()  # comes after them, and its pong tells that they came
        await asyncio.wait_for(await socket.ping(), 10)
        assert site.connection.session.in_flight == 1
        assert calls == (len(site.stage.messages.calls), len(site.stage.documents.calls))
        gate.open()
        answered = [(await receive(socket))["request"]["action"] for _ in range(3)]
    assert answered == ["message_post", action, "message_post"]


async def test_reply_to_a_faulty_frame_waits_for_its_turn(site: Site) -> None:
    async with site.connect() as socket:
        await ask(socket, post("q", 0))
        gate = site.stage.messages.hold_before("append")
        await socket.send(post("q", 1))
        await gate.reached()
        await socket.send("{")
        await asyncio.wait_for(await socket.ping(), 10)
        gate.open()
        assert [(await receive(socket))["headers"]["status"] for _ in range(2)] == [201, 400]


async def test_failing_store_is_told_to_the_post_it_failed_and_to_no_other(site: Site) -> None:
    async with site.connect() as socket:
        await ask(socket, post("q", 0))
        site.stage.messages.fail_once("append")
        for number in (1, 2):
            await socket.send(post("q", number))
        replies = [await receive(socket) for _ in range(2)]
    assert [reply["headers"]["status"] for reply in replies] == [503, 201]
    assert replies[0]["body"] == {
        "exception": "Messages could not be enqueued. Please try again in a few seconds.",
        "error": "Messages could not be enqueued.",
    }


@pytest.mark.parametrize(
    "action, body, broken, error",
    [
        ("queue_list", {}, "scan", "Queues could not be listed."),
        ("queue_create", {"queue_name": "q"}, "put", "Queue q could not be created."),
        ("queue_get", {"queue_name": "q"}, "get", "Cannot retrieve queue q."),
    ],
)
async def test_store_that_cannot_be_reached_is_told_in_the_apis_words(
    site: Site, action: str, body: dict[str, str], broken: str, error: str
) -> None:
    site.stage.documents.broken = {broken}
    async with site.connect() as socket:
        reply = await ask(socket, text(action, **body))
    assert reply["headers"]["status"] == 503
    assert reply["body"]["error"] == error


async def test_fault_of_ours_is_answered_without_its_text_and_leaves_the_connection(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async def fault() -> None:
        raise ZeroDivisionError("internal")

    site.stage.messages.before("stats", fault)
    async with site.connect() as socket:
        reply = await ask(socket, text("queue_get_stats", queue_name="q"))
        assert reply["headers"]["status"] == 500
        assert reply["body"]["error"] == "Unexpected error."
        assert "internal" not in str(reply["body"])
        assert (await ask(socket, text("queue_get_stats", queue_name="q")))["headers"]["status"] == 404
    assert "ZeroDivisionError" in caplog.text
