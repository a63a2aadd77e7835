"""Claims: taking, lifetimes, renewing, giving back, and what time does to them."""

from typing import Any

import pytest

from sukkal.errors import Invalid, NotFound
from sukkal.limits import Limits
from sukkal.requests import Claim, Claimed

from .world import NOW, World, bodies, ids


async def claim(world: World, queue: str = "orders", **fields: Any) -> Claimed:
    claimed: Claimed = await world.call("claims.create", queue=queue, **fields)
    return claimed


async def held(world: World, claim_id: str | None, queue: str = "orders") -> Claim:
    found: Claim = await world.call("claims.get", queue=queue, claim_id=claim_id)
    return found


async def renew(world: World, claim_id: str | None, **fields: Any) -> None:
    await world.call("claims.renew", queue="orders", claim_id=claim_id, **fields)


async def release(world: World, claim_id: str | None) -> None:
    await world.call("claims.release", queue="orders", claim_id=claim_id)


class AnyGrace(Limits, frozen=True, kw_only=True):
    """Limits that let the grace of the specification's vectors pass."""

    def check_claim_grace(self, grace: int) -> None:
        pass


# --- taking --------------------------------------------------------------------------------------------


async def test_claims_take_the_oldest_ten_then_the_rest(world: World) -> None:
    posted = await world.post("orders", *range(12))
    first, second, third = [await claim(world) for _ in range(3)]
    assert ids(first.messages) == posted[:10]
    assert ids(second.messages) == posted[10:]
    assert (third.id, third.messages) == (None, [])
    assert first.id != second.id


async def test_claimed_messages_name_their_claim(world: World) -> None:
    await world.post("orders", 1)
    claimed = await claim(world)
    assert claimed.messages[0].claim == claimed.id
    assert (await world.listed("orders"))[0].claim == claimed.id


async def test_listing_with_claimed_messages_is_the_same_before_and_after_claiming(world: World) -> None:
    await world.post("orders", *range(12))
    before = ids(await world.listed("orders"))
    await claim(world)
    assert ids(await world.listed("orders")) == before
    assert ids(await world.listed("orders", include_claimed=False)) == before[10:]


async def test_claim_that_finds_nothing_creates_nothing(world: World) -> None:
    await world.create("orders")
    assert (await claim(world)).id is None
    assert (await world.call("queues.stats", queue="orders")).claimed == 0


@pytest.mark.parametrize(
    "fields, text",
    [
        ({"ttl": 59}, "The TTL for a claim may not exceed 43200 seconds"),
        ({"ttl": 43201}, "The TTL for a claim may not exceed 43200 seconds"),
        ({"grace": 59}, "The grace for a claim may not exceed 43200 seconds"),
        ({"grace": 43201}, "and must be at least 60 seconds long"),
        ({"limit": 0}, "Limit must be at least 1 and may not be greater than 20"),
        ({"limit": 21}, "Limit must be at least 1 and may not be greater than 20"),
        ({"ttl": 1, "limit": 0, "grace": 1}, "The TTL"),
        ({"limit": 0, "grace": 1}, "Limit"),
    ],
)
async def test_claim_out_of_bounds_is_refused_and_takes_nothing(
    world: World, fields: dict[str, Any], text: str
) -> None:
    await world.post("orders", 1)
    with pytest.raises(Invalid, match=text):
        await claim(world, **fields)
    assert len((await claim(world)).messages) == 1


async def test_claim_defaults_are_the_services() -> None:
    world = World(limits=Limits(default_claim_ttl=100, default_claim_grace=70))
    await world.post("orders", 1, ttl=60)
    claimed = await claim(world)
    lease = (await held(world, claimed.id)).lease
    assert (lease.ttl, lease.grace, lease.since) == (100, 70, NOW)
    assert claimed.messages[0].ttl == 170


async def test_claim_without_limit_is_possible_when_the_most_is_less_than_the_default() -> None:
    world = World(limits=Limits(max_messages_per_claim_or_pop=5))
    await world.post("orders", *range(7))
    assert len((await claim(world)).messages) == 5


