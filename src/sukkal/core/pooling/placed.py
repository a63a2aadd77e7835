"""The stores of all pools as if they were one: each call goes to where its queue is placed.

`PlacedMessages` and `PlacedWaker` are what core knows of pools; below them, no store does. A call of a queue
whose place is known costs one look-up more.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from sukkal.core.pooling.placement import Placement
from sukkal.errors import StoreUnavailable
from sukkal.model import Holder, Lease, Message, QueueKey, Stats, View
from sukkal.stores.contract import Backend, Heard, Messages, Told, Waker

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0  # until the lines of a queue are looked for again

T = TypeVar("T")


class PlacedMessages:
    """See `Messages`. `volume` and `sweep` are of the service's own store."""

    def __init__(self, placement: Placement, own: Messages) -> None:
        self._placement = placement
        self._at_hand = placement.at_hand
        self._own = own
        self.volume = own.volume
        self.sweep = own.sweep

    def append(self, queue: QueueKey, batch: Sequence[Message], *, noted: str = "") -> Awaitable[str | None]:
        place = self._at_hand(queue)
        if place is None:
            return self._append(queue, batch, noted)
        return place.messages.append(queue, batch, noted=noted)

    async def _append(self, queue: QueueKey, batch: Sequence[Message], noted: str) -> str | None:
        place = await self._placement.settle(queue)
        return await place.messages.append(queue, batch, noted=noted)

    def page(
        self, queue: QueueKey, *, view: View, after: str | None, limit: int, now: float
    ) -> Coroutine[Any, Any, list[Message]]:
        place = self._at_hand(queue)
        if place is not None:
            return place.messages.page(queue, view=view, after=after, limit=limit, now=now)
        return self._found(queue, lambda to: to.page(queue, view=view, after=after, limit=limit, now=now))

    def fetch(self, queue: QueueKey, ids: Sequence[str], *, now: float) -> Coroutine[Any, Any, list[Message]]:
        place = self._at_hand(queue)
        if place is not None:
            return place.messages.fetch(queue, ids, now=now)
        return self._found(queue, lambda to: to.fetch(queue, ids, now=now))

    def claim(
        self, queue: QueueKey, lease: Lease, *, limit: int, now: float
    ) -> Coroutine[Any, Any, list[Message]]:
        place = self._at_hand(queue)
        if place is not None:
            return place.messages.claim(queue, lease, limit=limit, now=now)
        return self._found(queue, lambda to: to.claim(queue, lease, limit=limit, now=now))

    def delete(
        self, queue: QueueKey, ids: Sequence[str], *, holder: Holder, now: float
    ) -> Coroutine[Any, Any, list[str]]:
        place = self._at_hand(queue)
        if place is not None:
            return place.messages.delete(queue, ids, holder=holder, now=now)
        return self._found(queue, lambda to: to.delete(queue, ids, holder=holder, now=now))

    # What is asked less often takes the shorter way to say it.

    async def held(self, queue: QueueKey, claim: str, *, now: float) -> tuple[Lease, list[Message]] | None:
        return await self._found(queue, lambda to: to.held(queue, claim, now=now))

    async def renew(self, queue: QueueKey, lease: Lease, *, now: float) -> bool:
        return await self._found(queue, lambda to: to.renew(queue, lease, now=now))

    async def release(self, queue: QueueKey, claim: str, *, now: float) -> bool:
        return await self._found(queue, lambda to: to.release(queue, claim, now=now))

    async def pop(self, queue: QueueKey, *, limit: int, now: float) -> list[Message]:
        return await self._found(queue, lambda to: to.pop(queue, limit=limit, now=now))

    async def end_delays(self, queue: QueueKey) -> None:
        await self._found(queue, lambda to: to.end_delays(queue))

    async def next_due(self, queue: QueueKey, *, now: float) -> float | None:
        return await self._found(queue, lambda to: to.next_due(queue, now=now))

    async def stats(self, queue: QueueKey, *, now: float) -> Stats:
        return await self._found(queue, lambda to: to.stats(queue, now=now))

    async def purge(self, queue: QueueKey) -> None:
        await self._found(queue, lambda to: to.purge(queue))

    # The service's own store knows all notes too: whoever places a queue finds there what to take along.

    async def mark(self, queue: QueueKey, note: str) -> None:
        await self._own.mark(queue, note)
        place = await self._placement.settle(queue)
        await place.messages.mark(queue, note)

    async def unmark(self, queue: QueueKey, note: str) -> bool:
        unmarked = await self._found(queue, lambda to: to.unmark(queue, note))
        return await self._own.unmark(queue, note) or unmarked

    async def _found(self, queue: QueueKey, call: Callable[[Messages], Awaitable[T]]) -> T:
        place = await self._placement.find(queue)
        return await call(place.messages)


class _Interest:
    """That somebody here watches or follows a queue, and on which lines that is known."""

    def __init__(self) -> None:
        self.watched = False
        self.followed = False
        self.watching: dict[int, Waker] = {}  # by identity
        self.following: dict[int, Waker] = {}
        self.attaching = asyncio.Lock()


