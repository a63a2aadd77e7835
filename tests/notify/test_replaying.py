"""Dead letters that are sent again: to whom, and as what."""

import pytest
from core.world import bodies
from until import until

from sukkal.core.signing import Signer
from sukkal.core.subscribing.confirmation import Terms
from sukkal.errors import Conflict

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
