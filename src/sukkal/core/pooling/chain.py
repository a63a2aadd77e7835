"""Messages of one queue that lie in several stores, one after the other, as if it were one.

A queue that was placed anew has its older messages where it was before, and its newer ones where it is now.
They are not moved: each stays where it was stored until it is taken, so none is ever in two places or held by
two leases, and the older store is always asked first, which keeps the order. A lease may hold messages in
several of them.

Markers of a store are known by its epoch, how often the queue had been placed anew by then:
`<epoch>~<marker>`, or the bare marker for epoch 0. One whose store is no longer part of the chain leads to
the beginning of what came after it.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from sukkal.core.clock import Clock
from sukkal.errors import StoreUnavailable
from sukkal.model import Holder, Lease, Message, QueueKey, Stats, View
from sukkal.stores.contract import Messages, Waker

_TAGGED = re.compile(r"([1-9][0-9]{0,9})~(.*)", re.ASCII | re.DOTALL)


class Part(NamedTuple):
    """One of the stores in which a queue has messages."""

    messages: Messages
    since: float  # messages are appended here from then on, until the next part's time
    epoch: int


class Chain:
    """See `Messages`, for one queue. A step that spans several stores is atomic in each of them."""

    def __init__(self, parts: Sequence[Part], clock: Clock) -> None:
        """`parts` from the oldest on, at least one."""
        self._parts = parts
        self._stores = [part.messages for part in parts]
        self._clock = clock

    async def append(self, queue: QueueKey, batch: Sequence[Message], *, noted: str = "") -> str | None:
        now = self._clock.now()
        last = max((i for i, part in enumerate(self._parts) if part.since <= now), default=0)
        for store in self._stores[:last]:  # what is stored there already is not stored again
            there = {message.id for message in await store.fetch(queue, [m.id for m in batch], now=now)}
            batch = [message for message in batch if message.id not in there]
        return await self._stores[last].append(queue, batch, noted=noted)

    async def page(
        self, queue: QueueKey, *, view: View, after: str | None, limit: int, now: float
    ) -> list[Message]:
        if after == "":  # what core says for a marker that leads nowhere
            return []
        epoch, marker = _read(after)
        found: list[Message] = []
        for part in self._parts:
            if part.epoch < epoch:
                continue
            inside = marker if part.epoch == epoch else None
            page = await part.messages.page(queue, view=view, after=inside, limit=limit - len(found), now=now)
            found += _tagged(page, part.epoch)
            if len(found) == limit:
                break
        return found

    async def fetch(self, queue: QueueKey, ids: Sequence[str], *, now: float) -> list[Message]:
        found: dict[str, Message] = {}
        for part in self._parts:
            for message in _tagged(await part.messages.fetch(queue, ids, now=now), part.epoch):
                found.setdefault(message.id, message)
        return [found[id] for id in dict.fromkeys(ids) if id in found]

    async def claim(self, queue: QueueKey, lease: Lease, *, limit: int, now: float) -> list[Message]:
        return await self._taken(limit, lambda store, most: store.claim(queue, lease, limit=most, now=now))

    async def pop(self, queue: QueueKey, *, limit: int, now: float) -> list[Message]:
        return await self._taken(limit, lambda store, most: store.pop(queue, limit=most, now=now))

    async def _taken(
        self, limit: int, take: Callable[[Messages, int], Awaitable[list[Message]]]
    ) -> list[Message]:
        taken: list[Message] = []
        for store in self._stores:
            try:
                taken += await take(store, limit - len(taken))
            except StoreUnavailable:
                if not taken:
                    raise
                break  # what was taken is answered: else it would be lost, or held by nobody
            if len(taken) == limit:
                break
        return taken

    async def held(self, queue: QueueKey, claim: str, *, now: float) -> tuple[Lease, list[Message]] | None:
        lease, messages = None, []
        for store in self._stores:
            held = await store.held(queue, claim, now=now)
            if held is not None:
                lease = lease or held[0]
                messages += held[1]
        return None if lease is None else (lease, messages)

    async def renew(self, queue: QueueKey, lease: Lease, *, now: float) -> bool:
        return any([await store.renew(queue, lease, now=now) for store in self._stores])

    async def release(self, queue: QueueKey, claim: str, *, now: float) -> bool:
        return any([await store.release(queue, claim, now=now) for store in self._stores])

    async def delete(self, queue: QueueKey, ids: Sequence[str], *, holder: Holder, now: float) -> list[str]:
        deleted: set[str] = set()
        for store in self._stores:
            deleted.update(await store.delete(queue, ids, holder=holder, now=now))
        return [id for id in dict.fromkeys(ids) if id in deleted]

    async def end_delays(self, queue: QueueKey) -> None:
        for store in self._stores:
            await store.end_delays(queue)

    async def next_due(self, queue: QueueKey, *, now: float) -> float | None:
        dues = [await store.next_due(queue, now=now) for store in self._stores]
        return min((due for due in dues if due is not None), default=None)

    async def stats(self, queue: QueueKey, *, now: float) -> Stats:
        every = [await store.stats(queue, now=now) for store in self._stores]
        return Stats(
            free=sum(stats.free for stats in every),
            claimed=sum(stats.claimed for stats in every),
            oldest=next((stats.oldest for stats in every if stats.oldest is not None), None),
            newest=next((stats.newest for stats in reversed(every) if stats.newest is not None), None),
        )

    async def purge(self, queue: QueueKey) -> None:
        for store in self._stores:
            await store.purge(queue)

    async def mark(self, queue: QueueKey, note: str) -> None:
        for store in self._stores:
            await store.mark(queue, note)

    async def unmark(self, queue: QueueKey, note: str) -> bool:
        return any([await store.unmark(queue, note) for store in self._stores])

    async def volume(self, *, now: float) -> Stats:
        every = [await store.volume(now=now) for store in self._stores]
        return Stats(free=sum(one.free for one in every), claimed=sum(one.claimed for one in every))

    async def sweep(self, *, now: float) -> int:
        return sum([await store.sweep(now=now) for store in self._stores])


class ChainWaker:
    """What is told of one queue, on the lines of all stores in which it has messages."""

    def __init__(self, wakers: Sequence[Waker]) -> None:
        self._wakers = wakers

    def wanted(self, queue: QueueKey) -> bool:
        return any(waker.wanted(queue) for waker in self._wakers)

    def tell(self, queue: QueueKey, count: int | None, due: float = 0.0) -> None:
        for waker in self._wakers:
            waker.tell(queue, count, due)


def _read(marker: str | None) -> tuple[int, str | None]:
    """The epoch of a marker, and what its store knows of it."""
    tagged = _TAGGED.fullmatch(marker) if marker is not None else None
    return (int(tagged[1]), tagged[2]) if tagged else (0, marker)


def _tagged(messages: list[Message], epoch: int) -> list[Message]:
    if not epoch:
        return messages
    return [replace(message, marker=f"{epoch}~{message.marker}") for message in messages]
