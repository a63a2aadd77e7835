"""A store that fails: every operation says so with its own sentence, and changes nothing it acknowledges."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import Raw

from sukkal.core import service
from sukkal.core.signing import Signer
from sukkal.errors import StoreUnavailable, Unavailable
from sukkal.model import topic
from sukkal.operations import BY_NAME, Operation, offered
from sukkal.requests import NewMessage
from sukkal.wire.status import status_of

from .world import Stage, World, bodies

REQUESTS: Mapping[str, dict[str, Any]] = {
    "ping.get": {},
    "ping.probe": {},
    "health.get": {},
    "queues.list": {"with_count": True},
    "queues.create": {"queue": "new"},
    "queues.get": {"queue": "orders"},
    "queues.update": {
        "queue": "orders",
        "changes": [{"op": "remove", "path": "/metadata/_default_message_delay"}],
    },
    "queues.delete": {"queue": "orders"},
    "queues.stats": {"queue": "orders"},
    "queues.share": {"queue": "orders", "document": {}},
    "queues.purge": {"queue": "orders"},
    "messages.list": {"queue": "orders"},
    "messages.get_many": {"queue": "orders", "ids": ["{message}"]},
    "messages.post": {"queue": "new", "messages": [NewMessage(body=Raw(b"1"))]},
    "messages.delete_many": {"queue": "orders", "ids": ["{message}"]},
    "messages.get": {"queue": "orders", "id": "{message}"},
    "messages.delete": {"queue": "orders", "id": "{message}", "claim_id": "{claim}"},
    "claims.create": {"queue": "orders"},
    "claims.get": {"queue": "orders", "claim_id": "{claim}"},
    "claims.renew": {"queue": "orders", "claim_id": "{claim}"},
    "claims.release": {"queue": "orders", "claim_id": "{claim}"},
    "subscriptions.list": {"queue": "orders"},
    "subscriptions.create": {"queue": "new", "subscriber": "http://hooks.example/new"},
    "subscriptions.get": {"queue": "orders", "subscription_id": "{subscription}"},
    "subscriptions.update": {
        "queue": "orders",
        "subscription_id": "{subscription}",
        "document": {"subscriber": "http://hooks.example/moved", "ttl": 100},
    },
    "subscriptions.delete": {"queue": "orders", "subscription_id": "{subscription}"},
    "subscriptions.confirm": {
        "queue": "orders",
        "subscription_id": "{subscription}",
        "document": {"confirmed": True},
    },
    "subscriptions.replay": {"queue": "orders", "subscription_id": "{subscription}"},
}
WITHOUT_STORE = ("ping.probe", "queues.share")


def said(operation: Operation) -> str:
    return f"{operation.failure} Please try again in a few seconds."


ROWS = offered(admin_mode=True, pooling=False)  # test_pools.py asks the others
every_operation = pytest.mark.parametrize("operation", ROWS, ids=lambda operation: operation.name)


async def prepared(stage: Stage) -> tuple[World, dict[str, dict[str, Any]]]:
    """A world in which every request of REQUESTS has something to act on, and those requests.

    What is asked of a queue is asked of a topic of the same name too.
    """
    world = World(stage, signer=Signer("k" * 32), subscriber_types=["http"])
    await world.create("orders", _default_message_delay=1, _max_claim_count=1, _dead_letter_queue="dead")
    (message,) = await world.post("orders", "claimed", delay=0)
    claim = (await world.call("claims.create", queue="orders", ttl=1000)).id
    await world.post("orders", "spent", delay=0)
    spent = await world.call("claims.create", queue="orders")
    await world.call("claims.release", queue="orders", claim_id=spent.id)
    await world.post("orders", "free", delay=0)
    places = {"{message}": message, "{claim}": claim, "{subscription}": await subscribed(world, "orders")}
    await world.call("topics.create", queue=topic("orders"))
    (shown,) = await world.post(topic("orders"), "shown")
    in_topics = {"{message}": shown, "{subscription}": await subscribed(world, topic("orders"))}
    in_topics |= {name: topic(name) for name in ("orders", "new")}
    world.now += 10  # cached records are read again

    def filled(value: Any, places: Mapping[str, str]) -> Any:
        if isinstance(value, list):
            return [filled(item, places) for item in value]
        return places.get(value, value) if isinstance(value, str) else value

    def asked(row: Operation) -> dict[str, Any]:
        if row.like is None:
            return {key: filled(value, places) for key, value in REQUESTS[row.name].items()}
        fields = {key: filled(value, in_topics) for key, value in REQUESTS[row.like].items()}
        return {key: value for key, value in fields.items() if key != "claim_id"}

    return world, {row.name: asked(row) for row in ROWS}


async def subscribed(world: World, queue: str) -> str:
    answer = await world.call("subscriptions.create", queue=queue, subscriber="http://hooks.example/in")
    return str(answer.id)


def test_every_operation_has_a_sample_request() -> None:
    assert list(REQUESTS) == [operation.name for operation in ROWS if operation.like is None]


@every_operation
async def test_every_operation_is_served(operation: Operation) -> None:
    world, requests = await prepared(Stage())
    result = await world.call(operation.name, **requests[operation.name])
    if operation.result is not None and not operation.name.endswith("messages.delete_many"):
        assert isinstance(result, operation.result)
    else:
        assert result is None


@every_operation
async def test_broken_store_makes_every_operation_unavailable_in_its_own_words(operation: Operation) -> None:
    stage = Stage()
    world, requests = await prepared(stage)
    stage.break_down()
    if operation.name in WITHOUT_STORE:
        await world.call(operation.name, **requests[operation.name])
        return
    with pytest.raises(Unavailable) as fault:
        await world.call(operation.name, **requests[operation.name])
    assert fault.value.message == said(operation)
    assert fault.value.title == "Service temporarily unavailable"
    assert status_of(fault.value) == 503
    assert isinstance(fault.value.__cause__, StoreUnavailable)


async def either_answered_or_unavailable(world: World, operation: Operation, fields: dict[str, Any]) -> None:
    told = ""
    try:
        await world.call(operation.name, **fields)
    except Unavailable as fault:
        told = fault.message
    assert told in ("", said(operation))


@every_operation
async def test_any_single_call_to_the_store_may_fail_and_nothing_worse_happens(operation: Operation) -> None:
    calls, reached = 0, 0
    failing = -1

    async def count() -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise StoreUnavailable(f"call {calls} fails")

    while reached <= 100:
        failing = -1
        stage = Stage(count, answers_wait=False)
        world, requests = await prepared(stage)
        reached += 1
        failing = calls + reached
        await either_answered_or_unavailable(world, operation, requests[operation.name])
        if calls < failing:
            return  # there was no such call: all have been tried
        failing = -1
        # What fails is over: the service goes on, and what was neither deleted nor moved is there.
        await world.post("orders", "later")
    raise AssertionError("the operation asks the store without end")


async def test_failed_creation_can_be_repeated(staged: World, stage: Stage) -> None:
    stage.documents.fail_once("put")
    with pytest.raises(Unavailable):
        await staged.create("orders", team="blue")
    assert await staged.queues() == []
    assert (await staged.call("queues.create", queue="orders")).created


async def test_failed_post_leaves_no_message(staged: World, stage: Stage) -> None:
    stage.messages.fail_once("append")
    with pytest.raises(Unavailable):
        await staged.post("orders", "lost")
    await staged.post("orders", "kept")
    assert bodies(await staged.listed("orders")) == ["kept"]


async def test_failed_deletion_of_a_queue_can_be_repeated(staged: World, stage: Stage) -> None:
    await staged.post("orders", 1)
    stage.messages.fail_once("purge")
    with pytest.raises(Unavailable):
        await staged.call("queues.delete", queue="orders")
    await staged.call("queues.delete", queue="orders")
    assert await staged.listed("orders") == []


async def test_fault_of_ours_is_not_disguised_as_a_failing_store(staged: World, stage: Stage) -> None:
    async def bug() -> None:
        raise ZeroDivisionError

    stage.messages.before("page", bug)
    with pytest.raises(ZeroDivisionError):
        await staged.listed("orders")


# --- before a body is read -----------------------------------------------------------------------------


async def test_store_failing_while_a_body_limit_is_looked_up_is_unavailable(
    staged: World, stage: Stage
) -> None:
    stage.break_down()
    with pytest.raises(Unavailable, match="Messages could not be enqueued"):
        await staged.service.body_limit(BY_NAME["messages.post"], staged.ctx(), "orders")


async def test_store_failing_while_a_refusal_is_worded_is_unavailable(staged: World, stage: Stage) -> None:
    stage.break_down()
    with pytest.raises(Unavailable, match="Messages could not be enqueued"):
        await staged.service.too_large(BY_NAME["messages.post"], staged.ctx(), "orders")


# --- sweeping ------------------------------------------------------------------------------------------


async def sweep_times(staged: World, stage: Stage, times: int) -> None:
    """Let the service sweep until it has asked the store so many times more."""
    enough = stage.messages.hold_before("sweep", skip=times)
    task = asyncio.create_task(staged.service.sweep(lambda: staged.now))
    await enough.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_sweeping_goes_on_after_the_store_failed(
    staged: World, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SWEEP_SECONDS", 0)

    async def bug() -> None:
        raise ZeroDivisionError

    stage.messages.fail_once("sweep")
    stage.messages.before("sweep", bug)
    await sweep_times(staged, stage, 5)


async def test_sweeping_reclaims_what_the_clock_has_ended(
    staged: World, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SWEEP_SECONDS", 0)
    await staged.post("orders", *range(2500), ttl=60)
    staged.now += 60
    await sweep_times(staged, stage, 5)
    assert await stage.messages.sweep(now=staged.now) == 0
