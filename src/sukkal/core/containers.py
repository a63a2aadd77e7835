"""Queues and topics: their records, statistics and removal.

A topic is a queue that offers no claims. Its key has a name that no queue can have, so that all rules hold
for both, each kind with records of its own.
"""

import asyncio
from typing import Any

import msgspec

from sukkal import requests as r
from sukkal.core import attributes, patch
from sukkal.core.catalog import SCAN, Catalog
from sukkal.core.context import Context
from sukkal.core.pooling.placement import Placement
from sukkal.core.subscribing.subscriptions import Subscriptions
from sukkal.core.waiting import Waiting
from sukkal.errors import Invalid, InvalidBody, NotFound
from sukkal.limits import DEFAULT_PAGE, Limits
from sukkal.model import Queue, QueueKey
from sukkal.stores.contract import Messages


class Containers:
    def __init__(
        self,
        catalog: Catalog,
        messages: Messages,
        waiting: Waiting,
        limits: Limits,
        subscriptions: Subscriptions,
        *,
        kind: str = "queue",
        may_encrypt: bool = False,
        placement: Placement | None = None,
    ) -> None:
        """`placement` where messages lie in pools."""
        self._catalog = catalog
        self._kind = kind
        self._subscriptions = subscriptions
        self._messages = messages
        self._waiting = waiting
        self._limits = limits
        self._may_encrypt = may_encrypt
        self._placement = placement
        self._defaults = (attributes.defaults if kind == "queue" else attributes.topic_defaults)(limits)

    async def page(self, ctx: Context, request: r.ListQueues) -> r.QueueList:
        limit = min(DEFAULT_PAGE, self._limits.max_queues_per_page)
        if request.limit is not None:
            limit = request.limit
        self._limits.check_queue_limit(limit)
        filtered = bool(request.name or request.filters)
        found: list[Queue] = []
        after = request.marker or ""
        while len(found) < limit:
            # A filter may pass over any number of queues: many at a time, and others get their turn.
            batch = await self._catalog.scan(
                self._kind, ctx.project, after=after, limit=SCAN if filtered else limit, now=ctx.now
            )
            found += [queue for queue in batch if _matches(queue, request)][: limit - len(found)]
            if not filtered or len(batch) < SCAN:
                break
            after = batch[-1].name
            await asyncio.sleep(0)
        return r.QueueList(
            queues=found,
            defaults=self._defaults,
            count=await self._count(ctx, request) if request.with_count else None,
        )

    async def _count(self, ctx: Context, request: r.ListQueues) -> int:
        if not (request.name or request.filters):
            return await self._catalog.count(self._kind, ctx.project, now=ctx.now)
        count, after = 0, ""
        while batch := await self._catalog.scan(
            self._kind, ctx.project, after=after, limit=SCAN, now=ctx.now
        ):
            count += sum(_matches(queue, request) for queue in batch)
            after = batch[-1].name
            await asyncio.sleep(0)
        return count

    async def create(self, ctx: Context, request: r.CreateQueue) -> r.QueueCreated:
        self._check(request.metadata)
        key = QueueKey(ctx.project, request.queue)
        if self._placement is not None:
            return await self._create_placed(ctx, key, request.metadata, self._placement)
        return r.QueueCreated(created=await self._catalog.create(key, request.metadata, now=ctx.now))

    async def _create_placed(
        self, ctx: Context, key: QueueKey, metadata: dict[str, Any], placement: Placement
    ) -> r.QueueCreated:
        """Create a queue, if there is a pool for it."""
        flavor = metadata.get(attributes.FLAVOR) or None
        await placement.check_flavor(key.project, flavor, Invalid)
        if await self._catalog.get(key, now=ctx.now) is not None:
            return r.QueueCreated(created=False)
        await placement.check_arrangement(key, flavor)
        created = await self._catalog.create(key, metadata, now=ctx.now)
        if created:
            await placement.arrange(key)
        return r.QueueCreated(created=created)

    def _check(self, metadata: dict[str, Any], fault: type[Invalid] = Invalid) -> None:
        attributes.check(metadata, self._limits, may_encrypt=self._may_encrypt, fault=fault)

    async def get(self, ctx: Context, request: r.GetQueue) -> r.QueueMetadata:
        entry = await self._catalog.get(QueueKey(ctx.project, request.queue), now=ctx.now)
        return self._metadata(entry.queue.metadata if entry else {})

    def _metadata(self, stored: dict[str, Any]) -> r.QueueMetadata:
        return r.QueueMetadata(stored=stored, defaults=self._defaults)

    async def update(self, ctx: Context, request: r.UpdateQueue) -> r.QueueMetadata:
        key = QueueKey(ctx.project, request.queue)
        changes = patch.parse(request.changes)
        while True:
            entry = await self._catalog.get(key, now=ctx.now)
            if entry is None:
                raise queue_not_found(key)
            metadata = patch.apply(changes, entry.queue.metadata)
            self._check(metadata, InvalidBody)
            if len(msgspec.json.encode(metadata)) > self._limits.max_queue_metadata:
                raise InvalidBody(self.too_large())
            placing = self._placement if any(change.key == attributes.FLAVOR for change in changes) else None
            if placing is not None:
                await placing.check_flavor(key.project, metadata.get(attributes.FLAVOR), InvalidBody)
                await placing.check_arrangement(key, metadata.get(attributes.FLAVOR) or None, asked=True)
            if await self._catalog.replace(entry, key, metadata, now=ctx.now):
                break
        if placing is not None:
            await placing.arrange(key, asked=True)
        touched = any(change.key == attributes.DEFAULT_DELAY for change in changes)
        if touched and not metadata.get(attributes.DEFAULT_DELAY):
            # Also when it had none before: an earlier attempt may have failed between the two steps.
            await self._messages.end_delays(key)
            self._waiting.given_back(key)
        return self._metadata(metadata)

    async def delete(self, ctx: Context, request: r.DeleteQueue) -> None:
        key = QueueKey(ctx.project, request.queue)
        if self._placement is not None:
            # Before: whoever makes the queue again afterwards finds it leaving, and has it stay.
            await self._placement.leave(key)
        await self._catalog.remove(key, lambda: self._messages.purge(key))

    async def stats(self, ctx: Context, request: r.GetQueueStats) -> r.QueueStats:
        key = QueueKey(ctx.project, request.queue)
        entry = await self._catalog.get(key, now=ctx.now)
        stats = await self._messages.stats(key, now=ctx.now)
        return r.QueueStats(
            exists=entry is not None,
            claimed=stats.claimed,
            free=stats.free,
            oldest=stats.oldest,
            newest=stats.newest,
        )

    async def purge(self, ctx: Context, request: r.PurgeQueue) -> None:
        if not all(kind in r.RESOURCE_TYPES for kind in request.resource_types):
            raise InvalidBody("Resource types must be a sub set of {'messages', 'subscriptions'}.")
        key = QueueKey(ctx.project, request.queue)
        if "messages" in request.resource_types:
            await self._messages.purge(key)
        if "subscriptions" in request.resource_types:
            await self._subscriptions.purge(key, now=ctx.now)

    def too_large(self) -> str:
        """What to say of metadata over the limit."""
        return f"Queue metadata is too large. Max size: {self._limits.max_queue_metadata}"


def queue_not_found(key: QueueKey) -> NotFound:
    return NotFound(f"{key.kind.capitalize()} {key.title} does not exist for project {key.project}")


def _matches(queue: Queue, request: r.ListQueues) -> bool:
    if request.name and request.name not in queue.name:
        return False
    return all(
        key in queue.metadata and queue.metadata[key] == _filter_value(text)
        for key, text in request.filters.items()
    )


def _filter_value(text: str) -> int | str:
    """A filter that reads as an integer is compared as one."""
    try:
        return int(text)
    except ValueError:
        return text
