"""How much one sweep of the embedded store does at most, since requests wait for it."""

from pathlib import Path

import pytest

from sukkal.model import Lease, Message, QueueKey
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
