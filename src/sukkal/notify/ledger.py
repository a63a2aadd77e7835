"""What a dispatcher has taken up and what became of it, on its way back into the store.

Deliveries end one by one; they are written many at a time. Parking comes before deleting what it came from.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from msgspec.structs import replace

from sukkal.core.clock import Clock, Timer
from sukkal.core.subscribing.deliveries import JOBS, PARKED, Deliveries, Parked
from sukkal.errors import StoreUnavailable
from sukkal.model import Lease, QueueKey

log = logging.getLogger(__name__)

LEASE_SECONDS = 15  # until others repeat what a process has taken up that died
RENEW_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts to reach a store
WRITTEN_AT_ONCE = 500
BYTES_AT_ONCE = 4 * 1024 * 1024

Answer = TypeVar("Answer")


class Hold:
    """What was taken up together, under one lease."""

    __slots__ = ("forsaken", "lease", "open", "queue")

    def __init__(self, queue: QueueKey, lease: Lease) -> None:
        self.queue = queue
        self.lease = lease
        self.open = 0  # works not deleted yet
        self.forsaken = False  # it holds something that has to lapse


class Work:
    """One job or parked delivery; it is over when all its parts are."""

    __slots__ = ("hold", "id", "left")

    def __init__(self, hold: Hold, id_: str) -> None:
        self.hold = hold
        self.id = id_
        self.left = 1  # parts, one of which is handing out the others


class Ledger:
    def __init__(self, deliveries: Deliveries, clock: Clock, written: Callable[[], None]) -> None:
        """`written` is called whenever there is less in memory than before."""
        self._deliveries = deliveries
        self._clock = clock
        self._written = written
        self._holds: set[Hold] = set()
        self.unwritten = 0  # parked deliveries in memory
        self.unwritten_bytes = 0  # of theirs
        self._parked: list[tuple[Parked, float, Work]] = []
        self._over: list[Work] = []
        self._written_to = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: Timer | None = None  # to renew, while something is held
        self._renewing: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether everything that ended is written."""
        return self._idle.is_set()

    def take(self, queue: QueueKey, lease: Lease, ids: Sequence[str]) -> list[Work]:
        """What was taken up, to be renewed until all of it is over."""
        hold = Hold(queue, lease)
        hold.open = len(ids)
        self._holds.add(hold)
        self._set_timer()
        return [Work(hold, id_) for id_ in ids]

    def park(self, work: Work, parked: Parked, due: float) -> None:
        """End a part by trying it again later."""
        self._parked.append((parked, due, work))
        self.unwritten += 1
        self.unwritten_bytes += parked.size
        self._wake()

    def end(self, work: Work) -> None:
        """End a part: it is delivered, or given up."""
        work.left -= 1
        if not work.left:
            self._over.append(work)
            self._wake()

    def forget(self, work: Work) -> None:
        """Renew what was finished by other means no more."""
        work.hold.open -= 1
        if not work.hold.open:
            self._holds.discard(work.hold)

    def _wake(self) -> None:
        self._written_to.set()
        self._idle.clear()

    async def let_go(self, hold: Hold) -> None:
        """Give back what was not even begun."""
        self._holds.discard(hold)
        await self._deliveries.give_back(hold.queue, hold.lease.id, now=self._clock.now())

    # --- writing -------------------------------------------------------------------------------------

    async def write(self) -> None:
        """Write what ends, for as long as the task lives."""
        while True:
            await self._written_to.wait()
            try:
                self._written_to.clear()
                await self._write_all()
                if not self._written_to.is_set():
                    self._idle.set()
            except BaseException:
                self._written_to.set()  # there may be more than what the fault is about
                raise

    async def _write_all(self) -> None:
        while self._parked:
            many = self._writable()
            batch, self._parked = self._parked[:many], self._parked[many:]
            try:
                with forsaking(work for _, _, work in batch):
                    await self._park(batch)
            finally:
                self.unwritten -= len(batch)
                self.unwritten_bytes -= sum(parked.size for parked, _, _ in batch)
                self._written()
        while self._over:
            works, self._over = self._over[:WRITTEN_AT_ONCE], self._over[WRITTEN_AT_ONCE:]
            with forsaking(works):
                await self._delete(works)

    def _writable(self) -> int:
        """How many of the parked ones go together."""
        size = 0
        for number, (parked, _, _) in enumerate(self._parked[:WRITTEN_AT_ONCE]):
            size += parked.size
            if size > BYTES_AT_ONCE:
                return number or 1
        return WRITTEN_AT_ONCE

    async def _park(self, batch: list[tuple[Parked, float, Work]]) -> None:
        rows = [(parked, due) for parked, due, _ in batch]
        await insist(lambda: self._deliveries.park(rows, now=self._clock.now()))
        for _, _, work in batch:
            self.end(work)

    async def _delete(self, batch: list[Work]) -> None:
        by_queue = defaultdict[QueueKey, list[Work]](list)
        for work in batch:
            by_queue[work.hold.queue].append(work)
        for queue, works in by_queue.items():
            ids = [work.id for work in works]
            leases = frozenset(work.hold.lease.id for work in works)
            await insist(lambda: self._deliveries.finish(queue, ids, leases, now=self._clock.now()))  # noqa: B023
            for work in works:
                self.forget(work)

    # --- renewing ------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if self._timer is None and self._holds:
            self._timer = self._clock.call_at(self._clock.now() + RENEW_SECONDS, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._renewing = asyncio.create_task(self._renew_all())

    async def _renew_all(self) -> None:
        now = self._clock.now()
        self._holds = {hold for hold in self._holds if not (hold.forsaken and hold.lease.due <= now)}
        holds = [
            hold for hold in self._holds if not hold.forsaken and hold.lease.since + RENEW_SECONDS / 2 <= now
        ]
        try:
            await asyncio.gather(*(self._renew(hold, now) for hold in holds))
        except StoreUnavailable as exc:
            log.warning("deliveries: leases could not be renewed: %s", exc)
        finally:
            self._set_timer()

    async def _renew(self, hold: Hold, now: float) -> None:
        lease = replace(hold.lease, since=now)
        if await self._deliveries.renew(hold.queue, lease):
            hold.lease = lease

    # --- the end -------------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Return when everything that ended is written."""
        await self._idle.wait()

    def close(self) -> None:
        """Renew nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._renewing is not None:
            self._renewing.cancel()

    async def give_back(self) -> None:
        """Let others have at once what is not over; turns first, which whoever takes up the rest wants."""
        for hold in sorted(self._holds, key=lambda hold: hold.queue in (JOBS, PARKED)):
            with contextlib.suppress(StoreUnavailable):  # then it lapses
                await self.let_go(hold)


@contextlib.contextmanager
def forsaking(works: Iterable[Work]) -> Iterator[None]:
    """Have works lapse that a fault keeps from their end: renewed, they would stay where they are."""
    try:
        yield
    except BaseException:
        for work in works:
            work.hold.forsaken = True
        raise


async def insist(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """What the call answers, as soon as the store can be reached."""
    pause = FIRST_PAUSE
    while True:
        try:
            return await call()
        except StoreUnavailable as exc:
            log.warning("deliveries: %s", exc)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
