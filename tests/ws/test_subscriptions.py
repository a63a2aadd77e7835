"""Subscriptions of a connection to itself, and what it is told."""

import asyncio
import contextlib
import uuid
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from ws_site import Site, ask, post, receive, request, text, until

from sukkal.model import QueueKey
from sukkal.stores.contract import Shelf

SUBSCRIBE = text("subscription_create", queue_name="q")
OTHER = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "umbrella"}


def notification(queue: str, body: Any, ttl: int = 3600, **more: Any) -> dict[str, Any]:
    return {"ttl": ttl, "body": body, "queue_name": queue, "Message_Type": "Notification"} | more


async def subscribed(socket: ClientConnection, **body: Any) -> str:
    reply = await ask(socket, text("subscription_create", **({"queue_name": "q"} | body)))
    assert reply["headers"]["status"] == 201, reply
    return str(reply["body"]["subscription_id"])


async def listed(socket: ClientConnection, queue: str = "q") -> list[Any]:
    reply = await ask(socket, text("subscription_list", queue_name=queue))
    subscriptions: list[Any] = reply["body"]["subscriptions"]
    return subscriptions


async def test_message_is_pushed_bare_to_the_connection_that_subscribed(site: Site) -> None:
    async with site.connect() as listener, site.connect() as poster:
        reply = await ask(listener, SUBSCRIBE)
        id_ = reply["body"]["subscription_id"]
        assert reply["body"] == {"subscription_id": id_, "message": "Subscription q created."}
        await ask(
            poster, text("message_post", queue_name="q", messages=[{"body": {"event": "done"}, "ttl": 300}])
        )
        assert await receive(listener) == notification("q", {"event": "done"}, 300)


async def test_ttl_larger_than_any_time_is_refused(site: Site) -> None:
    async with site.connect() as socket:
        reply = await ask(socket, text("subscription_create", queue_name="q", ttl=10**400))
        assert reply["headers"]["status"] == 400
        assert "9999-12-31" in str(reply["body"])


async def test_messages_of_a_post_come_one_by_one_and_posts_in_their_order(site: Site) -> None:
    async with site.connect() as listener, site.connect() as poster:
        await subscribed(listener)
        for start in range(0, 500, 5):
            await poster.send(post("q", *range(start, start + 5)))
        assert [(await receive(listener))["body"] for _ in range(500)] == list(range(500))


async def test_nothing_is_pushed_before_the_message_is_stored(site: Site) -> None:
    async with site.connect() as listener, site.connect() as poster:
        await subscribed(listener)
        gate = site.stage.messages.hold_before("append")
        await poster.send(post("q", 1))
        await gate.reached()
        await ask(listener, text("queue_get", queue_name="q"))  # its reply is the next frame
        gate.open()
        assert (await receive(listener))["body"] == 1


async def test_failed_post_tells_nobody(site: Site) -> None:
    async with site.connect() as listener, site.connect() as poster:
        await subscribed(listener)
        site.stage.messages.fail_once("append")
        assert (await ask(poster, post("q", "lost")))["headers"]["status"] == 503
        await ask(poster, post("q", "kept"))
        assert (await receive(listener))["body"] == "kept"


async def test_one_connection_may_subscribe_to_many_queues_and_each_to_the_same(site: Site) -> None:
    async with site.connect() as one, site.connect() as two, site.connect() as poster:
        for queue in ("q", "r"):
            await subscribed(one, queue_name=queue)
        await subscribed(two)
        await ask(poster, post("r", 1))
        await ask(poster, post("q", 2))
        assert [await receive(one) for _ in range(2)] == [notification("r", 1), notification("q", 2)]
        assert await receive(two) == notification("q", 2)


async def test_other_project_hears_nothing(site: Site) -> None:
    async with site.connect() as listener, site.connect() as poster:
        await subscribed(listener)
        foreign = request("message_post", queue_name="q", messages=[{"body": "theirs"}]) | {"headers": OTHER}
        assert (await ask(poster, msgspec.msgpack.encode(foreign)))["headers"]["status"] == 201
        await ask(poster, post("q", "ours"))
        assert (await receive(listener))["body"] == "ours"


