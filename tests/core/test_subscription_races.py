"""Several who subscribe, change and delete one subscriber at once: it has one subscription at most.

As in `test_races.py`, in every order that the calls to the store can take; here from two processes.
"""

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sukkal.core.subscribing.subscriptions import RECORDING
from sukkal.errors import NotFound

from .world import Stage, Turns, World, count_up, next_schedule

HOOK = "http://hooks.example/in"
OTHER = "http://hooks.example/other"

Act = Callable[[World, str], Coroutine[Any, Any, Any]]  # given the subscription there is


async def subscribe(world: World, subscriber: str) -> str:
    answer = await world.call("subscriptions.create", queue="orders", subscriber=subscriber)
    return str(answer.id)


async def subscribe_anew(world: World, _id: str) -> None:
    await subscribe(world, HOOK)


async def delete(world: World, id_: str) -> None:
    await world.call("subscriptions.delete", queue="orders", subscription_id=id_)


async def replace(world: World, id_: str) -> None:
    await delete(world, id_)
    await subscribe(world, HOOK)


async def move(world: World, id_: str) -> None:
    with contextlib.suppress(NotFound):
        await world.call(
            "subscriptions.update", queue="orders", subscription_id=id_, document={"subscriber": OTHER}
        )


async def subscriptions(world: World) -> dict[str, str]:
    answer = await world.call("subscriptions.list", queue="orders")
    return {each.id: each.subscriber for each in answer.subscriptions}


async def check(world: World) -> None:
    """Each subscriber has one subscription at most, and is found to have it."""
    there = await subscriptions(world)
    assert len(set(there.values())) == len(there)
    world.now += RECORDING
    for id_, subscriber in there.items():
        assert await subscribe(world, subscriber) == id_
    assert await subscriptions(world) == there


@pytest.mark.parametrize(
    "acts",
    [(delete, replace), (move, subscribe_anew), (delete, move)],
    ids=lambda acts: " ".join(act.__name__ for act in acts),
)
async def test_subscriber_has_one_subscription_at_most_whatever_the_order(acts: tuple[Act, Act]) -> None:
    schedule: list[int] = []
    for _ in count_up(20_000):
        turns = Turns(schedule)
        stage = Stage(turns.wait, answers_wait=False)
        one, other = (World(stage, subscriber_types=["http"]) for _ in range(2))
        id_ = await subscribe(one, HOOK)
        one.now = other.now = one.now + RECORDING
        await turns.run(acts[0](other, id_), acts[1](one, id_))
        try:
            await check(one)
        except AssertionError as exc:
            raise AssertionError(f"schedule {schedule}: {exc}") from exc
        following = next_schedule(schedule, turns.choices)
        if following is None:
            return
        schedule = following
