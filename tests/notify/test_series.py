"""Subscriptions that want their messages in order, or together: the rules, on the memory store."""

import asyncio
from typing import Any

import pytest
from core.pooled import Stores
from core.world import Stage, bodies
from hand_clock import others_go_on
from until import until

from sukkal.core.subscribing.deliveries import SUBSCRIBED
from sukkal.errors import Unavailable
from sukkal.notify.deliverer import Outcome, Result
from sukkal.notify.ledger import LEASE_SECONDS, RENEW_SECONDS

from .carrier import LATER, NEVER, ONCE_MORE, Post, crash, dispatching

A, B = "http://a.example", "http://b.example"
DELIVERED = Outcome(Result.DELIVERED)


async def nothing_left(post: Post) -> None:
    await post.settled()
    assert await post.pending() == (0, 0)
    store: Any = post.backend.messages
    queues = getattr(store, "_part", store)._queues
    assert [queue for queue, stored in queues.items() if stored.places and not queue.project] == []


async def test_ordered_messages_come_one_after_the_other() -> None:
    post = Post()
    await post.subscribe("q", A, ordered=True)
    await post.subscribe("q", B)
    async with dispatching(post):
        for number in range(20):
            await post.post("q", number)
        await post.delivered(40)
        assert post.carrier.to(A) == list(range(20))
        await post.pass_time(LEASE_SECONDS)  # who came while another served the series looks once more
        await nothing_left(post)
    assert post.carrier.most_at_once[A] == 1


async def test_failed_message_holds_up_those_behind_it() -> None:
    post = Post()
    await post.subscribe("q", A, ordered=True, _retry_policy=ONCE_MORE)
    post.carrier.outcomes[A] = [DELIVERED, LATER, LATER, DELIVERED]
    async with dispatching(post):
        for number in range(5):
            await post.post("q", number)
        await post.delivered(2)
        await post.post("q", 5)
        await post.settled()
        assert post.carrier.to(A) == [0, 1]
        await post.pass_time(10)
        await post.delivered(3)
        await post.post("q", 6)
        await post.settled()
        assert post.carrier.to(A) == [0, 1, 1]
        await post.pass_time(15)
        await post.delivered(9)
        assert post.carrier.to(A) == [0, 1, 1, 1, 2, 3, 4, 5, 6]
        assert [parcel.attempt for parcel in post.carrier.parcels] == [0, 0, 1, 2, 0, 0, 0, 0, 0]
        await post.pass_time(LEASE_SECONDS)
        await nothing_left(post)


async def test_message_given_up_makes_way_for_those_behind_it() -> None:
    post = Post()
    await post.subscribe("q", A, ordered=True, _dead_letter_queue="dead")
    post.carrier.outcomes[A] = [DELIVERED, NEVER, DELIVERED]
    async with dispatching(post):
        await post.post("q", 0, 1, 2)
        await post.delivered(3)
    assert post.carrier.to(A) == [0, 1, 2]
    assert [letter["notification"]["body"] for letter in bodies(await post.listed("dead"))] == [1]


async def test_batch_brings_several_messages_at_once() -> None:
    post = Post()
    await post.subscribe("q", A, batch=4)
    await post.post("q", *range(10))
    async with dispatching(post):
        await until(lambda: len(post.carrier.to(A)) == 10)
        assert post.carrier.to(A) == list(range(10))
        await nothing_left(post)
    assert [len(parcel.notices) for parcel in post.carrier.parcels] == [4, 4, 2]


async def test_batch_that_failed_stays_together() -> None:
    post = Post()
    await post.subscribe("q", A, batch=10, _retry_policy=ONCE_MORE)
    await post.post("q", 1, 2)
    post.carrier.outcomes[A] = [LATER, DELIVERED]
    async with dispatching(post):
        await post.delivered(1)
        await post.post("q", 3)
        await post.settled()
        await post.pass_time(10)
        await post.delivered(3)
    assert [len(parcel.notices) for parcel in post.carrier.parcels] == [2, 2, 1]
    assert post.carrier.parcels[0].id == post.carrier.parcels[1].id
    assert post.carrier.to(A) == [1, 2, 1, 2, 3]


async def test_series_of_a_subscription_that_went_goes_too() -> None:
    post = Post()
    id_ = await post.subscribe("q", A, ordered=True, _retry_policy=ONCE_MORE)
    post.carrier.outcomes[A] = [LATER]
    async with dispatching(post):
        await post.post("q", 1, 2, 3)
        await post.delivered(1)
        await post.call("subscriptions.delete", queue="q", subscription_id=id_)
        await post.pass_time(10)
        await nothing_left(post)
    assert post.carrier.to(A) == [1]


