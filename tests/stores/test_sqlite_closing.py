"""What those are told who still use the embedded store while it is closed, as a pool's may be at any time."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from sukkal.errors import StoreUnavailable
from sukkal.model import Message, QueueKey, View
from sukkal.stores.registry import open_backend

QUEUE = QueueKey("acme", "orders")


def message(id_: str) -> Message:
    return Message(id=id_, body=b"1", ttl=60, created=0.0, visible=0.0, expires=60.0)


async def test_closed_store_is_unavailable(tmp_path: Path) -> None:
    backend = await open_backend(f"sqlite://{tmp_path}/closed.db")
    await backend.messages.append(QUEUE, [message("a")])
    await backend.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await backend.messages.append(QUEUE, [message("b")])
    with pytest.raises(StoreUnavailable, match="closed"):
        await backend.messages.page(QUEUE, view=View(), after=None, limit=10, now=1.0)
    with pytest.raises(StoreUnavailable, match="closed"):
        await backend.ping()


async def test_write_that_comes_while_the_store_closes_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend: Any = await open_backend(f"sqlite://{tmp_path}/closing.db")
    database, moved = backend._database, threading.Event()
    move = database._move_log
    monkeypatch.setattr(database, "_move_log", lambda: (moved.wait(10), move())[1])
    database._start_checkpoint()
    closing = asyncio.create_task(backend.close())
    await asyncio.sleep(0)  # it waits for the log now
    writing = asyncio.ensure_future(backend.messages.append(QUEUE, [message("a")]))
    moved.set()
    await asyncio.wait_for(asyncio.gather(closing, writing), 10)
    backend = await open_backend(f"sqlite://{tmp_path}/closing.db")
    assert len(await backend.messages.fetch(QUEUE, ["a"], now=1.0)) == 1
    await backend.close()
