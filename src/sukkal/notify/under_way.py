"""What a dispatcher is about: tasks, for works it has taken up."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from sukkal.notify.ledger import Work
from sukkal.notify.room import Room

log = logging.getLogger(__name__)


class UnderWay:
    def __init__(self, room: Room, ended: Callable[[], None]) -> None:
        """`ended` is called whenever a task has ended."""
        self._room = room
        self._ended = ended
        self.tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self.tasks)

    def start(
        self,
        works: Sequence[Work],
        begin: Callable[[], Coroutine[Any, Any, None] | None],
        *,
        project: str,
        size: int,
    ) -> bool:
        """Have a task do what `begin` makes, if there is room for it; whether there was.

        `size`: bytes that it holds in memory. None of `begin` means that there is nothing to do.
        """
        if not self._room.take(project, size):
            return False
        doing = None
        try:
            doing = begin()
        finally:
            if doing is None:
                self._room.leave(project, size)
        if doing is None:
            return True
        task = asyncio.create_task(doing)
        self.tasks.add(task)
        task.add_done_callback(partial(self._done, works, project, size))
        return True

    def _done(self, works: Sequence[Work], project: str, size: int, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._room.leave(project, size)
        self._ended()
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("deliveries: a fault; it comes back when its lease lapses", exc_info=fault)
            for work in works:
                work.hold.forsaken = True

    async def all_ended(self) -> None:
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def cancel(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
