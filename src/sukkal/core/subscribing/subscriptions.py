"""Subscriptions: their records, and what connections subscribe to.

A record lies on its queue's shelf under its id, and a second one beside it says which id a subscriber has:

    subscription/<queue>   id → the record
    subscriber/<queue>     digest of the subscriber's URI → id

Of the two the subscriber's is written first and deleted last. One whose record is missing was left by a
crash, and is taken over; while it is new, another process may be about to write the record.

A connection is a subscriber too, for as long as it lasts. Its records go with it; after a crash they stay,
and notify nobody, until their time is over. When another process changes or deletes one, the process that has
the connection hears of it: see `upkeep.py`.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from sukkal import requests as r
from sukkal.core.catalog import Catalog
from sukkal.core.context import Context
from sukkal.core.ids import minted
from sukkal.core.notifier import Hear, Notifier
from sukkal.core.subscribing import leave
from sukkal.core.subscribing.confirmation import Confirmation
from sukkal.core.subscribing.deliveries import new_note
from sukkal.core.subscribing.rules import Entrust, Rules, wants_order
from sukkal.core.subscribing.upkeep import Upkeep
from sukkal.errors import AlreadySubscribed, Conflict, Invalid, NotFound, StoreUnavailable
from sukkal.limits import DEFAULT_PAGE, Limits
from sukkal.model import QueueKey, Subscription
from sukkal.stores.contract import Documents, Messages, Shelf

READ_AT_ONCE = 100  # records
MOST_HALF_WRITTEN = 1000  # remembered
RECORDING = 5.0  # seconds that writing both records may take

# As the API has them: the first without a blank.
TAKEN = "Such subscription already exists.Subscriptions are unique by project + queue + subscriber URI."
TAKEN_BY_ANOTHER = TAKEN.replace(".S", ". S")


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
        rules: Rules,
        confirmation: Confirmation,
        entrusts: Mapping[str, Entrust],
    ) -> None:
        """`entrusts` by the schemes of subscribers that want it."""
        self._catalog = catalog
        self._documents = documents
        self._store = store
        self._limits = limits
        self._notifier = notifier
        self._upkeep = Upkeep(notifier, self.find)
        self._new_id = new_id
        self._rules = rules
        self._confirmation = confirmation
        self._entrusts = entrusts
        self._connections: dict[str, Connection] = {}
        # One at a time, or another request could meet the first record without the second.
        self._recording = asyncio.Lock()
        self._half_written: dict[str, None] = {}  # ids of the last whose second record failed here

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
        await asyncio.gather(
            *(self._remove_own(key, subscription, connection, now=now) for key, subscription in owned)
        )

    # --- operations ----------------------------------------------------------------------------------

    async def create(self, ctx: Context, request: r.CreateSubscription) -> r.SubscriptionCreated:
        """Subscribe somebody; one who has not confirmed yet stays as recorded, and is asked once more.

        One that was disabled is subscribed anew, under its old id.
        """
        key = QueueKey(ctx.project, request.queue)
        connection = None if request.subscriber else self._connections.get(ctx.connection or "")
        if connection is None and not request.subscriber:
            raise Invalid("Missing parameter subscriber in body.")
        rules, ttl = self._rules, request.ttl or self._limits.default_subscription_ttl
        subscription = Subscription(
            id=self._new_id(ctx.now),
            source=key.title,
            subscriber=connection.uri if connection else rules.check_subscriber(request.subscriber, key),
            options=rules.check_options(request.options or {}),
            ttl=rules.check_ttl(ttl, ctx.now),
            created=ctx.now,
            connection=connection is not None,
        )
        leave.check(ctx, subscription)
        there = None
        if self._wants_trust(subscription):
            there = await self._staying(key, subscription.subscriber, now=ctx.now)
            if there is None:
                subscription = await self._entrusted(subscription, ctx)
        if self._catalog.cached(key, ctx.now) is None:
            await self._catalog.ensure(key, now=ctx.now)
        if there is None:
            subscription, there = await self._subscribe(key, subscription, ctx)
        if connection is None:  # also beside one that was there: its mark may never have come about
            await self._mark(key, there or subscription, now=ctx.now)
        if there is not None and (there.confirmed or connection is not None):
            raise AlreadySubscribed(TAKEN)
        if connection is not None:
            await self._listen(key, subscription, connection, ctx)
        else:
            subscription = there or subscription
            await self._confirmation.ask(key, subscription, ctx.now)
        return r.SubscriptionCreated(id=subscription.id, created=there is None)

    def _wants_trust(self, subscription: Subscription) -> bool:
        return urlsplit(subscription.subscriber).scheme in self._entrusts

    async def _entrusted(self, subscription: Subscription, ctx: Context) -> Subscription:
        """The same, with what deliveries to it need of the caller."""
        entrust = self._entrusts[urlsplit(subscription.subscriber).scheme]
        options = await entrust(
            subscription.options, ctx.credentials, ctx.project, until=subscription.expires
        )
        return replace(subscription, options=options)

    async def _staying(self, key: QueueKey, subscriber: str, *, now: float) -> Subscription | None:
        """What the subscriber has, if it is not disabled; asked so that nothing is entrusted in vain."""
        named = await self._documents.get(_shelves(key)[0], _digest(subscriber), now=now)
        there = await self.find(key, named.value.decode(), now=now) if named is not None else None
        return there if there is not None and there.subscriber == subscriber and there.gone is None else None

    async def _listen(
        self, key: QueueKey, subscription: Subscription, connection: Connection, ctx: Context
    ) -> None:
        """Let a connection hear of messages, as long as it lasts."""
        self._notifier.forget(key, connection.subscriptions.get(key, ""))  # its time is over
        connection.subscriptions[key] = subscription.id
        try:
            await self._notifier.listen(key, subscription, connection.hear)
        except StoreUnavailable:
            await self._remove_own(key, subscription.id, connection, now=ctx.now)
            raise
        if self._connections.get(ctx.connection or "") is not connection:  # it closed meanwhile
            await self._remove_own(key, subscription.id, connection, now=ctx.now)

    async def _subscribe(
        self, key: QueueKey, subscription: Subscription, ctx: Context
    ) -> tuple[Subscription, Subscription | None]:
        """Record or enable it. Answers it as it is then; and what there was, if that stays instead."""
        while True:
            async with self._recording:
                there = await self._record(key, subscription, now=ctx.now)
            if there is None or there.gone is None:
                return subscription, there
            leave.check_enabling(ctx)
            with contextlib.suppress(NotFound):  # it was deleted meanwhile
                enabled, there = await self._enable(key, there.id, subscription, now=ctx.now)
                if there is None or there.subscriber == subscription.subscriber:
                    return enabled, there

    async def _record(self, key: QueueKey, subscription: Subscription, *, now: float) -> Subscription | None:
        """Write both records; or answer what the subscriber has already, which is left as it is."""
        there = await self._take_name(key, subscription, now=now)
        if there is None:
            if len(self._half_written) >= MOST_HALF_WRITTEN:
                del self._half_written[next(iter(self._half_written))]
            self._half_written[subscription.id] = None
            await self._put(key, subscription, 0, now=now)
            self._half_written.pop(subscription.id, None)
        return there

    async def _enable(
        self, key: QueueKey, id_: str, subscription: Subscription, *, now: float
    ) -> tuple[Subscription, Subscription | None]:
        """Subscribe anew who was disabled. Answers what there is then, and again if it is another's doing."""

        def enabled(it: Subscription) -> Subscription:
            return it if it.gone is None else replace(subscription, id=id_)

        before, after = await self._change(key, id_, enabled, now=now)
        return after, before if before.gone is None else None

    async def _take_name(
        self, key: QueueKey, subscription: Subscription, *, now: float
    ) -> Subscription | None:
        """Write which subscription the subscriber has, until it ends; or answer which other it has."""
        names, _ = _shelves(key)
        name = _digest(subscription.subscriber)
        expect = 0
        while True:
            version = await self._documents.put(
                names, name, subscription.id.encode(), expect=expect, now=now, expires=subscription.expires
            )
            if version is not None:
                return None
            taken = await self._documents.get(names, name, now=now)
            expect = taken.version if taken is not None else 0
            if taken is not None and (id_ := taken.value.decode()) != subscription.id:
                there = await self.find(key, id_, now=now)
                if there is not None and there.subscriber == subscription.subscriber:
                    return there
                if there is None and id_ not in self._half_written and now < minted(id_) + RECORDING:
                    raise StoreUnavailable("a subscription of the same subscriber is being recorded")

    async def _free_name(self, names: Shelf, subscription: Subscription, *, now: float) -> None:
        """Write that the subscriber has this subscription no more, unless it has another by now.

        What is written ends at once, by any clock: a deletion could not tell whose name it meets.
        """
        name = _digest(subscription.subscriber)
        while (taken := await self._documents.get(names, name, now=now)) is not None:
            if taken.value.decode() != subscription.id:
                return
            freed = await self._documents.put(
                names, name, taken.value, expect=taken.version, now=now, expires=0.0
            )
            if freed is not None:
                return

    async def _put(
        self, key: QueueKey, subscription: Subscription, version: int, *, now: float
    ) -> int | None:
        """Write the record over that version of it; None when another was first."""
        return await self._documents.put(
            _shelves(key)[1],
            subscription.id,
            msgspec.json.encode(subscription),
            expect=version,
            now=now,
            expires=subscription.expires,
        )

    async def update(self, ctx: Context, request: r.UpdateSubscription) -> Subscription:
        """Change what is asked for. A new ttl counts from now; a new subscriber has yet to confirm.

        What the caller entrusted lasts as long as the subscription was to last then. New options without
        it have it given anew.
        """
        key, id_ = QueueKey(ctx.project, request.queue), request.subscription_id
        changes = msgspec.structs.asdict(self._rules.changes(request.document, key, ctx.now))
        changes = {name: value for name, value in changes.items() if value is not UNSET}
        if not changes:
            raise Invalid(f"Subscription {id_} could not be updated.", title="Unable to update subscription")
        if "ttl" in changes:
            changes["created"] = ctx.now

        def changed(before: Subscription) -> Subscription:
            after = replace(before, **changes)
            if after.subscriber != before.subscriber:
                after = replace(after, confirmed=False, connection=False, gone=None)
            leave.check_change(ctx, before, after)
            return after

        if self._entrusts and not changes.keys().isdisjoint(("subscriber", "options")):
            wanted = changed(await self._get(ctx, key, id_))
            if self._wants_trust(wanted):
                changes["options"] = (await self._entrusted(wanted, ctx)).options
        try:
            before, after = await self._change(key, id_, changed, now=ctx.now)
        finally:
            self._notifier.changed(key, id_)
        if not after.connection:
            await self._mark(key, after, now=ctx.now)
        if after.subscriber == before.subscriber:
            self._notifier.renew(key, after)
            return after
        if before.connection:
            self._notifier.forget(key, id_)
        await self._confirmation.ask(key, after, ctx.now)
        return after

    async def confirm(self, ctx: Context, request: r.ConfirmSubscription) -> Subscription:
        """Note that the subscriber wants to be told, or that it does not, which is answered."""
        document, id_ = request.document, request.subscription_id
        if isinstance(document, list):
            raise Invalid(
                f"Subscription {id_} could not be confirmed.", title="Unable to confirm subscription"
            )
        confirmed = document.get("confirmed") if document else None
        if not isinstance(confirmed, bool):
            raise Invalid("The 'confirmed' should be boolean.")
        key = QueueKey(ctx.project, request.queue)
        _, after = await self._change(key, id_, lambda it: replace(it, confirmed=confirmed), now=ctx.now)
        if not confirmed:
            await self._confirmation.part(key, after, ctx.now)
        return after

    async def _change(
        self, key: QueueKey, id_: str, changed: Callable[[Subscription], Subscription], *, now: float
    ) -> tuple[Subscription, Subscription]:
        """Write a changed record, and answer it before and after."""
        names, records = _shelves(key)
        async with self._recording:
            while True:
                document = await self._documents.get(records, id_, now=now)
                if document is None:
                    raise _not_found(id_)
                before = _read(document.value)
                after = changed(before)
                moved = after.subscriber != before.subscriber
                # Not for a shorter life: the record might not be written, and live on without its name.
                # A name that outlives its record is taken over.
                if (moved or after.expires > before.expires) and await self._take_name(key, after, now=now):
                    raise Conflict(TAKEN_BY_ANOTHER)
                if await self._put(key, after, document.version, now=now) is not None:
                    break
            if moved:
                await self._free_name(names, before, now=now)
        return before, after

    async def page(self, ctx: Context, request: r.ListSubscriptions) -> r.SubscriptionList:
        limit = min(DEFAULT_PAGE, self._limits.max_subscriptions_per_page)
        if request.limit is not None:
            limit = request.limit
        self._limits.check_subscription_limit(limit)
        _, records = _shelves(QueueKey(ctx.project, request.queue))
        documents = await self._documents.scan(records, after=request.marker or "", limit=limit, now=ctx.now)
        found = [leave.shown(ctx, _read(document.value)) for document in documents]
        return r.SubscriptionList(subscriptions=found)

    async def get(self, ctx: Context, request: r.GetSubscription) -> Subscription:
        key = QueueKey(ctx.project, request.queue)
        return leave.shown(ctx, await self._get(ctx, key, request.subscription_id))

    async def _get(self, ctx: Context, key: QueueKey, id_: str) -> Subscription:
        found = await self.find(key, id_, now=ctx.now)
        if found is None:
            raise _not_found(id_)
        return found

    async def delete(self, ctx: Context, request: r.DeleteSubscription) -> None:
        key, id_ = QueueKey(ctx.project, request.queue), request.subscription_id
        try:
            await self._remove(key, id_, now=ctx.now)
        finally:  # also of one that is gone: whoever deleted it may have died before it told
            self._notifier.changed(key, id_)

    async def outside(
        self, key: QueueKey, *, after: str, now: float
    ) -> tuple[list[Subscription], str | None]:
        """A page of the queue's live subscriptions but for connections, confirmed or not, disabled or not.

        And from where the next page follows, `after` "" for the first; None when this is the last. Read from
        the store: whoever was acknowledged anywhere before the first call is on one of them.
        """
        _, records = _shelves(key)
        documents = await self._documents.scan(records, after=after, limit=READ_AT_ONCE, now=now)
        read = (_read(document.value) for document in documents)
        found = [subscription for subscription in read if not subscription.connection]
        return found, documents[-1].name if len(documents) == READ_AT_ONCE else None

    async def _mark(self, key: QueueKey, subscription: Subscription, *, now: float) -> None:
        """Have posts to the queue recorded for delivery from now on, whichever process they come to.

        To be called once a subscription's record is written, before that is acknowledged. Each note is
        another one, so that whoever has found no subscription just before takes away none but an older one.
        """
        await self._store.mark(key, new_note(self._new_id(now), ordered=wants_order(subscription)))

    async def find(self, key: QueueKey, id_: str, *, now: float) -> Subscription | None:
        """One of a queue's live subscriptions."""
        _, records = _shelves(key)
        document = await self._documents.get(records, id_, now=now)
        return None if document is None else _read(document.value)

    async def disable(self, key: QueueKey, subscription: Subscription, *, now: float) -> None:
        """Note that the subscriber is gone. The record stays, for the sake of what is still to come."""

        def disabled(it: Subscription) -> Subscription:
            moved = it.subscriber != subscription.subscriber
            return it if moved or it.gone is not None else replace(it, gone=now)

        found = await self.find(key, subscription.id, now=now)
        if found is not None and disabled(found) is not found:
            with contextlib.suppress(NotFound):  # it was deleted meanwhile
                await self._change(key, subscription.id, disabled, now=now)

    async def purge(self, key: QueueKey, *, now: float) -> None:
        """Delete all of a queue's subscriptions."""
        _, records = _shelves(key)
        try:
            while documents := await self._documents.scan(records, after="", limit=READ_AT_ONCE, now=now):
                await asyncio.gather(*(self._remove(key, document.name, now=now) for document in documents))
        finally:
            self._notifier.changed(key)

    async def close(self) -> None:
        """Keep up nothing more of what connections subscribed to."""
        await self._upkeep.close()

    async def _remove(self, key: QueueKey, id_: str, *, now: float) -> None:
        """Delete a subscription that is there."""
        self._notifier.forget(key, id_)
        names, records = _shelves(key)
        document = await self._documents.get(records, id_, now=now)
        if document is None:
            return
        # Together, so that a store that groups its writes takes them in one step, in this order.
        await asyncio.gather(
            self._documents.delete(records, id_), self._free_name(names, _read(document.value), now=now)
        )

    async def _remove_own(self, key: QueueKey, id_: str, connection: Connection, *, now: float) -> None:
        """Delete a connection's subscription, unless it was handed over to another subscriber."""
        self._notifier.forget(key, id_)
        names, records = _shelves(key)
        while (document := await self._documents.get(records, id_, now=now)) is not None:
            subscription = _read(document.value)
            if subscription.subscriber != connection.uri:
                return
            # As a name is freed: a deletion could not tell whether it was handed over a moment ago.
            removed = await self._documents.put(
                records, id_, document.value, expect=document.version, now=now, expires=0.0
            )
            if removed is not None:
                await self._free_name(names, subscription, now=now)
                return


def _not_found(id_: str) -> NotFound:
    return NotFound(f"Subscription {id_} does not exist")


def _shelves(key: QueueKey) -> tuple[Shelf, Shelf]:
    """Those of a queue's subscribers and subscriptions."""
    return Shelf(f"subscriber/{key.name}", key.project), Shelf(f"subscription/{key.name}", key.project)


def _digest(subscriber: str) -> str:
    """A name for a URI, which may be of any length."""
    return hashlib.sha256(subscriber.encode()).hexdigest()


def _read(value: bytes) -> Subscription:
    return msgspec.json.decode(value, type=Subscription)
