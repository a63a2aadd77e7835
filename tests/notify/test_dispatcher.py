"""What becomes of deliveries: the rules, on the memory store with a hand-moved clock."""

import asyncio
from typing import Any

import msgspec
import pytest
from core.pooled import Stores
from core.world import Stage, bodies
from hand_clock import others_go_on
from msgspec.structs import replace
from until import PATIENCE, until

from sukkal.core.signing import Signer
from sukkal.core.subscribing.confirmation import Terms
from sukkal.core.subscribing.dead_letters import MOST_READ
from sukkal.core.subscribing.deliveries import JOBS, PARKED
from sukkal.errors import NotFound, Unavailable
from sukkal.model import Lease
from sukkal.notify import dispatcher
from sukkal.notify.deliverer import Outcome, Result
from sukkal.notify.dispatcher import STRIDE
from sukkal.notify.ledger import LEASE_SECONDS, RENEW_SECONDS
from sukkal.notify.retry import LONGEST_LIFE
from sukkal.stores.contract import Trait

from .carrier import GONE, LATER, NEVER, ONCE_MORE, Post, crash, dispatching, key

A, B = "http://a.example", "http://b.example"


async def test_each_message_goes_to_each_subscriber_once() -> None:
    post = Post()
    await post.subscribe("q", A)
    await post.subscribe("q", B)
    await post.subscribe("other", "http://c.example")
    await post.post("q", 1, {"two": 2})
    async with dispatching(post):
        await post.delivered(4)
    assert post.carrier.to(A) == post.carrier.to(B) == [1, {"two": 2}]
    assert len({parcel.id for parcel in post.carrier.parcels}) == 4
    assert await post.pending() == (0, 0)
    assert post.service.figures.delivered == 4
    assert bodies(await post.listed("q")) == [1, {"two": 2}]


async def test_subscriber_is_told_what_the_specification_says() -> None:
    post = Post()
    await post.subscribe("q", A)
    await post.post("q", "now", ttl=300)
    await post.post("q", "later", ttl=300, delay=5)
    async with dispatching(post):
        await post.delivered(2)
    told = [msgspec.json.decode(parcel.notices[0]) for parcel in post.carrier.parcels]
    common = {"ttl": 300, "Message_Type": "Notification", "queue_name": "q"}
    assert told == [{**common, "body": "now"}, {**common, "body": "later", "delay": 5}]


async def test_post_to_a_queue_without_subscribers_records_nothing() -> None:
    stage = Stage()
    post = Post(stage)
    await post.create("q")
    stage.messages.calls.clear()
    await post.post("q", 1)
    assert stage.messages.calls == ["append"]
    assert await post.pending() == (0, 0)


async def test_more_subscribers_than_a_page_has_are_all_told() -> None:
    post = Post()
    for number in range(230):
        await post.subscribe("q", f"http://{number}.example")
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(230)
    assert len({parcel.subscription.subscriber for parcel in post.carrier.parcels}) == 230


async def test_encrypted_and_compressed_messages_are_told_as_they_were_sent() -> None:
    post = Post(encryption_key="secret", compress_above=100)
    await post.create("q", _enable_encrypt_messages=True)
    await post.subscribe("q", A)
    text = "never in the clear " * 50
    await post.post("q", text)
    stored = await post.backend.messages.claim(
        JOBS, Lease(id="look", ttl=60, grace=0, since=post.now), limit=1, now=post.now
    )
    assert b"never in the clear" not in stored[0].body
    await post.backend.messages.release(JOBS, "look", now=post.now)
    async with dispatching(post):
        await post.delivered(1)
    assert post.carrier.to(A) == [text]


async def test_subscriber_of_another_process_is_told_too() -> None:
    """The other shares the store; this one has posted before and knows of nobody."""
    post = Post()
    other = Post(post.backend)
    await post.post("q", "before")
    await other.subscribe("q", A)
    await post.post("q", "found out")
    await post.post("q", "known")
    async with dispatching(post):
        await post.delivered(2)
    assert post.carrier.to(A) == ["found out", "known"]


async def test_post_that_meets_who_subscribed_elsewhere_stores_nothing_before_its_job() -> None:
    """The poster loses its store as soon as it has found out, as one does that is killed."""
    stage = Stage()
    post = Post(stage)
    other = Post(stage)
    await post.post("q", "before")
    await other.subscribe("q", A)

    async def break_down() -> None:
        stage.messages.broken = {"append"}

    stage.messages.after("append", break_down)
    with pytest.raises(Unavailable):
        await post.post("q", "cut off")
    stage.messages.broken = set()
    assert bodies(await post.listed("q")) == ["before"]
    await post.post("q", "whole")
    async with dispatching(post):
        await post.delivered(1)
    assert post.carrier.to(A) == ["whole"]
    assert bodies(await post.listed("q")) == ["before", "whole"]


