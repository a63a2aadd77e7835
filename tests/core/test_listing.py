"""Listing and fetching messages: echo, paging, markers."""

import pytest

from sukkal.errors import Invalid, NotFound
from sukkal.limits import Limits

from .world import World, bodies, ids


async def test_own_messages_are_left_out_unless_asked_for(world: World) -> None:
    await world.post("orders", "mine", client="me")
    await world.post("orders", "theirs", client="you")
    listing = await world.call("messages.list", queue="orders", client="me")
    assert bodies(listing.messages) == ["theirs"]
    listing = await world.call("messages.list", queue="orders", client="me", echo=True)
    assert bodies(listing.messages) == ["mine", "theirs"]


async def test_echo_affects_listing_only(world: World) -> None:
    (id,) = await world.post("orders", "mine", client="me")
    assert (await world.call("messages.get", queue="orders", id=id, client="me")).id == id
    found = await world.call("messages.get_many", queue="orders", ids=[id], client="me")
    assert ids(found.messages) == [id]
    assert (await world.call("queues.stats", queue="orders", client="me")).free == 1
    assert ids((await world.call("claims.create", queue="orders", client="me")).messages) == [id]


async def test_filters_apply_before_the_limit(world: World) -> None:
    for number in range(6):
        await world.post("orders", number, client="me" if number % 2 else "you")
    listing = await world.call("messages.list", queue="orders", client="me", limit=3)
    assert bodies(listing.messages) == [0, 2, 4]


async def test_page_has_ten_messages_unless_told_otherwise(world: World) -> None:
    await world.post("orders", *range(12))
    assert len(await world.listed("orders", limit=None)) == 10
    assert len(await world.listed("orders", limit=12)) == 12


async def test_page_is_smaller_than_ten_where_the_most_allowed_is() -> None:
    world = World(limits=Limits(max_messages_per_page=4))
    await world.post("orders", *range(12))
    assert len(await world.listed("orders", limit=None)) == 4
    with pytest.raises(Invalid, match="Limit must be at least 1 and may not be greater than 4"):
        await world.listed("orders", limit=5)


@pytest.mark.parametrize("limit", [0, -1, 21, 2**63])
async def test_limit_out_of_bounds_is_refused(world: World, limit: int) -> None:
    with pytest.raises(Invalid, match="Limit must be at least 1 and may not be greater than 20"):
        await world.listed("orders", limit=limit)


async def test_following_markers_meets_each_message_once(world: World) -> None:
    posted = await world.post("orders", *range(10))
    met: list[str] = []
    marker = None
    while page := await world.listed("orders", limit=3, marker=marker):
        met += ids(page)
        marker = page[-1].marker
    assert met == posted


async def test_marker_works_after_its_message_was_deleted_claimed_or_expired(world: World) -> None:
    await world.post("orders", "short", ttl=60)
    await world.post("orders", *range(4))
    first, second, third = await world.listed("orders", limit=3)
    await world.call("messages.delete", queue="orders", id=third.id)
    assert bodies(await world.listed("orders", marker=third.marker)) == [2, 3]
    await world.call("claims.create", queue="orders", limit=2)
    world.now += 60
    assert bodies(await world.listed("orders", marker=first.marker)) == [0, 2, 3]
    assert bodies(await world.listed("orders", marker=second.marker)) == [2, 3]


async def test_last_marker_finds_what_came_since(world: World) -> None:
    await world.post("orders", 1)
    marker = (await world.listed("orders"))[-1].marker
    assert await world.listed("orders", marker=marker) == []
    await world.post("orders", 2)
    assert bodies(await world.listed("orders", marker=marker)) == [2]


async def test_message_id_is_a_marker(world: World) -> None:
    posted = await world.post("orders", *range(5))
    assert ids(await world.listed("orders", marker=posted[1])) == posted[2:]


async def test_message_id_of_a_claimed_message_is_a_marker(world: World) -> None:
    posted = await world.post("orders", *range(5))
    await world.call("claims.create", queue="orders", limit=2)
    assert ids(await world.listed("orders", marker=posted[0], include_claimed=False)) == posted[2:]


@pytest.mark.parametrize(
    "marker", ["sfhlsfdjh2048", "0", "-1", "1.5", "9" * 40, "é", "0" * 32, "a" * 32, " 1", "1;2"]
)
async def test_marker_that_was_never_given_out_lists_nothing(world: World, marker: str) -> None:
    await world.post("orders", 1, 2)
    assert await world.listed("orders", marker=marker) == []


async def test_listing_a_queue_of_one_name_with_anothers_message_id_shows_nothing_foreign(
    world: World,
) -> None:
    posted = await world.post("orders", 1, 2, project="theirs")
    await world.post("orders", "ours", project="ours")
    assert await world.listed("orders", marker=posted[0], project="ours") == []


# --- by ids --------------------------------------------------------------------------------------------


async def test_messages_come_in_the_order_of_the_ids_each_once(world: World) -> None:
    first, second = await world.post("orders", 1, 2)
    answer = await world.call("messages.get_many", queue="orders", ids=[second, "garbage", first, second])
    assert ids(answer.messages) == [second, first]


async def test_by_ids_finds_claimed_and_delayed_messages(world: World) -> None:
    await world.create("orders", _default_message_delay=60)
    (claimed,) = await world.post("orders", 1, delay=0)
    (delayed,) = await world.post("orders", 2)
    await world.call("claims.create", queue="orders")
    answer = await world.call("messages.get_many", queue="orders", ids=[claimed, delayed])
    assert ids(answer.messages) == [claimed, delayed]


async def test_by_ids_finding_none_is_not_found(world: World) -> None:
    await world.create("orders")
    with pytest.raises(NotFound) as fault:
        await world.call("messages.get_many", queue="orders", ids=["a", "b"])
    assert "['a', 'b']" in fault.value.message


@pytest.mark.parametrize("count", [0, 21])
async def test_by_ids_takes_one_to_twenty_duplicates_counted(world: World, count: int) -> None:
    (id,) = await world.post("orders", 1)
    with pytest.raises(Invalid, match="Limit must be at least 1 and may not be greater than 20"):
        await world.call("messages.get_many", queue="orders", ids=[id] * count)


async def test_single_message_says_whether_it_or_its_queue_is_missing(world: World) -> None:
    with pytest.raises(NotFound, match="Queue orders does not exist for project acme"):
        await world.get("orders", "x")
    await world.create("orders")
    with pytest.raises(NotFound, match="Message x does not exist in queue orders for project acme"):
        await world.get("orders", "x")


# --- statistics ----------------------------------------------------------------------------------------


async def test_stats_count_free_delayed_and_claimed_messages_and_name_the_ends(world: World) -> None:
    await world.create("orders", _default_message_delay=60)
    first, _, third = await world.post("orders", 1, 2, 3, delay=0)
    await world.post("orders", "delayed")
    await world.call("claims.create", queue="orders", limit=1)
    stats = await world.call("queues.stats", queue="orders")
    assert (stats.claimed, stats.free) == (1, 3)
    assert (stats.oldest.id, stats.newest.id) == (first, third)


async def test_stats_follow_lapse_and_expiry_without_a_sweep(world: World) -> None:
    await world.post("orders", 1, ttl=100)
    await world.post("orders", 2, ttl=200)
    await world.call("claims.create", queue="orders", ttl=60, limit=2)
    counts = []
    for later in (0, 60, 100, 200):
        world.now = world.now - (world.now % 1000) + later
        stats = await world.call("queues.stats", queue="orders")
        counts.append((stats.claimed, stats.free))
    assert counts == [(2, 0), (0, 2), (0, 1), (0, 0)]