async def test_process_that_dies_while_it_serves_leaves_the_rest_to_others() -> None:
    post = Post()
    await post.subscribe("q", A, ordered=True)
    post.carrier.hanging.add(A)
    dispatcher = post.dispatcher()
    dispatcher.start()
    await post.post("q", 1, 2)
    await until(lambda: post.carrier.parcels)
    await post.post("q", 3)
    await crash(post, dispatcher)
    post.carrier.hanging.clear()
    async with dispatching(post):
        await post.pass_time(LEASE_SECONDS)
        await post.pass_time(LEASE_SECONDS)
        await until(lambda: len(post.carrier.to(A)) >= 4)
        await post.settled()
        await post.pass_time(LEASE_SECONDS)
        await nothing_left(post)
    assert post.carrier.to(A) == [1, 1, 2, 3]


async def test_stopped_dispatcher_gives_its_turn_back_at_once() -> None:
    post = Post()
    await post.subscribe("q", A, ordered=True)
    post.carrier.hanging.add(A)
    await post.post("q", 1, 2)
    async with dispatching(post):
        await until(lambda: post.carrier.parcels)
    post.carrier.hanging.clear()
    async with dispatching(post):
        await until(lambda: post.carrier.to(A) == [1, 1, 2])


async def test_two_dispatchers_keep_the_order() -> None:
    post = Post()
    await post.subscribe("q", A, ordered=True)
    for number in range(100):
        await post.post("q", number)
    async with dispatching(post), dispatching(post):
        await post.delivered(100)
    assert post.carrier.to(A) == list(range(100))
    assert post.carrier.most_at_once[A] == 1


async def test_process_that_stalls_with_a_job_lets_no_later_one_pass() -> None:
    """One has taken up the first job, and comes to nothing more for a while; another takes up the second."""
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A, ordered=True)
    await post.subscribe("q", B)
    await post.post("q", 1)
    gate = stage.messages.hold_before("append")
    async with dispatching(post):
        await gate.reached()
        await post.post("q", 2)
        async with dispatching(post):
            await until(lambda: post.carrier.to(A) == [1, 2])
            gate.open()
            await post.settled()
            await post.pass_time(LEASE_SECONDS)
            await nothing_left(post)
    assert post.carrier.to(A) == [1, 2]
    assert sorted(post.carrier.to(B)) == [1, 2]


async def test_process_that_stalls_in_the_line_is_waited_for() -> None:
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A, ordered=True)
    await post.post("q", 1)
    gate = stage.documents.hold_before("scan")
    async with dispatching(post):
        await gate.reached()
        await post.post("q", 2)
        async with dispatching(post):
            await until(lambda: "next_due" in stage.messages.calls)  # of the turn it has not
            assert post.carrier.parcels == []
            gate.open()
            await until(lambda: post.carrier.to(A) == [1, 2])
            await post.pass_time(LEASE_SECONDS)
            await nothing_left(post)


async def test_process_that_dies_in_the_line_leaves_it_as_it_was() -> None:
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A, ordered=True)
    await post.post("q", 1)
    gate = stage.documents.hold_before("scan")
    dispatcher = post.dispatcher()
    dispatcher.start()
    await gate.reached()
    await crash(post, dispatcher)
    async with dispatching(post):
        await post.post("q", 2)
        await post.settled()
        assert post.carrier.parcels == []
        await post.pass_time(LEASE_SECONDS)
        await until(lambda: post.carrier.to(A) == [1, 2])
        await post.pass_time(LEASE_SECONDS)
        await nothing_left(post)


async def test_order_is_kept_from_the_first_post_that_meets_who_wants_it() -> None:
    """Another process has found out that somebody is subscribed, and not yet that somebody wants order."""
    post = Post()
    await post.subscribe("q", B)
    await post.post("q", 0)
    other = Post(post.backend)
    await other.subscribe("q", A, ordered=True)
    await post.post("q", 1)
    await post.post("q", 2, 3)
    async with dispatching(other):
        await until(lambda: other.carrier.to(A)[-3:] == [1, 2, 3])
        await other.settled()
        await other.pass_time(LEASE_SECONDS)
        await nothing_left(other)
    assert sorted(other.carrier.to(B)) == [0, 1, 2, 3]


async def test_order_is_kept_where_messages_lie_in_pools() -> None:
    own = Stage()
    post = Post(own, opener=(stores := Stores()))
    await post.call("pools.put", pool="p", document={"uri": "test://p", "weight": 1})
    await post.subscribe("q", A, ordered=True)
    await post.post("q", 1)
    stores.stages["test://p"].messages.fail_once("append")
    with pytest.raises(Unavailable):
        await post.post("q", "told of, and not stored")
    own.messages.fail_once("append")
    with pytest.raises(Unavailable):
        await post.post("q", "without a job")
    await post.post("q", 2, 3)
    async with dispatching(post):
        await until(lambda: len(post.carrier.to(A)) == 4)
        await post.settled()
    assert post.carrier.to(A) == [1, "told of, and not stored", 2, 3]
    assert bodies(await post.listed("q")) == [1, 2, 3]


