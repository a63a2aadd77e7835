"""Subscriptions: who has one, what it says, when it ends."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sukkal.core.subscribing.subscriptions import RECORDING
from sukkal.errors import AlreadySubscribed, Conflict, Invalid, NotFound, Unavailable
from sukkal.model import QueueKey, Subscription, topic

from .world import PROJECT, Stage, World

HOOK = "http://hooks.example/in"
OTHER = "http://hooks.example/other"
CHANGES_NOTHING = "The body changes nothing: give at least one of subscriber, ttl and options."


@pytest.fixture
def world() -> World:
    return World(subscriber_types=["http", "https", "mailto"])


async def subscribe(world: World, subscriber: Any = HOOK, queue: str = "orders", **fields: Any) -> str:
    answer = await world.call("subscriptions.create", queue=queue, subscriber=subscriber, **fields)
    return str(answer.id)


async def found(world: World, id_: str, queue: str = "orders", **whose: Any) -> Subscription:
    subscription: Subscription = await world.call(
        "subscriptions.get", queue=queue, subscription_id=id_, **whose
    )
    return subscription


async def listed(world: World, queue: str = "orders", **fields: Any) -> list[str]:
    answer = await world.call("subscriptions.list", queue=queue, **fields)
    return [each.id for each in answer.subscriptions]


async def update(world: World, id_: str, document: Any, queue: str = "orders") -> Subscription:
    changed: Subscription = await world.call(
        "subscriptions.update", queue=queue, subscription_id=id_, document=document
    )
    return changed


async def confirm(world: World, id_: str, document: Any, queue: str = "orders") -> Any:
    return await world.call("subscriptions.confirm", queue=queue, subscription_id=id_, document=document)


# --- creating ----------------------------------------------------------------------------------------


async def test_subscription_says_what_was_asked_for(world: World) -> None:
    id_ = await subscribe(world, ttl=60, options={"post_data": "x"})
    subscription = await found(world, id_)
    assert (subscription.source, subscription.subscriber) == ("orders", HOOK)
    assert (subscription.ttl, subscription.options) == (60, {"post_data": "x"})
    assert not subscription.confirmed
    assert await world.queues() == ["orders"]


async def test_what_is_not_asked_for_has_defaults(world: World) -> None:
    for nothing in (None, 0, {}, []):
        fields = {"ttl": nothing, "options": nothing}
        subscription = await found(world, await subscribe(world, f"{HOOK}?{nothing}", **fields))
        assert (subscription.ttl, subscription.options) == (3600, {})


async def test_unconfirmed_subscriber_keeps_its_subscription_as_it_is(world: World) -> None:
    first = await world.call("subscriptions.create", queue="orders", subscriber=HOOK, ttl=100)
    world.now += 50
    again = await world.call(
        "subscriptions.create", queue="orders", subscriber=HOOK, ttl=9000, options={"a": 1}
    )
    assert (first.created, again.created) == (True, False)
    assert first.id == again.id
    subscription = await found(world, first.id)
    assert (subscription.ttl, subscription.options) == (100, {})
    assert await listed(world) == [first.id]


async def test_confirmed_subscriber_cannot_subscribe_again(world: World) -> None:
    id_ = await subscribe(world)
    await confirm(world, id_, {"confirmed": True})
    with pytest.raises(AlreadySubscribed) as fault:
        await subscribe(world)
    assert fault.value.message == (
        "Such subscription already exists.Subscriptions are unique by project + queue + subscriber URI."
    )
    assert fault.value.title == "Resource conflict"


async def test_subscribers_are_compared_as_text_within_one_queue_of_one_project(world: World) -> None:
    same = await subscribe(world)
    assert await subscribe(world, HOOK.upper().replace("HTTP:", "http:")) != same
    assert await subscribe(world, queue="returns") != same
    assert await subscribe(world, queue=topic("orders")) != same
    elsewhere = await world.call("subscriptions.create", project="umbrella", queue="orders", subscriber=HOOK)
    assert elsewhere.id != same
    assert len(await listed(world)) == 2


async def test_time_ends_a_subscription_and_frees_the_subscriber(world: World) -> None:
    id_ = await subscribe(world, ttl=60)
    world.now += 59.9
    assert await listed(world) == [id_]
    world.now += 0.1
    assert await listed(world) == []
    with pytest.raises(NotFound):
        await found(world, id_)
    assert await subscribe(world) != id_


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"subscriber": None}, "Missing parameter subscriber in body."),
        ({"subscriber": ""}, "Missing parameter subscriber in body."),
        ({"subscriber": 0}, "Missing parameter subscriber in body."),
        ({"subscriber": 5}, "Subscriber must be a URI."),
        ({"subscriber": ["http://a"]}, "Subscriber must be a URI."),
        ({"subscriber": "orders"}, "['http', 'https', 'mailto']"),
        ({"subscriber": "ftp://a"}, "['http', 'https', 'mailto']"),
        ({"subscriber": "trust+http://a"}, "['http', 'https', 'mailto']"),
        ({"subscriber": "queue:other"}, "['http', 'https', 'mailto']"),
        ({"subscriber": "http://[::1"}, "['http', 'https', 'mailto']"),
        ({"options": "x"}, "Options must be a dict."),
        ({"options": [1]}, "Options must be a dict."),
        ({"options": {"_retry_policy": 5}}, "retry_policy must be a dict."),
        ({"options": {"_dead_letter_queue": "no blanks"}}, "_dead_letter_queue must be the name of a queue"),
        ({"options": {"_dead_letter_queue": 5}}, "_dead_letter_queue must be the name of a queue"),
        ({"options": {"_dead_letter_queue": "topic:x"}}, "_dead_letter_queue must be the name of a queue"),
        ({"options": {"ordered": "yes"}}, "ordered must be boolean."),
        ({"options": {"batch": 0}}, "batch must be an integer"),
        ({"options": {"batch": 101}}, "batch must be an integer"),
        ({"options": {"batch": True}}, "batch must be an integer"),
        ({"options": {"batch": 1.5}}, "batch must be an integer"),
        ({"options": {"filter": 5}}, "filter"),
        ({"ttl": "60"}, "TTL must be an integer."),
        ({"ttl": 60.0}, "TTL must be an integer."),
        ({"ttl": True}, "The TTL for a subscription must be at least 60 seconds long."),
        ({"ttl": 59}, "The TTL for a subscription must be at least 60 seconds long."),
        ({"ttl": -1}, "The TTL for a subscription must be at least 60 seconds long."),
        ({"ttl": 10**400}, "must be less than 9999-12-31 23:59:59.999999."),
        ({"subscriber": " http://a"}, "no blanks at its ends"),
        ({"subscriber": "http://a "}, "no blanks at its ends"),
        ({"subscriber": "\u3000mailto:ops@example.org"}, "no blanks at its ends"),
        ({"subscriber": " "}, "no blanks at its ends"),
        ({"subscriber": "http://a/\n"}, "no control characters"),
        ({"subscriber": "ht\ttp://a/"}, "no control characters"),
        ({"subscriber": "http://a/\x7f"}, "no control characters"),
        ({"subscriber": "http://a/\ud800"}, "no control characters"),
        ({"ttl": 253402300799}, "must be less than 9999-12-31 23:59:59.999999."),
        # Of several faults the first is told.
        ({"subscriber": "ftp://a", "options": 5, "ttl": 1}, "['http', 'https', 'mailto']"),
        ({"options": 5, "ttl": "x"}, "Options must be a dict."),
        ({"options": {"_retry_policy": 5}, "ttl": "x"}, "retry_policy must be a dict."),
    ],
    ids=lambda it: str(it)[:80],
)
async def test_what_cannot_be_subscribed_is_told_and_nothing_is_made(
    world: World, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(Invalid) as fault:
        await subscribe(world, **({"subscriber": HOOK} | fields))
    assert text in fault.value.message
    assert fault.value.title == "Invalid API request"
    assert await world.queues() == []
    id_ = await subscribe(world)
    fields = {name: value for name, value in fields.items() if value or name != "subscriber"}
    if fields:
        with pytest.raises(Invalid) as fault:
            await update(world, id_, fields)
        assert text in fault.value.message


async def test_uris_may_be_long_and_have_an_end(world: World) -> None:
    longest = f"{HOOK}?".ljust(4096, "x")
    id_ = await subscribe(world, longest)
    assert (await found(world, id_)).subscriber == longest
    for longer in (f"{longest}x", f"{HOOK}?{'é' * 2048}"):
        with pytest.raises(Invalid, match="at most 4096 bytes"):
            await subscribe(world, longer)
        with pytest.raises(Invalid, match="at most 4096 bytes"):
            await update(world, id_, {"subscriber": longer})


async def test_thousands_of_years_are_allowed(world: World) -> None:
    id_ = await subscribe(world, ttl=220367260800)
    assert (await found(world, id_)).ttl == 220367260800


async def test_deliverer_may_refuse_a_subscriber() -> None:
    def check(subscriber: str) -> None:
        if "10.0" in subscriber:
            raise Invalid("That address is not public.")

    world = World(subscriber_types=["http"], subscriber_checks={"http": check, "queue": check})
    await subscribe(world)
    await subscribe(world, "queue:other")  # stays within the project, and so is always allowed
    with pytest.raises(Invalid, match="not public"):
        await subscribe(world, "http://10.0.0.1/")


# --- reading -----------------------------------------------------------------------------------------


async def test_pages_follow_ids_and_show_each_once(world: World) -> None:
    ids = [await subscribe(world, f"{HOOK}/{n}") for n in range(7)]
    assert ids == sorted(ids)
    assert await listed(world, limit=3) == ids[:3]
    assert await listed(world, limit=3, marker=ids[2]) == ids[3:6]
    assert await listed(world, limit=3, marker=ids[6]) == []
    assert await listed(world, limit=20) == ids
    assert await listed(world, queue="unheard-of") == []


@pytest.mark.parametrize("limit", [0, -1, 21, 2**70])
async def test_limit_of_a_page_is_bounded(world: World, limit: int) -> None:
    with pytest.raises(Invalid, match="at least 1 and may not be greater than 20"):
        await listed(world, limit=limit)


async def test_nobody_else_sees_or_changes_a_subscription(world: World) -> None:
    id_ = await subscribe(world)
    for elsewhere in (
        {"project": "umbrella", "queue": "orders"},
        {"queue": "returns"},
        {"queue": topic("orders")},
    ):
        for name, more in (
            ("get", {}),
            ("update", {"document": {"ttl": 90}}),
            ("confirm", {"document": {"confirmed": True}}),
        ):
            with pytest.raises(NotFound) as fault:
                await world.call(f"subscriptions.{name}", subscription_id=id_, **elsewhere, **more)
            assert fault.value.message == f"Subscription {id_} does not exist"
        await world.call("subscriptions.delete", subscription_id=id_, **elsewhere)
    assert await found(world, id_)


# --- changing ----------------------------------------------------------------------------------------


async def test_new_ttl_counts_from_now(world: World) -> None:
    id_ = await subscribe(world, ttl=100)
    world.now += 90
    renewed = await update(world, id_, {"ttl": 200})
    assert (renewed.ttl, renewed.created) == (200, world.now)
    world.now += 199
    assert await listed(world) == [id_]
    assert await subscribe(world) == id_  # the subscriber is still known
    world.now += 1
    assert await listed(world) == []
    assert await subscribe(world) != id_


async def test_shorter_ttl_ends_it_earlier(world: World) -> None:
    id_ = await subscribe(world, ttl=1000)
    await update(world, id_, {"ttl": 60})
    world.now += 60
    assert await listed(world) == []
    assert await subscribe(world) != id_


@pytest.mark.parametrize("written", range(3))
async def test_change_to_a_shorter_ttl_that_fails_half_way_leaves_one_subscription(written: int) -> None:
    stage = Stage()
    world = World(stage, subscriber_types=["http"])
    id_ = await subscribe(world, ttl=1000)

    async def pass_() -> None:
        pass

    for _ in range(written):
        stage.documents.before("put", pass_)
    stage.documents.fail_once("put")
    with contextlib.suppress(Unavailable):
        await update(world, id_, {"ttl": 60})
    stage.documents._before.clear()
    shortened = (await found(world, id_)).ttl == 60
    world.now += 60
    assert (await subscribe(world) == id_) is not shortened
    assert len(await listed(world)) == 1


async def test_options_are_replaced_as_a_whole_and_the_rest_stays(world: World) -> None:
    id_ = await subscribe(world, ttl=100, options={"a": 1, "b": 2})
    created = world.now
    world.now += 10
    changed = await update(world, id_, {"options": {"b": 3}, "ttl": None, "subscriber": None, "x": 1})
    assert changed.options == {"b": 3}
    assert (changed.ttl, changed.created, changed.subscriber) == (100, created, HOOK)
    assert (await update(world, id_, {"subscriber": None, "ttl": 600, "options": {}})).options == {}


async def test_new_subscriber_takes_over_and_the_old_one_is_free(world: World) -> None:
    id_ = await subscribe(world)
    await confirm(world, id_, {"confirmed": True})
    moved = await update(world, id_, {"subscriber": OTHER})
    assert (moved.subscriber, moved.confirmed) == (OTHER, False)
    assert await subscribe(world, OTHER) == id_
    assert await subscribe(world, HOOK) != id_


async def test_same_subscriber_is_no_change(world: World) -> None:
    id_ = await subscribe(world)
    await confirm(world, id_, {"confirmed": True})
    assert (await update(world, id_, {"subscriber": HOOK})).confirmed


async def test_subscriber_of_another_subscription_cannot_be_taken(world: World) -> None:
    await subscribe(world, OTHER)
    id_ = await subscribe(world)
    with pytest.raises(Conflict) as fault:
        await update(world, id_, {"subscriber": OTHER, "ttl": 90})
    assert fault.value.message == (
        "Such subscription already exists. Subscriptions are unique by project + queue + subscriber URI."
    )
    assert not isinstance(fault.value, AlreadySubscribed)
    assert (await found(world, id_)).ttl == 3600


@pytest.mark.parametrize(
    ("document", "title", "text"),
    [
        (None, "Invalid API request", CHANGES_NOTHING),
        ({}, "Invalid API request", CHANGES_NOTHING),
        ([], "Invalid API request", "Subscriptions must be a dict."),
        ([1], "Invalid API request", "Subscriptions must be a dict."),
        ({"x": 1}, "Unable to update subscription", "Subscription nowhere could not be updated."),
        (
            {"ttl": None, "options": None, "subscriber": None},
            "Unable to update subscription",
            "Subscription nowhere could not be updated.",
        ),
        ({"subscriber": ""}, "Invalid API request", None),
        ({"ttl": 0}, "Invalid API request", "The TTL for a subscription must be at least 60 seconds long."),
        ({"options": []}, "Invalid API request", "Options must be a dict."),
    ],
    ids=str,
)
async def test_malformed_change_is_told_before_anything_is_looked_up(
    world: World, document: Any, title: str, text: str | None
) -> None:
    with pytest.raises(Invalid) as fault:
        await update(world, "nowhere", document)
    assert fault.value.title == title
    if text is not None:
        assert fault.value.message == text


async def test_changes_at_once_are_all_made() -> None:
    """Two who change different things at the same time do not undo each other."""
    stage = Stage()
    world = World(stage, subscriber_types=["http"])
    id_ = await subscribe(world)
    other = World(stage, subscriber_types=["http"])  # another process on the same store

    async def meanwhile() -> None:
        await confirm(other, id_, {"confirmed": True})

    stage.documents.after("get", meanwhile)
    await update(world, id_, {"options": {"a": 1}})
    subscription = await found(world, id_)
    assert (subscription.confirmed, subscription.options) == (True, {"a": 1})


async def test_subscriber_that_another_process_is_recording_is_not_recorded_twice() -> None:
    stage = Stage()
    one, other = (World(stage, subscriber_types=["http"]) for _ in range(2))
    gate = stage.documents.hold_before("put", skip=2)  # those of the queue and of the subscriber's name
    creating = asyncio.create_task(subscribe(one))
    await gate.reached()
    with pytest.raises(Unavailable):
        await subscribe(other)
    gate.open()
    id_ = await creating
    assert await subscribe(other) == id_
    assert await listed(other) == [id_]


async def test_subscriber_whose_recording_was_cut_short_can_subscribe_later() -> None:
    stage = Stage()
    one, other = (World(stage, subscriber_types=["http"]) for _ in range(2))
    await one.create("orders")

    async def crash() -> None:
        stage.documents.fail_once("put")

    stage.documents.after("put", crash)
    with pytest.raises(Unavailable):
        await subscribe(one)
    assert await listed(other) == []
    with pytest.raises(Unavailable):
        await subscribe(other)
    other.now += 5
    id_ = await subscribe(other)
    assert await listed(other) == [id_]


async def test_whose_own_recording_failed_can_be_asked_again_at_once() -> None:
    stage = Stage()
    world = World(stage, subscriber_types=["http"])
    await world.create("orders")

    async def crash() -> None:
        stage.documents.fail_once("put")

    stage.documents.after("put", crash)
    with pytest.raises(Unavailable):
        await subscribe(world)
    id_ = await subscribe(world)
    assert await listed(world) == [id_]


async def remove(world: World, id_: str) -> None:
    await world.call("subscriptions.delete", queue="orders", subscription_id=id_)


async def move(world: World, id_: str) -> None:
    await update(world, id_, {"subscriber": OTHER})


@pytest.mark.parametrize("meanwhile", [remove, move])
async def test_who_was_disabled_is_subscribed_anew_whatever_becomes_of_the_old_one(
    meanwhile: Callable[[World, str], Awaitable[None]],
) -> None:
    stage = Stage()
    one, other = (World(stage, subscriber_types=["http"]) for _ in range(2))
    id_ = await subscribe(one)
    await one.service.subscriptions.disable(QueueKey(PROJECT, "orders"), await found(one, id_), now=one.now)
    one.now = other.now = one.now + RECORDING
    await one.call("queues.get", queue="orders")  # its own record is cached
    gate = stage.documents.hold_before("get", skip=2)  # those of the subscriber's name and of the record
    subscribing = asyncio.create_task(subscribe(one, options={"a": 1}))
    await gate.reached()
    await meanwhile(other, id_)
    gate.open()
    anew = await found(one, await subscribing)
    assert anew.id != id_
    assert (anew.subscriber, anew.options, anew.gone) == (HOOK, {"a": 1}, None)


# --- confirming --------------------------------------------------------------------------------------


async def test_confirmation_is_noted_and_taken_back_any_number_of_times(world: World) -> None:
    id_ = await subscribe(world, ttl=100)
    created = world.now
    world.now += 10
    for confirmed in (True, True, False, False, True):
        await confirm(world, id_, {"confirmed": confirmed, "x": 1})
        subscription = await found(world, id_)
        assert (subscription.confirmed, subscription.created) == (confirmed, created)


@pytest.mark.parametrize(
    "document", [None, {}, {"confirmed": None}, {"confirmed": 1}, {"confirmed": "true"}, {"x": True}]
)
async def test_confirmation_must_be_a_boolean(world: World, document: Any) -> None:
    with pytest.raises(Invalid) as fault:
        await confirm(world, "nowhere", document)
    assert fault.value.title == "Invalid API request"
    assert fault.value.message == "The 'confirmed' should be boolean."


async def test_list_is_no_confirmation(world: World) -> None:
    with pytest.raises(Invalid) as fault:
        await confirm(world, "x", [True])
    assert fault.value.title == "Unable to confirm subscription"
    assert fault.value.message == "Subscription x could not be confirmed."


# --- ending ------------------------------------------------------------------------------------------


async def test_deleted_subscription_frees_its_subscriber(world: World) -> None:
    id_ = await subscribe(world)
    for _ in range(2):
        await world.call("subscriptions.delete", queue="orders", subscription_id=id_)
    assert await listed(world) == []
    assert await subscribe(world) != id_


async def test_subscriptions_outlive_their_queue(world: World) -> None:
    id_ = await subscribe(world)
    await world.call("queues.delete", queue="orders")
    assert await listed(world) == [id_]
    await world.create("orders")
    assert await listed(world) == [id_]


async def test_purge_ends_all_subscriptions_of_the_queue_only(world: World) -> None:
    for number in range(101):
        await subscribe(world, f"{HOOK}/{number}")
    other, of_topic = await subscribe(world, queue="returns"), await subscribe(world, queue=topic("orders"))
    await world.call("queues.purge", queue="orders", resource_types=["messages"])
    assert len(await listed(world, limit=20)) == 20
    await world.call("queues.purge", queue="orders", resource_types=["subscriptions"])
    assert await listed(world) == []
    assert await listed(world, "returns") == [other]
    assert await listed(world, topic("orders")) == [of_topic]
    key = QueueKey(PROJECT, "orders")
    assert await world.service.subscriptions.outside(key, after="", now=world.now) == ([], None)
