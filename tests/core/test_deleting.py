"""Deleting messages: the matrix of who may delete what, by ids, and pop."""

from typing import Any

import pytest

from sukkal.errors import Held, Invalid, NotFound, ServiceError, Undeletable
from sukkal.wire.status import status_of

from .world import World, bodies, ids

UNKNOWN = "0190163d8694739b9dd0a6d7a3b1c2d3"


async def claim(world: World, **fields: Any) -> Any:
    return await world.call("claims.create", queue="orders", **fields)


async def delete(world: World, id: str, claim_id: str | None = None) -> None:
    await world.call("messages.delete", queue="orders", id=id, claim_id=claim_id)


async def delete_many(world: World, **fields: Any) -> Any:
    return await world.call("messages.delete_many", queue="orders", **fields)


async def lapsed_claim(world: World) -> str:
    """The id of a claim that was and is no more."""
    await world.post("orders", "bait")
    id: str = (await claim(world, ttl=60, limit=1)).id
    world.now += 60
    await delete_many(world, pop=1)
    return id


# --- one -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim_id", [None, "unknown", UNKNOWN])
@pytest.mark.parametrize("id", [UNKNOWN, "", "garbage", "é" * 100])
async def test_deleting_what_is_not_there_succeeds(world: World, id: str, claim_id: str | None) -> None:
    await delete(world, id, claim_id)
    await world.create("orders")
    await delete(world, id, claim_id)


async def test_deleting_an_expired_message_succeeds(world: World) -> None:
    (id,) = await world.post("orders", 1, ttl=60)
    world.now += 60
    await delete(world, id)
    await delete(world, id, "unknown")


async def test_unclaimed_message_is_deleted_without_a_claim(world: World) -> None:
    first, second = await world.post("orders", 1, 2)
    await delete(world, first)
    await delete(world, first)
    assert ids(await world.listed("orders")) == [second]


async def test_unclaimed_message_is_not_deleted_with_an_unknown_claim(world: World) -> None:
    (id,) = await world.post("orders", 1)
    for claim_id in ("garbage", UNKNOWN):
        with pytest.raises(Undeletable, match="does not exist or has expired") as fault:
            await delete(world, id, claim_id)
        assert (status_of(fault.value), fault.value.title) == (400, "Unable to delete")
    assert ids(await world.listed("orders")) == [id]


async def test_unclaimed_message_is_not_deleted_with_a_lapsed_claim(world: World) -> None:
    claim_id = await lapsed_claim(world)
    (id,) = await world.post("orders", 1)
    with pytest.raises(Undeletable, match="does not exist or has expired"):
        await delete(world, id, claim_id)
    assert ids(await world.listed("orders")) == [id]


async def test_unclaimed_message_is_not_deleted_with_a_live_claim_on_others(world: World) -> None:
    await world.post("orders", "claimed")
    claimed = await claim(world)
    (id,) = await world.post("orders", "free")
    with pytest.raises(Undeletable, match="not currently claimed") as fault:
        await delete(world, id, claimed.id)
    assert (status_of(fault.value), fault.value.title) == (400, "Unable to delete")
    assert (await world.get("orders", id)).id == id


async def test_claimed_message_is_not_deleted_without_a_claim(world: World) -> None:
    (id,) = await world.post("orders", 1)
    await claim(world)
    with pytest.raises(Held, match="cannot be deleted without a valid claim ID") as fault:
        await delete(world, id)
    assert (status_of(fault.value), fault.value.title) == (403, "Unable to delete")
    assert (await world.get("orders", id)).id == id


async def test_claimed_message_is_deleted_with_its_claim(world: World) -> None:
    (id,) = await world.post("orders", 1)
    await delete(world, id, (await claim(world)).id)
    with pytest.raises(NotFound):
        await world.get("orders", id)


@pytest.mark.parametrize("lapsed", [True, False])
async def test_claimed_message_is_not_deleted_with_an_unknown_claim(world: World, lapsed: bool) -> None:
    claim_id = await lapsed_claim(world) if lapsed else "unknown"
    (id,) = await world.post("orders", 1)
    await claim(world)
    with pytest.raises(Undeletable, match="does not exist or has expired"):
        await delete(world, id, claim_id)
    assert (await world.get("orders", id)).id == id


async def test_claimed_message_is_not_deleted_with_another_live_claim(world: World) -> None:
    (id, _) = await world.post("orders", 1, 2)
    await claim(world, limit=1)
    other = await claim(world, limit=1)
    with pytest.raises(Held, match="cannot be deleted without a valid claim ID"):
        await delete(world, id, other.id)
    assert (await world.get("orders", id)).id == id


async def test_message_of_a_lapsed_claim_is_deleted_without_a_claim_and_not_with_that_one(
    world: World,
) -> None:
    (id,) = await world.post("orders", 1)
    claimed = await claim(world, ttl=60)
    world.now += 60
    with pytest.raises(Undeletable, match="does not exist or has expired"):
        await delete(world, id, claimed.id)
    await delete(world, id)
    assert await world.listed("orders") == []


