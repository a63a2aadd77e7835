"""Who waits on which queue, and whom an arrival wakes.

Whoever waits takes a place, looks, and sleeps until it is woken; then it looks again. Since it has its place
before it looks, nothing can come between the look and the sleep without waking it.

Readers take nothing away: an arrival wakes them all. Claimers stand in line, and as many are woken as can
take what came. When nobody knows how much that is, one is woken, and whoever has taken all it could wakes the
next. Who leaves without having looked for what it was woken for, passes that on. Who finds nothing sleeps
again at its old place.

What comes by time alone, when a lease lapses or a delay ends, wakes by one timer for each queue on which
somebody waits. While nothing happens nobody asks the store anything.
"""

import asyncio
import logging
import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import count
from operator import attrgetter
from types import TracebackType

from sukkal.core.clock import Clock, Timer
from sukkal.errors import StoreUnavailable
from sukkal.model import Message, QueueKey
from sukkal.stores.contract import Heard, Messages, Waker

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0  # until those who wait are made to look, when the store did not say what comes due

_NUMBER = attrgetter("number")


class Waiting:
    """All who wait in this process, for what is posted, given back or comes due anywhere."""

    def __init__(self, store: Messages, waker: Waker, clock: Clock) -> None:
        self.clock = clock
        self.stopped = False
        self.wanted = waker.wanted  # whether telling of a queue may matter to anybody
        self._store = store
        self._waker = waker
        self._lines: dict[QueueKey, _Line] = {}
        self._numbers = count()
        self._others: Heard | None = None
        waker.listen(self._heard)

    def place(self, queue: QueueKey, *, limit: int = 0) -> "Place":
        """A place for one that takes up to `limit` messages when it is woken; for a reader without."""
        return Place(self, queue, limit, next(self._numbers))

    def stop(self) -> None:
        """End all waiting, now and from now on."""
        self.stopped = True
        for line in self._lines.values():
            line.end()

    @property
    def count(self) -> int:
        """How many wait."""
        return sum(line.count for line in self._lines.values())

    # --- telling -------------------------------------------------------------------------------------

    def posted(self, queue: QueueKey, messages: Sequence[Message], now: float) -> None:
        delayed = [message.visible for message in messages if message.visible > now]
        self._waker.tell(queue, len(messages) - len(delayed))
        if delayed:
            self._waker.tell(queue, None, min(delayed))

    def given_back(self, queue: QueueKey) -> None:
        """Some messages became visible, nobody counted how many."""
        if self.wanted(queue):
            self._waker.tell(queue, None)

    def comes_due(self, queue: QueueKey, due: float) -> None:
        """Some messages become visible at that time, unless they are gone by then."""
        if self.wanted(queue):
            self._waker.tell(queue, None, due)

    def hand_on(self, heard: Heard) -> None:
        """Have what is told of queues on which nobody waits called out to others, of whom there is one."""
        self._others = heard

    def _heard(self, queue: QueueKey, amount: int | None, due: float) -> None:
        line = self._lines.get(queue)
        if line is None:
            if self._others is not None:
                self._others(queue, amount, due)
            return
        if due and due > self.clock.now():
            line.comes_due(due)
        else:
            line.wake(amount)

    # --- places --------------------------------------------------------------------------------------

    async def enter(self, place: "Place") -> "_Line":
        line = self._lines.get(place.queue)
        if line is None:
            line = self._lines[place.queue] = _Line(place.queue, self._store, self.clock)
        line.enter(place)
        try:
            await self._waker.watch(place.queue)
        except BaseException:
            self.leave(place, line)
            raise
        line.look_ahead_once()
        return line

    def leave(self, place: "Place", line: "_Line") -> None:
        line.leave(place)
        if line.empty:
            line.close()
            del self._lines[place.queue]
            self._waker.unwatch(place.queue)


