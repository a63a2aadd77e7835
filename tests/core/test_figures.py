"""What core counts, and which queues are the busiest."""

import logging
from collections.abc import Callable

import pytest

from sukkal.core.catalog import CACHE_SECONDS, LATELY
from sukkal.errors import StoreUnavailable, Unavailable
from sukkal.stores.observed import Observed

from .world import Stage, World


async def busiest(world: World, count: int = 2) -> list[tuple[str, int]]:
    return [(key.name, stats.free) for key, stats in await world.service.busiest(count, world.now)]


async def test_busiest_queues_are_those_with_most_posts_and_claims(world: World) -> None:
    await world.post("rare", 1)
    for number in range(5):
        await world.post("often", number)
    for _ in range(3):
        await world.post("drained", 1)
        await world.call("claims.create", queue="drained")
    assert await busiest(world) == [("drained", 0), ("often", 5)]


async def test_queue_that_was_busy_once_makes_place_for_those_that_are(world: World) -> None:
    for number in range(20):
        await world.post("then", number)
    for _ in range(6):
        world.now += CACHE_SECONDS
        await world.post("then", 1)
        for _ in range(3):
            await world.post("now", 1)
    assert next(name for name, _ in await busiest(world)) == "now"
    world.now += LATELY
    assert await busiest(world) == []


async def test_deleted_queue_is_not_among_the_busiest(world: World) -> None:
    await world.post("orders", 1)
    await world.call("queues.delete", queue="orders")
    assert await busiest(world) == []


async def test_what_a_failing_store_keeps_from_happening_is_not_counted(staged: World, stage: Stage) -> None:
    await staged.post("orders", 1)
    stage.messages.broken = {"append"}
    with pytest.raises(Unavailable):
        await staged.post("orders", 2)
    assert staged.service.figures.messages["acme"].posted == 1


async def test_log_line_of_a_failing_store_tells_who_asked_for_what(
    staged: World, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await staged.post("orders", 1)
    stage.messages.broken = {"append"}
    with caplog.at_level(logging.WARNING), pytest.raises(Unavailable):
        await staged.post("orders", 2)
    (line,) = [record for record in caplog.records if record.name == "sukkal.core.dispatch"]
    assert (
        vars(line).items()
        >= {
            "request_id": "req-test",
            "operation": "messages.post",
            "project": "acme",
        }.items()
    )


async def test_calls_of_an_observed_store_are_told_of_and_do_what_they_do() -> None:
    begun, ended = list[str](), list[BaseException | None]()

    def begin(verb: str) -> Callable[[BaseException | None], None]:
        begun.append(verb)
        return ended.append

    world = World(Observed(World().backend, begin))
    await world.post("orders", 1)
    assert len(await world.listed("orders")) == 1
    assert {"documents.get", "documents.put", "messages.append", "messages.page"} <= set(begun)
    assert ended == [None] * len(begun)


async def test_failure_of_an_observed_store_is_told_of(stage: Stage) -> None:
    ended = list[BaseException | None]()
    world = World(Observed(stage, lambda _: ended.append))
    stage.break_down()
    with pytest.raises(Unavailable):
        await world.post("orders", 1)
    (failure,) = ended
    assert isinstance(failure, StoreUnavailable)