async def test_nobody_left_to_tell_means_nothing_more_is_recorded() -> None:
    post = Post()
    id_ = await post.subscribe("q", A)
    await post.post("q", 1)
    await post.call("subscriptions.delete", queue="q", subscription_id=id_)
    async with dispatching(post):
        await post.settled()
        await until(lambda: not post.service.deliveries.notes)
    await post.post("q", 2)
    assert await post.pending() == (0, 0)
    assert post.carrier.parcels == []


async def test_mark_of_who_came_meanwhile_stays() -> None:
    """Somebody subscribes between the look for subscribers and the note being taken away."""
    stage = Stage()
    post = Post(stage)
    await post.call("subscriptions.delete", queue="q", subscription_id=await post.subscribe("q", A))
    await post.post("q", 1)
    gate = stage.messages.hold_before("unmark")
    async with dispatching(post):
        await gate.reached()
        await post.subscribe("q", B)
        gate.open()
        await until(lambda: "delete" in stage.messages.calls)
        await post.post("q", 2)
        await post.delivered(1)
    assert post.carrier.to(B) == [2]


async def test_subscription_that_is_over_is_told_nothing() -> None:
    post = Post()
    await post.call("subscriptions.create", queue="q", subscriber=A, options={}, ttl=60)
    await post.subscribe("q", B)
    await post.pass_time(60)
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(1)
    assert [parcel.subscription.subscriber for parcel in post.carrier.parcels] == [B]


async def test_filter_decides_what_a_subscriber_is_told() -> None:
    post = Post()
    await post.subscribe("q", A, filter={"kind": ["alarm"]})
    await post.subscribe("q", B)
    await post.post("q", {"kind": "alarm"}, {"kind": "news"})
    async with dispatching(post):
        await post.delivered(3)
    assert post.carrier.to(A) == [{"kind": "alarm"}]
    assert len(post.carrier.to(B)) == 2


# --- failures --------------------------------------------------------------------------------------------


async def test_failed_delivery_is_tried_again_by_its_policy() -> None:
    post = Post()
    await post.subscribe("q", A, _retry_policy=ONCE_MORE)
    post.carrier.outcomes[A] = [LATER, LATER, Outcome(Result.DELIVERED)]
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(1)
        assert await post.pending() == (0, 1)
        await post.pass_time(9.5)
        assert len(post.carrier.parcels) == 1
        await post.pass_time(0.5)
        await post.delivered(2)
        await post.pass_time(14.5)
        assert len(post.carrier.parcels) == 2
        await post.pass_time(0.5)
        await post.delivered(3)
    assert [parcel.attempt for parcel in post.carrier.parcels] == [0, 1, 2]
    assert len({parcel.id for parcel in post.carrier.parcels}) == 1
    assert await post.pending() == (0, 0)
    figures = post.service.figures
    assert (figures.delivered, figures.deliveries_retried) == (1, 2)


async def test_queues_policy_holds_for_subscriptions_without_one() -> None:
    post = Post()
    await post.create("q", _retry_policy=ONCE_MORE)
    await post.subscribe("q", A)
    post.carrier.outcomes[A] = [LATER]
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(1)
        await post.pass_time(10)
        await post.delivered(2)
        await post.pass_time(15)
        await post.delivered(3)
        await post.pass_time(1000)
    assert len(post.carrier.parcels) == 3
    assert post.service.figures.deliveries_dropped == 1
    assert await post.pending() == (0, 0)


async def test_receiver_that_asks_for_peace_gets_it() -> None:
    post = Post()
    await post.subscribe("q", A, _retry_policy=ONCE_MORE)
    post.carrier.outcomes[A] = [replace(LATER, retry_after=120.0), Outcome(Result.DELIVERED)]
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(1)
        await post.pass_time(119)
        assert len(post.carrier.parcels) == 1
        await post.pass_time(1)
        await post.delivered(2)


@pytest.mark.parametrize("own", [True, False])
async def test_what_fails_for_good_goes_to_the_dead_letter_queue(own: bool) -> None:
    post = Post()
    await post.create("q", **({} if own else {"_dead_letter_queue": "dead"}))
    id_ = await post.subscribe("q", A, **({"_dead_letter_queue": "dead"} if own else {}))
    post.carrier.outcomes[A] = [NEVER]
    await post.post("q", {"n": 1}, ttl=300)
    async with dispatching(post):
        await post.delivered(1)
    (letter,) = bodies(await post.listed("dead"))
    assert letter.pop("time")
    assert letter == {
        "Message_Type": "DeliveryFailure",
        "queue_name": "q",
        "subscription_id": id_,
        "subscriber": A,
        "reason": "never",
        "attempts": 1,
        "notification": {"ttl": 300, "body": {"n": 1}, "Message_Type": "Notification", "queue_name": "q"},
        "delivery": post.carrier.parcels[0].delivery,
    }
    assert post.service.figures.deliveries_dead_lettered == 1
    assert await post.pending() == (0, 0)


