"""Where queues lie: chosen once, the same for everybody, and what happens when pools come, fail and go."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from sukkal.core.pooling import placement
from sukkal.core.pooling.placement import LEFT_SECONDS, RETAINED, SWITCH_SECONDS
from sukkal.core.pooling.topology import CACHE_SECONDS
from sukkal.errors import Conflict, Forbidden, ServiceError, Unavailable
from sukkal.model import Notice, QueueKey, topic
from sukkal.requests import CreateSubscription

from .pooled import Pools
from .world import bodies, ids


@pytest.fixture
async def world() -> Pools:
    """Two pools without flavor, and one of each of two flavors."""
    world = Pools()
    for name in ("p1", "p2", "g1", "s1"):
        await world.pool(name)
    await world.flavor("gold", "g1")
    await world.flavor("silver", "s1")
    return world


ALL = ("p1", "p2", "g1", "s1")


async def claimed(world: Pools, queue: str, **fields: Any) -> list[Any]:
    return bodies((await world.call("claims.create", queue=queue, **fields)).messages)


# --- choosing --------------------------------------------------------------------------------------------


async def test_queue_lies_in_a_pool_of_its_flavor(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1)
    assert await world.where("orders", *ALL) == ["g1"]


async def test_queue_without_flavor_lies_in_a_pool_without(world: Pools) -> None:
    for number in range(20):
        await world.post(f"q{number}", 1)
        (pool,) = await world.where(f"q{number}", *ALL)
        assert pool in ("p1", "p2")


async def test_pools_are_chosen_in_proportion_to_their_weights() -> None:
    world = Pools()
    draws = iter(step / 100 + 0.001 for step in range(100))
    world.service._placement._draw = lambda most: next(draws) * most  # type: ignore[union-attr]
    for name, weight in (("none", 0), ("one", 1), ("three", 3)):
        await world.pool(name, weight)
    chosen = Counter([await world.service._placement.choose("acme", None) for _ in range(100)])  # type: ignore[union-attr]
    assert chosen == {"one": 25, "three": 75}


async def test_draws_are_spread(world: Pools) -> None:
    chosen = Counter([await world.service._placement.choose("acme", None) for _ in range(200)])  # type: ignore[union-attr]
    assert 50 < chosen["p1"] < 150


async def test_without_a_pool_nothing_can_be_stored_and_no_queue_is_made() -> None:
    world = Pools()
    await world.pool("p0", 0)
    with pytest.raises(Unavailable, match=r"^Queue could not be created\. "):
        await world.create("orders")
    assert await world.queues() == []
    with pytest.raises(Unavailable, match=r"^Messages could not be enqueued\. "):
        await world.post("orders", 1)
    assert await world.listed("orders") == []
    assert await claimed(world, "orders") == []
    await world.pool("p1")
    await world.post("orders", 1)
    assert bodies(await world.listed("orders")) == [1]


async def test_pool_that_cannot_be_reached_gets_no_new_queues(world: Pools) -> None:
    world.stage("p1").break_down()
    for number in range(10):
        await world.create(f"q{number}")
        await world.post(f"q{number}", 1)
        assert await world.where(f"q{number}", "p2") == ["p2"]


async def test_pool_that_hangs_holds_up_one_new_queue_and_then_none(
    world: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "PATIENCE", 0.01)
    asked = 0

    async def hang() -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    monkeypatch.setattr(world.stage("p1"), "ping", hang)
    async with asyncio.timeout(4):  # less than the store itself may take
        for number in range(30):
            await world.create(f"q{number}")
            await world.post(f"q{number}", 1)
            assert await world.where(f"q{number}", "p2") == ["p2"]
    assert asked == 1
    monkeypatch.undo()
    world.now += placement.SHUN_SECONDS
    chosen = {await world.service._placement.choose("acme", None) for _ in range(50)}  # type: ignore[union-attr]
    assert chosen == {"p1", "p2"}


async def test_only_pool_is_tried_again_though_it_has_just_failed(world: Pools) -> None:
    world.stage("g1").break_down()
    with pytest.raises(Unavailable):
        await world.create("orders", _flavor="gold")
    world.now += 2  # it is opened again after a second
    world.stage("g1").reachable = True
    await world.create("orders", _flavor="gold")


async def test_queue_stays_where_it_is_when_pools_come_and_change(world: Pools) -> None:
    await world.post("orders", 1)
    (pool,) = await world.where("orders", *ALL)
    await world.pool("p3", 1000)
    await world.call("pools.update", pool=pool, document={"weight": 0})
    await world.call("pools.update", pool=pool, document={"flavor": "other"})
    world.now += 2 * CACHE_SECONDS
    await world.post("orders", 2)
    assert await world.holds(pool, "orders") == 2


async def test_queues_of_the_service_itself_stay_in_its_own_store(world: Pools) -> None:
    await world.post("inner", 1, project="")
    assert [pool for pool in ALL if await world.holds(pool, "inner", project="")] == []
    assert bodies(await world.listed("inner", project="")) == [1]


async def test_topics_are_placed_as_queues_are(world: Pools) -> None:
    await world.call("topics.create", queue=topic("news"), metadata={"_flavor": "gold"})
    await world.post(topic("news"), 1)
    assert await world.where(topic("news"), *ALL) == ["g1"]
    with pytest.raises(Forbidden, match="news"):
        await world.call("flavors.delete", flavor="gold")


# --- the same for everybody ------------------------------------------------------------------------------


async def test_processes_that_place_a_queue_at_once_agree(world: Pools) -> None:
    others = [Pools(world) for _ in range(6)]
    await asyncio.gather(*(each.post("orders", n) for n, each in enumerate(others)))
    assert len(await world.where("orders", *ALL)) == 1
    assert len(await world.listed("orders")) == 6


async def test_another_process_finds_a_queue_in_a_pool_it_did_not_know(world: Pools) -> None:
    other = Pools(world)
    assert await other.listed("orders") == []  # reads which pools there are
    await world.pool("new")
    await world.flavor("fresh", "new")
    await world.create("orders", _flavor="fresh")
    await world.post("orders", 1)
    assert bodies(await other.listed("orders")) == [1]


async def test_known_places_cost_the_records_nothing(world: Pools) -> None:
    await world.post("orders", 1)
    await world.listed("orders")
    stage: Any = world.backend
    before = len(stage.documents.calls), len(stage.messages.calls)
    for _ in range(5):
        await world.post("orders", 2)
        await claimed(world, "orders")
    assert (len(stage.documents.calls), len(stage.messages.calls)) == before


# --- failing and going -----------------------------------------------------------------------------------


async def test_pool_that_fails_affects_only_its_queues(world: Pools) -> None:
    await world.create("rich", _flavor="gold")
    await world.create("poor", _flavor="silver")
    await world.post("rich", 1)
    world.stage("g1").break_down()
    with pytest.raises(Unavailable):
        await world.post("rich", 2)
    with pytest.raises(Unavailable):
        await world.listed("rich")
    await world.post("poor", 1)
    assert bodies(await world.listed("poor")) == [1]
    assert sorted(await world.queues()) == ["poor", "rich"]
    await world.call("ping.get")


async def test_start_does_not_need_every_pool(world: Pools) -> None:
    await world.create("rich", _flavor="gold")
    await world.post("rich", 1)
    world.stores.away.add("test://g1")
    started = Pools(world)
    await started.post("other", 1)
    with pytest.raises(Unavailable):
        await started.listed("rich")
    world.stores.away.clear()
    with pytest.raises(Unavailable):
        await started.listed("rich")  # not tried again at once
    world.now += 2
    assert bodies(await started.listed("rich")) == [1]


async def test_deleted_pool_takes_its_messages_along_and_queues_go_on_elsewhere(world: Pools) -> None:
    await world.post("orders", 1)
    (pool,) = await world.where("orders", *ALL)
    other = Pools(world)
    assert len(await other.listed("orders")) == 1
    await world.call("pools.delete", pool=pool)
    assert await world.listed("orders") == []
    world.now += CACHE_SECONDS + 1
    assert await other.listed("orders") == []
    await other.post("orders", 2)
    (elsewhere,) = [name for name in ("p1", "p2") if name != pool]
    assert await world.holds(elsewhere, "orders") == 1
    assert bodies(await world.listed("orders")) == [2]


async def test_pool_moves_to_another_store(world: Pools) -> None:
    await world.create("rich", _flavor="gold")
    await world.post("rich", 1)
    await world.call("pools.update", pool="g1", document={"uri": "test://moved"})
    await world.post("rich", 2)
    assert bodies(await world.listed("rich")) == [2]
    assert (await world.stage("moved").messages.stats(QueueKey("acme", "rich"), now=world.now)).total == 1


async def test_dead_letters_go_to_another_pool(world: Pools) -> None:
    await world.create("dead", _flavor="silver")
    await world.create("orders", _flavor="gold", _max_claim_count=1, _dead_letter_queue="dead")
    (id,) = await world.post("orders", "poison", ttl=600)
    await world.call("claims.create", queue="orders", ttl=60, grace=60)
    world.now += 61
    assert await claimed(world, "orders") == []
    assert await world.where("dead", *ALL) == ["s1"]
    assert await world.where("orders", *ALL) == []
    assert ids(await world.listed("dead")) == [id]


async def test_dead_letters_whose_pool_is_away_stay_where_they_are(world: Pools) -> None:
    await world.create("dead", _flavor="silver")
    await world.create("orders", _flavor="gold", _max_claim_count=1, _dead_letter_queue="dead")
    (id,) = await world.post("orders", "poison", ttl=600)
    await world.call("claims.create", queue="orders", ttl=60, grace=60)
    world.now += 61
    world.stage("s1").messages.broken = None
    with pytest.raises(Unavailable):
        await claimed(world, "orders")
    world.stage("s1").messages.broken = set()
    assert ids(await world.listed("orders")) == [id]
    world.now += 301
    assert await claimed(world, "orders") == []
    assert ids(await world.listed("dead")) == [id]


# --- another flavor --------------------------------------------------------------------------------------


async def switched(world: Pools) -> None:
    await world.pass_time(SWITCH_SECONDS)


async def test_queue_that_gets_another_flavor_keeps_its_messages_and_their_order(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1, 2)
    await world.set("orders", _flavor="silver")
    await world.post("orders", 3)  # not everybody knows yet
    await switched(world)
    await world.post("orders", 4, 5)
    assert (await world.holds("g1", "orders"), await world.holds("s1", "orders")) == (3, 2)
    assert bodies(await world.listed("orders")) == [1, 2, 3, 4, 5]
    assert await claimed(world, "orders", limit=4) == [1, 2, 3, 4]
    assert await claimed(world, "orders", limit=4) == [5]


async def test_claim_over_two_pools_is_one_claim(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1)
    await world.set("orders", _flavor="silver")
    await switched(world)
    await world.post("orders", 2)
    claim = await world.call("claims.create", queue="orders", ttl=60)
    assert bodies(claim.messages) == [1, 2]
    await world.call("claims.renew", queue="orders", claim_id=claim.id, ttl=120)
    world.now += 100
    assert await claimed(world, "orders") == []
    first, second = ids(claim.messages)
    await world.call("messages.delete", queue="orders", id=second, claim_id=claim.id)
    held = await world.call("claims.get", queue="orders", claim_id=claim.id)
    assert ids(held.messages) == [first]
    await world.call("claims.release", queue="orders", claim_id=claim.id)
    assert await claimed(world, "orders") == [1]


async def test_pop_that_meets_a_failing_pool_answers_what_it_took(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1)
    await world.set("orders", _flavor="silver")
    await switched(world)
    await world.post("orders", 2)
    world.stage("s1").messages.broken = {"pop"}
    popped = await world.call("messages.delete_many", queue="orders", pop=5)
    assert bodies(popped.messages) == [1]
    with pytest.raises(Unavailable):
        await world.call("messages.delete_many", queue="orders", pop=5)
    world.stage("s1").messages.broken = set()
    assert bodies((await world.call("messages.delete_many", queue="orders", pop=5)).messages) == [2]


async def test_pages_go_on_from_one_pool_to_the_next(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1, 2, 3)
    await world.set("orders", _flavor="silver")
    await switched(world)
    await world.post("orders", 4, 5)
    seen, marker = [], None
    while page := await world.listed("orders", marker=marker, limit=2):
        seen += bodies(page)
        marker = page[-1].marker
    assert seen == [1, 2, 3, 4, 5]
    await world.post("orders", 6)
    assert bodies(await world.listed("orders", marker=marker)) == [6]


async def test_old_place_is_left_when_it_is_empty_and_everybody_knows(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1)
    await world.set("orders", _flavor="silver")
    await switched(world)
    (page,) = await world.listed("orders")
    await world.call("messages.delete", queue="orders", id=page.id)
    world.now += RETAINED + 1
    await world.post("orders", 2)
    assert await world.call("queues.stats", queue="orders")
    world.stage("g1").break_down()  # nobody asks it any more
    assert bodies(await world.listed("orders", marker=page.marker)) == [2]
    await world.set("orders", _flavor="")
    assert bodies(await world.listed("orders")) == [2]


async def test_process_that_knows_the_old_place_only_does_no_harm(world: Pools) -> None:
    other = Pools(world)
    await world.create("orders", _flavor="gold")
    await other.post("orders", 1)
    await world.set("orders", _flavor="silver")
    assert CACHE_SECONDS < SWITCH_SECONDS
    world.now += CACHE_SECONDS - 1
    await other.post("orders", 2)
    world.now += SWITCH_SECONDS
    await other.post("orders", 3)
    await world.post("orders", 4)
    assert (await world.holds("g1", "orders"), await world.holds("s1", "orders")) == (2, 2)
    assert bodies(await world.listed("orders")) == [1, 2, 3, 4]
    assert bodies(await other.listed("orders")) == [1, 2, 3, 4]


async def test_flavor_that_is_set_again_moves_nothing(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1)
    await world.set("orders", _flavor="gold")
    await world.set("orders", color="blue")
    await switched(world)
    await world.post("orders", 2)
    assert await world.where("orders", *ALL) == ["g1"]


async def test_flavor_whose_pools_are_others_now_is_followed_when_it_is_set_again(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1)
    await world.pool("g2")
    await world.call("flavors.update", flavor="gold", document={"pool_list": ["g2"]})
    await world.post("orders", 2)
    assert await world.holds("g1", "orders") == 2
    await world.set("orders", _flavor="gold")
    await switched(world)
    await world.post("orders", 3)
    assert await world.holds("g2", "orders") == 1
    assert bodies(await world.listed("orders")) == [1, 2, 3]


async def test_queue_does_not_go_back_to_where_it_still_has_messages(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1)
    await world.set("orders", _flavor="silver")
    await switched(world)
    await world.post("orders", 2)
    with pytest.raises(Conflict, match="still has messages"):
        await world.set("orders", _flavor="gold")
    assert (await world.call("queues.get", queue="orders")).stored["_flavor"] == "silver"
    await world.call("messages.delete_many", queue="orders", pop=1)
    await world.set("orders", _flavor="gold")
    await switched(world)
    await world.post("orders", 3)
    assert bodies(await world.listed("orders")) == [2, 3]
    assert await world.holds("g1", "orders") == 1


async def test_queue_does_not_go_back_to_where_others_may_still_store(world: Pools) -> None:
    other = Pools(world)
    await world.create("orders", _flavor="gold")
    assert await other.listed("orders") == []  # and knows for a while where it lies
    await world.set("orders", _flavor="silver")
    with pytest.raises(Conflict, match=r"leaving .* again in 10 seconds"):
        await world.set("orders", _flavor="gold")
    assert (await world.call("queues.get", queue="orders")).stored["_flavor"] == "silver"
    await other.post("orders", 1)
    await world.post("orders", 2)
    assert bodies(await world.listed("orders")) == bodies(await other.listed("orders")) == [1, 2]
    await switched(world)
    await world.call("messages.delete_many", queue="orders", pop=2)
    await world.set("orders", _flavor="gold")
    await switched(world)
    await world.post("orders", 3)
    assert bodies(await other.listed("orders")) == [3]
    assert await world.holds("g1", "orders") == 1


async def test_reader_who_was_far_in_a_pool_that_goes_misses_nothing(world: Pools) -> None:
    await world.pool("g2", flavor="gold", weight=0)
    await world.create("orders", _flavor="gold")
    await world.post("orders", *range(5))
    end = (await world.listed("orders"))[-1].marker
    await world.pool("g2", flavor="gold")
    await world.call("pools.delete", pool="g1")
    await world.post("orders", "new")
    assert bodies(await world.listed("orders", marker=end)) == ["new"]


async def test_queue_whose_newest_pool_goes_gets_another_of_its_flavor(world: Pools) -> None:
    await world.pool("s2", flavor="silver", weight=0)
    await world.create("orders", _flavor="gold")
    await world.post("orders", "old")
    await world.set("orders", _flavor="silver")
    await switched(world)
    await world.post("orders", *range(5))
    end = (await world.listed("orders"))[-1].marker
    await world.pool("s2", flavor="silver")
    await world.call("pools.delete", pool="s1")
    assert bodies(await world.listed("orders")) == ["old"]
    await world.post("orders", "new")
    assert bodies(await world.listed("orders", marker=end)) == ["new"]
    assert bodies(await world.listed("orders")) == ["old", "new"]
    assert await world.where("orders", "g1", "s2") == ["g1", "s2"]


async def test_flavor_without_a_usable_pool_changes_nothing(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1)
    world.stage("s1").break_down()
    with pytest.raises(Unavailable):
        await world.set("orders", _flavor="silver")
    assert (await world.call("queues.get", queue="orders")).stored["_flavor"] == "gold"
    await switched(world)
    await world.post("orders", 2)
    assert await world.holds("g1", "orders") == 2


async def test_flavors_set_by_two_at_once_end_with_the_place_of_the_one_recorded(world: Pools) -> None:
    for turn in range(5):
        queue, other = f"q{turn}", Pools(world)
        await world.create(queue)
        await asyncio.gather(world.set(queue, _flavor="gold"), other.set(queue, _flavor="silver"))
        await switched(world)
        await world.post(queue, 1)
        recorded = (await Pools(world).call("queues.get", queue=queue)).stored["_flavor"]
        assert await world.where(queue, *ALL) == [{"gold": "g1", "silver": "s1"}[recorded]]


# --- deleted, and made again -----------------------------------------------------------------------------


async def test_deleted_queue_is_empty_when_it_is_made_again(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1)
    await world.set("orders", _flavor="silver")
    await switched(world)
    await world.post("orders", 2)
    await world.call("queues.delete", queue="orders")
    assert await world.where("orders", *ALL) == []
    await world.create("orders", _flavor="silver")
    await world.post("orders", 3)
    assert bodies(await world.listed("orders")) == [3]


async def test_deleted_queue_may_be_made_again_with_another_flavor(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.call("queues.delete", queue="orders")
    await world.create("orders", _flavor="silver")
    await switched(world)
    await world.post("orders", 1)
    assert await world.where("orders", *ALL) == ["s1"]


async def test_nothing_is_left_of_a_deleted_queue_in_the_end(world: Pools) -> None:
    await world.create("orders")
    await world.call("queues.delete", queue="orders")
    shelf = placement._shelf(QueueKey("acme", "orders"))
    assert await world.backend.documents.count(shelf, now=world.now) == 1
    assert await world.backend.documents.count(shelf, now=world.now + LEFT_SECONDS + 1) == 0


async def test_message_of_one_who_does_not_know_yet_that_the_queue_was_deleted_is_kept(world: Pools) -> None:
    other = Pools(world)
    await world.create("orders")
    await other.post("orders", 1)
    await world.call("queues.delete", queue="orders")
    await other.post("orders", 2, ttl=int(3 * RETAINED))
    assert bodies(await world.listed("orders")) == [2]
    world.now += RETAINED + 1
    assert bodies(await Pools(world).listed("orders")) == [2]


async def test_it_is_kept_also_when_nobody_looks_for_hours(world: Pools) -> None:
    other = Pools(world)
    await world.create("orders")
    await other.post("orders", 1)
    await world.call("queues.delete", queue="orders")
    await other.post("orders", 2, ttl=int(3 * RETAINED))
    world.now += 2 * RETAINED
    assert bodies(await Pools(world).listed("orders")) == [2]


# --- before there were pools -----------------------------------------------------------------------------


async def test_messages_from_before_there_were_pools_stay_and_come_first() -> None:
    world = Pools()
    before = Pools.__mro__[1](world.backend)  # the same records and store, without pools
    await before.post("orders", 1)
    await world.pool("p1")
    assert bodies(await world.listed("orders")) == [1]
    await world.post("orders", 2)
    assert await world.holds("p1", "orders") == 1
    assert bodies(await world.listed("orders")) == [1, 2]
    assert await claimed(world, "orders") == [1, 2]


# --- waiting and listening -------------------------------------------------------------------------------


async def test_claim_that_waits_hears_of_a_queue_that_is_placed_meanwhile(world: Pools) -> None:
    waiting = asyncio.create_task(claimed(world, "orders", wait=20))
    await world.pass_time(1)
    assert not waiting.done()
    await world.post("orders", 1)
    await world.pass_time(1)
    assert waiting.done()
    assert await waiting == [1]


async def test_claim_that_waits_hears_of_posts_leases_and_delays_in_its_pool(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1, delay=5)
    waiting = asyncio.create_task(claimed(world, "orders", wait=20, ttl=60))
    await world.pass_time(4)
    assert not waiting.done()
    await world.pass_time(1)
    assert await waiting == [1]
    waiting = asyncio.create_task(claimed(world, "orders", wait=20))
    await world.pass_time(1)
    await world.post("orders", 2)
    await world.pass_time(0)
    assert await waiting == [2]


async def test_who_waits_and_listens_follows_a_queue_to_its_new_pool(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    heard: list[Notice] = []
    world.service.subscriptions.connected("socket", "ws://here", heard.append)
    ctx = world.ctx()
    subscribing = type(ctx)(
        project=ctx.project, client=ctx.client, request_id="r", now=ctx.now, connection="socket"
    )
    await world.service.subscriptions.create(subscribing, CreateSubscription(queue="orders"))
    await world.post("orders", 1)
    await claimed(world, "orders")
    await world.set("orders", _flavor="silver")
    waiting = asyncio.create_task(claimed(world, "orders", wait=20))
    await switched(world)
    assert not waiting.done()
    await world.post("orders", 2)
    await world.pass_time(0)
    assert await world.where("orders", *ALL) == ["g1", "s1"]
    assert await waiting == [2]
    assert [notice.body for notice in heard] == [b"1", b"2"]
    await world.service.subscriptions.disconnected("socket", now=world.now)
    assert world.service._pools.waker._interests == {}  # type: ignore[union-attr]


# --- outside subscribers ---------------------------------------------------------------------------------


async def recorded(world: Pools) -> int:
    """How many posts are recorded to be told of."""
    jobs, _ = await world.service.deliveries.pending(now=world.now)
    return jobs.total


@pytest.fixture
async def told() -> Pools:
    """A world in which somebody outside is subscribed to `orders`, of flavor gold."""
    world = Pools(subscriber_types=["http"])
    for name in ("p1", "g1", "s1"):
        await world.pool(name)
    await world.flavor("gold", "g1")
    await world.flavor("silver", "s1")
    await world.create("orders", _flavor="gold")
    await world.call("subscriptions.create", queue="orders", subscriber="http://here/", ttl=10**8)
    return world


async def test_post_to_a_placed_queue_is_recorded_for_its_subscribers(told: Pools) -> None:
    await told.post("orders", 1)
    await Pools(told).post("orders", 2)
    assert await told.holds("g1", "orders") == 2
    assert await recorded(told) == 2


async def test_post_is_recorded_whatever_pool_is_away(told: Pools) -> None:
    for pool in ("p1", "s1"):
        told.stage(pool).break_down()
    await told.post("orders", 1)
    assert await recorded(told) == 1


async def test_subscribers_are_told_of_posts_in_the_queues_new_place(told: Pools) -> None:
    await told.set("orders", _flavor="silver")
    await switched(told)
    await Pools(told).post("orders", 1)
    assert await told.holds("s1", "orders") == 1
    assert await recorded(told) == 1


async def test_one_who_subscribes_while_the_queue_is_placed_anew_is_told(world: Pools) -> None:
    late, other = Pools(world, subscriber_types=["http"]), Pools(world)
    await world.create("orders", _flavor="gold")
    await late.post("orders", 1)  # so that it knows the old place
    await world.set("orders", _flavor="silver")
    await late.call("subscriptions.create", queue="orders", subscriber="http://here/")
    await switched(world)
    await other.post("orders", 2)
    assert await world.holds("s1", "orders") == 1
    assert await recorded(other) == 1


async def test_subscribers_of_a_deleted_queue_are_told_when_it_comes_back_elsewhere(told: Pools) -> None:
    await told.call("queues.delete", queue="orders")
    told.now += LEFT_SECONDS + 1
    await told.create("orders")
    await told.post("orders", 1)
    assert await told.holds("p1", "orders") == 1
    assert await recorded(told) == 1


async def test_queue_without_subscribers_left_records_nothing(told: Pools) -> None:
    await told.post("orders", 1)
    key = QueueKey("acme", "orders")
    (note,) = told.service.deliveries.notes.values()
    await told.service.deliveries.unmark(key, note)
    await told.set("orders", _flavor="silver")
    await switched(told)
    await told.post("orders", 2)
    assert await recorded(told) == 1


# --- health ----------------------------------------------------------------------------------------------


async def test_health_tells_of_each_pool(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    await world.post("orders", 1, 2)
    await claimed(world, "orders", limit=1)
    world.stage("s1").break_down()
    world.stage("p1").messages.broken = {"claim"}
    health = await world.call("health.get")
    assert health.catalog_reachable
    assert sorted(health.pools) == ["g1", "p1", "p2", "s1"]
    gold, away, failing = health.pools["g1"], health.pools["s1"], health.pools["p1"]
    assert gold.storage_reachable
    assert all(operation.succeeded for operation in gold.operation_status.values())
    assert (gold.message_volume.free, gold.message_volume.claimed) == (1, 1)
    assert gold.capabilities == ["FIFO", "CLAIMS", "AOD"]
    assert not away.storage_reachable
    assert away.message_volume is None
    assert all(operation.ref and not operation.succeeded for operation in away.operation_status.values())
    assert not failing.operation_status["claim_messages"].succeeded
    assert failing.operation_status["post_messages"].succeeded
    assert gold.operation_status.keys() == away.operation_status.keys() == failing.operation_status.keys()


async def test_health_leaves_nothing_behind(world: Pools) -> None:
    await world.call("health.get")
    for pool in ALL:
        volume = await world.stage(pool).messages.volume(now=world.now)
        assert volume.total == 0
    shelf = placement._shelf(QueueKey("sukkal-health", "any"))
    assert await world.backend.documents.count(shelf, now=world.now) == 0


async def test_health_without_records_says_so(world: Pools) -> None:
    await world.call("health.get")
    stage: Any = world.backend
    stage.documents.broken = None
    health = await world.call("health.get")
    assert not health.catalog_reachable
    assert health.pools["g1"].storage_reachable
    assert not health.pools["g1"].operation_status["create_queue"].succeeded


async def test_sweeping_reaches_every_pool_but_those_away(world: Pools) -> None:
    for number in range(10):
        await world.post(f"q{number}", 1, ttl=60)
    world.stage("p1").messages.broken = {"sweep"}
    world.now += 61
    assert await world.service._pools.sweep(world.now) > 0  # type: ignore[union-attr]
    world.stage("p1").messages.broken = set()
    world.now += 31
    assert await world.service._pools.sweep(world.now) > 0  # type: ignore[union-attr]
    assert await world.service._pools.sweep(world.now) == 0  # type: ignore[union-attr]


async def test_every_call_of_a_placed_queue_says_what_failed(world: Pools) -> None:
    await world.create("orders", _flavor="gold")
    world.stage("g1").break_down()
    for operation, fields in (
        ("queues.stats", {}),
        ("queues.purge", {}),
        ("claims.create", {}),
        ("claims.get", {"claim_id": "c"}),
        ("claims.renew", {"claim_id": "c"}),
        ("claims.release", {"claim_id": "c"}),
        ("messages.get_many", {"ids": ["m"]}),
        ("messages.delete", {"id": "m"}),
    ):
        with pytest.raises(ServiceError) as fault:
            await world.call(operation, queue="orders", **fields)
        assert isinstance(fault.value, Unavailable), operation
