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

Where a queue has subscribers that want its messages in order, its jobs are in a line of their own, which one
process at a time goes through: it parks what is for others, and puts what is for those into their series. One
process at a time goes through a series, and delivers it.

Leases are renewed while work lasts. When the process dies they lapse, and others repeat what was not
finished. While the store cannot be reached, what was done is kept in mind, and nothing more is taken up.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from sukkal.core.attributes import RETRY_POLICY
from sukkal.core.clock import Clock
from sukkal.core.subscribing.deliveries import (
    JOBS,
    PARKED,
    Deliveries,
    Job,
    Parked,
    Told,
    Turn,
    delivery_id,
    line_or_series,
    turn_item,
    turn_queue,
)
from sukkal.core.subscribing.filters import Content, content
from sukkal.core.subscribing.recipients import Recipients
from sukkal.core.subscribing.rules import FILTER, parcel_size, wants_series
from sukkal.core.waiting import Place
from sukkal.errors import Invalid, StoreUnavailable
from sukkal.model import Lease, Notice, QueueKey, Subscription
from sukkal.notify.deliverer import Deliverer, Deliverers, Outcome, Parcel, Result
from sukkal.notify.hosts import Closed, Hosts
from sukkal.notify.ledger import (
    FIRST_PAUSE,
    LEASE_SECONDS,
    LONGEST_PAUSE,
    Hold,
    Ledger,
    Work,
    forsaking,
    insist,
)
from sukkal.notify.notice import render
from sukkal.notify.retry import LONGEST_LIFE, LONGEST_WAIT, SPREAD, chosen
from sukkal.tally import Figures
from sukkal.wire.bodies import trace_of

log = logging.getLogger(__name__)

MOST_OPEN = 8192  # deliveries tried, about to be or about to be parked, in memory at once
MOST_BYTES = 64 * 1024 * 1024  # of these
JOBS_AT_ONCE = 64
PARKED_AT_ONCE = 256
WRITTEN_AT_ONCE = 500  # deliveries of jobs in a line
LONG = 3600.0  # seconds of sleep without a reason to look
STRIDE = 32  # deliveries begun without a pause
LINE_SECONDS = 1.0  # what a host with a full line asks for
CLOSED_SECONDS = 20.0  # before a delivery to a host that was closed is looked at again, at least
SERIES_SECONDS = 60.0  # before a whole series is looked at again that waits for its host, unless it is closed
DISABLED = "it has answered before that it is gone"
NOBODY = "nobody delivers to subscribers of this type"
ROUTES = 10_000  # subscribers whose deliverer and host are remembered

