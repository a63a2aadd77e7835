"""Posting: defaults, limits, lazy creation."""

from typing import Any

import pytest
from msgspec import Raw

from sukkal.errors import Invalid, NotFound
from sukkal.limits import Limits
from sukkal.operations import BY_NAME
from sukkal.requests import NewMessage

from .world import CLIENT, NOW, PROJECT, World, bodies, ids


async def test_posted_message_keeps_what_the_caller_gave(world: World) -> None:
    world.now = NOW + 0.25
    (id,) = await world.post("orders", {"n": 7}, ttl=120)
    message = await world.get("orders", id)
    assert (message.id, message.ttl, message.client) == (id, 120, CLIENT)
    assert (message.created, message.visible, message.expires) == (NOW + 0.25, NOW + 0.25, NOW + 120.25)
    assert (message.claim, message.claim_count) == (None, 0)


@pytest.mark.parametrize(
    "body", [b"null", b"false", b"0", b'""', b"1.50", b"1e2", b'{"b": 1,  "a": [ ]}', b'{"a":1,"a":2}']
)
async def test_body_is_given_back_byte_for_byte(world: World, body: bytes) -> None:
    answer = await world.call("messages.post", queue="orders", messages=[NewMessage(body=Raw(body))])
    assert (await world.get("orders", answer.ids[0])).body == body


async def test_ids_follow_the_order_of_the_request(world: World) -> None:
    posted = await world.post("orders", 1, 2, 3)
    listed = await world.listed("orders")
    assert ids(listed) == posted
    assert bodies(listed) == [1, 2, 3]


async def test_ttl_defaults_to_the_services(world: World) -> None:
    await world.post("orders", 1)
    assert (await world.listed("orders"))[0].ttl == 3600
    other = World(limits=Limits(default_message_ttl=99))
    await other.post("orders", 1)
    assert (await other.listed("orders"))[0].ttl == 99


async def test_queues_default_ttl_wins_over_the_services(world: World) -> None:
    await world.create("orders", _default_message_ttl=77)
    await world.post("orders", 1)
    await world.post("orders", 2, ttl=66)
    first, second = await world.listed("orders")
    assert (first.ttl, first.expires) == (77, NOW + 77)
    assert (second.ttl, second.expires) == (66, NOW + 66)


async def test_changed_default_ttl_counts_for_later_posts_only(world: World) -> None:
    await world.create("orders", _default_message_ttl=77)
    await world.post("orders", 1)
    await world.set("orders", _default_message_ttl=88)
    await world.post("orders", 2)
    assert [message.ttl for message in await world.listed("orders")] == [77, 88]


async def test_delay_defaults_to_the_queues(world: World) -> None:
    await world.create("orders", _default_message_delay=30)
    await world.post("orders", "queue's")
    await world.post("orders", "own", delay=5)
    await world.post("orders", "none", delay=0)
    visible = {bodies([m])[0]: m.visible - NOW for m in await world.listed("orders")}
    assert visible == {"queue's": 30, "own": 5, "none": 0}


async def test_services_default_delay_is_shown_but_delays_nothing() -> None:
    # Only a delay that the queue stores puts it into delayed mode.
    world = World(limits=Limits(default_message_delay=30))
    await world.post("orders", 1)
    assert (await world.listed("orders"))[0].visible == NOW
    shown = (await world.call("queues.get", queue="orders")).shown
    assert shown["_default_message_delay"] == 30


@pytest.mark.parametrize("ttl", [60, 1209600])
async def test_ttl_at_its_bounds_is_taken(world: World, ttl: int) -> None:
    await world.post("orders", 1, ttl=ttl)
    assert (await world.listed("orders"))[0].ttl == ttl


@pytest.mark.parametrize(
    "times, text",
    [
        ({"ttl": 59}, "The TTL for a message may not exceed 1209600 seconds"),
        ({"ttl": 1209601}, "at least 60 seconds long"),
        ({"ttl": -(2**63)}, "at least 60 seconds long"),
        ({"delay": -1}, "The Delay TTL for a message may not exceed 900 seconds"),
        ({"delay": 901}, "at least 0 seconds long"),
    ],
)
async def test_time_out_of_bounds_is_refused_and_changes_nothing(
    world: World, times: dict[str, Any], text: str
) -> None:
    with pytest.raises(Invalid, match=text) as fault:
        await world.post("orders", 1, **times)
    assert fault.value.title == "Invalid API request"
    assert await world.queues() == []
    assert await world.listed("orders") == []


