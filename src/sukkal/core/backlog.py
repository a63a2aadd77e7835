"""What listeners have yet to be told, since it takes time to find out whether they want it.

Each queue's is told in its order, in stretches that leave others their turn; projects take turns, and queues
of a project. Like all that is told to connections it is kept in memory only, and bounded: what there is no
room for is dropped.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

from sukkal.core.stretch import Stretch
from sukkal.core.subscribing.filters import Content, content
from sukkal.model import Notice, QueueKey

log = logging.getLogger(__name__)

MOST_OF_PROJECT = 8 * 1024 * 1024  # bytes of what waits
MOST_IN_ALL = 64 * 1024 * 1024
LONGEST_SPELL = 0.05  # seconds for one queue, while others have something waiting
_REFERENCE = 8  # bytes
_RECORD = 1024  # bytes, or less: of a notice but for its body


class Untold:
    """A message, and who has yet to be told of it."""

    __slots__ = ("_content", "ids", "notice", "size")

    def __init__(self, notice: Notice, ids: Sequence[str]) -> None:
        self.notice = notice
        self.ids: Iterator[str] = iter(ids)
        self.size = len(notice.body) + len(ids) * _REFERENCE + _RECORD
        self._content: Content | None = None

    @property
    def content(self) -> Content:
        """The body, read."""
        self._content = self._content or content(self.notice.body)
        return self._content

    def put_aside(self) -> None:
        """Keep no more of it than what it came with."""
        self._content = None


class _Waiting:
    """What waits of one project."""

    def __init__(self) -> None:
        self.queues = OrderedDict[QueueKey, deque[Untold]]()  # whose turn it is first
        self.size = 0


# Tells a listener, if it still listens; `hurried` when there is no time to ask whether it wants it.
Tell = Callable[[QueueKey, str, Untold, bool], None]


class Backlog:
    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._projects = OrderedDict[str, _Waiting]()  # whose turn it is first
        self._size = 0
        self._full = False  # so that something was dropped, and that was said
        self._working: asyncio.Task[None] | None = None

    def holds(self, key: QueueKey) -> bool:
        """Whether something of the queue waits, that is to be told before what comes now."""
        waiting = self._projects.get(key.project)
        return waiting is not None and key in waiting.queues

    def add(self, key: QueueKey, notice: Notice, ids: Sequence[str]) -> bool:
        """Have these told, after what waits; False when there is no room for that."""
        untold = Untold(notice, ids)
        waiting = self._projects.get(key.project) or _Waiting()
        too_many = waiting.queues and waiting.size + untold.size > MOST_OF_PROJECT
        if too_many or self._size + untold.size > MOST_IN_ALL:
            if not self._full:
                log.warning("connections that listen to %s miss messages: their filters take long", key.name)
            self._full = True
            return False
        self._projects[key.project] = waiting
        waiting.queues.setdefault(key, deque()).append(untold)
        waiting.size += untold.size
        self._size += untold.size
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return True

    async def close(self) -> None:
        """Tell nothing more."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
        self._projects.clear()
        self._size = 0

    async def _work(self) -> None:
        """Tell until nothing waits."""
        stretch = Stretch()
        try:
            while self._projects:
                project, waiting = next(iter(self._projects.items()))
                key, untold = next(iter(waiting.queues.items()))
                if await self._spell(key, untold[0], waiting, stretch):
                    done = untold.popleft()
                    waiting.size -= done.size
                    self._size -= done.size
                if untold:
                    untold[0].put_aside()
                    waiting.queues.move_to_end(key)
                else:
                    del waiting.queues[key]
                if waiting.queues:
                    self._projects.move_to_end(project)
                else:
                    del self._projects[project]
            self._full = False
        finally:
            self._working = None

    async def _spell(self, key: QueueKey, untold: Untold, waiting: _Waiting, stretch: Stretch) -> bool:
        """Tell of a message for a while; True once all have been told of it."""
        end = perf_counter() + LONGEST_SPELL
        for id_ in untold.ids:
            behind, in_all = waiting.size - untold.size, self._size - untold.size
            self._tell(key, id_, untold, behind > MOST_OF_PROJECT // 2 or in_all > MOST_IN_ALL // 2)
            if stretch.is_over:
                await stretch.rest()
                others = len(self._projects) > 1 or len(waiting.queues) > 1
                if others and perf_counter() > end:
                    return False
        return True
