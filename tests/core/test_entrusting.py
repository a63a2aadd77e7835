"""Subscribers that have the service deliver in their name: when that is asked for, and what is kept of it."""

import asyncio
from typing import Any

import pytest

from core.world import PROJECT, Stage, World
from sukkal.core.context import Context, Credentials
from sukkal.core.subscribing.subscriptions import RECORDING
from sukkal.errors import AlreadySubscribed, Forbidden, Invalid, NotFound
from sukkal.model import QueueKey
from sukkal.operations import BY_NAME

SUBSCRIBER = "trust+http://hooks.example/"
CALLER = Credentials(token="t-1", user="user-1", roles=("Member", "reader"))


class Authority:
    """An `Entrust` that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, float]] = []
        self.refuses = False

    async def entrust(
        self, options: dict[str, Any], credentials: Credentials | None, project: str, *, until: float
    ) -> dict[str, Any]:
        if "trust_id" in options:
            return options
        if credentials is None:
            raise Invalid("Who are you?")
        if self.refuses:
            raise Forbidden("No.")
        self.asked.append((credentials.user, project, until))
        return {**options, "trust_id": f"trust-{len(self.asked)}"}


class Site(World):
    def __init__(self, **options: Any) -> None:
        self.authority = Authority()
        super().__init__(
            subscriber_types=("http", "trust+http"),
            entrusts={"trust+http": self.authority.entrust},
            **options,
        )
        self.credentials: Credentials | None = CALLER

    def ctx(self, **fields: Any) -> Context:
        return Context(
            project=PROJECT,
            client="c",
            request_id="r",
            now=self.now,
            credentials=self.credentials,
        )

    async def subscribe(self, subscriber: str = SUBSCRIBER, ttl: int = 600, **options: Any) -> str:
        made = await self.call(
            "subscriptions.create", queue="q", subscriber=subscriber, ttl=ttl, options=options
        )
        return str(made.id)

    async def update(self, id_: str, **document: Any) -> dict[str, Any]:
        await self.call("subscriptions.update", queue="q", subscription_id=id_, document=document)
        return await self.options(id_)

    async def options(self, id_: str) -> dict[str, Any]:
        found = await self.call("subscriptions.get", queue="q", subscription_id=id_)
        options: dict[str, Any] = found.options
        return options


async def test_trust_is_made_for_as_long_as_the_subscription_lasts_and_shown() -> None:
    site = Site()
    id_ = await site.subscribe(ttl=600, batch=2)
    assert site.authority.asked == [("user-1", PROJECT, site.now + 600)]
    assert await site.options(id_) == {"batch": 2, "trust_id": "trust-1"}


async def test_trust_that_is_given_is_kept() -> None:
    site = Site()
    site.credentials = None
    id_ = await site.subscribe(trust_id="mine")
    assert await site.options(id_) == {"trust_id": "mine"}
    assert not site.authority.asked


async def test_other_subscribers_are_asked_for_nothing() -> None:
    site = Site()
    site.credentials = None
    id_ = await site.subscribe("http://hooks.example/")
    assert await site.options(id_) == {}
    assert await site.update(id_, options={"batch": 3}) == {"batch": 3}


async def test_refusal_leaves_neither_subscription_nor_queue() -> None:
    site = Site()
    site.authority.refuses = True
    with pytest.raises(Forbidden):
        await site.subscribe()
    site.credentials = None
    with pytest.raises(Invalid):
        await site.subscribe()
    assert not (await site.call("subscriptions.list", queue="q")).subscriptions
    assert not (await site.call("queues.list")).queues


async def test_who_is_subscribed_already_makes_no_second_trust() -> None:
    site = Site()
    id_ = await site.subscribe()
    assert await site.subscribe() == id_
    await site.call("subscriptions.confirm", queue="q", subscription_id=id_, document={"confirmed": True})
    with pytest.raises(AlreadySubscribed):
        await site.subscribe()
    assert len(site.authority.asked) == 1
    assert await site.options(id_) == {"trust_id": "trust-1"}


async def test_nothing_is_recorded_without_a_trust_when_what_was_there_is_deleted_meanwhile() -> None:
    stage = Stage()
    site = Site(backend=stage)
    id_ = await site.subscribe()
    site.now += RECORDING
    gate = stage.documents.hold_after("get", skip=1)  # those of the subscriber's name and of the record
    subscribing = asyncio.create_task(site.subscribe())
    await gate.reached()
    await site.call("subscriptions.delete", queue="q", subscription_id=id_)
    gate.open()
    assert await subscribing == id_  # it was there when it was looked for
    assert not (await site.call("subscriptions.list", queue="q")).subscriptions
    assert await site.options(await site.subscribe()) == {"trust_id": "trust-2"}


async def test_change_of_ttl_leaves_the_trust_and_new_options_without_it_make_another() -> None:
    site = Site()
    id_ = await site.subscribe(ttl=600)
    site.credentials = None
    assert await site.update(id_, ttl=1200) == {"trust_id": "trust-1"}
    assert await site.update(id_, options={"trust_id": "mine"}) == {"trust_id": "mine"}
    with pytest.raises(Invalid):
        await site.update(id_, options={"batch": 2})
    assert await site.options(id_) == {"trust_id": "mine"}
    site.credentials = CALLER
    site.now += 100
    assert await site.update(id_, options={"batch": 2}, ttl=900) == {"batch": 2, "trust_id": "trust-2"}
    assert site.authority.asked[1:] == [("user-1", PROJECT, site.now + 900)]


async def test_one_that_was_disabled_is_entrusted_anew() -> None:
    site = Site()
    id_ = await site.subscribe()
    key = QueueKey(PROJECT, "q")
    found = await site.service.subscriptions.find(key, id_, now=site.now)
    assert found is not None
    await site.service.subscriptions.disable(key, found, now=site.now)
    site.credentials = None
    with pytest.raises(Invalid):
        await site.subscribe()
    site.credentials = CALLER
    assert await site.subscribe() == id_
    assert await site.options(id_) == {"trust_id": "trust-2"}


async def test_change_to_a_subscriber_that_wants_a_trust_makes_one() -> None:
    site = Site()
    id_ = await site.subscribe("http://hooks.example/", ttl=600)
    assert await site.update(id_, subscriber=SUBSCRIBER) == {"trust_id": "trust-1"}
    with pytest.raises(NotFound):
        await site.update("nobody", subscriber=SUBSCRIBER)


def test_token_is_not_told_by_accident() -> None:
    ctx = Context(project="p", client="c", request_id="r", now=0.0, credentials=CALLER)
    assert "t-1" not in f"{CALLER!r} {CALLER} {ctx}"


def test_credentials_are_read_for_operations_that_change_subscribers_only() -> None:
    delegating = {row.name for row in BY_NAME.values() if row.delegates}
    assert {"subscriptions.create", "subscriptions.update"} <= delegating
    assert all(name.endswith(("subscriptions.create", "subscriptions.update")) for name in delegating)
