"""Dead letter queues: when a message moves there, what it keeps, and what a failure on the way leaves."""

from typing import Any

import pytest

from sukkal.core import claims
from sukkal.errors import NotFound, Unavailable
from sukkal.model import Message
from sukkal.requests import Claimed

from .world import NOW, Stage, World, bodies, ids


async def claim(world: World, queue: str = "orders", **fields: Any) -> Claimed:
    claimed: Claimed = await world.call("claims.create", queue=queue, **fields)
    return claimed


async def wear_out(world: World, queue: str = "orders", *, times: int = 2, **fields: Any) -> list[Message]:
    """Claim and give back; answers what the last claim had."""
    claimed = Claimed(id=None)
    for _ in range(times):
        claimed = await claim(world, queue, limit=20, **fields)
        if claimed.id is not None:
            await world.call("claims.release", queue=queue, claim_id=claimed.id)
    return claimed.messages


async def dead_lettering(world: World, queue: str = "orders", *, to: str = "dead", **metadata: Any) -> None:
    """Make a queue that allows two claims."""
    await world.create(queue, _max_claim_count=2, _dead_letter_queue=to, **metadata)


# --- when ----------------------------------------------------------------------------------------------


async def test_maximum_of_two_allows_two_claims_and_the_third_moves(world: World) -> None:
    await dead_lettering(world)
    posted = await world.post("orders", 1)
    assert ids((await claim(world, ttl=60)).messages) == posted
    world.now += 60
    assert ids((await claim(world, ttl=60)).messages) == posted
    world.now += 60
    third = await claim(world)
    assert (third.id, third.messages) == (None, [])
    assert await world.listed("orders") == []
    assert ids(await world.listed("dead")) == posted


async def test_nothing_moves_without_a_claim_request(world: World) -> None:
    await dead_lettering(world)
    posted = await world.post("orders", 1)
    await wear_out(world)
    world.now += 1000
    await world.backend.messages.sweep(now=world.now)
    assert ids(await world.listed("orders")) == posted
    assert await world.queues() == ["orders"]


async def test_release_and_lapse_both_count_and_renewal_does_not(world: World) -> None:
    await dead_lettering(world)
    await world.post("orders", 1)
    first = await claim(world, ttl=60)
    for _ in range(5):
        await world.call("claims.renew", queue="orders", claim_id=first.id, ttl=60)
    await world.call("claims.release", queue="orders", claim_id=first.id)
    second = await claim(world, ttl=60)
    assert second.messages[0].claim_count == 2
    world.now += 60
    assert (await claim(world)).id is None
    assert len(await world.listed("dead")) == 1


@pytest.mark.parametrize(
    "metadata",
    [
        {"_max_claim_count": 2},
        {"_dead_letter_queue": "dead"},
        {"_max_claim_count": 2, "_dead_letter_queue": None},
        {"_max_claim_count": None, "_dead_letter_queue": "dead"},
        {"_max_claim_count": 0, "_dead_letter_queue": "dead"},
        {"_max_claim_count": -1, "_dead_letter_queue": "dead"},
    ],
    ids=str,
)
async def test_nothing_moves_unless_both_attributes_are_set(world: World, metadata: dict[str, Any]) -> None:
    await world.create("orders", **metadata)
    posted = await world.post("orders", 1)
    assert ids(await wear_out(world, times=6)) == posted
    assert await world.queues() == ["orders"]


async def test_attributes_set_later_count_from_then_on(world: World) -> None:
    await world.post("orders", 1)
    await world.set("orders", _max_claim_count=2, _dead_letter_queue="dead")
    assert len(await wear_out(world)) == 1
    assert await wear_out(world, times=1) == []
    await world.set("orders", _max_claim_count=None)
    await world.post("orders", 2)
    assert bodies(await wear_out(world, times=4)) == [2]


async def test_expired_message_does_not_move(world: World) -> None:
    await dead_lettering(world)
    await world.post("orders", 1, ttl=100)
    await wear_out(world, ttl=60)
    world.now += 100
    assert (await claim(world)).id is None
    assert await world.listed("dead") == []


async def test_deleted_message_does_not_move(world: World) -> None:
    await dead_lettering(world)
    (id,) = await world.post("orders", 1)
    await wear_out(world)
    await world.call("messages.delete", queue="orders", id=id)
    assert (await claim(world)).id is None
    assert await world.listed("dead") == []