# --- lifetimes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ttl, claim_ttl, grace, later, expected",
    [
        (120, 777, 0, 0, 777),
        (120, 777, 23, 0, 800),
        (120, 121, 22, 0, 143),
        (120, 60, 30, 0, 120),
        (60, 60, 60, 1, 120),
        (60, 60, 60, 0, 60),  # expires at the very end of the claim, so not before it
    ],
)
async def test_claim_extends_a_message_that_would_expire_before_its_end(
    ttl: int, claim_ttl: int, grace: int, later: int, expected: int
) -> None:
    world = World(limits=AnyGrace())
    await world.post("orders", 1, ttl=ttl)
    world.now += later
    message = (await claim(world, ttl=claim_ttl, grace=grace)).messages[0]
    assert message.ttl == expected
    assert message.created == NOW
    assert message.expires == (NOW + ttl if expected == ttl else NOW + later + claim_ttl + grace)


async def test_renewal_extends_by_the_same_rule(world: World) -> None:
    await world.post("orders", 1, ttl=120)
    claimed = await claim(world, ttl=60, grace=60)
    world.now += 50
    await renew(world, claimed.id, ttl=100, grace=61)
    message = (await held(world, claimed.id)).messages[0]
    assert (message.ttl, message.expires, message.created) == (161, NOW + 50 + 161, NOW)


async def test_held_message_outlives_its_claim_by_the_grace(world: World) -> None:
    await world.post("orders", 1, ttl=60)
    await claim(world, ttl=100, grace=60)
    world.now += 159
    assert len(await world.listed("orders")) == 1
    world.now += 1
    assert await world.listed("orders") == []


# --- expiry and lapse ----------------------------------------------------------------------------------


async def test_message_is_gone_the_moment_its_age_reaches_its_ttl(world: World) -> None:
    (id,) = await world.post("orders", 1, ttl=60)
    world.now += 59.999
    assert ids(await world.listed("orders")) == [id]
    world.now = NOW + 60
    assert await world.listed("orders") == []
    assert (await claim(world)).id is None
    assert (await world.call("messages.delete_many", queue="orders", pop=1)).messages == []
    assert (await world.call("queues.stats", queue="orders")).free == 0
    for operation, fields in (("messages.get", {"id": id}), ("messages.get_many", {"ids": [id]})):
        with pytest.raises(NotFound):
            await world.call(operation, queue="orders", **fields)


async def test_lapsed_claims_messages_are_handed_out_again_before_younger_ones(world: World) -> None:
    posted = await world.post("orders", *range(3))
    await claim(world, ttl=60, limit=2)
    world.now += 59.999
    assert ids((await claim(world, ttl=60, limit=1)).messages) == posted[2:]
    world.now = NOW + 60
    assert ids((await claim(world, limit=3)).messages) == posted[:2]


async def test_lapsed_claim_is_unknown(world: World) -> None:
    await world.post("orders", 1)
    claimed = await claim(world, ttl=60)
    world.now += 59
    assert ids((await held(world, claimed.id)).messages) == ids(claimed.messages)
    world.now += 1
    with pytest.raises(NotFound, match=f"Claim {claimed.id} does not exist in queue orders for project acme"):
        await held(world, claimed.id)
    with pytest.raises(NotFound):
        await renew(world, claimed.id)
    await release(world, claimed.id)
    assert (await world.listed("orders"))[0].claim is None


async def test_lapsed_claim_cannot_be_renewed_into_anothers_messages(world: World) -> None:
    await world.post("orders", 1)
    first = await claim(world, ttl=60)
    world.now += 60
    second = await claim(world, ttl=60)
    with pytest.raises(NotFound):
        await renew(world, first.id)
    assert ids((await held(world, second.id)).messages) == ids(first.messages)


# --- renewing ------------------------------------------------------------------------------------------


async def test_renewal_counts_from_now(world: World) -> None:
    await world.post("orders", 1)
    claimed = await claim(world, ttl=100, grace=60)
    world.now += 40
    await renew(world, claimed.id, ttl=100, grace=60)
    assert (await held(world, claimed.id)).lease.since == NOW + 40
    world.now = NOW + 139.999
    assert (await claim(world)).id is None
    world.now = NOW + 140
    assert len((await claim(world)).messages) == 1


