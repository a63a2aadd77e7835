"""Records of queues and topics: typed, cached access to the control plane.

Records are read on every request and seldom change, so they are cached for seconds; a write of this process
is seen by it at once. Records written elsewhere may be seen that much later.
"""

import asyncio
import contextlib
import heapq
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from sukkal.core.attributes import Attributes, effective
from sukkal.limits import Limits
from sukkal.model import Queue, QueueKey
from sukkal.stores.contract import Document, Documents, Shelf

CACHE_SECONDS = 5.0
CACHE_RECORDS = 10_000
LATELY = 3600.0  # seconds since a queue was last read, for it to be among the busiest
SCAN = 20  # records looked through at a time when a listing filters


@dataclass(slots=True)  # whose field `uses` is cheaper to set than a Struct's
class Entry:
    """A queue's record and what follows from it; nothing but `uses` changes."""

    queue: Queue
    attributes: Attributes
    read: float  # when it was read from the store
    uses: int = 0  # how often messages were posted and claimed lately; for who does so to count


class Catalog:
    def __init__(self, documents: Documents, limits: Limits) -> None:
        self.removals = 0  # grows when a queue of this process' is removed
        self._documents = documents
        self._limits = limits
        self._cache: dict[QueueKey, Entry] = {}
        self._writes = 0  # begun so far, and ended
        self._writing = 0  # under way
        self._removing: dict[QueueKey, asyncio.Event] = {}

    def cached(self, key: QueueKey, now: float) -> Entry | None:
        """The queue's record if it is at hand; None says nothing about whether there is one."""
        entry = self._cache.get(key)
        if entry is not None and entry.read <= now < entry.read + CACHE_SECONDS:
            return entry
        return None

    def busiest(self, count: int, now: float) -> list[QueueKey]:
        """Up to `count` of the queues used most by this process in the last while."""
        recent = ((entry.uses, key) for key, entry in self._cache.items() if now < entry.read + LATELY)
        return [key for _, key in heapq.nlargest(count, recent)]

    async def get(self, key: QueueKey, *, now: float, fresh: bool = False) -> Entry | None:
        """The queue's record; a `fresh` one is as it is now."""
        entry = None if fresh else self.cached(key, now)
        if entry is not None:
            return entry
        writes = self._writes
        document = await self._documents.get(_shelf(key), key.title, now=now)
        if document is None:
            self._cache.pop(key, None)
            return None
        entry = self._entry(document, now)
        if writes == self._writes and not self._writing:  # else it may be outrun, or never committed
            self._remember(key, entry)
        return entry

    async def ensure(self, key: QueueKey, *, now: float) -> Entry:
        """The queue's record, made with empty metadata when there is none."""
        while True:
            if key in self._removing:
                await self._removing[key].wait()
            entry = await self.get(key, now=now)
            if entry is not None:
                return entry
            await self.create(key, {}, now=now)

    async def create(self, key: QueueKey, metadata: dict[str, Any], *, now: float) -> bool:
        """Record a new queue; False when it was there, which changes nothing."""
        if key in self._removing:
            await self._removing[key].wait()
        return await self._put(key, metadata, 0, now) is not None

    async def replace(self, entry: Entry, key: QueueKey, metadata: dict[str, Any], *, now: float) -> bool:
        """Store new metadata over what `entry` has; False when another writer was first."""
        return await self._put(key, metadata, entry.queue.version, now) is not None

    async def _put(self, key: QueueKey, metadata: dict[str, Any], expect: int, now: float) -> int | None:
        with self._write(key):
            return await self._documents.put(
                _shelf(key), key.title, msgspec.json.encode(metadata), expect=expect, now=now
            )

    async def remove(self, key: QueueKey, purge: Callable[[], Awaitable[None]]) -> None:
        """Remove the record and, by `purge`, what is stored for the queue; `ensure` and `create` wait for it.

        Both are asked for at once, so that a store that groups its writes takes them in one step. A post that
        took the record from here before may have stored its messages behind the purge: it sees that
        `removals` has grown and stores them again under a new record, or it was done before, and the second
        purge takes them away.
        """
        while key in self._removing:
            await self._removing[key].wait()
        self._removing[key] = asyncio.Event()
        try:
            await asyncio.gather(self._forget(key), purge())
            await purge()
        finally:
            self._removing.pop(key).set()

    async def _forget(self, key: QueueKey) -> None:
        with self._write(key):
            try:
                await self._documents.delete(_shelf(key), key.title)
            finally:
                self.removals += 1

    async def scan(self, kind: str, project: str, *, after: str, limit: int, now: float) -> list[Queue]:
        """Up to `limit` queues, or topics, with names after `after`, in order of their names."""
        documents = await self._documents.scan(Shelf(kind, project), after=after, limit=limit, now=now)
        return [_queue(document) for document in documents]

    async def count(self, kind: str, project: str, *, now: float) -> int:
        return await self._documents.count(Shelf(kind, project), now=now)

    def _entry(self, document: Document, now: float) -> Entry:
        queue = _queue(document)
        return Entry(queue, effective(queue.name, queue.metadata, self._limits), now)

    def _remember(self, key: QueueKey, entry: Entry) -> None:
        before = self._cache.get(key)
        if before is not None:
            entry.uses = before.uses >> 1  # what was long ago counts less and less
        elif len(self._cache) >= CACHE_RECORDS:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = entry

    @contextlib.contextmanager
    def _write(self, key: QueueKey) -> Iterator[None]:
        """Let nothing be cached that is read while a record is being written: it may not come to pass."""
        self._writes += 1
        self._writing += 1
        self._cache.pop(key, None)
        try:
            yield
        finally:
            self._writes += 1  # so that what was read meanwhile, and comes later, is not kept either
            self._writing -= 1


def _shelf(key: QueueKey) -> Shelf:
    """Queues and topics lie on shelves of their own, under what their users call them."""
    return Shelf(key.kind, key.project)


def _queue(document: Document) -> Queue:
    return Queue(name=document.name, metadata=msgspec.json.decode(document.value), version=document.version)