async def test_dead_letter_shows_no_password_of_the_subscriber() -> None:
    post = Post()
    subscriber = "http://user:secret@a.example/hook"
    await post.subscribe("q", subscriber, _dead_letter_queue="dead")
    post.carrier.outcomes[subscriber] = [NEVER]
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(1)
    (letter,) = bodies(await post.listed("dead"))
    assert letter["subscriber"] == "http://(hidden)@a.example/hook"


async def test_dead_letter_of_an_encrypted_message_is_encrypted() -> None:
    stage = Stage()
    post = Post(stage, encryption_key="secret")
    await post.create("q", _enable_encrypt_messages=True, _dead_letter_queue="dead")
    await post.subscribe("q", A)
    post.carrier.outcomes[A] = [NEVER]
    await post.post("q", "never in the clear")
    async with dispatching(post):
        await post.delivered(1)
    (letter,) = bodies(await post.listed("dead"))
    assert letter["notification"]["body"] == "never in the clear"
    lease = Lease(id="look", ttl=60, grace=0, since=post.now)
    (stored,) = await stage.messages.claim(key("dead"), lease, limit=1, now=post.now)
    assert b"never in the clear" not in stored.body


async def test_dead_letters_are_told_of_and_make_no_more_of_them() -> None:
    post = Post()
    await post.create("q", _dead_letter_queue="dead")
    await post.create("dead", _dead_letter_queue="q")
    await post.subscribe("q", A)
    await post.subscribe("dead", B)
    post.carrier.outcomes = {A: [NEVER], B: [NEVER]}
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(2)
    assert post.carrier.to(B) == bodies(await post.listed("dead"))
    assert len(post.carrier.parcels) == 2
    assert len(await post.listed("q")) == 1


async def test_receiver_that_is_gone_is_told_nothing_more() -> None:
    post = Post()
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead")
    post.carrier.outcomes[A] = [GONE]
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(1)
        await post.pass_time(1)
        await post.post("q", 2)
        await post.settled()
        await until(lambda: not post.service.deliveries.notes)
    assert [letter["reason"] for letter in bodies(await post.listed("dead"))] == ["gone"]
    (kept,) = (await post.call("subscriptions.list", queue="q")).subscriptions
    assert (kept.id, kept.gone) == (id_, post.now - 1)
    assert len(post.carrier.parcels) == 1
    await post.post("q", 3)
    assert await post.pending() == (0, 0)


@pytest.mark.parametrize("ordered", [False, True])
async def test_whatever_was_for_a_receiver_that_is_gone_becomes_a_dead_letter(ordered: bool) -> None:
    """What was parked, and what was posted before and comes to be handed out only then."""
    post = Post()
    await post.subscribe("q", A, ordered=ordered, _retry_policy=ONCE_MORE, _dead_letter_queue="dead")
    post.carrier.outcomes[A] = [LATER] if ordered else [LATER, LATER, GONE]
    await post.post("q", 1, 2)
    async with dispatching(post):
        await post.delivered(1 if ordered else 2)
        post.carrier.outcomes[A] = [GONE]
        if not ordered:
            await post.post("q", 3)
            await post.delivered(3)
        await post.pass_time(10)
        await until(lambda: post.service.figures.deliveries_dead_lettered == (2 if ordered else 3))
        await post.settled()
    letters = bodies(await post.listed("dead"))
    assert sorted(letter["notification"]["body"] for letter in letters) == ([1, 2] if ordered else [1, 2, 3])
    assert sum("before" in letter["reason"] for letter in letters) == len(letters) - 1
    assert len(post.carrier.parcels) == (2 if ordered else 3)
    assert await post.pending() == (0, 0)


async def test_job_of_before_the_receiver_was_gone_ends_in_the_dead_letter_queue() -> None:
    post = Post()
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead")
    await post.post("q", 1)
    found = await post.service.subscriptions.find(key("q"), id_, now=post.now)
    assert found is not None
    await post.service.subscriptions.disable(key("q"), found, now=post.now)
    await post.pass_time(1)
    await post.post("q", 2)
    async with dispatching(post):
        await until(lambda: post.service.figures.deliveries_dead_lettered)
        await post.settled()
    assert [letter["notification"]["body"] for letter in bodies(await post.listed("dead"))] == [1]
    assert post.carrier.parcels == []