Matches = Callable[[Content], bool]
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
        compile_filter: Callable[[Any], Matches] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`compile_filter` makes of a subscription's filter what tells whether a body matches."""
        self._deliveries = deliveries
        self._recipients = recipients
        self._deliverers = deliverers
        self._hosts = hosts
        self._clock = clock
        self._new_id = new_id
        self._figures = figures
        self._chance = chance
        self._room = asyncio.Event()
        self._ledger = Ledger(deliveries, clock, self._room.set)
        self._matches = None if compile_filter is None else _remembering(compile_filter)
        self._routes: dict[str, tuple[Deliverer | None, str]] = {}
        self._tries: set[asyncio.Task[None]] = set()
        self._tried_bytes = 0  # what these deliver
        self._handed_out = 0
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
        return bool(self._tries) or self._asleep < len(self._taking) or not self._ledger.idle

    # --- from start to stop --------------------------------------------------------------------------

    def start(self) -> None:
        self._writing = asyncio.create_task(_lasting(self._ledger.write))
        self._taking = [
            asyncio.create_task(self._take(JOBS, JOBS_AT_ONCE, self._take_jobs)),
            asyncio.create_task(self._take(PARKED, PARKED_AT_ONCE, self._take_parked)),
        ]

    async def stop(self, patience: float) -> None:
        """Take up nothing more, and end what is under way; what takes longer is left to others."""
        self._stopping = True
        self._room.set()
        for place in self._places:
            place.rouse()
        try:
            async with asyncio.timeout(patience):
                await asyncio.gather(*self._taking)
                while self._tries:
                    await asyncio.wait(self._tries)
                await self._ledger.settled()
        except TimeoutError:
            log.warning("stopping: %d deliveries are left to others, or to the next start", self.open)
        for task in (*self._taking, *self._tries):
            task.cancel()
        await asyncio.gather(*self._taking, *self._tries, return_exceptions=True)
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
        self, queue: QueueKey, limit: int, take: Callable[[Lease, float], Awaitable[int]]
    ) -> None:
        """Take up whatever there is, until told to stop."""
        pause = FIRST_PAUSE
        while not self._ended:
            try:
                async with self._deliveries.place(queue, limit) as place:
                    self._places.append(place)
                    try:
                        while not self._ended:
                            await self._have_room()
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

    async def _have_room(self) -> None:
        self._handed_out += 1
        if self._handed_out % STRIDE == 0:  # those begun get in line, where others see how long it is
            await asyncio.sleep(0)
        while not self._stopping and (
            len(self._tries) + self._ledger.unwritten >= MOST_OPEN
            or self._tried_bytes + self._ledger.unwritten_bytes >= MOST_BYTES
        ):
            self._room.clear()
            await self._room.wait()

    async def _take_jobs(self, lease: Lease, now: float) -> int:
        taken = await self._deliveries.take_jobs(lease, limit=JOBS_AT_ONCE, now=now)
        if not taken:
            return 0
        works = self._ledger.take(JOBS, lease, [id_ for id_, _ in taken])
        keys = list({job.key: None for _, job in taken if job is not None and job.messages})
        try:
            # Read after the jobs were taken: whoever had subscribed before a message was posted is there.
            now = self._clock.now()
            found = await _all(self._recipients.outside(key, now=now) for key in keys)
        except StoreUnavailable:
            await self._ledger.let_go(works[0].hold)
            raise
        audiences = dict(zip(keys, found, strict=True))
        lines = set[QueueKey]()
        with forsaking(works):
            for work, (_, job) in zip(works, taken, strict=True):
                if job is None or (not job.messages and job.key in lines):  # once is enough for all of it
                    self._ledger.end(work)
                    continue
                with _alone(work, job.queue):
                    if not job.messages:
                        lines.add(job.key)
                        await self._have_room()
                        self._start(work, self._go_through(work, _line_item(job)))
                        continue
                    audience = await self._audience(job, _unless_fault(audiences[job.key]))
                    await self._hand_out(work, job, audience)
        return len(taken)

    async def _audience(self, job: Job, subscriptions: Sequence[Subscription]) -> list[Subscription]:
        """Those of a queue's subscriptions that are told of messages."""
        if all(each.gone is not None for each in subscriptions):
            await insist(partial(self._deliveries.unmark, job.key, job.note))
        return [each for each in subscriptions if not self._recipients.awaited(each)]

    async def _hand_out(self, work: Work, job: Job, audience: Sequence[Subscription]) -> None:
        """Begin the deliveries of a job, or line them up."""
        series: list[Parked] = []
        for message in job.messages if audience else ():
            body = self._recipients.body(message)
            notification = render(_notice(job.key, message, body))
            for parked, subscription in self._made(job, message, body, audience):
                if wants_series(subscription):
                    series.append(parked)
                    continue
                await self._have_room()
                self._begin(work, parked, subscription, notification)
        if series:  # before any of a later job is lined up
            await insist(lambda: self._deliveries.line_up(series, now=self._clock.now()))
        self._ledger.end(work)

    def _made(
        self, job: Job, message: Told, body: bytes, audience: Sequence[Subscription]
    ) -> Iterator[tuple[Parked, Subscription]]:
        """The deliveries of one message."""
        for subscription in audience:
            if subscription.gone is not None and subscription.gone < message.created:
                continue  # what came before is a failure
            if self._wants(subscription, body):
                parked = Parked(
                    id=delivery_id(message.id, subscription.id),
                    project=job.project,
                    queue=job.queue,
                    subscription=subscription.id,
                    since=message.created,
                    message=message,
                    dead=job.dead,
                )
                yield parked, subscription

    def _wants(self, subscription: Subscription, body: bytes) -> bool:
        given = subscription.options.get(FILTER)
        if not given or self._matches is None:
            return True
        return self._matches(msgspec.json.encode(given))(content(body))

    async def _take_parked(self, lease: Lease, now: float) -> int:
        taken = await self._deliveries.take_parked(lease, limit=PARKED_AT_ONCE, now=now)
        if not taken:
            return 0
        works = self._ledger.take(PARKED, lease, [id_ for id_, _ in taken])
        names = list(
            {
                (each.key, each.subscription): None
                for _, each in taken
                if each is not None and each.subscription
            }
        )
        try:
            now = self._clock.now()
            found = await _all(self._recipients.find(*name, now=now) for name in names)
        except StoreUnavailable:
            await self._ledger.let_go(works[0].hold)
            raise
        subscriptions = dict(zip(names, found, strict=True))
        with forsaking(works):
            for work, (_, parked) in zip(works, taken, strict=True):
                if parked is None:
                    self._ledger.end(work)
                    continue
                with _alone(work, parked.queue):
                    if not parked.subscription:
                        await self._have_room()
                        self._start(work, self._go_through(work, parked))
                        continue
                    subscription = _unless_fault(subscriptions[parked.key, parked.subscription])
                    await self._resume(work, parked, subscription)
        return len(taken)

    async def _resume(self, work: Work, parked: Parked, subscription: Subscription | None) -> None:
        """Go on with what was parked."""
        if subscription is None or (not parked.directed and self._recipients.awaited(subscription)):
            self._figures.deliveries_dropped += 1  # it wants nothing any more
            if parked.turn:
                series = line_or_series(parked.key, parked.subscription)
                await insist(partial(self._deliveries.drop, series))
            self._ledger.end(work)
        elif parked.turn:
            await self._have_room()
            self._start(work, self._go_through(work, parked))
        else:
            notification = self._notification(parked)
            await self._have_room()
            self._begin(work, parked, subscription, notification)
            self._ledger.end(work)

    def _notification(self, parked: Parked) -> bytes:
        if parked.message is None:
            return self._recipients.text(parked)
        return render(_notice(parked.key, parked.message, self._recipients.body(parked.message)))

    # --- one delivery --------------------------------------------------------------------------------

    def _begin(self, work: Work, parked: Parked, subscription: Subscription, notification: bytes) -> None:
        """Try a delivery now, or park it when its host is not to be tried."""
        work.left += 1
        now = self._clock.now()
        deliverer, host = self._route(subscription.subscriber)
        if deliverer is not None and subscription.gone is None:
            delay = self._hosts.delay(host, parked.project, now)
            if delay is not None and now - parked.since < LONGEST_LIFE:
                self._wait_for_host(work, parked, delay)
                return
        attempt = self._try(work, parked, subscription, notification, deliverer, host)
        self._start(work, attempt, len(notification))

    def _start(self, work: Work, attempt: Coroutine[Any, Any, None], size: int = 0) -> None:
        task = asyncio.create_task(attempt)
        self._tries.add(task)
        self._tried_bytes += size
        task.add_done_callback(partial(self._tried, work, size))

    def _tried(self, work: Work, size: int, task: asyncio.Task[None]) -> None:
        self._tries.discard(task)
        self._tried_bytes -= size
        self._room.set()
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("deliveries: a fault; it comes back when its lease lapses", exc_info=fault)
            work.hold.forsaken = True

    def _route(self, subscriber: str) -> tuple[Deliverer | None, str]:
        route = self._routes.get(subscriber)
        if route is None:
            deliverer = self._deliverers.get(urlsplit(subscriber).scheme)
            route = deliverer, deliverer.host(subscriber) if deliverer else ""
            if len(self._routes) >= ROUTES:
                del self._routes[next(iter(self._routes))]
            self._routes[subscriber] = route
        return route

    def _wait_for_host(self, work: Work, parked: Parked, delay: float) -> None:
        """Park without an attempt."""
        self._park(work, parked, self._after(parked, delay, 2.0 ** min(parked.parkings, 20)))

    def _after(self, parked: Parked, delay: float, longest: float) -> float:
        """When to ask for a host again: after half the time it has waited, so that long lines move little.

        That is bounded, for what is old may have waited for something else: for this service to be started.
        """
        now = self._clock.now()
        if delay > LINE_SECONDS:  # it is closed, and all who wait would come back together again and again
            delay = max(delay, CLOSED_SECONDS)
        wait = min(max(delay, min((now - parked.since) / 2, longest)), LONGEST_WAIT)
        return now + wait * (1 + SPREAD * self._chance())

    def _park(self, work: Work, parked: Parked, due: float) -> None:
        self._ledger.park(work, replace(parked, parkings=parked.parkings + 1), due)

    async def _try(
        self,
        work: Work,
        parked: Parked,
        subscription: Subscription,
        notification: bytes,
        deliverer: Deliverer | None,
        host: str,
    ) -> None:
        if subscription.gone is not None:
            await self._give_up(parked, subscription, notification, Outcome(Result.FAILED, DISABLED))
            self._ledger.end(work)
            return
        try:
            if deliverer is None:
                outcome = Outcome(Result.FAILED, NOBODY)
            else:
                parcel = _parcel(parked.id, [notification], [parked], subscription)
                outcome = await self._deliver(parcel, deliverer, host)
        except Closed as closed:
            self._wait_for_host(work, parked, closed.delay)
            return
        except asyncio.CancelledError:  # the process ends; another tries again
            self._park(work, parked, self._clock.now())
            raise
        if outcome.result is Result.DELIVERED:
            self._figures.delivered += 1
            self._ledger.end(work)
            return
        parked = replace(parked, attempts=parked.attempts + 1)
        if outcome.result is Result.RETRY:
            due = await self._next(parked, subscription, outcome)
            if due is not None:
                self._figures.deliveries_retried += 1
                self._park(work, parked, due)
                return
        await self._give_up(parked, subscription, notification, outcome)
        self._ledger.end(work)

    async def _deliver(self, parcel: Parcel, deliverer: Deliverer, host: str) -> Outcome:
        async with self._hosts.slot(host, parcel.project):
            try:
                outcome = await deliverer.deliver(parcel)
            except Exception:  # a fault of ours is not the receiver's, and should not lose what is for it
                log.exception("deliveries: a deliverer failed")
                outcome = Outcome(Result.RETRY, "a fault of the service")
            works = outcome.reached or outcome.result is not Result.RETRY
            self._hosts.report(host, works, self._clock.now())
            return outcome

    # --- one line, one series ------------------------------------------------------------------------

    async def _go_through(self, work: Work, item: Parked) -> None:
        """Go through a line or series from its beginning, as long as all goes well and nobody else does."""
        line = line_or_series(item.key, item.subscription)
        serve = self._deliver_series if item.subscription else self._share_out
        due = None
        while due is None:
            now = self._clock.now()
            lease = Lease(id=self._new_id(now), ttl=LEASE_SECONDS, grace=0, since=now)
            turn = await insist(partial(self._deliveries.take_turn, line, lease, now=now))
            if turn is None:
                # Who has it may have looked before this came. By then it is done, or has died.
                due = await insist(partial(self._deliveries.turn_due, line, now=now))
                continue
            (held,) = self._ledger.take(turn_queue(line), lease, [line.name])
            with forsaking([held]):
                due = await serve(line, held.hold, turn, item)
                now = self._clock.now()
                ended = due is None and await insist(
                    partial(self._deliveries.end_turn, line, lease.id, now=now)
                )
            self._ledger.forget(held)  # but when this was cancelled: then it has to be given back
            if ended:
                break
        if due is not None:
            # All who find the same write the same, so one of them comes back.
            self._ledger.park(work, turn_item(item, f"{line.name}@{due!r}"), due)
        else:
            self._ledger.end(work)

    async def _share_out(self, line: QueueKey, hold: Hold, _turn: Turn, item: Parked) -> None:
        """Put the deliveries of one job after the other where they belong, until none is left.

        Or until the turn has lapsed.
        """
        while hold.lease.due > (now := self._clock.now()):
            found = await insist(partial(self._deliveries.first_jobs, line, limit=JOBS_AT_ONCE, now=now))
            if not found:
                return
            # Read after the jobs: whoever had subscribed before a message was posted is there.
            subscriptions = await insist(partial(self._recipients.outside, item.key, now=now))
            made: list[tuple[Parked, Subscription]] = []
            for _, job in found:
                audience = await self._audience(job, subscriptions) if job is not None else []
                if job is None or not audience:
                    continue
                for message in job.messages:
                    made += self._made(job, message, self._recipients.body(message), audience)
                    if len(made) >= WRITTEN_AT_ONCE:
                        await self._line_up(made)
                        made.clear()
            await self._line_up(made)
            await insist(partial(self._deliveries.done, line, [id_ for id_, _ in found], now=now))

    async def _line_up(self, made: Sequence[tuple[Parked, Subscription]]) -> None:
        now = self._clock.now()
        series = [parked for parked, subscription in made if wants_series(subscription)]
        others = [(parked, now) for parked, subscription in made if not wants_series(subscription)]
        if series:
            await insist(partial(self._deliveries.line_up, series, now=now))
        if others:
            await insist(partial(self._deliveries.park, others, now=now))

    async def _deliver_series(self, series: QueueKey, hold: Hold, turn: Turn, item: Parked) -> float | None:
        """Deliver parcel after parcel; else than None when to try the next one again.

        None when there is none, when the subscription wants none any more, and when the turn has lapsed.
        """
        while hold.lease.due > (now := self._clock.now()):
            # Asked for each parcel: as long as messages come a turn goes on, and meanwhile it may be changed.
            subscription = await insist(partial(self._recipients.find, item.key, item.subscription, now=now))
            if subscription is None or self._recipients.awaited(subscription):
                self._figures.deliveries_dropped += 1
                await insist(partial(self._deliveries.drop, series))
                return None
            size = turn.size or parcel_size(subscription)
            found = await insist(partial(self._deliveries.first_deliveries, series, limit=size, now=now))
            if not found:
                return None
            ids = [id_ for id_, _ in found]
            rows = [replace(row, attempts=turn.attempts) for _, row in found if row is not None]
            due, attempts = await self._bring(rows, subscription) if rows else (None, 0)
            now = self._clock.now()
            if due is not None:
                turn = Turn(attempts, len(found))
                await insist(partial(self._deliveries.put_off, series, hold.lease.id, turn, due=due, now=now))
                return due
            await insist(partial(self._deliveries.done, series, ids, now=now))
            turn = Turn()
        return None

    async def _bring(self, rows: list[Parked], subscription: Subscription) -> tuple[float | None, int]:
        """Try to deliver a parcel; when to try again, or None when it is over, and how often it was tried."""
        first = rows[0]
        notices = [self._notification(row) for row in rows]
        deliverer, host = self._route(subscription.subscriber)
        if subscription.gone is not None:
            outcome = Outcome(Result.FAILED, DISABLED)
        elif deliverer is None:
            outcome = Outcome(Result.FAILED, NOBODY)
        else:
            now = self._clock.now()
            delay = self._hosts.delay(host, first.project, now)
            if delay is not None and now - first.since < LONGEST_LIFE:
                return self._after(first, delay, SERIES_SECONDS), first.attempts
            id_ = first.id if len(rows) == 1 else delivery_id(first.id, rows[-1].id)
            try:
                outcome = await self._deliver(_parcel(id_, notices, rows, subscription), deliverer, host)
            except Closed as closed:
                return self._after(first, closed.delay, SERIES_SECONDS), first.attempts
        if outcome.result is Result.DELIVERED:
            self._figures.delivered += len(rows)
            return None, 0
        if subscription.gone is None:
            rows = [replace(row, attempts=first.attempts + 1) for row in rows]
        if outcome.result is Result.RETRY:
            due = await self._next(rows[0], subscription, outcome)
            if due is not None:
                self._figures.deliveries_retried += len(rows)
                return due, rows[0].attempts
        for row, notification in zip(rows, notices, strict=True):
            await self._give_up(row, subscription, notification, outcome)
        return None, 0

    # --- failures ------------------------------------------------------------------------------------

    async def _next(self, parked: Parked, subscription: Subscription, outcome: Outcome) -> float | None:
        """When to try again; None when that is enough."""
        now = self._clock.now()
        metadata = await insist(lambda: self._recipients.metadata(parked.key, now=now))
        policy = chosen(subscription.options.get(RETRY_POLICY), metadata.get(RETRY_POLICY))
        wait = policy.wait(parked.attempts)
        if wait is None:
            return None
        asked = min(outcome.retry_after or 0.0, LONGEST_WAIT)
        due = now + max(wait * (1 + SPREAD * self._chance()), asked)
        return due if due < parked.since + LONGEST_LIFE else None

    async def _give_up(
        self, parked: Parked, subscription: Subscription, notification: bytes, outcome: Outcome
    ) -> None:
        now = self._clock.now()
        log.info(
            "deliveries: gave up on one to subscription %s of %s after %d attempts: %s",
            subscription.id,
            parked.queue,
            parked.attempts,
            outcome.reason,
        )
        buried = await insist(
            lambda: self._recipients.bury(parked, subscription, notification, outcome.reason, now=now)
        )
        if outcome.result is Result.GONE:
            await insist(lambda: self._recipients.disable(parked.key, subscription, now=now))
        if buried:
            self._figures.deliveries_dead_lettered += 1
        else:
            self._figures.deliveries_dropped += 1