async def test_frames_are_of_the_kind_of_the_last_subscription_that_was_made(site: Site) -> None:
    async with site.connect() as listener, site.connect() as poster:
        await subscribed(listener)
        await ask(listener, msgspec.msgpack.encode(request("queue_list")))
        await ask(poster, post("q", 1))
        assert isinstance(await listener.recv(), str)
        binary = msgspec.msgpack.encode(request("subscription_create", queue_name="r"))
        assert (await ask(listener, binary))["headers"]["status"] == 201
        assert (await ask(listener, SUBSCRIBE))["headers"]["status"] == 409
        await ask(listener, text("queue_list"))
        await ask(poster, post("q", 2))
        frame = await listener.recv()
        assert isinstance(frame, bytes)
        assert msgspec.msgpack.decode(frame) == notification("q", 2)


async def test_bytes_reach_a_listener_of_either_kind(site: Site) -> None:
    async with site.connect() as json, site.connect() as msgpack, site.connect() as poster:
        await subscribed(json)
        await ask(msgpack, msgspec.msgpack.encode(request("subscription_create", queue_name="q")))
        messages = [{"body": {"raw": b"\xff\x00"}}]
        await ask(poster, msgspec.msgpack.encode(request("message_post", queue_name="q", messages=messages)))
        assert (await receive(json))["body"] == {"raw": {"$base64": "/wA="}}
        assert (await receive(msgpack))["body"] == {"raw": b"\xff\x00"}


async def test_connection_is_told_of_what_its_filter_lets_through(site: Site) -> None:
    async with site.connect() as listener, site.connect() as poster:
        await subscribed(listener, options={"filter": {"x": ["y"]}})
        await poster.send(post("q", {"x": "n"}, "text", {"x": "y"}))
        packed = request("message_post", queue_name="q", messages=[{"body": {"x": "y", "b": b"bytes"}}])
        await poster.send(msgspec.msgpack.encode(packed))
        assert (await receive(listener))["body"] == {"x": "y"}
        assert (await receive(listener))["body"]["x"] == "y"


async def test_delayed_message_is_told_at_once_with_its_delay(site: Site) -> None:
    async with site.connect() as listener, site.connect() as poster:
        await subscribed(listener)
        await ask(poster, text("message_post", queue_name="q", messages=[{"body": 1, "delay": 30}]))
        assert await receive(listener) == notification("q", 1, delay=30)


async def test_body_of_an_encrypted_queue_is_told_as_it_was_sent() -> None:
    async with Site(encryption_key="k").open() as site, site.connect() as listener, site.connect() as poster:
        create = text("queue_create", queue_name="q", metadata={"_enable_encrypt_messages": True})
        assert (await ask(poster, create))["headers"]["status"] == 201
        await subscribed(listener)
        await ask(poster, post("q", "secret"))
        assert (await receive(listener))["body"] == "secret"


# --- records -------------------------------------------------------------------------------------------


async def test_message_that_is_moved_to_a_dead_letter_queue_is_told_to_its_listeners(site: Site) -> None:
    async with site.connect() as listener, site.connect() as worker:
        await subscribed(listener, queue_name="dead")
        metadata = {
            "_max_claim_count": 1,
            "_dead_letter_queue": "dead",
            "_dead_letter_queue_messages_ttl": 90,
        }
        await ask(worker, text("queue_create", queue_name="q", metadata=metadata))
        await ask(worker, post("q", {"n": 1}))
        for status in (201, 204):
            reply = await ask(worker, text("claim_create", queue_name="q", ttl=60))
            assert reply["headers"]["status"] == status
            site.now += 61
        assert await receive(listener) == notification("dead", {"n": 1}, ttl=90)


async def test_subscription_is_listed_got_and_deleted(site: Site) -> None:
    async with site.connect() as socket:
        id_ = await subscribed(socket, ttl=600, options={"any": [1, None]})
        site.now += 7
        (found,) = await listed(socket)
        assert found == {
            "id": id_,
            "source": "q",
            "subscriber": f"http://localhost/{site.connection.session.id}",
            "ttl": 600,
            "age": 7,
            "options": {"any": [1, None]},
            "confirmed": False,
        }
        got = await ask(socket, text("subscription_get", queue_name="q", subscription_id=id_))
        assert (got["headers"]["status"], got["body"]) == (200, found)
        deleted = await ask(socket, text("subscription_delete", queue_name="q", subscription_id=id_))
        assert (deleted["headers"]["status"], deleted["body"]) == (204, f"Subscription {id_} removed.")
        assert await listed(socket) == []
        missing = await ask(socket, text("subscription_get", queue_name="q", subscription_id=id_))
        assert missing["headers"]["status"] == 404
        assert missing["body"] == {
            "exception": f"Subscription {id_} does not exist",
            "error": f"Subscription {id_} for queue q does not exist.",
        }
        again = await ask(socket, text("subscription_delete", queue_name="q", subscription_id="x"))
        assert (again["headers"]["status"], again["body"]) == (204, "Subscription x removed.")
        assert (await ask(socket, post("q", 1)))["headers"]["status"] == 201, "what was deleted hears nothing"
        await subscribed(socket)
        await socket.send(post("q", 2))
        assert await receive(socket) == notification("q", 2)


