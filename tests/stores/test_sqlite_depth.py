"""What a call on the embedded store costs does not depend on how many messages a queue holds.

The cost is counted in steps of SQLite's machine, not in time.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from sukkal.model import Lease, Message, QueueKey, View
from sukkal.stores.contract import Messages
from sukkal.stores.registry import open_backend
from sukkal.stores.sqlite import SqliteBackend

QUEUE = QueueKey("acme", "orders")
DELAY = 60.0
ONCE_VISIBLE = 100.0  # when all delays are over
FEW, MANY = 300, 6000
LEASE = Lease(id="claim", ttl=60, grace=60, since=ONCE_VISIBLE)

Call = Callable[[Messages], Coroutine[Any, Any, Any]]


def message(number: int, delay: float) -> Message:
    return Message(id=f"{number}", body=b"1", ttl=9000, created=0.0, visible=delay, expires=9000.0)


@contextlib.asynccontextmanager
async def filled(path: Path, delays: list[float]) -> AsyncIterator[SqliteBackend]:
    backend = cast(SqliteBackend, await open_backend(f"sqlite://{path}", durable=False))
    try:
        await backend.messages.append(QUEUE, [message(number, delay) for number, delay in enumerate(delays)])
        yield backend
    finally:
        await backend.close()


async def steps(backend: SqliteBackend, call: Call) -> int:
    """In tens."""
    count = 0

    def step() -> bool:
        nonlocal count
        count += 1
        return False

    connection = backend._database._connection
    connection.set_progress_handler(step, 10)
    await call(backend.messages)
    connection.set_progress_handler(None)
    return count


def page(now: float, **view: Any) -> Call:
    return lambda store: store.page(QUEUE, view=View(**view), after=None, limit=10, now=now)


def claim(store: Messages) -> Coroutine[Any, Any, Any]:
    return store.claim(QUEUE, LEASE, limit=10, now=ONCE_VISIBLE)


def pop(store: Messages) -> Coroutine[Any, Any, Any]:
    return store.pop(QUEUE, limit=10, now=ONCE_VISIBLE)


def stats(store: Messages) -> Coroutine[Any, Any, Any]:
    return store.stats(QUEUE, now=ONCE_VISIBLE)


@pytest.mark.parametrize("first", [DELAY, 0.0], ids=["all delayed", "but one"])
@pytest.mark.parametrize(
    "call", [page(0.0), page(0.0, include_delayed=True), page(ONCE_VISIBLE), claim, pop, stats]
)
async def test_messages_that_were_delayed_are_not_searched_for_others(
    tmp_path: Path, call: Call, first: float
) -> None:
    counts = []
    for number in (FEW, MANY):
        async with filled(tmp_path / f"{number}.db", [first, *[DELAY] * number]) as backend:
            while await backend.messages.sweep(now=ONCE_VISIBLE):  # what came due is ready, as it soon is
                pass
            counts.append(await steps(backend, call))
    assert 0 < counts[1] <= counts[0] * 1.2


async def test_messages_that_stay_delayed_are_passed_over_once(tmp_path: Path) -> None:
    lease = Lease(id="early", ttl=30, grace=60, since=0.0)

    def taking(number: int) -> Call:
        async def claim(store: Messages) -> None:
            assert len(await store.claim(QUEUE, lease, limit=10, now=0.0)) == number

        return claim

    async with filled(tmp_path / "store.db", [0.0, *[DELAY] * MANY, 0.0]) as backend:
        assert await steps(backend, taking(2)) > MANY / 10
        await backend.messages.append(QUEUE, [message(MANY + 2, 0.0), message(MANY + 3, DELAY)])
        assert 0 < await steps(backend, taking(1)) < MANY / 20


async def test_queue_of_delayed_messages_is_as_cheap_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with filled(path, [DELAY] * MANY):
        pass
    async with filled(path, []) as backend:
        assert 0 < await steps(backend, page(0.0)) < MANY / 20