# --- what ----------------------------------------------------------------------------------------------


async def test_moved_message_keeps_id_body_age_and_poster_and_arrives_free_and_visible(world: World) -> None:
    await dead_lettering(world)
    await world.create("dead", _default_message_delay=900, _default_message_ttl=60)
    (id,) = await world.post("orders", {"k": "v"}, ttl=3000, client="poster")
    world.now += 100
    await wear_out(world, ttl=60)
    await claim(world, ttl=60)
    (moved,) = await world.listed("dead", include_delayed=False, include_claimed=False)
    assert (moved.id, bodies([moved]), moved.client) == (id, [{"k": "v"}], "poster")
    assert (moved.created, moved.ttl, moved.expires) == (NOW, 3000, NOW + 3000)
    assert (moved.claim, moved.claim_count) == (None, 0)
    assert ids((await claim(world, "dead")).messages) == [id]


async def test_ttl_restarts_when_the_queue_sets_one_for_moved_messages(world: World) -> None:
    await dead_lettering(world, _dead_letter_queue_messages_ttl=500)
    await world.post("orders", 1, ttl=200)
    world.now += 100
    await wear_out(world, times=3, ttl=60)
    (moved,) = await world.listed("dead")
    assert (moved.ttl, moved.created, moved.expires) == (500, NOW, NOW + 100 + 500)
    world.now += 499
    assert len(await world.listed("dead")) == 1
    world.now += 1
    assert await world.listed("dead") == []


async def test_own_delay_does_not_follow_the_message(world: World) -> None:
    await dead_lettering(world)
    await world.post("orders", 1, delay=30)
    world.now += 30
    await wear_out(world, times=3)
    assert len((await claim(world, "dead")).messages) == 1


async def test_moved_message_is_gone_from_its_queue_for_every_reader(world: World) -> None:
    await dead_lettering(world)
    (id,) = await world.post("orders", 1)
    await wear_out(world, times=3)
    with pytest.raises(NotFound):
        await world.get("orders", id)
    stats = await world.call("queues.stats", queue="orders")
    assert (stats.free, stats.claimed) == (0, 0)
    assert (await world.get("dead", id)).id == id


# --- where ---------------------------------------------------------------------------------------------


async def test_dead_letter_queue_is_created_by_the_first_move(world: World) -> None:
    await dead_lettering(world)
    await world.post("orders", 1)
    await wear_out(world)
    assert await world.queues() == ["orders"]
    await claim(world)
    assert await world.queues() == ["dead", "orders"]
    assert (await world.call("queues.get", queue="dead")).stored == {}


async def test_dead_letter_queue_lies_in_the_same_project(world: World) -> None:
    await dead_lettering(world)
    await world.create("dead", project="other")
    await world.post("orders", 1)
    await wear_out(world, times=3)
    assert await world.listed("dead", project="other") == []
    assert len(await world.listed("dead")) == 1


async def test_queue_that_names_itself_keeps_its_messages(world: World) -> None:
    await dead_lettering(world, to="orders")
    posted = await world.post("orders", 1, 2)
    assert ids(await wear_out(world, times=7)) == posted
    assert ids(await world.listed("orders")) == posted


async def test_chain_of_queues_passes_a_message_on(world: World) -> None:
    await dead_lettering(world, "first", to="second")
    await dead_lettering(world, "second", to="third")
    posted = await world.post("first", 1)
    for queue in ("first", "second"):
        assert ids(await wear_out(world, queue)) == posted
        assert await wear_out(world, queue, times=1) == []
    assert [len(await world.listed(queue)) for queue in ("first", "second", "third")] == [0, 0, 1]
    assert ids(await wear_out(world, "third", times=5)) == posted


async def test_two_queues_that_name_each_other_pass_a_message_to_and_fro(world: World) -> None:
    await dead_lettering(world, "ping", to="pong")
    await dead_lettering(world, "pong", to="ping")
    posted = await world.post("ping", 1)
    for queue, other in (("ping", "pong"), ("pong", "ping"), ("ping", "pong")):
        assert ids(await wear_out(world, queue)) == posted
        assert await wear_out(world, queue, times=1) == []
        assert ids(await world.listed(other)) == posted
        assert await world.listed(queue) == []


# --- spent messages and the limit ----------------------------------------------------------------------


