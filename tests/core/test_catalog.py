"""Queue records: what the cache may show, for how long, and writers that meet."""

import asyncio

import pytest

from sukkal.core import catalog
from sukkal.core.catalog import CACHE_SECONDS
from sukkal.errors import Conflict, NotFound

from .world import NOW, Stage, World


async def ttl(world: World, queue: str = "orders") -> int:
    """The default ttl in force."""
    shown = (await world.call("queues.get", queue=queue)).shown
    found: int = shown["_default_message_ttl"]
    return found


async def test_record_is_read_once_for_many_requests(staged: World, stage: Stage) -> None:
    await staged.create("orders")
    for _ in range(5):
        await staged.post("orders", 1)
    assert stage.documents.calls.count("get") == 1


async def test_own_change_is_seen_at_once(world: World) -> None:
    await world.create("orders", _default_message_ttl=60)
    assert await ttl(world) == 60
    await world.set("orders", _default_message_ttl=61)
    assert await ttl(world) == 61
    await world.call("queues.delete", queue="orders")
    assert await ttl(world) == 3600


async def test_another_processes_change_is_seen_after_cache_seconds(world: World) -> None:
    other = World(world.backend)
    await world.create("orders", _default_message_ttl=60)
    assert await ttl(world) == 60
    await other.set("orders", _default_message_ttl=61)
    world.now = NOW + CACHE_SECONDS - 0.001
    assert await ttl(world) == 60
    world.now = NOW + CACHE_SECONDS
    assert await ttl(world) == 61


async def test_another_processes_deletion_is_seen_after_cache_seconds(world: World) -> None:
    other = World(world.backend)
    await world.create("orders", _default_message_ttl=60)
    assert await ttl(world) == 60
    await other.call("queues.delete", queue="orders")
    world.now += CACHE_SECONDS
    assert await ttl(world) == 3600


async def test_another_processes_new_queue_is_seen_at_once(world: World) -> None:
    other = World(world.backend)
    assert await ttl(world) == 3600
    await other.create("orders", _default_message_ttl=60)
    assert await ttl(world) == 60


async def test_record_read_in_the_future_is_read_again_when_the_clock_was_set_back(world: World) -> None:
    other = World(world.backend)
    await world.create("orders", _default_message_ttl=60)
    assert await ttl(world) == 60
    await other.set("orders", _default_message_ttl=61)
    world.now -= 1000
    assert await ttl(world) == 61


async def test_cache_is_bounded(staged: World, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "CACHE_RECORDS", 3)
    names = ["a", "b", "c", "d"]
    for name in names:
        await staged.create(name)
        await ttl(staged, name)

    async def read_again(name: str) -> bool:
        before = stage.documents.calls.count("get")
        await ttl(staged, name)
        return bool(stage.documents.calls.count("get") > before)

    assert [await read_again(name) for name in reversed(names)] == [False, False, False, True]


async def test_record_that_was_outrun_while_it_was_read_is_not_cached(staged: World, stage: Stage) -> None:
    await staged.create("orders", _default_message_ttl=60)
    read = stage.documents.hold_after("get")
    reading = asyncio.create_task(ttl(staged))
    await read.reached()
    await staged.set("orders", _default_message_ttl=61)
    read.open()
    await reading
    assert await ttl(staged) == 61


async def test_projects_do_not_share_records(world: World) -> None:
    await world.create("orders", project="ours", _default_message_ttl=60)
    await world.create("orders", project="theirs", _default_message_ttl=61)
    for project, expected in (("ours", 60), ("theirs", 61)):
        shown = (await world.call("queues.get", queue="orders", project=project)).shown
        assert shown["_default_message_ttl"] == expected


# --- writers that meet ---------------------------------------------------------------------------------


async def test_patches_that_meet_both_take_effect(staged: World, stage: Stage) -> None:
    await staged.create("orders", first=0, second=0)
    held = stage.documents.hold_before("put")
    first = asyncio.create_task(staged.set("orders", first=1))
    await held.reached()
    await staged.set("orders", second=2)
    held.open()
    await first
    assert (await staged.call("queues.get", queue="orders")).stored == {"first": 1, "second": 2}


async def test_patch_that_was_outrun_is_judged_again(staged: World, stage: Stage) -> None:
    await staged.create("orders", key=0)
    held = stage.documents.hold_before("put")
    first = asyncio.create_task(
        staged.patch("orders", {"op": "replace", "path": "/metadata/key", "value": 1})
    )
    await held.reached()
    await staged.patch("orders", {"op": "remove", "path": "/metadata/key"})
    held.open()
    with pytest.raises(Conflict):
        await first
    assert (await staged.call("queues.get", queue="orders")).stored == {}


async def test_patch_that_meets_a_deletion_does_not_bring_the_queue_back(staged: World, stage: Stage) -> None:
    await staged.create("orders")
    held = stage.documents.hold_before("put")
    patch = asyncio.create_task(staged.set("orders", key=1))
    await held.reached()
    await staged.call("queues.delete", queue="orders")
    held.open()
    with pytest.raises(NotFound):
        await patch
    assert await staged.queues() == []


async def test_patch_sees_another_processes_change_though_the_record_was_cached(world: World) -> None:
    other = World(world.backend)
    await world.create("orders", first=0)
    await ttl(world)
    await other.set("orders", second=2)
    await world.set("orders", first=1)
    assert (await world.call("queues.get", queue="orders")).stored == {"first": 1, "second": 2}


async def test_creations_that_meet_make_one_queue(staged: World, stage: Stage) -> None:
    held = stage.documents.hold_before("put")
    first = asyncio.create_task(staged.call("queues.create", queue="orders", metadata={"by": "first"}))
    await held.reached()
    second = await staged.call("queues.create", queue="orders", metadata={"by": "second"})
    held.open()
    assert second.created
    assert not (await first).created
    assert (await staged.call("queues.get", queue="orders")).stored == {"by": "second"}


async def test_deletions_that_meet_both_succeed(staged: World, stage: Stage) -> None:
    await staged.post("orders", 1)
    purging = stage.messages.hold_before("purge")
    first = asyncio.create_task(staged.call("queues.delete", queue="orders"))
    await purging.reached()
    second = asyncio.create_task(staged.call("queues.delete", queue="orders"))
    await asyncio.sleep(0)
    assert not second.done()
    purging.open()
    await asyncio.gather(first, second)
    assert await staged.queues() == []
    assert await staged.listed("orders") == []