class PlacedWaker:
    """See `Waker`. A queue is watched and followed on the lines of all stores in which it has messages.

    The line of the service's own store is watched besides: there is told when a queue's place changes.
    """

    def __init__(self, placement: Placement, own: Waker) -> None:
        self._placement = placement
        self._own = own
        self._heard: Heard | None = None
        self._told: Told | None = None
        self._interests: dict[QueueKey, _Interest] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        own.listen(self._hear_of_own)
        own.listen_to_messages(self._tell_message)

    def opened(self, backend: Backend) -> None:
        """A store was opened: hear what is told on its line, also of queues that are followed already."""
        backend.waker.listen(self._hear)
        backend.waker.listen_to_messages(self._tell_message)
        for queue in self._interests:
            self._attach_again(queue)

    def listen(self, heard: Heard) -> None:
        self._heard = heard

    def listen_to_messages(self, told: Told) -> None:
        self._told = told

    def _hear(self, queue: QueueKey, count: int | None, due: float) -> None:
        if self._heard is not None:
            self._heard(queue, count, due)

    def _hear_of_own(self, queue: QueueKey, count: int | None, due: float) -> None:
        if count == 0 and queue in self._interests:
            self._placement.forget(queue)
            self._attach_again(queue)
        self._hear(queue, count, due)

    def _tell_message(self, queue: QueueKey, message: Message) -> None:
        if self._told is not None:
            self._told(queue, message)

    # --- telling -------------------------------------------------------------------------------------

    def wanted(self, queue: QueueKey) -> bool:
        place = self._placement.at_hand(queue)
        return True if place is None else place.waker.wanted(queue)

    def tell(self, queue: QueueKey, count: int | None, due: float = 0.0) -> None:
        place = self._placement.at_hand(queue)
        if place is not None:
            place.waker.tell(queue, count, due)
        else:
            self._start(self._tell_later(queue, count, due))

    async def _tell_later(self, queue: QueueKey, count: int | None, due: float) -> None:
        place = await self._placement.find(queue)
        place.waker.tell(queue, count, due)

    # --- hearing -------------------------------------------------------------------------------------

    async def watch(self, queue: QueueKey) -> None:
        interest = self._interests.setdefault(queue, _Interest())
        interest.watched = True
        await self._attach(queue, interest)

    async def follow(self, queue: QueueKey) -> None:
        interest = self._interests.setdefault(queue, _Interest())
        interest.followed = True
        await self._attach(queue, interest)

    def unwatch(self, queue: QueueKey) -> None:
        interest = self._interests.get(queue)
        if interest is not None:
            interest.watched = False
            self._detach(queue, interest)

    def unfollow(self, queue: QueueKey) -> None:
        interest = self._interests.get(queue)
        if interest is not None:
            interest.followed = False
            self._detach(queue, interest)

    async def _attach(self, queue: QueueKey, interest: _Interest) -> None:
        """Watch and follow the queue where it is now. Raises StoreUnavailable."""
        place = None
        try:
            async with interest.attaching:
                if id(self._own) not in interest.watching:
                    await self._own.watch(queue)
                    interest.watching[id(self._own)] = self._own
                # Who follows must be told of the first message too, so the queue has its place before.
                place = await (self._placement.settle if interest.followed else self._placement.find)(queue)
                for waker in place.wakers:
                    if interest.watched and id(waker) not in interest.watching:
                        await waker.watch(queue)
                        interest.watching[id(waker)] = waker
                    if interest.followed and id(waker) not in interest.following:
                        await waker.follow(queue)
                        interest.following[id(waker)] = waker
        finally:
            self._detach(queue, interest, keep=None if place is None else place.wakers)

    def _detach(self, queue: QueueKey, interest: _Interest, keep: Sequence[Waker] | None = None) -> None:
        """Watch and follow the queue no more where nobody wants to, or where it is no more."""
        if interest.attaching.locked():  # to be done when that is over
            return
        kept = None if keep is None else {id(self._own), *map(id, keep)}
        idle = not (interest.watched or interest.followed)
        for key, waker in list(interest.watching.items()):
            unwanted = not interest.watched and waker is not self._own
            if idle or unwanted or (kept is not None and key not in kept):
                del interest.watching[key]
                waker.unwatch(queue)
        for key, waker in list(interest.following.items()):
            if not interest.followed or (kept is not None and key not in kept):
                del interest.following[key]
                waker.unfollow(queue)
        if idle and self._interests.get(queue) is interest:
            del self._interests[queue]

    def _attach_again(self, queue: QueueKey) -> None:
        self._start(self._attach_anew(queue))

    async def _attach_anew(self, queue: QueueKey) -> None:
        """Watch and follow the queue in its new place, and have those who wait look there."""
        while (interest := self._interests.get(queue)) is not None:
            try:
                await self._attach(queue, interest)
            except StoreUnavailable as exc:
                log.warning("waiting: %s", exc)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._hear(queue, None, 0.0)
                return

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_quiet(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _quiet(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except StoreUnavailable as exc:
        log.warning("waiting: %s", exc)
