"""Brings deliveries from the store to the subscribers.

Each process has one dispatcher. It takes up jobs under a lease, finds the subscriptions they are for, and
tries each delivery once. What could not be delivered is parked in the store until it is due again, when any
process takes it up the same way. A job is deleted once each of its deliveries has been made, parked or given
up, so a receiver that hangs delays nobody: it holds a place in memory, for as long as its deliverer has
patience.

    job ──▶ one delivery for each subscription ──▶ delivered
                 ▲                    │
                 │ when due           ├── failed, to be tried again ──▶ parked
                 └────── parked ◀─────┘
                                      └── failed for good ──▶ dead letter queue, if there is one

Where order matters, or several messages go together, lines and series are gone through: see `lines.py`.

No project takes up all the memory: what has no room is put off, as jobs are of a project that has many
under way. So nobody waits for another's receivers, but only for the store.

Leases are renewed while work lasts. When the process dies they lapse, and others repeat what was not
finished. While the store cannot be reached, what was done is kept in mind, and nothing more is taken up.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from sukkal.core.clock import Clock
from sukkal.core.subscribing.deliveries import JOBS, PARKED, Deliveries, Job, Parked
from sukkal.core.subscribing.recipients import Recipients
from sukkal.core.subscribing.rules import wants_series
from sukkal.core.waiting import Place
from sukkal.errors import StoreUnavailable
from sukkal.model import Lease, QueueKey, Subscription
from sukkal.notify.attempts import LINE_SECONDS, Attempts
from sukkal.notify.deliverer import Deliverers, Result
from sukkal.notify.fan_out import FanOut
from sukkal.notify.hosts import Closed, Hosts
from sukkal.notify.ledger import (
    FIRST_PAUSE,
    LEASE_SECONDS,
    LONGEST_PAUSE,
    Ledger,
    Work,
    forsaking,
    insist,
)
from sukkal.notify.lines import UNPACKED, Lines, Pile
from sukkal.notify.retry import LONGEST_WAIT
from sukkal.notify.room import Room
from sukkal.notify.under_way import UnderWay
from sukkal.tally import Figures

log = logging.getLogger(__name__)

MOST_OPEN = 8192  # deliveries tried, or about to be, in memory at once
MOST_BYTES = 64 * 1024 * 1024  # of these
MOST_UNWRITTEN = 2048  # deliveries to be parked, in memory at once
MOST_UNWRITTEN_BYTES = 16 * 1024 * 1024
MOST_HANDED_OUT = 256  # jobs handed out at once, those of one queue and one look counting as one
MOST_HANDED_OUT_BYTES = 256 * 1024 * 1024
JOBS_AT_ONCE = 64
PARKED_AT_ONCE = 256
PARKED_BYTES = 8 * 1024 * 1024  # taken up at once; of more, fewer are taken the next time
LONG = 3600.0  # seconds of sleep without a reason to look
STRIDE = 32  # deliveries begun without a pause
LONGEST_PUT_OFF = 30.0  # seconds that jobs are, at most

Answer = TypeVar("Answer")


class Dispatcher:
    def __init__(
        self,
        deliveries: Deliveries,
        recipients: Recipients,
        deliverers: Deliverers,
        hosts: Hosts,
        clock: Clock,
        new_id: Callable[[float], str],
        figures: Figures,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._deliveries = deliveries
        self._recipients = recipients
        self._deliverers = deliverers
        self._clock = clock
        self._new_id = new_id
        self._figures = figures
        self._less = asyncio.Event()  # is in memory than before
        self._ledger = Ledger(deliveries, clock, self._less.set)
        room = Room(count=MOST_OPEN, size=MOST_BYTES)
        self._tries = UnderWay(room, self._less.set)
        room_of_jobs = Room(count=MOST_HANDED_OUT, size=MOST_HANDED_OUT_BYTES)
        self._handed_out = UnderWay(room_of_jobs, self._less.set)
        self._fan_out = FanOut(recipients, deliveries, clock)
        self._attempts = Attempts(recipients, deliverers, hosts, clock, figures, chance)
        self._lines = Lines(
            deliveries,
            recipients,
            self._fan_out,
            self._attempts,
            self._ledger,
            (room, room_of_jobs),
            clock,
            new_id,
            lambda: self._stopping,
        )
        self._begun = 0
        self._parked_at_once = PARKED_AT_ONCE
        self._stopping = False
        self._asleep = 0  # of those who take up more
        self._places: list[Place] = []  # where it waits for more
        self._taking: list[asyncio.Task[None]] = []
        self._writing: asyncio.Task[None] | None = None

    @property
    def open(self) -> int:
        """How many deliveries are tried now, or about to be."""
        return len(self._tries)

    @property
    def busy(self) -> bool:
        """Whether anything is under way, and not just waited for."""
        under_way = len(self._tries) or len(self._handed_out)
        return bool(under_way) or self._asleep < len(self._taking) or not self._ledger.idle

    # --- from start to stop --------------------------------------------------------------------------

    def start(self) -> None:
        self._writing = asyncio.create_task(_lasting(self._ledger.write))
        self._taking = [
            asyncio.create_task(self._take(JOBS, JOBS_AT_ONCE, self._end_some_jobs, self._take_jobs)),
            asyncio.create_task(self._take(PARKED, PARKED_AT_ONCE, self._catch_up, self._take_parked)),
        ]

    async def stop(self, patience: float) -> None:
        """Take up nothing more, and end what is under way; what takes longer is left to others."""
        self._stopping = True
        self._less.set()
        for place in self._places:
            place.rouse()
        try:
            async with asyncio.timeout(patience):
                await asyncio.gather(*self._taking)
                await self._handed_out.all_ended()
                await self._tries.all_ended()
                await self._ledger.settled()
        except TimeoutError:
            log.warning("stopping: %d deliveries are left to others, or to the next start", self.open)
        for task in self._taking:
            task.cancel()
        await asyncio.gather(*self._taking, return_exceptions=True)
        await self._handed_out.cancel()
        await self._tries.cancel()
        try:
            async with asyncio.timeout(FIRST_PAUSE * 10):
                await self._ledger.settled()
                await self._ledger.give_back()
        except TimeoutError:
            log.warning("stopping: the store does not answer; deliveries come back when their leases lapse")
        self._ledger.close()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        for deliverer in set(self._deliverers.values()):
            await deliverer.close()

    # --- taking up -----------------------------------------------------------------------------------

    async def _take(
        self,
        queue: QueueKey,
        limit: int,
        be_ready: Callable[[], Awaitable[None]],
        take: Callable[[Lease, float], Awaitable[int]],
    ) -> None:
        """Take up whatever there is, until told to stop."""
        pause = FIRST_PAUSE
        while not self._ended:
            try:
                async with self._deliveries.place(queue, limit) as place:
                    self._places.append(place)
                    try:
                        while not self._ended:
                            await be_ready()
                            if self._ended:
                                break
                            now = self._clock.now()
                            lease = Lease(id=self._new_id(now), ttl=LEASE_SECONDS, grace=0, since=now)
                            taken = await take(lease, now)
                            pause = FIRST_PAUSE
                            if not taken and not self._ended:
                                await self._sleep(place)
                    finally:
                        self._places.remove(place)
            except Exception as exc:
                if isinstance(exc, StoreUnavailable):
                    log.warning("deliveries: %s", exc)
                else:
                    log.exception("deliveries: a fault; going on")
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _sleep(self, place: Place) -> None:
        self._asleep += 1
        try:
            await place.woken(self._clock.now() + LONG)
        finally:
            self._asleep -= 1

    @property
    def _ended(self) -> bool:
        return self._stopping or self._deliveries.stopped

    async def _catch_up(self) -> None:
        """Wait as long as too much is in memory that the store has yet to take."""
        self._begun += 1
        if self._begun % STRIDE == 0:  # those begun get in line, where others see how long it is
            await asyncio.sleep(0)
        while not self._stopping and (
            self._ledger.unwritten >= MOST_UNWRITTEN or self._ledger.unwritten_bytes >= MOST_UNWRITTEN_BYTES
        ):
            self._less.clear()
            await self._less.wait()

    # --- jobs ----------------------------------------------------------------------------------------

    async def _end_some_jobs(self) -> None:
        """Wait as long as many are handed out."""
        await self._catch_up()
        while not self._stopping and len(self._handed_out) >= MOST_HANDED_OUT:
            self._less.clear()
            await self._less.wait()

    async def _take_jobs(self, lease: Lease, now: float) -> int:
        taken = await self._deliveries.take_jobs(lease, limit=JOBS_AT_ONCE, now=now)
        if not taken:
            return 0
        works = self._ledger.take(JOBS, lease, [id_ for id_, _ in taken])
        by_queue = defaultdict[QueueKey, list[tuple[Work, Job]]](list)
        in_line = dict[QueueKey, Work]()
        for work, (_, job) in zip(works, taken, strict=True):
            if job is None or (not job.messages and job.key in in_line):  # once is enough for the whole line
                self._ledger.end(work)
            elif job.messages:
                by_queue[job.key].append((work, job))
            else:
                in_line[job.key] = work
        with forsaking(works):
            for key, work in in_line.items():
                await self._go_through(work, _line_item(key, work.id, now))
            for some in by_queue.values():
                await self._begin_jobs(some)
        return len(taken)

    async def _begin_jobs(self, some: Sequence[tuple[Work, Job]]) -> None:
        """Begin to hand out jobs of one queue, or put them off when too many of its project's are."""
        works = [work for work, _ in some]
        begin = partial(self._hand_out_some, some)
        size = sum(job.size for _, job in some) * UNPACKED
        if not self._handed_out.start(works, begin, project=some[0][1].project, size=size):
            await self._put_jobs_off(some, LINE_SECONDS, LONGEST_PUT_OFF)

    async def _put_jobs_off(self, some: Sequence[tuple[Work, Job]], delay: float, longest: float) -> None:
        now = self._clock.now()
        rows = [
            (work.id, job, self._attempts.after(job.messages[0].created, delay, longest))
            for work, job in some
        ]
        await insist(partial(self._deliveries.put_jobs_off, rows, now=now))
        for work, _ in some:
            self._ledger.end(work)

    async def _hand_out_some(self, some: Sequence[tuple[Work, Job]]) -> None:
        """Hand out jobs of one queue; after a fault each by itself, and what has one comes back."""
        try:
            await self._hand_out([work for work, _ in some], [job for _, job in some])
        except Exception:
            log.exception("deliveries: a fault with one of %s; it comes back", some[0][1].queue)
            if len(some) == 1:
                await self._put_jobs_off(some, LEASE_SECONDS, LONGEST_WAIT)
                return
            for one in some:
                await self._hand_out_some([one])

    async def _hand_out(self, works: Sequence[Work], jobs: Sequence[Job]) -> None:
        """Begin the deliveries of jobs of one queue, or line them up."""
        work_of = dict(zip(map(id, jobs), works, strict=True))
        pile = Pile(self._deliveries, self._clock)
        async with aclosing(self._fan_out.of(jobs[0].key, jobs)) as made:
            told, notification = None, b""
            async for job, parked, subscription in made:
                if wants_series(subscription):
                    await pile.put(parked, subscription)
                    continue
                if parked.message is not told:
                    told, notification = parked.message, self._attempts.notification(parked)
                await self._catch_up()
                self._begin(work_of[id(job)], parked, subscription, notification)
        await pile.store()
        for work in works:
            self._ledger.end(work)

    # --- parked deliveries ---------------------------------------------------------------------------

    async def _take_parked(self, lease: Lease, now: float) -> int:
        taken = await self._deliveries.take_parked(lease, limit=self._parked_at_once, now=now)
        if not taken:
            return 0
        self._adapt(sum(parked.size for _, parked in taken if parked is not None))
        works = self._ledger.take(PARKED, lease, [id_ for id_, _ in taken])
        names = dict.fromkeys((each.key, each.subscription) for _, each in taken if each is not None)
        try:
            now = self._clock.now()
            found = await _all(self._find(*name, now=now) for name in names)
        except StoreUnavailable:
            await self._ledger.let_go(works[0].hold)
            raise
        subscriptions = dict(zip(names, found, strict=True))
        with forsaking(works):
            for work, (_, parked) in zip(works, taken, strict=True):
                if parked is None:
                    self._ledger.end(work)
                    continue
                found_one = subscriptions[parked.key, parked.subscription]
                await self._guarded(work, parked, partial(self._resume, work, parked, found_one))
        return len(taken)

    def _adapt(self, size: int) -> None:
        """Take fewer at once the next time, when those were large; else more."""
        half, twice = self._parked_at_once // 2, self._parked_at_once * 2
        self._parked_at_once = max(half, 1) if size > PARKED_BYTES else min(twice, PARKED_AT_ONCE)

    async def _find(self, key: QueueKey, subscription: str, *, now: float) -> Subscription | None:
        return await self._recipients.find(key, subscription, now=now) if subscription else None

    async def _guarded(
        self, work: Work, parked: Parked, doing: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Do something about one that was parked; after a fault it comes back, and takes no other along."""
        try:
            await doing()
        except Exception:
            log.exception("deliveries: a fault with one of %s; it comes back", parked.queue)
            self._put_off(work, parked, self._attempts.after(parked.since, LEASE_SECONDS, LONGEST_WAIT))

    async def _resume(self, work: Work, parked: Parked, found: Subscription | BaseException | None) -> None:
        """Go on with what was parked."""
        if isinstance(found, BaseException):
            raise found
        if parked.turn:
            await self._go_through(work, parked)
        elif found is None or (not parked.directed and self._recipients.awaited(found)):
            self._figures.deliveries_dropped += 1  # it wants nothing any more
            self._ledger.end(work)
        else:
            notification = self._attempts.notification(parked)
            await self._catch_up()
            self._begin(work, parked, found, notification)
            self._ledger.end(work)

    async def _go_through(self, work: Work, item: Parked) -> None:
        """Have a line or series gone through, or looked after later when there is no room."""
        await self._catch_up()
        begin = partial(self._guarded, work, item, partial(self._lines.go_through, work, item))
        if not self._tries.start([work], begin, project=item.project, size=0):
            self._put_off(work, item, self._attempts.after(self._clock.now(), LINE_SECONDS, 0.0))

    # --- one delivery --------------------------------------------------------------------------------

    def _begin(self, work: Work, parked: Parked, subscription: Subscription, notification: bytes) -> None:
        """Try a delivery now, or park it when its host is not to be tried, or there is no room for it."""
        size = self._attempts.size(subscription, [notification])
        longest = 2.0 ** min(parked.parkings, 20)

        def begin() -> Coroutine[Any, Any, None] | None:
            due = self._attempts.delay(parked, subscription, longest)
            if due is None:
                attempt = partial(self._try, work, parked, subscription, notification)
                return self._guarded(work, parked, attempt)
            self._put_off(work, parked, due)
            return None

        work.left += 1
        try:
            if not self._tries.start([work], begin, project=parked.project, size=size):
                self._put_off(work, parked, self._attempts.after(parked.since, LINE_SECONDS, longest))
        except Exception:
            work.left -= 1  # nothing was begun
            raise

    def _put_off(self, work: Work, parked: Parked, due: float) -> None:
        self._ledger.park(work, replace(parked, parkings=parked.parkings + 1), due)

    async def _try(self, work: Work, parked: Parked, subscription: Subscription, notification: bytes) -> None:
        try:
            outcome = await self._attempts.make([parked], subscription, [notification])
        except Closed as closed:
            longest = 2.0 ** min(parked.parkings, 20)
            self._put_off(work, parked, self._attempts.after(parked.since, closed.delay, longest))
            return
        except asyncio.CancelledError:  # the process ends; another tries again
            self._put_off(work, parked, self._clock.now())
            raise
        if outcome.result is Result.DELIVERED:
            self._figures.delivered += 1
            self._ledger.end(work)
            return
        if subscription.gone is None:
            parked = replace(parked, attempts=parked.attempts + 1)
        due = await self._attempts.next(parked, subscription, outcome)
        if due is not None:
            self._figures.deliveries_retried += 1
            self._put_off(work, parked, due)
            return
        await self._attempts.give_up(parked, subscription, notification, outcome)
        self._ledger.end(work)


def _line_item(key: QueueKey, job: str, now: float) -> Parked:
    """What has somebody go through the line of a queue's jobs, as the job with this id does."""
    return Parked(
        id=f"line.{job}",
        project=key.project,
        queue=key.name,
        subscription="",
        since=now,
        turn=True,
    )


async def _all(calls: Iterable[Awaitable[Answer]]) -> list[Answer | BaseException]:
    """What each call answers, or its fault. Raises StoreUnavailable when one does."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    for each in found:
        if isinstance(each, StoreUnavailable):
            raise each
    return found


async def _lasting(chore: Callable[[], Awaitable[None]]) -> None:
    """Do a chore for as long as the task lives, whatever goes wrong."""
    while True:
        try:
            await chore()
        except Exception:
            log.exception("deliveries: a fault; going on")
            await asyncio.sleep(FIRST_PAUSE)