async def test_deleting_by_another_queue_deletes_nothing(site: Site) -> None:
    async with site.connect() as socket:
        id_ = await subscribed(socket)
        await ask(socket, text("subscription_delete", queue_name="r", subscription_id=id_))
        assert len(await listed(socket)) == 1


async def test_second_subscription_to_a_queue_is_a_conflict(site: Site) -> None:
    async with site.connect() as socket:
        await subscribed(socket)
        reply = await ask(socket, SUBSCRIBE)
        assert (reply["headers"]["status"], reply["body"]) == (409, "Subscription q not created.")
        empty = await ask(socket, text("subscription_create", queue_name="q", subscriber=""))
        assert empty["headers"]["status"] == 409
        assert len(await listed(socket)) == 1


async def test_subscribing_creates_the_queue(site: Site) -> None:
    async with site.connect() as socket:
        await subscribed(socket)
        assert (await ask(socket, text("queue_list")))["body"] == {"queues": [{"name": "q"}]}


async def test_pages_follow_ids(site: Site) -> None:
    async with site.connect() as one, site.connect() as two, site.connect() as three:
        made = [await subscribed(socket) for socket in (one, two, three)]
        seen: list[str] = []
        marker = None
        while True:
            reply = await ask(one, text("subscription_list", queue_name="q", limit=2, marker=marker))
            if not reply["body"]["subscriptions"]:
                break
            seen += [each["id"] for each in reply["body"]["subscriptions"]]
            marker = seen[-1]
        assert seen == sorted(made)
        reply = await ask(one, text("subscription_list", queue_name="q", limit=21))
        assert reply["headers"]["status"] == 400
        assert reply["body"]["exception"] == "Limit must be at least 1 and may not be greater than 20."


@pytest.mark.parametrize(
    "body, exception",
    [
        ({"ttl": 59}, "The TTL for a subscription must be at least 60 seconds long."),
        ({"ttl": -1}, "The TTL for a subscription must be at least 60 seconds long."),
        (
            {"ttl": 10**12},
            "The TTL seconds for a subscription plus current time must be less than "
            "9999-12-31 23:59:59.999999.",
        ),
        (
            {"subscriber": "http://hooks.example/in"},
            "The subscriber type of subscription must be supported in the list [].",
        ),
        ({"options": {"_retry_policy": [1]}}, "retry_policy must be a dict."),
        (
            {"options": {"_retry_policy": {"minimum_delay": "x"}}, "ttl": 1},
            "Retry policy: minimum_delay must be a integer.",
        ),
        ({"subscriber": "nonsense"}, "The subscriber type of subscription must be supported in the list []."),
        ({"subscriber": "http://["}, "The subscriber type of subscription must be supported in the list []."),
    ],
)
async def test_what_cannot_be_subscribed_is_refused(site: Site, body: Any, exception: str) -> None:
    async with site.connect() as socket:
        reply = await ask(socket, text("subscription_create", queue_name="q", **body))
        assert reply["headers"]["status"] == 400
        assert reply["body"] == {"exception": exception, "error": None}
        assert await listed(socket) == []


@pytest.mark.parametrize("body", [{"ttl": "60"}, {"options": []}, {"options": "x"}, {"subscriber": 5}])
async def test_subscriptions_have_a_schema(site: Site, body: Any) -> None:
    async with site.connect() as socket:
        reply = await ask(socket, text("subscription_create", queue_name="q", **body))
        assert (reply["headers"]["status"], reply["body"]) == (400, {"error": "Schema validation failed."})


async def test_long_life_is_allowed_and_none_is_the_default(site: Site) -> None:
    async with site.connect() as socket:
        await subscribed(socket, ttl=220_367_260_800)
        await subscribed(socket, queue_name="r", ttl=0)
        assert (await listed(socket, "r"))[0]["ttl"] == 3600


# --- the end -------------------------------------------------------------------------------------------


async def records(site: Site, queue: str = "q") -> int:
    """How many records there are of a queue's subscriptions, of both kinds."""
    kinds = (f"subscription/{queue}", f"subscriber/{queue}")
    return sum([await site.stage.documents.count(Shelf(kind, "acme"), now=site.now) for kind in kinds])