class Place:
    """One who waits, from `async with` to its end. To look is the caller's; `woken` is to sleep."""

    __slots__ = ("_future", "_line", "_waiting", "limit", "looked_for", "number", "queue", "wake")

    def __init__(self, waiting: Waiting, queue: QueueKey, limit: int, number: int) -> None:
        self.queue = queue
        self.limit = limit  # messages it can take; 0 for a reader
        self.number = number  # its place in line: lower ones come first
        self.wake = 0.0  # messages it was woken for, infinite when not counted, and has not looked for
        self.looked_for = 0.0  # the same, of the look under way
        self._waiting = waiting
        self._line: _Line
        self._future: asyncio.Future[None] | None = None  # while asleep

    async def __aenter__(self) -> "Place":
        self._line = await self._waiting.enter(self)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._waiting.leave(self, self._line)

    def took(self, amount: int) -> None:
        """Say that a look was worth it, before leaving."""
        # A claim that is not full has left nothing. A full one has done what it was counted for.
        self.looked_for = math.inf if amount == self.limit and self.looked_for == math.inf else 0.0

    async def woken(self, until: float) -> bool:
        """Sleep until there is reason to look again; False when there was none by that time.

        To be called after a look that found nothing. False too once all waiting is ended.
        """
        self.looked_for = 0.0
        waiting = self._waiting
        if waiting.stopped or waiting.clock.now() >= until:
            return False
        if not self.wake:
            await self._sleep(until)
        if not self.wake:
            return False
        self.looked_for, self.wake = self.wake, 0.0
        return True

    async def _sleep(self, until: float) -> None:
        self._future = asyncio.get_running_loop().create_future()
        timer = self._waiting.clock.call_at(until, self.rouse)
        self._line.fall_asleep(self)
        try:
            await self._future
        finally:
            timer.cancel()
            self._future = None
            self._line.stand_up(self)

    def need(self, amount: float) -> float:
        """Take on what it can of an arrival; how much of it is left for others."""
        if amount == math.inf or self.wake == math.inf:
            self.wake = math.inf
            return 0.0
        part = min(amount, self.limit - self.wake)
        self.wake += part
        return amount - part

    def rouse(self) -> None:
        """End its sleep, if it sleeps."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class _Line:
    """Those who wait on one queue."""

    def __init__(self, queue: QueueKey, store: Messages, clock: Clock) -> None:
        self._queue = queue
        self._store = store
        self._clock = clock
        self._readers: set[Place] = set()
        self._asleep: list[Place] = []  # claimers, by their place in line
        self._awake: dict[Place, None] = {}  # claimers that look, or are about to
        self._last: Place | None = None  # the claimer woken last
        self._due = math.inf  # when the timer goes off
        self._timer: Timer | None = None
        self._ahead: asyncio.Task[None] | None = None  # finds out when next something comes due

    @property
    def count(self) -> int:
        return len(self._readers) + len(self._asleep) + len(self._awake)

    @property
    def empty(self) -> bool:
        return not (self._readers or self._asleep or self._awake)

    def enter(self, place: Place) -> None:
        if place.limit:
            self._awake[place] = None
        else:
            self._readers.add(place)

    def fall_asleep(self, place: Place) -> None:
        if place.limit:
            del self._awake[place]
            insort(self._asleep, place, key=_NUMBER)

    def stand_up(self, place: Place) -> None:
        """Take a claimer out of those asleep, unless being woken has done so."""
        if place.limit and place not in self._awake:
            del self._asleep[bisect_left(self._asleep, place.number, key=_NUMBER)]
            self._awake[place] = None

    def leave(self, place: Place) -> None:
        if not place.limit:
            self._readers.remove(place)
            return
        del self._awake[place]
        if self._last is place:
            self._last = None
        self._wake_claimers(place.wake + place.looked_for)

    def end(self) -> None:
        for places in (self._readers, self._asleep):
            for place in places:
                place.rouse()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._ahead is not None:
            self._ahead.cancel()

    # --- waking --------------------------------------------------------------------------------------

    def wake(self, amount: int | None) -> None:
        """Wake who can use so many messages that became visible; None for an unknown number."""
        for reader in self._readers:
            reader.wake = math.inf
            reader.rouse()
        self._wake_claimers(math.inf if amount is None else amount)

    def _wake_claimers(self, amount: float) -> None:
        if self._last is not None and self._last.wake:  # it has not looked yet, so it may find these too
            amount = self._last.need(amount)
        while amount and self._asleep:
            place = self._asleep.pop(0)
            self._awake[place] = None
            self._last = place
            amount = place.need(amount)
            place.rouse()
        if amount and self._awake:  # one of those who look will look again, or pass it on
            next(iter(self._awake)).wake = math.inf

    # --- what comes by time --------------------------------------------------------------------------

    def comes_due(self, due: float) -> None:
        """Wake somebody at that time."""
        if due >= self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._clock.call_at(due, self._ring)

    def _ring(self) -> None:
        now, due = self._clock.now(), self._due
        self._due, self._timer = math.inf, None
        if now < due:  # the timer went off early
            self.comes_due(due)
            return
        self.wake(None)
        self._look_ahead(now)

    def look_ahead_once(self) -> None:
        """Find out what comes due, unless that was begun before: since then, it is told."""
        if self._ahead is None:
            # Whoever enters looks later than now, and so finds what is due until then.
            self._look_ahead(self._clock.now())

    def _look_ahead(self, since: float) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
        self._ahead = asyncio.create_task(self._find_due(since))

    async def _find_due(self, since: float) -> None:
        try:
            due = await self._store.next_due(self._queue, now=since)
        except StoreUnavailable as exc:
            log.warning("waiting: %s", exc)
            due = self._clock.now() + RETRY_SECONDS
        if due is not None:
            self.comes_due(due)