async def test_queue_goes_without_a_line_again_when_all_have_left() -> None:
    post = Post()
    id_ = await post.subscribe("q", A, ordered=True)
    await post.post("q", 1)
    await post.call("subscriptions.delete", queue="q", subscription_id=id_)
    async with dispatching(post):
        await until(lambda: not post.service.deliveries.notes)
        await post.settled()
        await nothing_left(post)
        await post.subscribe("q", B)
        await post.post("q", 2)
        await post.delivered(1)
        (note,) = post.service.deliveries.notes.values()
        assert note[0] == SUBSCRIBED
    assert post.carrier.to(B) == [2]


async def test_others_of_an_ordered_queue_are_told_what_they_want_and_again_when_it_failed() -> None:
    post = Post()
    await post.subscribe("q", A, ordered=True, filter={"kind": ["a"]})
    await post.subscribe("q", B, filter={"kind": ["b"]}, _retry_policy=ONCE_MORE)
    post.carrier.outcomes[B] = [LATER, DELIVERED]
    async with dispatching(post):
        await post.post("q", {"kind": "a", "n": 1}, {"kind": "b", "n": 2}, {"kind": "c", "n": 3})
        await post.delivered(2)
        await post.pass_time(10)
        await post.delivered(3)
        await post.pass_time(LEASE_SECONDS)
        await nothing_left(post)
    assert [body["n"] for body in post.carrier.to(A)] == [1]
    assert [body["n"] for body in post.carrier.to(B)] == [2, 2]


async def test_nothing_of_a_series_is_lost_while_the_store_fails() -> None:
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A, ordered=True)
    await post.post("q", 1, 2, 3)
    for verb in ("append", "claim", "page", "delete"):
        stage.messages.fail_once(verb)
    async with dispatching(post):
        await until(lambda: post.carrier.to(A)[-1:] == [3])
        await post.settled()
    assert sorted(set(post.carrier.to(A))) == [1, 2, 3]


async def test_dead_letters_sent_again_take_their_turn() -> None:
    post = Post()
    id_ = await post.subscribe("q", A, ordered=True, _dead_letter_queue="dead", _retry_policy=ONCE_MORE)
    post.carrier.outcomes[A] = [NEVER]
    await post.post("q", 0, 1, 2)
    async with dispatching(post):
        await post.delivered(3)
        post.carrier.outcomes[A] = [LATER, DELIVERED]
        await post.post("q", 3)
        await post.delivered(4)
        await post.call("subscriptions.replay", queue="q", subscription_id=id_)
        await post.settled()
        assert post.carrier.to(A) == [0, 1, 2, 3]
        await post.pass_time(10)
        await post.delivered(8)
        assert post.carrier.to(A) == [0, 1, 2, 3, 3, 0, 1, 2]
        await post.pass_time(LEASE_SECONDS)
        await nothing_left(post)
    assert post.carrier.most_at_once[A] == 1


async def test_fault_while_a_series_is_served_does_not_hold_it_up_for_good() -> None:
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A, ordered=True)
    await post.post("q", 1, 2)

    async def fault() -> None:
        raise RuntimeError("not to be explained")

    stage.messages.before("page", fault)
    async with dispatching(post):
        await until(lambda: "page" in stage.messages.calls)
        await post.settled()
        for _ in range(4):
            await post.pass_time(RENEW_SECONDS)
        await until(lambda: post.carrier.to(A) == [1, 2])


async def test_turn_that_lapsed_is_taken_anew_before_anything_more_is_delivered() -> None:
    """Leases cannot be renewed while the first message is under way, so another comes to serve the series."""
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A, ordered=True)
    first = post.carrier.pausing[A] = asyncio.Event()
    await post.post("q", 1, 2, 3)
    async with dispatching(post):
        await until(lambda: len(post.carrier.parcels) == 1)
        await others_go_on()
        stage.messages.broken = {"renew"}
        second = post.carrier.pausing[A] = asyncio.Event()
        await post.pass_time(LEASE_SECONDS)
        await until(lambda: len(post.carrier.parcels) == 2)
        stage.messages.broken = set()
        looks = stage.messages.calls.count("next_due")
        first.set()
        await until(lambda: stage.messages.calls.count("next_due") > looks)  # of the turn it has not
        assert post.carrier.to(A) == [1, 1]
        second.set()
        await post.settled()
        assert post.carrier.to(A) == [1, 1, 2, 3]


async def test_change_of_a_subscription_ends_the_series_under_way() -> None:
    post = Post()
    id_ = await post.subscribe("q", A, ordered=True)
    post.carrier.pausing[A] = asyncio.Event()
    await post.post("q", 1, 2, 3)
    async with dispatching(post):
        await until(lambda: post.carrier.parcels)
        await post.call("subscriptions.delete", queue="q", subscription_id=id_)
        post.carrier.pausing[A].set()
        await post.settled()
        assert post.carrier.to(A) == [1]
        await nothing_left(post)
