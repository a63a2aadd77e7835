"""Subscriptions: their records, and what connections subscribe to.

A record lies on its queue's shelf under its id, and a second one beside it says which id a subscriber has:

    subscription/<queue>   id → the record
    subscriber/<queue>     digest of the subscriber's URI → id

Of the two the subscriber's is written first and deleted last. One whose record is missing was left by a
crash, and is taken over.

A connection is a subscriber too, for as long as it lasts. Its records go with it; after a crash they stay,
and notify nobody, until their time is over.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

import msgspec

from sukkal import requests as r
from sukkal.core.attributes import RETRY_POLICY, check_retry_policy
from sukkal.core.catalog import Catalog
from sukkal.core.context import Context
from sukkal.core.notifier import Hear, Listener, Notifier
from sukkal.errors import Conflict, Invalid, NotFound, StoreUnavailable
from sukkal.limits import DEFAULT_PAGE, Limits
from sukkal.model import QueueKey, Subscription
from sukkal.stores.contract import Documents, Messages, Shelf

READ_AT_ONCE = 100  # records


class Connection:
    """A connection that may subscribe itself: where it is to be found, and how it is told."""

    def __init__(self, uri: str, hear: Hear) -> None:
        self.uri = uri
        self.hear = hear
        self.subscriptions: dict[QueueKey, str] = {}  # ids, of the last of each queue


class Subscriptions:
    def __init__(
        self,
        catalog: Catalog,
        documents: Documents,
        store: Messages,
        limits: Limits,
        notifier: Notifier,
        new_id: Callable[[float], str],
        *,
        schemes: Collection[str] = (),
    ) -> None:
        """`schemes` of outside subscribers for whom there are deliverers."""
        self._catalog = catalog
        self._documents = documents
        self._store = store
        self._limits = limits
        self._notifier = notifier
        self._new_id = new_id
        self._schemes = list(schemes)
        self._connections: dict[str, Connection] = {}
        # One at a time, or another request could meet the first record without the second.
        self._recording = asyncio.Lock()

    # --- connections ---------------------------------------------------------------------------------

    def connected(self, id_: str, uri: str, hear: Hear) -> None:
        """Let a connection subscribe itself."""
        self._connections[id_] = Connection(uri, hear)

    async def disconnected(self, id_: str, *, now: float) -> None:
        """Delete what a connection subscribed for itself. It hears nothing from the moment of the call."""
        connection = self._connections.pop(id_, None)
        if connection is None:
            return
        owned = connection.subscriptions.items()
        for key, subscription in owned:
            self._notifier.forget(key, subscription)
        await asyncio.gather(*(self._remove(key, subscription, now=now) for key, subscription in owned))

    # --- operations ----------------------------------------------------------------------------------

    async def create(self, ctx: Context, request: r.CreateSubscription) -> r.SubscriptionCreated:
        key = QueueKey(ctx.project, request.queue)
        connection = None if request.subscriber else self._connections.get(ctx.connection or "")
        if connection is None:
            self._check_subscriber(request.subscriber)
        subscriber = request.subscriber or (connection.uri if connection else "")
        if request.options.get(RETRY_POLICY):
            check_retry_policy(request.options[RETRY_POLICY], Invalid)
        ttl = request.ttl or self._limits.default_subscription_ttl
        self._limits.check_subscription_ttl(ttl, ctx.now)
        subscription = Subscription(
            id=self._new_id(ctx.now),
            source=key.name,
            subscriber=subscriber,
            ttl=ttl,
            created=ctx.now,
            options=request.options,
            connection=connection is not None,
        )
        if self._catalog.cached(key, ctx.now) is None:
            await self._catalog.ensure(key, now=ctx.now)
        try:
            async with self._recording:
                await self._record(key, subscription, now=ctx.now)
        finally:
            if connection is None:  # also beside one that was there: its mark may never have come about
                await self.mark(key, now=ctx.now)
        if connection is not None:
            self._notifier.forget(key, connection.subscriptions.get(key, ""))  # its time is over
            connection.subscriptions[key] = subscription.id
            try:
                await self._notifier.listen(key, subscription.id, Listener(connection.hear, ctx.now + ttl))
            except StoreUnavailable:
                await self._remove(key, subscription.id, now=ctx.now)
                raise
            if self._connections.get(ctx.connection or "") is not connection:  # it closed meanwhile
                await self._remove(key, subscription.id, now=ctx.now)
        return r.SubscriptionCreated(id=subscription.id)

    def _check_subscriber(self, subscriber: str | None) -> None:
        if not subscriber:
            raise Invalid("Missing parameter subscriber in body.")
        try:
            scheme = urlsplit(subscriber).scheme
        except ValueError:
            scheme = ""
        if scheme not in self._schemes:
            raise Invalid(
                f"The subscriber type of subscription must be supported in the list {self._schemes}."
            )

    async def _record(self, key: QueueKey, subscription: Subscription, *, now: float) -> None:
        """Write both records; Conflict when the subscriber has a subscription to this queue."""
        expires = now + subscription.ttl
        names, records = _shelves(key)
        name = _digest(subscription.subscriber)
        expect = 0
        while True:
            version = await self._documents.put(
                names, name, subscription.id.encode(), expect=expect, now=now, expires=expires
            )
            if version is not None:
                break
            taken = await self._documents.get(names, name, now=now)
            if taken is None:
                expect = 0
                continue
            if await self._documents.get(records, taken.value.decode(), now=now) is not None:
                raise Conflict(
                    "Such subscription already exists. "
                    "Subscriptions are unique by project + queue + subscriber URI."
                )
            expect = taken.version
        await self._documents.put(
            records, subscription.id, msgspec.json.encode(subscription), expect=0, now=now, expires=expires
        )

    async def page(self, ctx: Context, request: r.ListSubscriptions) -> r.SubscriptionList:
        limit = min(DEFAULT_PAGE, self._limits.max_subscriptions_per_page)
        if request.limit is not None:
            limit = request.limit
        self._limits.check_subscription_limit(limit)
        _, records = _shelves(QueueKey(ctx.project, request.queue))
        documents = await self._documents.scan(records, after=request.marker or "", limit=limit, now=ctx.now)
        return r.SubscriptionList(subscriptions=[_read(document.value) for document in documents])

    async def get(self, ctx: Context, request: r.GetSubscription) -> Subscription:
        _, records = _shelves(QueueKey(ctx.project, request.queue))
        document = await self._documents.get(records, request.subscription_id, now=ctx.now)
        if document is None:
            raise NotFound(f"Subscription {request.subscription_id} does not exist")
        return _read(document.value)

    async def delete(self, ctx: Context, request: r.DeleteSubscription) -> None:
        await self._remove(QueueKey(ctx.project, request.queue), request.subscription_id, now=ctx.now)

    async def outside(self, key: QueueKey, *, now: float) -> list[Subscription]:
        """The queue's live subscriptions that are to be delivered to, confirmed or not, all of them.

        Read from the store: whoever was acknowledged anywhere before this call is among them.
        """
        _, records = _shelves(key)
        found: list[Subscription] = []
        after = ""
        while documents := await self._documents.scan(records, after=after, limit=READ_AT_ONCE, now=now):
            read = (_read(document.value) for document in documents)
            found += [subscription for subscription in read if not subscription.connection]
            if len(documents) < READ_AT_ONCE:
                break
            after = documents[-1].name
        return found

    async def mark(self, key: QueueKey, *, now: float) -> None:
        """Have posts to the queue recorded for delivery from now on, whichever process they come to.

        To be called once a subscription's record is written, before that is acknowledged. Each note is
        another one, so that whoever has found no subscription just before takes away none but an older one.
        """
        await self._store.mark(key, self._new_id(now))

    async def find(self, key: QueueKey, id_: str, *, now: float) -> Subscription | None:
        """One of a queue's live subscriptions."""
        _, records = _shelves(key)
        document = await self._documents.get(records, id_, now=now)
        return None if document is None else _read(document.value)

    async def forget(self, key: QueueKey, id_: str, *, now: float) -> None:
        """Delete one of a queue's subscriptions, if it is there."""
        await self._remove(key, id_, now=now)

    async def purge(self, key: QueueKey, *, now: float) -> None:
        """Delete all of a queue's subscriptions."""
        _, records = _shelves(key)
        while documents := await self._documents.scan(records, after="", limit=READ_AT_ONCE, now=now):
            await asyncio.gather(*(self._remove(key, document.name, now=now) for document in documents))

    async def _remove(self, key: QueueKey, id_: str, *, now: float) -> None:
        self._notifier.forget(key, id_)
        names, records = _shelves(key)
        document = await self._documents.get(records, id_, now=now)
        if document is None:
            return
        name = _digest(_read(document.value).subscriber)
        # Together, so that a store that groups its writes takes them in one step, in this order.
        await asyncio.gather(self._documents.delete(records, id_), self._documents.delete(names, name))


def _shelves(key: QueueKey) -> tuple[Shelf, Shelf]:
    """Those of a queue's subscribers and subscriptions."""
    return Shelf(f"subscriber/{key.name}", key.project), Shelf(f"subscription/{key.name}", key.project)


def _digest(subscriber: str) -> str:
    """A name for a URI, which may be of any length."""
    return hashlib.sha256(subscriber.encode()).hexdigest()


def _read(value: bytes) -> Subscription:
    return msgspec.json.decode(value, type=Subscription)