async def test_receiver_that_was_gone_can_be_subscribed_again() -> None:
    post = Post()
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead")
    post.carrier.outcomes[A] = [GONE, Outcome(Result.DELIVERED)]
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(1)
        await post.pass_time(1)
        answer = await post.call("subscriptions.create", queue="q", subscriber=A, options={}, ttl=120)
        assert (answer.id, answer.created) == (id_, True)
        await post.post("q", 2)
        await post.delivered(2)
    assert post.carrier.to(A) == [1, 2]
    (again,) = (await post.call("subscriptions.list", queue="q")).subscriptions
    assert (again.id, again.gone, again.ttl, again.options) == (id_, None, 120, {})


async def test_subscription_that_moved_meanwhile_is_not_disabled() -> None:
    post = Post()
    id_ = await post.subscribe("q", A)
    found = await post.service.subscriptions.find(key("q"), id_, now=post.now)
    assert found is not None
    await post.call("subscriptions.update", queue="q", subscription_id=id_, document={"subscriber": B})
    await post.service.subscriptions.disable(key("q"), found, now=post.now)
    (moved,) = (await post.call("subscriptions.list", queue="q")).subscriptions
    assert (moved.subscriber, moved.gone) == (B, None)


async def test_receiver_that_is_gone_takes_nobody_along_who_came_in_its_place() -> None:
    post = Post()
    id_ = await post.subscribe("q", A)
    post.carrier.outcomes[A] = [GONE]
    answers = post.carrier.pausing[A] = asyncio.Event()
    await post.post("q", 1)
    async with dispatching(post):
        await until(lambda: post.carrier.parcels)
        document = {"subscriber": B}
        await post.call("subscriptions.update", queue="q", subscription_id=id_, document=document)
        answers.set()
        await post.settled()
        await post.post("q", 2)
        await post.delivered(2)
    assert post.carrier.to(B) == [2]


async def test_parked_delivery_of_a_subscription_that_went_is_dropped() -> None:
    post = Post()
    id_ = await post.subscribe("q", A, _retry_policy=ONCE_MORE, _dead_letter_queue="dead")
    post.carrier.outcomes[A] = [LATER]
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(1)
        await post.call("subscriptions.delete", queue="q", subscription_id=id_)
        await post.pass_time(10)
        await post.settled()
        assert await post.pending() == (0, 0)
    assert len(post.carrier.parcels) == 1
    assert await post.listed("dead") == []


async def test_subscriber_of_a_type_nobody_delivers_to_is_a_failure() -> None:
    post = Post()
    await post.subscribe("q", A, _dead_letter_queue="dead")
    await post.post("q", 1)
    post.deliverers.clear()
    dispatcher = post.dispatcher()
    dispatcher.start()
    await post.settled()
    await until(lambda: post.service.figures.deliveries_dead_lettered)
    await dispatcher.stop(5)


async def test_fault_of_a_deliverer_is_tried_again() -> None:
    post = Post()
    await post.subscribe("q", A, _retry_policy=ONCE_MORE)
    post.carrier.outcomes[A] = []  # whose first is asked for
    await post.post("q", 1)
    async with dispatching(post):
        await post.delivered(1)
        assert await post.pending() == (0, 1)


# --- confirmation ----------------------------------------------------------------------------------------


async def test_unconfirmed_subscriber_is_asked_and_told_nothing_else() -> None:
    signer = Signer("0123456789abcdef0123456789abcdef")
    post = Post(terms=Terms(required=True), signer=signer)
    id_ = await post.subscribe("q", A)
    await post.post("q", "too early")
    async with dispatching(post):
        await post.delivered(1)
        (asked,) = post.carrier.parcels
        assert msgspec.json.decode(asked.notices[0])["Message_Type"] == "SubscriptionConfirmation"
        await post.call("subscriptions.confirm", queue="q", subscription_id=id_, document={"confirmed": True})
        await post.post("q", "welcome")
        await post.delivered(2)
    assert post.carrier.to(A) == [None, "welcome"]


async def test_question_that_is_not_delivered_makes_no_dead_letter() -> None:
    signer = Signer("0123456789abcdef0123456789abcdef")
    post = Post(terms=Terms(required=True), signer=signer)
    post.carrier.outcomes[A] = [NEVER]
    await post.subscribe("q", A, _dead_letter_queue="dead")
    async with dispatching(post):
        await post.delivered(1)
    assert await post.listed("dead") == []
    assert post.service.figures.deliveries_dropped == 1


# --- hosts that are not to be tried ------------------------------------------------------------------------


async def test_receiver_that_hangs_delays_nobody_else() -> None:
    post = Post()
    post.carrier.hanging.add(A)
    await post.subscribe("q", A)
    await post.subscribe("q", B)
    async with dispatching(post) as dispatcher:
        for number in range(300):
            await post.post("q", number)
        await until(lambda: len(post.carrier.to(B)) == 300)
        assert sorted(post.carrier.to(B)) == list(range(300))
        await until(lambda: dispatcher.open <= 4 + 128)  # places and line of the one that hangs
        parked = 0
        async with asyncio.timeout(PATIENCE):
            while parked < 300 - 132:
                _, parked = await post.pending()
                await asyncio.sleep(0)