async def test_renewal_takes_the_defaults_for_what_is_omitted_not_the_former_values(world: World) -> None:
    await world.post("orders", 1)
    claimed = await claim(world, ttl=1000, grace=1000)
    await renew(world, claimed.id)
    lease = (await held(world, claimed.id)).lease
    assert (lease.ttl, lease.grace) == (300, 60)


async def test_renewal_may_shorten(world: World) -> None:
    await world.post("orders", 1)
    claimed = await claim(world, ttl=1000)
    await renew(world, claimed.id, ttl=60)
    world.now += 60
    assert len((await claim(world)).messages) == 1


async def test_renewal_keeps_claim_counts_and_messages(world: World) -> None:
    await world.post("orders", 1, 2)
    claimed = await claim(world)
    await renew(world, claimed.id)
    messages = (await held(world, claimed.id)).messages
    assert ids(messages) == ids(claimed.messages)
    assert [message.claim_count for message in messages] == [1, 1]


@pytest.mark.parametrize("fields", [{"ttl": 59}, {"ttl": 43201}, {"grace": 59}, {"grace": 43201}])
async def test_renewal_out_of_bounds_is_refused_before_the_claim_is_looked_up(
    world: World, fields: dict[str, int]
) -> None:
    with pytest.raises(Invalid):
        await renew(world, "unknown", **fields)


async def test_claim_of_a_deleted_queue_stays_dead_when_the_queue_comes_back(world: World) -> None:
    await world.post("orders", 1)
    claimed = await claim(world)
    await world.call("queues.delete", queue="orders")
    with pytest.raises(NotFound):
        await renew(world, claimed.id)
    await world.post("orders", 2)
    with pytest.raises(NotFound):
        await renew(world, claimed.id)
    assert bodies((await claim(world)).messages) == [2]


async def test_claim_is_unknown_in_another_queue(world: World) -> None:
    await world.post("orders", 1)
    await world.post("other", 1)
    claimed = await claim(world)
    with pytest.raises(NotFound):
        await held(world, claimed.id, queue="other")


# --- giving back ---------------------------------------------------------------------------------------


async def test_release_frees_all_at_their_old_places(world: World) -> None:
    posted = await world.post("orders", *range(4))
    claimed = await claim(world, limit=2)
    await release(world, claimed.id)
    assert ids((await claim(world)).messages) == posted


async def test_release_is_idempotent_and_takes_any_text(world: World) -> None:
    await world.post("orders", 1)
    claimed = await claim(world)
    for claim_id in (claimed.id, claimed.id, "no such claim", ""):
        await release(world, claim_id)
    with pytest.raises(NotFound):
        await held(world, claimed.id)


async def test_extended_life_stays_after_release(world: World) -> None:
    await world.post("orders", 1, ttl=60)
    claimed = await claim(world, ttl=100, grace=60)
    await release(world, claimed.id)
    assert (await world.listed("orders"))[0].ttl == 160


async def test_claim_ends_with_its_last_message(world: World) -> None:
    posted = await world.post("orders", 1, 2)
    claimed = await claim(world)
    await world.call("messages.delete", queue="orders", id=posted[0], claim_id=claimed.id)
    assert ids((await held(world, claimed.id)).messages) == posted[1:]
    await world.call("messages.delete", queue="orders", id=posted[1], claim_id=claimed.id)
    with pytest.raises(NotFound):
        await held(world, claimed.id)


async def test_purge_ends_claims_and_removes_claimed_messages(world: World) -> None:
    await world.post("orders", 1, 2)
    claimed = await claim(world, limit=1)
    await world.call("queues.purge", queue="orders")
    assert await world.listed("orders") == []
    with pytest.raises(NotFound):
        await held(world, claimed.id)
    assert await world.queues() == ["orders"]


async def test_pop_and_claim_never_hand_out_the_same_message(world: World) -> None:
    await world.post("orders", *range(4))
    claimed = await claim(world, limit=2)
    popped = (await world.call("messages.delete_many", queue="orders", pop=20)).messages
    assert bodies(claimed.messages) == [0, 1]
    assert bodies(popped) == [2, 3]