async def test_one_bad_message_keeps_the_whole_batch_out(world: World) -> None:
    good, bad = NewMessage(body=Raw(b"1")), NewMessage(body=Raw(b"2"), ttl=1)
    with pytest.raises(Invalid):
        await world.call("messages.post", queue="orders", messages=[good, bad, good])
    assert await world.listed("orders") == []


async def test_empty_batch_is_refused_and_creates_nothing(world: World) -> None:
    with pytest.raises(Invalid, match="No messages to enqueu"):
        await world.post("orders")
    assert await world.queues() == []


async def test_batch_is_not_limited_in_number(world: World) -> None:
    posted = await world.post("orders", *range(500))
    assert (await world.call("queues.stats", queue="orders")).free == len(posted) == 500


# --- lazy queues ---------------------------------------------------------------------------------------


async def test_posting_creates_the_queue_with_empty_metadata(world: World) -> None:
    await world.post("orders", 1)
    assert await world.queues() == ["orders"]
    assert (await world.call("queues.get", queue="orders")).stored == {}


async def test_posting_leaves_an_existing_queues_metadata_alone(world: World) -> None:
    await world.create("orders", team="blue")
    await world.post("orders", 1)
    assert (await world.call("queues.get", queue="orders")).stored == {"team": "blue"}


@pytest.mark.parametrize(
    "operation, fields",
    [
        ("queues.get", {}),
        ("queues.delete", {}),
        ("queues.stats", {}),
        ("queues.purge", {}),
        ("messages.list", {}),
        ("messages.delete", {"id": "0" * 32}),
        ("messages.delete", {"id": "0" * 32, "claim_id": "x"}),
        ("messages.delete_many", {"ids": ["x"]}),
        ("messages.delete_many", {"pop": 3}),
        ("claims.create", {}),
        ("claims.release", {"claim_id": "x"}),
    ],
)
async def test_what_else_touches_a_missing_queue_succeeds_and_does_not_create_it(
    world: World, operation: str, fields: dict[str, Any]
) -> None:
    await world.call(operation, queue="orders", **fields)
    assert await world.queues() == []


@pytest.mark.parametrize(
    "operation, fields",
    [
        ("messages.get", {"id": "x"}),
        ("messages.get_many", {"ids": ["x"]}),
        ("claims.get", {"claim_id": "x"}),
        ("claims.renew", {"claim_id": "x"}),
        ("queues.update", {"changes": []}),
    ],
)
async def test_single_things_of_a_missing_queue_are_not_found(
    world: World, operation: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(NotFound) as fault:
        await world.call(operation, queue="orders", **fields)
    assert fault.value.title == "Not found"
    assert "orders" in fault.value.message
    assert PROJECT in fault.value.message
    assert await world.queues() == []


async def test_missing_queue_reads_as_empty(world: World) -> None:
    metadata = await world.call("queues.get", queue="orders")
    assert metadata.stored == {}
    assert metadata.shown == {
        "_max_messages_post_size": 262144,
        "_default_message_ttl": 3600,
        "_default_message_delay": 0,
        "_dead_letter_queue": None,
        "_dead_letter_queue_messages_ttl": None,
        "_max_claim_count": None,
        "_enable_encrypt_messages": False,
    }
    stats = await world.call("queues.stats", queue="orders")
    assert (stats.free, stats.claimed, stats.oldest, stats.newest) == (0, 0, None, None)
    assert (await world.call("messages.delete_many", queue="orders", pop=1)).messages == []
    assert (await world.call("claims.create", queue="orders")).id is None


async def test_equal_names_in_two_projects_are_two_queues(world: World) -> None:
    await world.post("orders", "ours", project="ours")
    await world.post("orders", "theirs", project="theirs")
    await world.call("queues.delete", queue="orders", project="theirs")
    assert bodies(await world.listed("orders", project="ours")) == ["ours"]
    assert await world.queues(project="theirs") == []


# --- sizes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "own, limit, says",
    [
        (None, 256, "Max size 256"),
        (50, 50, "min(max_messages_post_size_config: 256, max_messages_post_size_queue: 50)"),
        (1000, 256, "The max size for current queue is 256."),
    ],
)
async def test_post_is_bounded_by_the_smaller_of_the_services_and_the_queues_size(
    own: int | None, limit: int, says: str
) -> None:
    world = World(limits=Limits(max_messages_post_size=256))
    if own is not None:
        # As an operator's lowered limit leaves it: more than may be set today.
        before = World(world.backend)
        await before.create("orders", _max_messages_post_size=own)
    row = BY_NAME["messages.post"]
    assert await world.service.body_limit(row, world.ctx(), "orders") == limit
    assert says in (await world.service.too_large(row, world.ctx(), "orders")).message