async def test_host_that_was_closed_is_tried_later_and_that_is_no_attempt() -> None:
    post = Post()
    policy = ONCE_MORE | {"minimum_delay_retries": 20}
    await post.subscribe("q", A, _retry_policy=policy)
    post.carrier.outcomes[A] = [*[LATER] * 5, Outcome(Result.DELIVERED)]
    async with dispatching(post, failures=5):
        for number in range(5):
            await post.post("q", number)
        await post.delivered(5)
        await post.post("q", "while closed")
        await post.settled()
        assert len(post.carrier.parcels) == 5
        await post.pass_time(60)
        await until(lambda: post.service.figures.delivered == 6)
    assert {parcel.attempt for parcel in post.carrier.parcels if parcel.notices} == {0, 1}


async def test_host_is_not_closed_for_what_it_says_of_one_recipient() -> None:
    post = Post()
    await post.subscribe("q", A, _retry_policy=ONCE_MORE)
    post.carrier.outcomes[A] = [Outcome(Result.RETRY, "mailbox busy", reached=True)]
    async with dispatching(post, failures=2) as dispatcher:
        for number in range(8):
            await post.post("q", number)
        await post.delivered(8)
        assert dispatcher._attempts._hosts.closed == 0


@pytest.mark.parametrize(("limit", "most"), [("MOST_UNWRITTEN", 20), ("MOST_UNWRITTEN_BYTES", 20)])
async def test_much_for_a_closed_host_finds_its_way_into_the_store(
    limit: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is tried, so no end of an attempt makes room; writing does."""
    monkeypatch.setattr(dispatcher, limit, most)
    post = Post()
    await post.subscribe("q", A)
    await post.subscribe("other", B)
    post.carrier.outcomes[A] = [LATER]
    async with dispatching(post, failures=1) as closing:
        await post.post("q", "closes it")
        await post.delivered(1)
        assert closing._attempts._hosts.closed == 1
        for _ in range(10):
            await post.post("q", *range(20))
        await post.settled()
        assert await post.pending() == (0, 201)
        await post.post("other", 1)
        await until(lambda: post.carrier.to(B) == [1])


@pytest.mark.parametrize(("limit", "most"), [("MOST_OPEN", 10), ("MOST_BYTES", 2000)])
async def test_what_has_no_room_in_memory_is_put_off(
    limit: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the room is left to others."""
    monkeypatch.setattr(dispatcher, limit, most)
    post = Post()
    await post.subscribe("q", A)
    await post.call("subscriptions.create", project="other", queue="q", subscriber=B, options={})
    answers = post.carrier.pausing[A] = asyncio.Event()
    await post.post("q", *("x" * 100 for _ in range(20)))
    async with dispatching(post, per_host=100) as bounded:
        await until(lambda: post.carrier.parcels)
        await others_go_on()
        assert bounded.open <= 6
        await post.post("q", "y" * 100, project="other")
        await until(lambda: post.carrier.to(B))
        answers.set()
        for _ in range(20):
            await post.pass_time(2)
            await post.settled()
    assert len(post.carrier.to(A)) == 20
    assert await post.pending() == (0, 0)


async def test_line_of_a_host_is_as_short_as_it_should_be_however_much_comes_at_once() -> None:
    post = Post()
    await post.subscribe("q", A)
    post.carrier.hanging.add(A)
    await post.post("q", *range(300))
    async with dispatching(post, line=4) as dispatcher:
        await until(lambda: post.carrier.parcels)
        await until(lambda: dispatcher._ledger.idle)
        assert dispatcher.open < 2 * STRIDE


async def test_old_messages_do_not_wait_for_their_age_when_the_line_is_full() -> None:
    """Nothing was delivered for a day; now there is more than a host takes at once."""
    post = Post()
    await post.call("subscriptions.create", queue="q", subscriber=A, options={}, ttl=10 * 86400)
    await post.post("q", *range(100), ttl=86400 * 2)
    await post.pass_time(86400)
    async with dispatching(post, line=4):
        await post.settled()
        assert len(post.carrier.parcels) < 100
        for _ in range(12):
            await post.pass_time(8)
            await post.settled()
    assert sorted(post.carrier.to(A)) == list(range(100))


async def test_delivery_that_cannot_be_tried_for_days_is_given_up() -> None:
    post = Post()
    options = {"_dead_letter_queue": "dead", "_retry_policy": ONCE_MORE}
    await post.call("subscriptions.create", queue="q", subscriber=A, options=options, ttl=10**6)
    post.carrier.outcomes[A] = [LATER]
    await post.post("q", 1)
    await post.pass_time(LONGEST_LIFE)
    async with dispatching(post):
        await post.delivered(1)
        await until(lambda: post.service.figures.deliveries_dead_lettered == 1)


# --- leases, crashes, stops --------------------------------------------------------------------------------


async def test_slow_delivery_keeps_its_lease() -> None:
    post = Post()
    post.carrier.hanging.add(A)
    await post.subscribe("q", A)
    await post.post("q", 1)
    async with dispatching(post), dispatching(post):
        await until(lambda: post.carrier.parcels)
        for _ in range(12):
            await post.pass_time(RENEW_SECONDS)
        assert len(post.carrier.parcels) == 1
    assert 12 * RENEW_SECONDS > 3 * LEASE_SECONDS


async def test_what_a_dead_process_had_is_repeated_by_others() -> None:
    post = Post()
    await post.subscribe("q", A)
    await post.post("q", 1)
    taken = await post.backend.messages.claim(
        JOBS, Lease(id="dead", ttl=LEASE_SECONDS, grace=0, since=post.now), limit=9, now=post.now
    )
    assert len(taken) == 1
    async with dispatching(post):
        await post.settled()
        assert post.carrier.parcels == []
        await post.pass_time(LEASE_SECONDS)
        await post.delivered(1)


async def test_dispatcher_that_stops_parks_what_hangs_for_others_at_once() -> None:
    post = Post()
    post.carrier.hanging.add(A)
    await post.subscribe("q", A)
    await post.subscribe("q", B)
    await post.post("q", 1)
    dispatcher = post.dispatcher()
    dispatcher.start()
    await until(lambda: len(post.carrier.parcels) == 2)
    await dispatcher.stop(0.05)
    assert await post.pending() == (0, 1)
    assert post.carrier.closed
    post.carrier.hanging.clear()
    async with dispatching(post):
        await until(lambda: len(post.carrier.parcels) == 3)
    assert len(post.carrier.to(B)) == 1
    assert await post.pending() == (0, 0)


async def test_stop_ends_what_is_under_way() -> None:
    post = Post()
    await post.subscribe("q", A)
    for number in range(100):
        await post.post("q", number)
    dispatcher = post.dispatcher()
    dispatcher.start()
    await until(lambda: post.carrier.parcels)
    await dispatcher.stop(5)
    jobs, parked = await post.pending()
    assert parked == 0
    assert len(post.carrier.parcels) + jobs == 100


# --- a store that fails ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["append", "claim", "delete"])
async def test_nothing_is_lost_while_the_store_fails(verb: str) -> None:
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A, _retry_policy=ONCE_MORE)
    await post.subscribe("q", B)
    post.carrier.outcomes[A] = [LATER, Outcome(Result.DELIVERED)]
    await post.post("q", 1)
    stage.messages.broken = {verb}
    async with dispatching(post):
        calls = len(stage.messages.calls)
        await until(lambda: stage.messages.calls[calls:].count(verb) >= 3)
        stage.messages.broken = set()
        await until(lambda: len(post.carrier.parcels) >= 2)
        await post.settled()
        await post.pass_time(10)
        await until(lambda: len(post.carrier.parcels) >= 3)
    assert post.carrier.to(A) == [1, 1]
    assert post.carrier.to(B) == [1]
    assert await post.pending() == (0, 0)


