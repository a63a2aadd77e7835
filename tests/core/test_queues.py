"""Queues: creating, listing, reading and emptying them."""

from typing import Any

import pytest

from sukkal.core.catalog import SCAN
from sukkal.errors import Invalid, InvalidBody
from sukkal.limits import Limits

from .world import World


async def names(world: World, **fields: Any) -> list[str]:
    answer = await world.call("queues.list", **fields)
    return [queue.name for queue in answer.queues]


# --- creating ------------------------------------------------------------------------------------------


async def test_creating_says_whether_the_queue_is_new(world: World) -> None:
    assert (await world.call("queues.create", queue="orders")).created
    assert not (await world.call("queues.create", queue="orders")).created


async def test_creating_an_existing_queue_changes_nothing(world: World) -> None:
    await world.create("orders", team="blue")
    await world.create("orders", team="red", other=1)
    assert (await world.call("queues.get", queue="orders")).stored == {"team": "blue"}


async def test_creating_an_existing_queue_still_checks_what_was_sent(world: World) -> None:
    await world.create("orders")
    with pytest.raises(Invalid):
        await world.create("orders", _default_message_ttl=1)


async def test_metadata_is_kept_as_sent(world: World) -> None:
    metadata = {"nested": {"é": [1, 2.5, None, {"a": []}]}, "_ttl": 60, "": "", "_flavor": "gold"}
    await world.call("queues.create", queue="orders", metadata=metadata)
    assert (await world.call("queues.get", queue="orders")).stored == metadata


async def test_read_fills_in_what_is_missing_or_falsy(world: World) -> None:
    await world.create("orders", _default_message_ttl=None, _max_claim_count=0, _retry_policy={}, team="")
    shown = (await world.call("queues.get", queue="orders")).shown
    assert shown == {
        "team": "",
        "_retry_policy": {},
        "_max_messages_post_size": 262144,
        "_default_message_ttl": 3600,
        "_default_message_delay": 0,
        "_dead_letter_queue": None,
        "_dead_letter_queue_messages_ttl": None,
        "_max_claim_count": None,
        "_enable_encrypt_messages": False,
    }


async def test_shown_defaults_are_the_services() -> None:
    world = World(limits=Limits(default_message_ttl=90, max_messages_post_size=256))
    shown = (await world.call("queues.get", queue="orders")).shown
    assert (shown["_default_message_ttl"], shown["_max_messages_post_size"]) == (90, 256)


# --- listing -------------------------------------------------------------------------------------------


async def test_queues_come_by_name_bytewise_ten_at_a_time(world: World) -> None:
    made = ["b", "a", "B", "_", "-", ".", "a.b", "a-b", "9", "aa", "ab", "Z"]
    for name in made:
        await world.create(name)
    first = await names(world)
    assert first == sorted(made)[:10]
    assert await names(world, marker=first[-1]) == sorted(made)[10:]


async def test_marker_need_not_exist(world: World) -> None:
    for name in ("a", "c"):
        await world.create(name)
    assert await names(world, marker="b") == ["c"]
    assert await names(world, marker="z") == []


@pytest.mark.parametrize("limit", [0, -1, 21, 2**63])
async def test_limit_out_of_bounds_is_refused(world: World, limit: int) -> None:
    with pytest.raises(Invalid, match="Limit must be at least 1 and no greater than 20"):
        await names(world, limit=limit)


async def test_page_is_smaller_than_ten_where_the_most_allowed_is() -> None:
    world = World(limits=Limits(max_queues_per_page=2))
    for name in "abc":
        await world.create(name)
    assert await names(world) == ["a", "b"]


async def test_only_the_callers_project_is_listed(world: World) -> None:
    await world.create("ours", project="ours")
    await world.create("theirs", project="theirs")
    assert await names(world, project="ours", with_count=True) == ["ours"]
    assert (await world.call("queues.list", project="ours", with_count=True)).count == 1


async def test_name_filter_keeps_queues_whose_name_contains_it(world: World) -> None:
    for name in ("orders", "reorder", "other", "ORDER"):
        await world.create(name)
    assert await names(world, name="order") == ["orders", "reorder"]