async def test_message_of_a_released_claim_is_not_deleted_with_that_claim(world: World) -> None:
    (id,) = await world.post("orders", 1)
    claimed = await claim(world)
    await world.call("claims.release", queue="orders", claim_id=claimed.id)
    with pytest.raises(Undeletable):
        await delete(world, id, claimed.id)
    assert (await world.get("orders", id)).id == id


# --- many ----------------------------------------------------------------------------------------------


async def test_deleting_by_ids_ignores_claims_and_what_is_not_there(world: World) -> None:
    first, second, third = await world.post("orders", 1, 2, 3)
    await claim(world, limit=1)
    assert await delete_many(world, ids=[first, "garbage", UNKNOWN, second, second]) is None
    assert ids(await world.listed("orders")) == [third]
    assert await delete_many(world, ids=[first]) is None


async def test_claim_ids_are_ignored_unless_the_operator_asks_for_them(world: World) -> None:
    (id,) = await world.post("orders", 1)
    await claim(world)
    await delete_many(world, ids=[id], claim_ids=["wrong"])
    assert await world.listed("orders") == []


@pytest.mark.parametrize(
    "fields, text",
    [
        ({"ids": ["a"], "pop": 1}, "pop and id params cannot be present together in the delete request."),
        ({"ids": ["a"] * 21, "pop": 99}, "pop and id params cannot be present together"),
        ({}, 'should have either "ids" or "pop" parameter'),
        ({"claim_ids": ["a"]}, 'should have either "ids" or "pop" parameter'),
        ({"pop": 0}, "Pop value must be at least 1 and may not be greater than 20."),
        ({"pop": 21}, "Pop value must be at least 1 and may not be greater than 20."),
        ({"ids": ["a"] * 21}, "ids parameter should have at least 1 and not greater than 20 values."),
    ],
)
async def test_deleting_many_says_what_is_wrong_with_the_request(
    world: World, fields: dict[str, Any], text: str
) -> None:
    await world.post("orders", 1)
    with pytest.raises(Invalid) as fault:
        await delete_many(world, **fields)
    assert text in fault.value.message
    assert fault.value.title == "Invalid API request"
    assert len(await world.listed("orders")) == 1


async def test_pop_takes_the_oldest_for_good_and_skips_claimed_ones(world: World) -> None:
    posted = await world.post("orders", *range(5))
    await claim(world, limit=1)
    answer = await delete_many(world, pop=2)
    assert ids(answer.messages) == posted[1:3]
    assert ids(await world.listed("orders")) == [posted[0], *posted[3:]]


async def test_pop_includes_the_callers_own_messages(world: World) -> None:
    await world.post("orders", 1, client="me")
    answer = await world.call("messages.delete_many", queue="orders", pop=1, client="me")
    assert bodies(answer.messages) == [1]


# --- with message_delete_with_claim_id -----------------------------------------------------------------


@pytest.fixture
def strict() -> World:
    """A service that deletes claimed messages by ids only with their claims."""
    return World(delete_with_claim_id=True)


@pytest.mark.parametrize(
    "fields", [{"ids": ["a"]}, {"pop": 1, "claim_ids": ["a"]}, {"ids": ["a"] * 21}], ids=str
)
async def test_strict_deletion_wants_ids_and_claim_ids_together(
    strict: World, fields: dict[str, Any]
) -> None:
    with pytest.raises(Invalid, match='both "ids" and "claim_ids"'):
        await delete_many(strict, **fields)


async def test_strict_deletion_takes_claimed_messages_with_their_claims_and_unclaimed_ones(
    strict: World,
) -> None:
    posted = await strict.post("orders", *range(3))
    first, second = [await claim(strict, limit=1) for _ in range(2)]
    await delete_many(strict, ids=posted, claim_ids=[first.id, second.id, "unknown"])
    assert await strict.listed("orders") == []


async def test_strict_deletion_of_a_message_under_another_claim_deletes_nothing(strict: World) -> None:
    posted = await strict.post("orders", *range(2))
    first = await claim(strict, limit=1)
    await claim(strict, limit=1)
    with pytest.raises(Held) as fault:
        await delete_many(strict, ids=posted, claim_ids=[first.id])
    assert fault.value.title == "Unable to delete"
    assert ids(await strict.listed("orders")) == posted


async def test_strict_deletion_still_pops(strict: World) -> None:
    await strict.post("orders", 1)
    assert bodies((await delete_many(strict, pop=1)).messages) == [1]


async def test_faults_that_forbid_and_faults_of_the_request_share_the_title() -> None:
    errors: list[ServiceError] = [Held("x"), Undeletable("x")]
    assert [(error.title, status_of(error)) for error in errors] == [
        ("Unable to delete", 403),
        ("Unable to delete", 400),
    ]