async def test_note_that_cannot_be_taken_away_holds_up_no_other_delivery() -> None:
    stage = Stage()
    post = Post(stage)
    id_ = await post.subscribe("nobody", A)
    await post.post("nobody", 1)
    await post.call("subscriptions.delete", queue="nobody", subscription_id=id_)
    await post.subscribe("q", B)
    await post.post("q", 2)
    stage.messages.fail_once("unmark")
    async with dispatching(post):
        await post.delivered(1)
        assert await post.pending() == (0, 0)
    assert post.carrier.to(B) == [2]


async def test_fault_with_one_job_comes_back_and_holds_up_no_other() -> None:
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A)
    await post.subscribe("other", B)
    await post.post("q", 1)
    await post.post("other", 2)

    async def fault() -> None:
        raise RuntimeError("a record that cannot be read")

    stage.documents.before("scan", fault)
    async with dispatching(post):
        await post.delivered(1)
        assert post.carrier.to(B) == [2]
        await post.pass_time(2 * LEASE_SECONDS)
        await post.delivered(2)
    assert post.carrier.to(A) == [1]
    assert await post.pending() == (0, 0)


async def test_fault_of_the_store_keeps_nothing_else_from_being_written() -> None:
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A, _retry_policy=ONCE_MORE)
    await post.subscribe("q", B)
    post.carrier.outcomes[A] = [LATER]
    await post.post("q", 1)
    await post.subscribe("other", B)
    await post.post("other", 2)

    async def fault() -> None:
        raise RuntimeError("not to be explained")

    stage.messages.before("append", fault)
    async with dispatching(post):
        await until(lambda: len(post.carrier.parcels) == 3)
        await until(lambda: "delete" in stage.messages.calls)


