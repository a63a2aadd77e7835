"""What listeners have yet to be told, since it takes time to find out whether they want it.

Each queue's is told in its order, in stretches that leave others their turn; queues take turns, too. Like all
that is told to connections it is kept in memory only, and bounded: what there is no room for is dropped.
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

MOST_OF_QUEUE = 4 * 1024 * 1024  # bytes of what waits
MOST_IN_ALL = 64 * 1024 * 1024
LONGEST_SPELL = 0.05  # seconds for one queue, while others wait
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
    """What waits of one queue."""

    def __init__(self) -> None:
        self.untold = deque[Untold]()
        self.size = 0


# Tells a listener, if it still listens; `hurried` when there is no time to ask whether it wants it.
Tell = Callable[[QueueKey, str, Untold, bool], None]


class Backlog:
    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._queues = OrderedDict[QueueKey, _Waiting]()  # whose turn it is first
        self._size = 0
        self._full = False  # so that something was dropped, and that was said
        self._working: asyncio.Task[None] | None = None

    def __contains__(self, key: QueueKey) -> bool:
        """Whether something waits that is to be told before what comes now."""
        return key in self._queues

    def add(self, key: QueueKey, notice: Notice, ids: Sequence[str]) -> bool:
        """Have these told, after what waits; False when there is no room for that."""
        untold = Untold(notice, ids)
        waiting = self._queues.get(key) or _Waiting()
        too_many = waiting.untold and waiting.size + untold.size > MOST_OF_QUEUE
        if too_many or self._size + untold.size > MOST_IN_ALL:
            if not self._full:
                log.warning("connections that listen to %s miss messages: their filters take long", key.name)
            self._full = True
            return False
        self._queues[key] = waiting
        waiting.untold.append(untold)
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
        self._queues.clear()
        self._size = 0

    async def _work(self) -> None:
        """Tell until nothing waits."""
        stretch = Stretch()
        try:
            while self._queues:
                key, waiting = next(iter(self._queues.items()))
                if await self._spell(key, waiting, stretch):
                    self._size -= waiting.untold[0].size
                    waiting.size -= waiting.untold.popleft().size
                if waiting.untold:
                    waiting.untold[0].put_aside()
                    self._queues.move_to_end(key)
                else:
                    del self._queues[key]
            self._full = False
        finally:
            self._working = None

    async def _spell(self, key: QueueKey, waiting: _Waiting, stretch: Stretch) -> bool:
        """Tell of a queue's first for a while; True once all have been told of it."""
        untold = waiting.untold[0]
        end = perf_counter() + LONGEST_SPELL
        for id_ in untold.ids:
            hurried = waiting.size > MOST_OF_QUEUE // 2 or self._size > MOST_IN_ALL // 2
            self._tell(key, id_, untold, hurried)
            if stretch.is_over:
                await stretch.rest()
                if len(self._queues) > 1 and perf_counter() > end:
                    return False
        return True