async def test_spent_messages_do_not_fill_the_limit(world: World) -> None:
    await dead_lettering(world)
    spent = await world.post("orders", *range(12))
    await wear_out(world)
    fresh = await world.post("orders", *range(12))
    claimed = await claim(world, limit=5)
    assert ids(claimed.messages) == fresh[:5]
    assert set(ids(await world.listed("dead"))) <= set(spent)
    assert ids((await world.call("claims.get", queue="orders", claim_id=claimed.id)).messages) == fresh[:5]


async def test_claim_that_meets_both_moves_the_spent_and_hands_out_the_fresh(world: World) -> None:
    await dead_lettering(world)
    posted = await world.post("orders", *range(3))
    for _ in range(2):
        claimed = await claim(world, limit=1)
        await world.call("claims.release", queue="orders", claim_id=claimed.id)
    claimed = await claim(world, limit=3)
    assert ids(claimed.messages) == posted[1:]
    assert ids(await world.listed("dead")) == posted[:1]


async def test_one_claim_moves_a_bounded_number_and_later_ones_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 10
    monkeypatch.setattr(claims, "MOST_MOVES", most)
    await dead_lettering(world)
    await world.post("orders", *range(most + 3))
    await wear_out(world)
    fresh = await world.post("orders", "fresh")
    assert (await claim(world, limit=1)).id is None
    assert (await world.call("queues.stats", queue="dead")).free == most
    assert ids((await claim(world, limit=1)).messages) == fresh
    assert (await world.call("queues.stats", queue="dead")).free == most + 3


# --- failures on the way -------------------------------------------------------------------------------


@pytest.fixture
async def worn(staged: World) -> World:
    """`orders` holds one message whose next claim moves it to `dead`."""
    await dead_lettering(staged)
    await staged.post("orders", "precious")
    await wear_out(staged)
    return staged


async def test_failure_between_append_and_delete_leaves_both_copies_then_exactly_one(
    worn: World, stage: Stage
) -> None:
    posted = ids(await worn.listed("orders"))
    stage.messages.fail_once("delete")
    with pytest.raises(Unavailable, match="Claim could not be created"):
        await claim(worn, ttl=60)
    assert ids(await worn.listed("orders")) == posted
    assert ids(await worn.listed("dead")) == posted
    assert (await claim(worn)).id is None, "still under the claim that failed"
    worn.now += 60
    assert (await claim(worn)).id is None
    assert await worn.listed("orders") == []
    assert ids(await worn.listed("dead")) == posted


async def test_second_move_does_not_touch_the_copy_that_a_claim_holds(worn: World, stage: Stage) -> None:
    stage.messages.fail_once("delete")
    with pytest.raises(Unavailable):
        await claim(worn, ttl=60)
    held = await claim(worn, "dead", ttl=1000)
    worn.now += 60
    await claim(worn)
    assert await worn.listed("orders") == []
    assert [message.claim for message in await worn.listed("dead")] == [held.id]


@pytest.mark.parametrize("verb", ["claim", "append"])
async def test_failure_before_the_copy_is_stored_leaves_the_message_where_it_was(
    worn: World, stage: Stage, verb: str
) -> None:
    stage.messages.fail_once(verb)
    with pytest.raises(Unavailable):
        await claim(worn, ttl=60)
    assert bodies(await worn.listed("orders")) == ["precious"]
    assert await worn.listed("dead") == []
    worn.now += 60
    await claim(worn)
    assert await worn.listed("orders") == []
    assert bodies(await worn.listed("dead")) == ["precious"]


@pytest.mark.parametrize("verb", ["get", "put"])
async def test_failure_to_create_the_dead_letter_queue_loses_nothing(
    worn: World, stage: Stage, verb: str
) -> None:
    await worn.call("queues.get", queue="orders")  # its own record is cached
    stage.documents.fail_once(verb)
    with pytest.raises(Unavailable):
        await claim(worn, ttl=60)
    worn.now += 60
    await claim(worn)
    assert await worn.listed("orders") == []
    assert bodies(await worn.listed("dead")) == ["precious"]


async def test_messages_taken_beside_one_that_could_not_move_come_back(worn: World, stage: Stage) -> None:
    fresh = await worn.post("orders", "fresh")
    stage.messages.fail_once("append")
    with pytest.raises(Unavailable):
        await claim(worn, ttl=60)
    worn.now += 60
    assert ids((await claim(worn)).messages) == fresh
