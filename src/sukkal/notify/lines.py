"""Going through lines of jobs, and series of deliveries, where order matters or several go together.

One process at a time goes through each, who has its turn: a message under a lease, renewed like all that is
under way. Who cannot have the turn lets it be looked after when it can be had.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

from msgspec.structs import replace

from sukkal.core.clock import Clock
from sukkal.core.subscribing.deliveries import (
    Deliveries,
    Parked,
    Turn,
    line_or_series,
    turn_item,
    turn_queue,
)
from sukkal.core.subscribing.recipients import Recipients
from sukkal.core.subscribing.rules import parcel_size, wants_series
from sukkal.model import Lease, QueueKey, Subscription
from sukkal.notify.attempts import LINE_SECONDS, UNREADABLE, Attempts
from sukkal.notify.deliverer import Result
from sukkal.notify.fan_out import FanOut
from sukkal.notify.hosts import Closed
from sukkal.notify.ledger import LEASE_SECONDS, Hold, Ledger, Work, forsaking, insist
from sukkal.notify.room import Room

LONGEST_DELAY = 60.0  # seconds before a whole series is looked at again, unless its host is closed
PARCEL_BYTES = 1024 * 1024  # of messages brought at once, if they are more than one
FEW = 10  # jobs of a line, deliveries of a series read at once
READ_AT_ONCE = 16  # lines and series that are read at the same time
UNPACKED = 10  # times as much memory as its message takes a job that is looked at with filters

WRITTEN_AT_ONCE = 500  # deliveries
BYTES_AT_ONCE = 4 * 1024 * 1024  # of these


class Lines:
    def __init__(
        self,
        deliveries: Deliveries,
        recipients: Recipients,
        fan_out: FanOut,
        attempts: Attempts,
        ledger: Ledger,
        rooms: tuple[Room, Room],
        clock: Clock,
        new_id: Callable[[float], str],
        stopping: Callable[[], bool],
    ) -> None:
        """`rooms` for what is tried to be delivered, and for jobs. Once `stopping`, nothing more is begun."""
        self._deliveries = deliveries
        self._recipients = recipients
        self._fan_out = fan_out
        self._attempts = attempts
        self._ledger = ledger
        self._room, self._room_of_jobs = rooms
        self._stopping = stopping
        self._clock = clock
        self._new_id = new_id
        self._reading = asyncio.Semaphore(READ_AT_ONCE)

    async def go_through(self, work: Work, item: Parked) -> None:
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
            if due is None and self._stopping():
                due = now
        if due is not None:
            # All who find the same write the same, so one of them comes back; but it must not be taken for
            # the one that is about to be deleted.
            id_ = f"{line.name}@{due!r}"
            again = item.parkings + 1 if item.id == id_ else 0
            self._ledger.park(work, replace(turn_item(item, id_), parkings=again), due)
        else:
            self._ledger.end(work)

    # --- one line ------------------------------------------------------------------------------------

    async def _share_out(self, line: QueueKey, hold: Hold, turn: Turn, item: Parked) -> float | None:
        """Put the deliveries of one job after the other where they belong; None when that is all.

        Else when to go on, since there is no room now. None also when the turn has lapsed.
        """
        while hold.lease.due > (now := self._clock.now()) and not self._stopping():
            async with self._reading:
                found = await insist(partial(self._deliveries.first_jobs, line, limit=FEW, now=now))
                jobs = [job for _, job in found if job is not None]
                size = sum(job.size for job in jobs) * UNPACKED
                has_room = self._room_of_jobs.take(item.project, size)
            if not has_room:
                due = self._attempts.after(now, LINE_SECONDS, 0.0)
                await insist(partial(self._deliveries.put_off, line, hold.lease.id, turn, due=due, now=now))
                return due
            try:
                if not found:
                    return None
                async with aclosing(self._fan_out.of(item.key, jobs)) as made:
                    pile = Pile(self._deliveries, self._clock)
                    async for _, parked, subscription in made:
                        await pile.put(parked, subscription)
                    await pile.store()
            finally:
                self._room_of_jobs.leave(item.project, size)
            await insist(partial(self._deliveries.done, line, [id_ for id_, _ in found], now=now))
        return None

    # --- one series ----------------------------------------------------------------------------------

    async def _deliver_series(self, series: QueueKey, hold: Hold, turn: Turn, item: Parked) -> float | None:
        """Deliver parcel after parcel; else than None when to try the next one again.

        None when there is none, when the subscription wants none any more, and when the turn has lapsed.
        """
        while hold.lease.due > (now := self._clock.now()) and not self._stopping():
            # Asked for each parcel: as long as messages come a turn goes on, and meanwhile it may be changed.
            subscription = await insist(partial(self._recipients.find, item.key, item.subscription, now=now))
            if subscription is None:
                self._attempts.figures.deliveries_dropped += 1
                await insist(partial(self._deliveries.drop, series))
                return None
            if self._recipients.awaited(subscription):
                if not await self._drop_some(series, item):
                    return None
                continue
            async with self._reading:
                ids, rows, notices = await self._next_parcel(series, turn, subscription)
                if not ids:
                    return None
                size = self._attempts.size(subscription, notices)
                has_room = self._room.take(item.project, size)
            due: float | None = self._attempts.after(item.since, LINE_SECONDS, LONGEST_DELAY)
            attempts = turn.attempts
            if has_room:
                try:
                    due, attempts = await self._bring(rows, subscription, notices) if rows else (None, 0)
                finally:
                    self._room.leave(item.project, size)
            now = self._clock.now()
            if due is not None:
                put_off = Turn(attempts, len(ids) if attempts else turn.size)
                await insist(
                    partial(self._deliveries.put_off, series, hold.lease.id, put_off, due=due, now=now)
                )
                return due
            await insist(partial(self._deliveries.done, series, ids, now=now))
            turn = Turn()
        return None

    async def _drop_some(self, series: QueueKey, item: Parked) -> bool:
        """Take out what is for one that has not confirmed; False when there is nothing.

        That is looked at once more after what is there was read: what comes later may be for one that has.
        """
        found, _ = await insist(
            partial(self._deliveries.deliveries_in, series, limit=FEW, after=None, now=self._clock.now())
        )
        now = self._clock.now()
        subscription = await insist(partial(self._recipients.find, item.key, item.subscription, now=now))
        if found and subscription is not None and self._recipients.awaited(subscription):
            self._attempts.figures.deliveries_dropped += len(found)
            await insist(partial(self._deliveries.done, series, [id_ for id_, _ in found], now=now))
        return bool(found)

    async def _next_parcel(
        self, series: QueueKey, turn: Turn, subscription: Subscription
    ) -> tuple[list[str], list[Parked], list[bytes]]:
        """The ids of what is next, what of it can be read, and what the subscriber is told of that."""
        limit = turn.size or parcel_size(subscription)
        ids, rows, notices = list[str](), list[Parked](), list[bytes]()
        after, size = None, 0
        while True:
            few = min(limit - len(ids), FEW)
            found, after = await insist(
                partial(self._deliveries.deliveries_in, series, limit=few, after=after, now=self._clock.now())
            )
            for id_, row in found:
                if row is not None:
                    notice = self._attempts.notification(row)
                    size += len(notice)
                    # One that failed stays as it is; one that cannot be read goes alone.
                    too_large = size > PARCEL_BYTES and not turn.size
                    if notices and (too_large or UNREADABLE in (notice, notices[-1])):
                        return ids, rows, notices
                    rows.append(replace(row, attempts=turn.attempts))
                    notices.append(notice)
                ids.append(id_)
            if after is None or len(ids) == limit:
                return ids, rows, notices

    async def _bring(
        self, rows: list[Parked], subscription: Subscription, notices: list[bytes]
    ) -> tuple[float | None, int]:
        """Try to deliver a parcel; when to try again, or None when it is over, and how often it was tried."""
        first, attempts = rows[0], self._attempts
        delay = attempts.delay(first, subscription, LONGEST_DELAY)
        if delay is not None:
            return delay, first.attempts
        try:
            outcome = await attempts.make(rows, subscription, notices)
        except Closed as closed:
            return attempts.after(first.since, closed.delay, LONGEST_DELAY), first.attempts
        if outcome.result is Result.DELIVERED:
            attempts.figures.delivered += len(rows)
            return None, 0
        if subscription.gone is None:
            rows = [replace(row, attempts=first.attempts + 1) for row in rows]
        due = await attempts.next(rows[0], subscription, outcome)
        if due is not None:
            attempts.figures.deliveries_retried += len(rows)
            return due, rows[0].attempts
        for row, notification in zip(rows, notices, strict=True):
            await attempts.give_up(row, subscription, notification, outcome)
        return None, 0


class Pile:
    """Deliveries on their way into the store: into the series of those who want one, else parked."""

    def __init__(self, deliveries: Deliveries, clock: Clock) -> None:
        self._deliveries = deliveries
        self._clock = clock
        self._series: list[Parked] = []
        self._others: list[Parked] = []
        self._bytes = 0

    async def put(self, parked: Parked, subscription: Subscription) -> None:
        """Take one more; they are stored when they are many."""
        (self._series if wants_series(subscription) else self._others).append(parked)
        self._bytes += parked.size
        if len(self._series) + len(self._others) >= WRITTEN_AT_ONCE or self._bytes >= BYTES_AT_ONCE:
            await self.store()

    async def store(self) -> None:
        now = self._clock.now()
        series, others = self._series, [(parked, now) for parked in self._others]
        self._series, self._others, self._bytes = [], [], 0
        if series:
            await insist(partial(self._deliveries.line_up, series, now=now))
        if others:
            await insist(partial(self._deliveries.park, others, now=now))
