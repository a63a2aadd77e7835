"""Callers that go away while they wait for an answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class HungUp(Exception):
    """The caller went away before it had an answer; nobody waits for one."""


@asynccontextmanager
async def while_there(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block and raise HungUp when the caller goes away before it has come to its end.

    The request's body must have been read: what else comes is dropped.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        # Somebody else may have cancelled us too; then that is what has to go on.
        if gone and task.uncancel() == 0:
            raise HungUp from None
        raise
    finally:
        watching.cancel()