@pytest.mark.parametrize("how", ["closed", "cut off"])
async def test_subscriptions_go_with_their_connection(site: Site, how: str) -> None:
    async with site.connect() as other:
        await subscribed(other)
        async with site.connect() as socket:
            for queue in ("q", "r"):
                await subscribed(socket, queue_name=queue)
            assert await records(site) == 4
            if how == "cut off":
                socket.transport.abort()
        await until(lambda: len(site.sockets.connections) == 1 and not site.sockets._leaving)
        assert (await records(site), await records(site, "r")) == (2, 0)
        assert not site.stage.waker.follows(QueueKey("acme", "r"))
        await ask(other, post("r", 1))
        await other.send(post("q", 2))
        frames = [await receive(other) for _ in range(2)]
        assert notification("q", 2) in frames


async def test_connection_that_closes_while_it_subscribes_leaves_nothing(site: Site) -> None:
    async with site.connect() as socket:
        await ask(socket, text("queue_create", queue_name="q"))
        gate = site.stage.documents.hold_before("put")
        await socket.send(SUBSCRIBE)
        await gate.reached()
        session = site.connection.session
        socket.transport.abort()
    await until(lambda: not site.sockets.connections and not site.sockets._leaving)
    gate.open()
    await until(lambda: not session.in_flight)
    assert await records(site) == 0
    assert not site.stage.waker.follows(QueueKey("acme", "q"))


async def test_life_of_a_subscription_ends_and_can_be_begun_again(site: Site) -> None:
    async with site.connect() as listener, site.connect() as poster:
        await subscribed(listener, ttl=60)
        site.now += 59
        await ask(poster, post("q", 1))
        assert (await receive(listener))["body"] == 1
        site.now += 1
        await ask(poster, post("q", 2))
        assert await listed(listener) == []
        await subscribed(listener, ttl=60)
        await ask(poster, post("q", 3))
        assert (await receive(listener))["body"] == 3


@pytest.mark.parametrize("types, left", [(["messages"], 1), (["subscriptions"], 0), (None, 0)])
async def test_purge_takes_subscriptions_when_it_is_told_to(site: Site, types: Any, left: int) -> None:
    async with site.connect() as socket:
        await subscribed(socket)
        body = {"queue_name": "q"} | ({"resource_types": types} if types else {})
        assert (await ask(socket, text("queue_purge", **body)))["headers"]["status"] == 204
        assert len(await listed(socket)) == left
        await socket.send(post("q", 1))
        frames = [await receive(socket) for _ in range(1 + left)]
        assert sum("request" not in frame for frame in frames) == left


async def test_record_that_a_crash_left_half_written_is_taken_over(site: Site) -> None:
    async with site.connect() as socket:
        id_ = await subscribed(socket)
        await site.stage.documents.delete(Shelf("subscription/q", "acme"), id_)
        assert await records(site) == 1
        site.now += 5
        assert await subscribed(socket) != id_
        assert await records(site) == 2
        await socket.send(post("q", 1))
        assert await receive(socket) == notification("q", 1)
        assert "request" in await receive(socket), "told once"


async def test_subscription_whose_second_record_fails_can_be_asked_for_again(site: Site) -> None:
    async with site.connect() as socket:
        await ask(socket, text("queue_create", queue_name="q"))
        gate = site.stage.documents.hold_before("put", skip=1)
        await socket.send(SUBSCRIBE)
        await gate.reached()
        site.stage.documents.broken = {"put"}
        gate.open()
        reply = await receive(socket)
        assert (reply["headers"]["status"], reply["body"]["error"]) == (
            503,
            "Subscription q could not be created.",
        )
        site.stage.documents.broken = set()
        await subscribed(socket)
        assert len(await listed(socket)) == 1


async def test_listener_that_takes_nothing_is_left_and_does_not_hold_up_the_poster(site: Site) -> None:
    async with site.connect(max_queue=1) as listener, site.connect() as poster:
        await subscribed(listener)
        connection = next(iter(site.sockets.connections.values()))
        listener.transport.pause_reading()
        body = "x" * 200_000
        posted = 0
        while connection._closing_since is None and posted < 300:
            assert (await ask(poster, post("q", body)))["headers"]["status"] == 201
            posted += 1
        assert connection._closing_since is not None
        listener.transport.resume_reading()
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await listener.recv()
        assert (listener.close_code, listener.close_reason) == (1008, "Notifications are not taken.")
