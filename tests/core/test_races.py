"""A post and the queue's deletion at once: afterwards the queue is there with the message, or neither.

Named interleavings first, then every order that the calls to the store can take.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from sukkal.core.catalog import CACHE_SECONDS

from .world import Stage, Turns, World, bodies, count_up, next_schedule


async def settled(world: World, *, acknowledged_after_delete: bool) -> None:
    """What must hold once a post and a delete have both been answered."""
    there = "orders" in await world.queues()
    found = bodies(await world.listed("orders"))
    assert found in ([], ["hello"]), "one copy at most"
    assert there == bool(found), "the queue with the message, or neither"
    if acknowledged_after_delete:
        assert found, "acknowledged when the delete was over, so it is there"


async def test_message_stored_before_the_delete_and_answered_after_it_is_kept(
    staged: World, stage: Stage
) -> None:
    await staged.create("orders")
    stored = stage.messages.hold_after("append")
    post = asyncio.create_task(staged.post("orders", "hello"))
    await stored.reached()
    await staged.call("queues.delete", queue="orders")
    stored.open()
    await post
    await settled(staged, acknowledged_after_delete=True)


async def test_message_stored_after_the_delete_is_kept_with_a_new_queue(staged: World, stage: Stage) -> None:
    await staged.create("orders", team="blue")
    held = stage.messages.hold_before("append")
    post = asyncio.create_task(staged.post("orders", "hello"))
    await held.reached()
    await staged.call("queues.delete", queue="orders")
    held.open()
    await post
    await settled(staged, acknowledged_after_delete=True)
    assert (await staged.call("queues.get", queue="orders")).stored == {}


async def test_message_stored_between_the_record_and_the_contents_is_kept(
    staged: World, stage: Stage
) -> None:
    await staged.create("orders")
    stored = stage.messages.hold_after("append")
    post = asyncio.create_task(staged.post("orders", "hello"))
    await stored.reached()
    purging = stage.messages.hold_before("purge")
    delete = asyncio.create_task(staged.call("queues.delete", queue="orders"))
    await purging.reached()
    stored.open()
    await asyncio.sleep(0)
    purging.open()
    await asyncio.gather(post, delete)
    await settled(staged, acknowledged_after_delete=True)


async def test_post_that_meets_a_delete_waits_for_its_end(staged: World, stage: Stage) -> None:
    await staged.create("orders")
    purging = stage.messages.hold_before("purge")
    delete = asyncio.create_task(staged.call("queues.delete", queue="orders"))
    await purging.reached()
    post = asyncio.create_task(staged.post("orders", "hello"))
    await asyncio.sleep(0)
    assert not post.done()
    purging.open()
    await asyncio.gather(post, delete)
    await settled(staged, acknowledged_after_delete=True)


async def test_record_read_before_the_delete_and_used_after_it_leaves_no_message_without_a_queue(
    staged: World, stage: Stage
) -> None:
    await staged.create("orders")
    read = stage.documents.hold_after("get")  # the record travels while the queue goes
    post = asyncio.create_task(staged.post("orders", "hello"))
    await read.reached()
    await staged.call("queues.delete", queue="orders")
    read.open()
    await post
    await settled(staged, acknowledged_after_delete=True)


async def test_deleting_another_queue_meanwhile_stores_the_message_once(staged: World, stage: Stage) -> None:
    await staged.create("orders")
    await staged.create("other")
    stored = stage.messages.hold_after("append")
    post = asyncio.create_task(staged.post("orders", "hello"))
    await stored.reached()
    await staged.call("queues.delete", queue="other")
    stored.open()
    await post
    assert stage.messages.calls.count("append") == 1
    assert bodies(await staged.listed("orders")) == ["hello"]


async def test_failed_delete_does_not_keep_posts_waiting(staged: World, stage: Stage) -> None:
    await staged.create("orders")
    stage.messages.fail_once("purge")
    with pytest.raises(Exception, match="could not be deleted"):
        await staged.call("queues.delete", queue="orders")
    async with asyncio.timeout(1):
        await staged.post("orders", "hello")
    await settled(staged, acknowledged_after_delete=True)


Act = Callable[[World], Coroutine[Any, Any, Any]]


def post(world: World) -> Coroutine[Any, Any, Any]:
    return world.post("orders", "hello")


def delete(world: World) -> Coroutine[Any, Any, Any]:
    return world.call("queues.delete", queue="orders")


def create(world: World) -> Coroutine[Any, Any, Any]:
    return world.create("orders")


def dead_letter(world: World) -> Coroutine[Any, Any, Any]:
    """A claim that moves the only message of `worn` to `orders`."""
    return world.call("claims.create", queue="worn")


async def in_every_order(
    prepare: Callable[[World], Coroutine[Any, Any, Any]],
    acts: Sequence[Act],
    check: Callable[[World, list[str]], Coroutine[Any, Any, Any]],
    *,
    answers_wait: bool = True,
) -> None:
    """Check the outcome of the acts for each order in which their calls reach the store.

    `answers_wait`: and for each order in which the answers of these calls travel back, which are many more.
    """
    schedule: list[int] = []
    for _ in count_up(20_000):
        turns = Turns(schedule)
        world = World(Stage(turns.wait, answers_wait=answers_wait))
        await prepare(world)
        ended = await turns.run(*(act(world) for act in acts))
        try:
            await check(world, ended)
        except AssertionError as exc:
            raise AssertionError(f"schedule {schedule}: {exc}") from exc
        following = next_schedule(schedule, turns.choices)
        if following is None:
            return
        schedule = following


async def cached(world: World) -> None:
    await world.create("orders")
    await world.call("queues.get", queue="orders")


async def uncached(world: World) -> None:
    await world.create("orders")


async def missing(world: World) -> None:
    pass


@pytest.mark.parametrize("prepare", [cached, uncached, missing], ids=lambda found: f"{found.__name__} record")
async def test_post_and_delete_in_every_order_leave_the_queue_with_the_message_or_neither(
    prepare: Act,
) -> None:
    async def check(world: World, ended: list[str]) -> None:
        await settled(world, acknowledged_after_delete=ended == ["1", "0"])

    await in_every_order(prepare, [post, delete], check)


async def test_post_create_and_delete_in_every_order_leave_no_message_without_a_queue() -> None:
    async def check(world: World, ended: list[str]) -> None:
        found = bodies(await world.listed("orders"))
        assert found in ([], ["hello"])
        if ended.index("0") > ended.index("2"):
            assert found
        if found:
            assert await world.queues() == ["orders"]

    await in_every_order(cached, [post, create, delete], check, answers_wait=False)


async def test_move_to_a_dead_letter_queue_that_is_deleted_meanwhile_loses_nothing() -> None:
    async def prepare(world: World) -> None:
        await world.create("worn", _max_claim_count=1, _dead_letter_queue="orders")
        await world.create("orders")
        await world.post("worn", "hello")
        claim = await world.call("claims.create", queue="worn")
        await world.call("claims.release", queue="worn", claim_id=claim.id)

    async def check(world: World, ended: list[str]) -> None:
        assert await world.listed("worn") == []
        await settled(world, acknowledged_after_delete=ended == ["1", "0"])

    await in_every_order(prepare, [dead_letter, delete], check)


async def test_two_claims_at_once_move_a_spent_message_once() -> None:
    async def prepare(world: World) -> None:
        await world.create("worn", _max_claim_count=1, _dead_letter_queue="orders")
        await world.post("worn", "hello")
        claim = await world.call("claims.create", queue="worn")
        await world.call("claims.release", queue="worn", claim_id=claim.id)

    async def check(world: World, _ended: list[str]) -> None:
        assert await world.listed("worn") == []
        assert bodies(await world.listed("orders")) == ["hello"]

    await in_every_order(prepare, [dead_letter, dead_letter], check)


async def test_posts_that_meet_on_a_missing_queue_all_succeed() -> None:
    async def check(world: World, _ended: list[str]) -> None:
        assert await world.queues() == ["orders"]
        assert len(await world.listed("orders")) == 2

    await in_every_order(missing, [post, post], check, answers_wait=False)


async def test_record_read_while_it_is_being_replaced_is_not_remembered(staged: World, stage: Stage) -> None:
    await staged.create("orders", team="blue")
    writing = stage.documents.hold_before("put")
    change = {"op": "replace", "path": "/metadata/team", "value": "red"}
    patch = asyncio.create_task(staged.call("queues.update", queue="orders", changes=[change]))
    await writing.reached()
    staged.now += CACHE_SECONDS
    reading = stage.documents.hold_after("get")
    reader = asyncio.create_task(staged.call("queues.get", queue="orders"))
    await reading.reached()
    writing.open()
    await patch
    reading.open()
    await reader
    assert (await staged.call("queues.get", queue="orders")).stored == {"team": "red"}