def _line_item(job: Job) -> Parked:
    """What has somebody go through the line of a job's queue."""
    return Parked(id="", project=job.project, queue=job.queue, subscription="", since=0.0, turn=True)


def _parcel(id_: str, notices: list[bytes], rows: list[Parked], subscription: Subscription) -> Parcel:
    first = rows[0]
    traces = [trace_of(row.message.body) for row in rows if row.message is not None]
    return Parcel(
        id=id_,
        project=first.project,
        subscription=subscription,
        notices=notices,
        created=first.since,
        attempt=first.attempts,
        traces=[trace for trace in traces if trace],
    )


def _notice(key: QueueKey, told: Told, body: bytes) -> Notice:
    return Notice(queue=key.title, body=body, ttl=told.ttl, delay=told.delay)


def _remembering(compile_filter: Callable[[Any], Matches]) -> Callable[[bytes], Matches]:
    """The same by the filter's JSON; the last ones are kept."""

    @lru_cache(maxsize=1024)
    def compiled(filter_: bytes) -> Matches:
        try:
            return compile_filter(msgspec.json.decode(filter_))
        except Invalid as exc:  # it was checked when it came, maybe by a release that took more
            log.warning("deliveries: a filter cannot be used, everything matches it: %s", exc)
            return lambda _body: True

    return compiled


async def _all(calls: Iterable[Awaitable[Answer]]) -> list[Answer | BaseException]:
    """What each call answers, or its fault. Raises StoreUnavailable when one does."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    for each in found:
        if isinstance(each, StoreUnavailable):
            raise each
    return found


def _unless_fault(answer: Answer | BaseException) -> Answer:
    if isinstance(answer, BaseException):
        raise answer
    return answer


@contextlib.contextmanager
def _alone(work: Work, queue: str) -> Iterator[None]:
    """Let a fault with one work keep others from nothing. It comes back when the lease lapses."""
    try:
        yield
    except Exception:
        log.exception("deliveries: a fault with one of %s; it comes back", queue)
        work.hold.forsaken = True


async def _lasting(chore: Callable[[], Awaitable[None]]) -> None:
    """Do a chore for as long as the task lives, whatever goes wrong."""
    while True:
        try:
            await chore()
        except Exception:
            log.exception("deliveries: a fault; going on")
            await asyncio.sleep(FIRST_PAUSE)
