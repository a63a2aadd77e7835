"""What a pre-signed URL for a queue's subscriptions lets its holder do: nothing to any other queue."""

from typing import Any

import pytest

from sukkal.errors import Forbidden, Invalid
from sukkal.model import QueueKey, Subscription

from .world import PROJECT, World

HOOK = "http://hooks.example/in"
KEY = "whsec_" + "A" * 32


@pytest.fixture
def world() -> World:
    return World(subscriber_types=["http", "trust+http"], subscriber_checks={"queue": lambda _: None})


async def subscribe(world: World, subscriber: str = HOOK, *, signed: bool = False, **options: Any) -> str:
    answer = await world.call(
        "subscriptions.create", signed=signed, queue="pub", subscriber=subscriber, options=options
    )
    return str(answer.id)


async def update(world: World, id_: str, *, signed: bool = True, **document: Any) -> None:
    await world.call(
        "subscriptions.update", signed=signed, queue="pub", subscription_id=id_, document=document
    )


async def found(world: World, id_: str, *, signed: bool = False) -> Subscription:
    subscription: Subscription = await world.call(
        "subscriptions.get", signed=signed, queue="pub", subscription_id=id_
    )
    return subscription


# --- changing ----------------------------------------------------------------------------------------


async def test_holder_subscribes_and_changes_webhooks(world: World) -> None:
    id_ = await subscribe(world, signed=True, signing_keys=KEY, batch=2)
    await update(world, id_, options={"batch": 3}, ttl=90)
    await update(world, id_, subscriber=f"{HOOK}/other")
    assert (await found(world, id_)).subscriber == f"{HOOK}/other"


LEADING_FURTHER = [
    {"subscriber": "queue:secret"},
    {"subscriber": "QUEUE:secret"},
    {"options": {"_dead_letter_queue": "secret"}},
    {"options": {"trust_id": "somebody's"}},
]


@pytest.mark.parametrize("fields", LEADING_FURTHER, ids=str)
async def test_holder_subscribes_nothing_that_leads_further(world: World, fields: dict[str, Any]) -> None:
    with pytest.raises(Forbidden, match="leave for one queue"):
        await subscribe(world, fields.get("subscriber", HOOK), signed=True, **fields.get("options", {}))
    assert await world.queues() == []
    id_ = await subscribe(world)
    with pytest.raises(Forbidden, match="leave for one queue"):
        await update(world, id_, **fields)
    assert (await found(world, id_)).options == {}


@pytest.mark.parametrize("fields", LEADING_FURTHER, ids=str)
async def test_what_leads_further_is_renewed_by_a_holder_and_not_changed(
    world: World, fields: dict[str, Any]
) -> None:
    id_ = await subscribe(world, fields.get("subscriber", HOOK), **fields.get("options", {}))
    await update(world, id_, ttl=77)
    for change in ({"subscriber": f"{HOOK}/mine"}, {"options": {"batch": 5}}):
        with pytest.raises(Forbidden, match="leave for one queue"):
            await update(world, id_, **change)
    there = await found(world, id_)
    assert (there.ttl, there.options) == (77, fields.get("options", {}))


@pytest.mark.parametrize("option", [{"signing_keys": KEY}, {"post_headers": {"Authorization": "secret"}}])
async def test_secrets_do_not_go_to_another_subscriber(world: World, option: dict[str, Any]) -> None:
    id_ = await subscribe(world, **option)
    with pytest.raises(Forbidden, match=f"{next(iter(option))} of this one"):
        await update(world, id_, subscriber=f"{HOOK}/mine")
    await update(world, id_, subscriber=f"{HOOK}/mine", options={})
    await update(world, await subscribe(world, **option), signed=False, subscriber=f"{HOOK}/new")


async def test_holder_subscribes_nobody_anew_who_was_disabled(world: World) -> None:
    told = {"signing_keys": KEY, "post_headers": {"A": "b"}, "_dead_letter_queue": "dead"}
    id_ = await subscribe(world, **told)
    await world.service.subscriptions.disable(
        QueueKey(PROJECT, "pub"), await found(world, id_), now=world.now
    )
    with pytest.raises(Forbidden, match="leave for one queue"):
        await subscribe(world, signed=True, filter={"x": ["never"]})
    there = await found(world, id_)
    assert (there.options, there.gone) == (told, world.now)
    assert await subscribe(world, **told) == id_


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    "fields",
    [
        {"options": {"signing_keys": "(hidden)"}},
        {"options": {"trust_id": "(hidden)"}},
        {"options": {"post_headers": "(hidden)"}},
        {"subscriber": "http://(hidden)@hooks.example/in"},
    ],
    ids=str,
)
async def test_what_is_hidden_is_not_taken_back_as_it_is_shown(
    world: World, fields: dict[str, Any], signed: bool
) -> None:
    with pytest.raises(Invalid, match="anew"):
        await subscribe(world, fields.get("subscriber", HOOK), signed=signed, **fields.get("options", {}))
    id_ = await subscribe(world, post_headers={"A": "b"})
    with pytest.raises(Invalid, match="anew"):
        await update(world, id_, signed=signed, **fields)
    there = await found(world, id_)
    assert (there.subscriber, there.options) == (HOOK, {"post_headers": {"A": "b"}})


# --- reading -----------------------------------------------------------------------------------------


async def test_holder_reads_no_secrets_and_everyone_else_reads_all(world: World) -> None:
    told = {"signing_keys": KEY, "trust_id": "t", "post_headers": {"A": "b"}, "batch": 2, "post_data": "x"}
    subscriber = "http://me:secret@hooks.example/a@b"
    id_ = await subscribe(world, subscriber, **told)
    hidden = "(hidden)"
    for signed, shown, uri in (
        (False, told, subscriber),
        (
            True,
            told | {"signing_keys": hidden, "trust_id": hidden, "post_headers": hidden},
            "http://(hidden)@hooks.example/a@b",
        ),
    ):
        listed = await world.call("subscriptions.list", signed=signed, queue="pub")
        for subscription in (*listed.subscriptions, await found(world, id_, signed=signed)):
            assert (subscription.options, subscription.subscriber) == (shown, uri)


async def test_holder_replays_nothing_since_letters_lie_in_another_queue(world: World) -> None:
    id_ = await subscribe(world)
    with pytest.raises(Forbidden, match="another"):
        await world.call("subscriptions.replay", signed=True, queue="pub", subscription_id=id_)
