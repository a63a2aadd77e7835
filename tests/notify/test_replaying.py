"""Dead letters that are sent again: to whom, and as what."""

import asyncio
from typing import Any

import pytest
from core.world import Stage, bodies
from hand_clock import others_go_on
from msgspec.structs import replace
from until import until

from sukkal.core.signing import Signer
from sukkal.core.subscribing.confirmation import Terms
from sukkal.errors import Conflict
from sukkal.operations import BY_NAME

from .carrier import DELIVERED, GONE, NEVER, Post, dispatching

A = "http://a.example"
SIGNER = Signer("0123456789abcdef0123456789abcdef")


async def replay(post: Post, id_: str) -> int:
    answer = await post.call("subscriptions.replay", queue="q", subscription_id=id_)
    replayed: int = answer.replayed
    return replayed


async def confirm(post: Post, id_: str, confirmed: bool) -> None:
    await post.call(
        "subscriptions.confirm", queue="q", subscription_id=id_, document={"confirmed": confirmed}
    )


# --- to whom -----------------------------------------------------------------------------------------


async def test_letters_of_an_unconfirmed_subscription_stay_until_it_is_confirmed() -> None:
    post = Post(terms=Terms(required=True), signer=SIGNER)
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead")
    await confirm(post, id_, True)
    post.carrier.outcomes[A] = [DELIVERED, NEVER, DELIVERED]  # the first is the question
    async with dispatching(post):
        await post.delivered(1)
        await post.post("q", "precious")
        await until(lambda: post.service.figures.deliveries_dead_lettered == 1)
        await confirm(post, id_, False)
        await post.delivered(3)
        with pytest.raises(Conflict, match=f"{id_} is not confirmed"):
            await replay(post, id_)
        await post.settled()
        assert len(await post.listed("dead")) == 1
        await confirm(post, id_, True)
        assert await replay(post, id_) == 1
        await post.delivered(4)
    assert post.carrier.to(A)[-1] == "precious"
    assert await post.listed("dead") == []


async def test_letters_of_a_disabled_subscription_stay_until_it_is_subscribed_again() -> None:
    post = Post()
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead")
    post.carrier.outcomes[A] = [GONE, DELIVERED]
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(1)
        with pytest.raises(Conflict, match="Subscribe the same URI again"):
            await replay(post, id_)
        assert await post.pending() == (0, 0)
        assert len(bodies(await post.listed("dead"))) == 1
        assert await post.subscribe("q", A, _dead_letter_queue="dead") == id_
        assert await replay(post, id_) == 1
        await post.delivered(2)
    assert post.carrier.to(A) == [1, 1]


async def test_connection_is_sent_nothing_again() -> None:
    post = Post()
    post.service.subscriptions.connected("c", "http://here/c", lambda _: None)
    row = BY_NAME["subscriptions.create"]
    request = row.request(queue="q", options={"_dead_letter_queue": "dead"})
    made: Any = await post.service.call(row, replace(post.ctx(), connection="c"), request)
    with pytest.raises(Conflict, match="connection's own"):
        await replay(post, made.id)


# --- as what -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
async def test_delivery_keeps_its_id_however_often_it_is_sent_again(ordered: bool) -> None:
    """Each time it fails once more before the replay has come to delete the letter it was made of."""
    stage = Stage()
    post = Post(stage, encryption_key="secret")
    await post.create("q", _enable_encrypt_messages=True)
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead", ordered=ordered)
    post.carrier.outcomes[A] = [NEVER] * 4 + [DELIVERED]
    await post.post("q", "precious")
    async with dispatching(post):
        for round_ in range(1, 4):
            await until(lambda round_=round_: post.service.figures.deliveries_dead_lettered == round_)
            await post.settled()
            (letter,) = bodies(await post.listed("dead"))
            assert letter["delivery"].partition("~")[0] == post.carrier.parcels[0].id
            gate = stage.messages.hold_before("delete")
            replaying = asyncio.create_task(replay(post, id_))
            await gate.reached()
            if not ordered:  # a turn is ended by a deletion as well
                await until(lambda round_=round_: post.service.figures.deliveries_dead_lettered == round_ + 1)
            gate.open()
            assert await replaying == 1
        await until(lambda: post.service.figures.deliveries_dead_lettered == 4)
        await post.settled()
        assert await replay(post, id_) == 1
        await post.delivered(5)
    assert post.carrier.to(A) == ["precious"] * 5
    assert len({parcel.delivery for parcel in post.carrier.parcels}) == 1
    assert len({parcel.id for parcel in post.carrier.parcels}) == 5
    assert await post.listed("dead") == []


async def test_what_is_sent_again_does_not_go_with_the_delivery_that_has_just_failed() -> None:
    """Its letter is there before it is taken out of its series."""
    stage = Stage()
    post = Post(stage)
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead", ordered=True)
    post.carrier.outcomes[A] = [NEVER, DELIVERED]
    post.carrier.pausing[A] = asyncio.Event()
    await post.post("q", 1)
    async with dispatching(post):
        await until(lambda: post.carrier.parcels)
        await others_go_on()
        gate = stage.messages.hold_before("delete")
        post.carrier.pausing[A].set()
        await gate.reached()
        assert len(await post.listed("dead")) == 1
        assert await replay(post, id_) == 1
        gate.open()
        await post.delivered(2)
    assert post.carrier.to(A) == [1, 1]


def failure(subscription: str, **told: Any) -> dict[str, Any]:
    return {
        "Message_Type": "DeliveryFailure",
        "queue_name": "q",
        "subscription_id": subscription,
        "subscriber": A,
        "reason": "it answered 404",
        "attempts": 1,
        "time": "2026-01-12T00:00:00Z",
        "notification": {"ttl": 300, "body": "forged", "Message_Type": "Notification", "queue_name": "q"},
    } | told


@pytest.mark.parametrize("told", [{}, {"delivery": ""}, {"delivery": "5f0c"}, {"delivery": "5f0c~1"}])
async def test_message_that_only_looks_like_a_dead_letter_stays_where_it_is(told: dict[str, Any]) -> None:
    post = Post()
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead")
    await post.post("dead", failure(id_, **told))
    async with dispatching(post):
        assert await replay(post, id_) == 0
        await post.settled()
    assert not post.carrier.parcels
    assert len(await post.listed("dead")) == 1


@pytest.mark.parametrize("again", ["", "~1"])
async def test_who_guesses_the_id_that_a_message_will_have_forges_no_dead_letter(again: str) -> None:
    guessed = "5f0c2a6de1b14f3c9d7a80b1c2d3e4f5"
    ids = iter(["subscription", "note", guessed])
    post = Post(new_id=lambda _: next(ids))
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead")
    assert await post.post("dead", failure(id_, delivery=guessed + again)) == [guessed]
    assert await replay(post, id_) == 0


async def test_letter_that_was_moved_to_another_queue_is_still_one() -> None:
    """Its id goes along when it is claimed too often."""
    post = Post()
    await post.create("dead", _max_claim_count=1, _dead_letter_queue="deader")
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead")
    post.carrier.outcomes[A] = [NEVER, DELIVERED]
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(1)
        for _ in range(2):
            claimed = await post.call("claims.create", queue="dead")
            if claimed.id is not None:
                await post.call("claims.release", queue="dead", claim_id=claimed.id)
        options = {"_dead_letter_queue": "deader"}
        await post.call("subscriptions.update", queue="q", subscription_id=id_, document={"options": options})
        assert await replay(post, id_) == 1
        await post.delivered(2)
    assert post.carrier.to(A) == [1, 1]
