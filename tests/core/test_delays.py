"""Delays: when a message becomes visible, and who sees it before."""

from typing import Any

import pytest

from sukkal.errors import NotFound, Unavailable

from .world import NOW, Stage, World, bodies, ids


async def claimable(world: World, queue: str = "orders") -> list[Any]:
    """What a claim hands out now; given back at once."""
    answer = await world.call("claims.create", queue=queue, limit=20)
    if answer.id:
        await world.call("claims.release", queue=queue, claim_id=answer.id)
    return bodies(answer.messages)


async def popped(world: World) -> list[Any]:
    return bodies((await world.call("messages.delete_many", queue="orders", pop=20)).messages)


async def test_delayed_message_is_handed_out_from_the_end_of_its_delay(world: World) -> None:
    await world.create("orders", _default_message_delay=30)
    await world.post("orders", 1)
    world.now += 29.999
    assert await claimable(world) == []
    assert await popped(world) == []
    world.now = NOW + 30
    assert await claimable(world) == [1]
    assert await popped(world) == [1]


async def test_delayed_message_is_listed_only_on_request(world: World) -> None:
    await world.create("orders", _default_message_delay=30)
    await world.post("orders", 1)
    assert bodies(await world.listed("orders", include_delayed=True)) == [1]
    assert await world.listed("orders", include_delayed=False) == []
    world.now += 30
    assert bodies(await world.listed("orders", include_delayed=False)) == [1]


async def test_delayed_message_is_found_by_id_and_counts_as_free(world: World) -> None:
    await world.create("orders", _default_message_delay=30)
    (id,) = await world.post("orders", 1)
    assert (await world.get("orders", id)).id == id
    found = await world.call("messages.get_many", queue="orders", ids=[id])
    assert ids(found.messages) == [id]
    stats = await world.call("queues.stats", queue="orders")
    assert (stats.free, stats.claimed, stats.oldest, stats.newest) == (1, 0, None, None)


async def test_delayed_message_can_be_deleted(world: World) -> None:
    (id,) = await world.post("orders", 1, delay=60)
    await world.call("messages.delete", queue="orders", id=id)
    with pytest.raises(NotFound):
        await world.get("orders", id)


async def test_own_delay_is_honoured_on_a_queue_without_a_default(world: World) -> None:
    await world.post("orders", "later", delay=30)
    await world.post("orders", "now")
    assert await claimable(world) == ["now"]
    assert bodies(await world.listed("orders", include_delayed=False)) == ["now"]
    assert bodies(await world.listed("orders", include_delayed=True)) == ["later", "now"]
    world.now += 30
    assert await claimable(world) == ["later", "now"]


async def test_own_delay_is_honoured_in_the_post_that_creates_the_queue(world: World) -> None:
    await world.post("new", 1, delay=30)
    assert await claimable(world, "new") == []


async def test_delay_and_ttl_both_start_at_posting(world: World) -> None:
    await world.post("orders", 1, delay=900, ttl=60)
    world.now += 60
    assert await world.listed("orders") == []
    world.now = NOW + 900
    assert await claimable(world) == []


async def test_end_of_a_delay_puts_the_message_at_its_old_place(world: World) -> None:
    await world.post("orders", "first", delay=30)
    await world.post("orders", "second")
    world.now += 30
    assert await claimable(world) == ["first", "second"]


async def test_next_page_shows_delayed_messages_where_the_queue_delays_none(world: World) -> None:
    await world.post("plain", 1)
    await world.create("delaying", _default_message_delay=30)
    await world.post("delaying", 1, delay=0)
    for queue, asked, shown in (
        ("plain", False, True),
        ("plain", True, True),
        ("delaying", False, False),
        ("delaying", True, True),
        ("missing", False, True),
    ):
        answer = await world.call("messages.list", queue=queue, include_delayed=asked)
        assert answer.include_delayed == shown, (queue, asked)


async def test_changed_default_delay_counts_for_later_posts_only(world: World) -> None:
    await world.create("orders", _default_message_delay=30)
    await world.post("orders", "30")
    await world.set("orders", _default_message_delay=60)
    await world.post("orders", "60")
    world.now += 30
    assert await claimable(world) == ["30"]
    world.now += 30
    assert await claimable(world) == ["30", "60"]


ENDINGS: list[dict[str, Any]] = [
    {"op": "replace", "path": "/metadata/_default_message_delay", "value": 0},
    {"op": "replace", "path": "/metadata/_default_message_delay", "value": None},
    {"op": "remove", "path": "/metadata/_default_message_delay"},
]


@pytest.mark.parametrize("change", ENDINGS)
async def test_queue_set_back_to_no_delay_hands_out_everything_at_once(
    world: World, change: dict[str, Any]
) -> None:
    await world.create("orders", _default_message_delay=30)
    await world.post("orders", "queue's")
    await world.post("orders", "own", delay=900)
    await world.patch("orders", change)
    assert await claimable(world) == ["queue's", "own"]
    assert bodies(await world.listed("orders", include_delayed=False)) == ["queue's", "own"]


async def test_other_changes_end_no_delay(world: World) -> None:
    await world.create("orders", _default_message_delay=30)
    await world.create("plain")
    for queue in ("orders", "plain"):
        await world.post(queue, 1, delay=20)
        await world.set(queue, team="blue")
        assert await claimable(world, queue) == []
    await world.set("orders", _default_message_delay=10)
    assert await claimable(world) == []


async def test_repeated_patch_ends_delays_that_the_first_could_not(staged: World, stage: Stage) -> None:
    await staged.create("orders", _default_message_delay=30)
    await staged.post("orders", 1)
    stage.messages.fail_once("end_delays")
    with pytest.raises(Unavailable):
        await staged.patch("orders", ENDINGS[0])
    await staged.patch("orders", ENDINGS[0])
    assert await claimable(staged) == [1]