@pytest.mark.parametrize("failing", [0, 1])
async def test_post_is_not_acknowledged_unless_message_and_job_are_stored(failing: int) -> None:
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A)
    await post.post("q", "known")
    for _ in range(failing):
        stage.messages.before("append", _pass)
    stage.messages.fail_once("append")
    with pytest.raises(Exception, match="try again"):
        await post.post("q", "lost?")
    jobs, _ = await post.pending()
    assert jobs == 1 + failing  # the job comes first: a crash between them repeats


async def _pass() -> None:
    pass


async def test_store_that_keeps_no_order_gets_the_message_when_it_has_the_job() -> None:
    stage = Stage()
    stage.traits = stage.traits - {Trait.IN_ORDER}
    post = Post(stage)
    await post.subscribe("q", A)
    await post.post("q", "known")
    gate = stage.messages.hold_before("append")
    stored = stage.messages.calls.count("append")
    posting = asyncio.create_task(post.post("q", "after its job"))
    await gate.reached()
    await others_go_on()
    assert stage.messages.calls.count("append") == stored + 1
    assert bodies(await post.listed("q")) == ["known"]
    gate.open()
    await posting
    assert bodies(await post.listed("q")) == ["known", "after its job"]
    stage.messages.fail_once("append")
    with pytest.raises(Exception, match="try again"):
        await post.post("q", "without a job")
    assert bodies(await post.listed("q")) == ["known", "after its job"]
    assert (await post.pending())[0] == 2


async def test_message_in_a_pool_is_stored_when_the_services_own_store_has_its_job() -> None:
    own = Stage()
    post = Post(own, opener=(stores := Stores()))
    await post.call("pools.put", pool="p", document={"uri": "test://p", "weight": 1})
    await post.subscribe("q", A)
    await post.post("q", "known")
    own.messages.fail_once("append")
    with pytest.raises(Exception, match="try again"):
        await post.post("q", "without a job")
    assert bodies(await post.listed("q")) == ["known"]
    stores.stages["test://p"].messages.fail_once("append")
    with pytest.raises(Exception, match="try again"):
        await post.post("q", "told of, and not stored")
    async with dispatching(post):
        await post.delivered(2)
    assert post.carrier.to(A) == ["known", "told of, and not stored"]


async def test_parked_delivery_is_stored_before_what_it_came_from_is_deleted() -> None:
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A, _retry_policy=ONCE_MORE)
    post.carrier.outcomes[A] = [LATER]
    await post.post("q", 1)
    gate = stage.messages.hold_before("append")
    async with dispatching(post):
        await gate.reached()
        for _ in range(20):
            await asyncio.sleep(0)
        assert "delete" not in stage.messages.calls
        gate.open()
        await until(lambda: "delete" in stage.messages.calls)
    assert await post.pending() == (0, 1)


async def test_repeated_job_makes_one_dead_letter() -> None:
    """A process parked what failed and died before it deleted the job. Repeats end in one dead letter."""
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A, _retry_policy=ONCE_MORE, _dead_letter_queue="dead")
    post.carrier.outcomes[A] = [LATER]
    await post.post("q", 1)
    stage.messages.broken = {"delete"}
    dispatcher = post.dispatcher()
    dispatcher.start()
    await until(lambda: "delete" in stage.messages.calls)
    await crash(post, dispatcher)
    stage.messages.broken = set()
    assert await post.pending() == (1, 1)
    async with dispatching(post):
        await post.pass_time(10)  # what is parked comes due
        await until(lambda: len(post.carrier.parcels) == 2)
        await post.pass_time(LEASE_SECONDS)  # and the job comes back
        await until(lambda: len(post.carrier.parcels) >= 4)
        await post.pass_time(1000)
        await post.settled()
    assert len(await post.listed("dead")) == 1
    assert await post.pending() == (0, 0)


async def test_two_dispatchers_share_the_work() -> None:
    post = Post()
    await post.subscribe("q", A)
    async with dispatching(post), dispatching(post):
        for number in range(200):
            await post.post("q", number)
        await post.delivered(200)
    assert sorted(post.carrier.to(A)) == list(range(200))
    assert await post.pending() == (0, 0)


async def test_damaged_record_is_dropped() -> None:
    post = Post()
    await post.subscribe("q", A)
    await post.post("q", 1)
    (job,) = await post.backend.messages.claim(
        JOBS, Lease(id="look", ttl=60, grace=0, since=post.now), limit=1, now=post.now
    )
    await post.backend.messages.release(JOBS, "look", now=post.now)
    damaged: list[Any] = [replace(job, id=f"damaged{n}", body=b"\xc1") for n in range(2)]
    await post.backend.messages.append(JOBS, damaged[:1])
    await post.backend.messages.append(PARKED, damaged[1:])
    async with dispatching(post):
        await post.delivered(1)
        await post.settled()
    assert await post.pending() == (0, 0)


