"""How much one sweep of the embedded store does at most, since requests wait for it."""

from pathlib import Path

import pytest

from sukkal.model import Lease, Message, QueueKey
from sukkal.stores.contract import Backend
from sukkal.stores.registry import open_backend
from sukkal.stores.sqlite import messages

ROWS = 10


async def test_lapses_in_many_queues_are_settled_a_bounded_number_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "SWEEP_ROWS", ROWS)
    backend = await open_backend(f"sqlite://{tmp_path}/sweep.db")
    queues = [QueueKey("acme", f"queue-{number}") for number in range(12)]
    for queue in queues:
        batch = [
            Message(id=f"{number}", body=b"1", ttl=9000, created=0.0, visible=0.0, expires=9000.0)
            for number in range(15)
        ]
        await backend.messages.append(queue, batch)
        await backend.messages.claim(
            queue, Lease(id=queue.name, ttl=60, grace=60, since=0.0), limit=15, now=0.0
        )
    steps = []
    while step := await backend.messages.sweep(now=60.0):
        steps.append(step)
    # A step drops leases, up to ROWS, and settles one table at most ROWS beyond the bound it meets.
    assert max(steps) <= 3 * ROWS
    assert sum(steps) == 12 * 15 + 12
    for queue in queues:
        assert len(await backend.messages.pop(queue, limit=20, now=60.0)) == 15
    await backend.close()


def own(name: str) -> QueueKey:
    return QueueKey("", name)


def message(id_: str) -> Message:
    return Message(id=id_, body=b"1", ttl=9000, created=0.0, visible=0.0, expires=9000.0)


async def boxes(backend: Backend) -> list[str]:
    """Of the service's own queues."""
    database = backend.messages._database  # type: ignore[attr-defined]
    rows = database.execute("SELECT name FROM box WHERE project = '' ORDER BY name")
    return [name for (name,) in rows]


async def sweep(backend: Backend, now: float) -> None:
    while await backend.messages.sweep(now=now):
        pass


async def test_empty_queues_of_the_services_own_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "SWEEP_BOXES", 3)
    backend = await open_backend(f"sqlite://{tmp_path}/sweep.db")
    names = [f"line/{number}" for number in range(10)]
    for name in names:
        await backend.messages.append(own(name), [message("m")])
        if name != "line/4":
            await backend.messages.pop(own(name), limit=1, now=0.0)
    for second in range(61):
        await sweep(backend, float(second))
        if second == 30:
            await backend.messages.append(own("line/7"), [message("n")])
            await backend.messages.pop(own("line/7"), limit=1, now=30.0)
    for second in range(61, 70):
        await sweep(backend, float(second))
    assert await boxes(backend) == ["line/4", "line/7"]
    for second in range(70, 200):
        await sweep(backend, float(second))
    assert await boxes(backend) == ["line/4"]
    assert len(await backend.messages.pop(own("line/4"), limit=2, now=200.0)) == 1
    await backend.messages.append(own("line/7"), [message("again")])
    assert len(await backend.messages.pop(own("line/7"), limit=2, now=200.0)) == 1
    assert len(backend.messages._empty) <= 2  # type: ignore[attr-defined]
    await backend.close()


async def test_empty_queues_of_projects_stay(tmp_path: Path) -> None:
    backend = await open_backend(f"sqlite://{tmp_path}/sweep.db")
    queue = QueueKey("acme", "orders")
    await backend.messages.append(queue, [message("m")])
    await backend.messages.pop(queue, limit=1, now=0.0)
    for second in range(200):
        await sweep(backend, float(second))
    assert backend.messages._boxes.get(queue) is not None  # type: ignore[attr-defined]
    await backend.close()
