"""Queues that are told by messages in other queues."""

from typing import Any

import msgspec
import pytest
from core.world import PROJECT, Stage, World, bodies
from msgspec import Raw
from msgspec.structs import replace
from until import until

from sukkal.core.subscribing.recipients import Failure
from sukkal.errors import Invalid
from sukkal.model import Notice, topic
from sukkal.notify.deliverer import Outcome, Parcel, Result
from sukkal.notify.notice import render
from sukkal.notify.queue import MOST_HOPS, OtherQueue

from .carrier import Post, dispatching
from .parcels import NOTICE, parcel


def queues(world: World) -> OtherQueue:
    return OtherQueue(world.service.forward, lambda: world.now)


def to(name: str, *notices: bytes, id: str = "parcel-1") -> Parcel:
    return replace(parcel(f"queue:{name}", *notices, id=id), project=PROJECT)


async def test_notice_becomes_a_message_of_the_other_queue() -> None:
    world = World()
    assert await queues(world).deliver(to("audit")) == Outcome(Result.DELIVERED)
    (message,) = await world.listed("audit")
    assert bodies([message]) == [msgspec.json.decode(NOTICE) | {"hops": 1}]
    assert message.ttl == 300
    assert await world.listed("audit", project="another") == []


async def test_repeated_delivery_stores_one_copy() -> None:
    world = World()
    for _ in range(3):
        await queues(world).deliver(to("audit", NOTICE, NOTICE))
    await queues(world).deliver(to("audit", id="parcel-2"))
    assert len(await world.listed("audit")) == 3


async def test_queues_rules_are_kept() -> None:
    world = World(encryption_key="a key of the tests, not of any service")
    await world.create("audit", _enable_encrypt_messages=True, _default_message_delay=30)
    await queues(world).deliver(to("audit"))
    (message,) = await world.listed("audit")
    assert message.visible == world.now + 30
    assert bodies([message])[0]["hops"] == 1


async def test_circle_of_queues_comes_to_an_end() -> None:
    world = World()
    notice, outcomes = NOTICE, []
    for hop in range(MOST_HOPS + 1):
        target = ("a", "b")[hop % 2]
        outcomes.append((await queues(world).deliver(to(target, notice, id=f"hop-{hop}"))).result)
        message = (await world.listed(target))[-1]
        notice = render(Notice(queue=target, body=message.body, ttl=message.ttl))
    assert outcomes == [Result.DELIVERED] * MOST_HOPS + [Result.FAILED]


async def test_circle_by_way_of_dead_letters_comes_to_an_end() -> None:
    """What fails goes to a queue of dead letters, which tells the queue it came from, and so on."""
    world = World()
    notice, hops = NOTICE, 0
    while True:
        failure = Failure(
            queue="orders",
            subscription_id="subscription-2",
            subscriber="https://a.example",
            reason="it answered 404",
            attempts=1,
            time="2030-01-01T00:00:00Z",
            notification=Raw(notice),
            delivery="5f0c",
        )
        letter = render(Notice(queue="dead", body=msgspec.json.encode(failure), ttl=300))
        outcome = await queues(world).deliver(to("orders-again", letter, id=f"hop-{hops}"))
        if outcome.result is Result.FAILED:
            break
        hops += 1
        assert hops <= MOST_HOPS
        message = (await world.listed("orders-again"))[-1]
        notice = render(Notice(queue="orders-again", body=message.body, ttl=message.ttl))
    assert hops == MOST_HOPS


@pytest.mark.parametrize(
    "body", [{"hops": 99}, {"hops": -99, "Message_Type": "Notification"}, [1], "x", None]
)
async def test_bodies_that_only_look_like_notices_are_no_hops(body: Any) -> None:
    world = World()
    notice = render(Notice(queue="orders", body=msgspec.json.encode(body), ttl=300))
    await queues(world).deliver(to("audit", notice))
    (message,) = await world.listed("audit")
    assert bodies([message]) == [
        {"ttl": 300, "body": body, "Message_Type": "Notification", "queue_name": "orders", "hops": 1}
    ]


async def test_topic_tells_the_queue_of_its_name_and_a_queue_not_itself() -> None:
    post = Post(subscriber_checks={"queue": lambda _: None})
    post.deliverers["queue"] = queues(post)
    await post.subscribe(topic("news"), "queue:news")
    with pytest.raises(Invalid, match="its own messages"):
        await post.subscribe("news", "queue:news")
    id_ = await post.subscribe("news", "queue:archive")
    with pytest.raises(Invalid, match="its own messages"):
        await post.call(
            "subscriptions.update", queue="news", subscription_id=id_, document={"subscriber": "queue:news"}
        )
    await post.post(topic("news"), 1)
    async with dispatching(post):
        await until(lambda: post.service.figures.delivered == 2)
    assert [body["body"] for body in bodies(await post.listed("news"))] == [1]
    assert [body["hops"] for body in bodies(await post.listed("archive"))] == [2]


@pytest.mark.parametrize(
    "notice", [b"{}", b'{"ttl":"x","body":1}', b'{"ttl":1,"body":' + b"[" * 100_000], ids=["", "ttl", "deep"]
)
async def test_what_is_no_notice_fails_for_good(notice: bytes) -> None:
    world = World()
    assert (await queues(world).deliver(to("audit", notice))).result is Result.FAILED
    assert await world.listed("audit") == []


@pytest.mark.parametrize(
    "uri", ["queue:", "queue:a b", "queue://audit", "queue:a/b", "audit", "queue:" + "x" * 65]
)
async def test_uri_must_name_a_queue(uri: str) -> None:
    deliverer = queues(World())
    with pytest.raises(Invalid):
        deliverer.check(uri)
    assert (await deliverer.deliver(parcel(uri))).result is Result.FAILED
    deliverer.check("queue:audit")


async def test_store_that_cannot_be_reached_is_tried_again() -> None:
    stage = Stage()
    world = World(stage)
    stage.messages.fail_once("append")
    assert (await queues(world).deliver(to("audit"))).result is Result.RETRY
    assert (await queues(world).deliver(to("audit"))).result is Result.DELIVERED
    assert len(await world.listed("audit")) == 1