# --- sending again -----------------------------------------------------------------------------------------


async def test_dead_letters_of_a_subscription_are_sent_again() -> None:
    post = Post()
    await post.create("q", _dead_letter_queue="dead")
    id_ = await post.subscribe("q", A)
    await post.subscribe("q", B)
    post.carrier.outcomes = {A: [NEVER], B: [NEVER]}
    for number in range(250):
        await post.post("q", number)
    await post.post("dead", {"somebody": "else's"})
    async with dispatching(post, line=1000):
        await until(lambda: post.service.figures.deliveries_dead_lettered == 500)
        post.carrier.outcomes = {A: [Outcome(Result.DELIVERED)]}
        answer = await post.call("subscriptions.replay", queue="q", subscription_id=id_)
        assert (answer.replayed, answer.marker) == (250, None)
        await until(lambda: post.service.figures.delivered == 250)
    again = [parcel for parcel in post.carrier.parcels if parcel.subscription.subscriber == A][250:]
    assert sorted(post.carrier.to(A)[250:]) == list(range(250))
    assert {parcel.attempt for parcel in again} == {0}
    assert len({parcel.delivery for parcel in post.carrier.parcels}) == 500  # the same as at first
    assert (await post.call("queues.stats", queue="dead")).free == 251


async def test_replay_of_many_letters_says_where_to_go_on() -> None:
    post = Post()
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead")
    for _ in range(MOST_READ // 500 + 1):
        await post.post("dead", *range(500))
    replay = await post.call("subscriptions.replay", queue="q", subscription_id=id_)
    assert (replay.replayed, replay.marker is None) == (0, False)
    replay = await post.call("subscriptions.replay", queue="q", subscription_id=id_, marker=replay.marker)
    assert (replay.replayed, replay.marker) == (0, None)


async def test_replay_that_failed_half_way_is_repeated() -> None:
    stage = Stage()
    post = Post(stage)
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead")
    post.carrier.outcomes[A] = [NEVER, Outcome(Result.DELIVERED)]
    await post.post("q", 1)
    async with dispatching(post):
        await until(lambda: post.service.figures.deliveries_dead_lettered)
        await post.settled()
    stage.messages.fail_once("delete")
    with pytest.raises(Exception, match="try again"):
        await post.call("subscriptions.replay", queue="q", subscription_id=id_)
    await post.call("subscriptions.replay", queue="q", subscription_id=id_)
    assert await post.pending() == (0, 1)
    assert await post.listed("dead") == []


async def test_failure_of_what_is_sent_again_does_not_go_with_the_letter_it_came_from() -> None:
    """It fails once more, before the replay has come to delete the first letter."""
    stage = Stage()
    post = Post(stage)
    id_ = await post.subscribe("q", A, _dead_letter_queue="dead")
    post.carrier.outcomes[A] = [NEVER]
    await post.post("q", 1)
    async with dispatching(post):
        await until(lambda: post.service.figures.deliveries_dead_lettered == 1)
        await post.settled()
        for round_ in range(2, 5):
            gate = stage.messages.hold_before("delete")
            replay = asyncio.create_task(post.call("subscriptions.replay", queue="q", subscription_id=id_))
            await gate.reached()
            await until(lambda round_=round_: post.service.figures.deliveries_dead_lettered == round_)
            gate.open()
            assert (await replay).replayed == 1
            await post.settled()
            (letter,) = bodies(await post.listed("dead"))
            assert letter["notification"]["body"] == 1


async def test_replay_of_a_subscription_that_is_not_there_is_an_error() -> None:
    post = Post()
    with pytest.raises(NotFound):
        await post.call("subscriptions.replay", queue="q", subscription_id="none")


async def test_secrets_stay_secret_when_they_are_sent_again() -> None:
    stage = Stage()
    post = Post(stage, encryption_key="secret")
    await post.create("q", _enable_encrypt_messages=True, _dead_letter_queue="dead")
    id_ = await post.subscribe("q", A)
    post.carrier.outcomes[A] = [NEVER, Outcome(Result.DELIVERED)]
    await post.post("q", "never in the clear")
    async with dispatching(post):
        await until(lambda: post.service.figures.deliveries_dead_lettered)
        await post.settled()
    await post.call("subscriptions.replay", queue="q", subscription_id=id_)
    lease = Lease(id="look", ttl=60, grace=0, since=post.now)
    (stored,) = await stage.messages.claim(PARKED, lease, limit=1, now=post.now)
    assert b"never in the clear" not in stored.body
    await stage.messages.release(PARKED, "look", now=post.now)
    async with dispatching(post):
        await post.delivered(2)
    assert post.carrier.to(A) == ["never in the clear"] * 2