@pytest.mark.parametrize(
    "filters, found",
    [
        ({"team": "blue"}, ["a", "b"]),
        ({"team": "blue", "size": "7"}, ["a"]),
        ({"size": "7"}, ["a"]),
        ({"size": "8"}, []),
        ({"team": ""}, []),
        ({"absent": "x"}, []),
        ({"_default_message_ttl": "3600"}, []),  # stored metadata counts, not defaults
        ({"_default_message_ttl": "60"}, ["c"]),
        ({"nested": "{}"}, []),
        ({"size": "9" * 5000}, []),
    ],
    ids=str,
)
async def test_metadata_filters_keep_queues_with_equal_values(
    world: World, filters: dict[str, str], found: list[str]
) -> None:
    await world.create("a", team="blue", size=7)
    await world.create("b", team="blue", size="7")
    await world.create("c", team="red", _default_message_ttl=60, nested={})
    assert await names(world, filters=filters) == found


async def test_filtered_page_is_full_however_far_the_matches_lie_apart(world: World) -> None:
    for number in range(2 * SCAN + 5):
        await world.create(f"q{number:04}", odd=number in (3, SCAN, 2 * SCAN, 2 * SCAN + 1))
    wanted = [f"q{number:04}" for number in (3, SCAN, 2 * SCAN, 2 * SCAN + 1)]
    # `true` equals the integer 1, as it does on the reference implementation.
    assert await names(world, filters={"odd": "1"}, limit=3) == wanted[:3]
    assert await names(world, filters={"odd": "1"}, limit=3, marker=wanted[2]) == wanted[3:]
    answer = await world.call("queues.list", filters={"odd": "1"}, limit=1, with_count=True)
    assert answer.count == 4


@pytest.mark.parametrize(
    "fields, count", [({}, 3), ({"name": "a"}, 2), ({"filters": {"team": "x"}}, 0), ({"marker": "b"}, 3)]
)
async def test_count_is_of_all_that_the_filters_select(
    world: World, fields: dict[str, Any], count: int
) -> None:
    for name in ("a", "aa", "b"):
        await world.create(name)
    assert (await world.call("queues.list", with_count=True, limit=1, **fields)).count == count
    assert (await world.call("queues.list", **fields)).count is None


async def test_lazily_created_queues_are_listed_and_counted(world: World) -> None:
    await world.post("lazy", 1)
    answer = await world.call("queues.list", with_count=True)
    assert ([queue.name for queue in answer.queues], answer.count) == (["lazy"], 1)


# --- removing ------------------------------------------------------------------------------------------


async def test_deleted_queue_leaves_nothing_behind_for_its_successor(world: World) -> None:
    await world.create("orders", team="blue")
    await world.post("orders", 1)
    await world.call("queues.delete", queue="orders")
    assert await world.queues() == []
    await world.create("orders")
    assert await world.listed("orders") == []
    assert (await world.call("queues.get", queue="orders")).stored == {}


async def test_messages_go_even_if_the_queue_has_no_record(world: World) -> None:
    await world.post("orders", 1)
    await world.call("queues.delete", queue="orders")
    await world.call("queues.delete", queue="orders")
    assert (await world.call("queues.stats", queue="orders")).free == 0


@pytest.mark.parametrize(
    "types, left", [([], 1), (["messages"], 0), (["subscriptions"], 1), (["subscriptions", "messages"], 0)]
)
async def test_purge_empties_what_it_is_told_to(world: World, types: list[str], left: int) -> None:
    await world.create("orders", team="blue")
    await world.post("orders", 1)
    await world.call("queues.purge", queue="orders", resource_types=types)
    assert len(await world.listed("orders")) == left
    assert (await world.call("queues.get", queue="orders")).stored == {"team": "blue"}


@pytest.mark.parametrize("kind", ["queues", "", None, 1, ["messages"], {}])
async def test_purge_of_another_kind_is_refused_and_empties_nothing(world: World, kind: Any) -> None:
    await world.post("orders", 1)
    with pytest.raises(InvalidBody, match="Resource types must be a sub set of"):
        await world.call("queues.purge", queue="orders", resource_types=["messages", kind])
    assert len(await world.listed("orders")) == 1
