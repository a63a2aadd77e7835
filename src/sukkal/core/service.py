"""The service: its parts put together over one backend."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing

from sukkal.core.attributes import FLAVOR
from sukkal.core.carrier import Carrier
from sukkal.core.catalog import Catalog
from sukkal.core.cipher import Cipher, check_key
from sukkal.core.claims import Claims
from sukkal.core.clock import Clock, SystemClock
from sukkal.core.compression import Compression
from sukkal.core.containers import Containers
from sukkal.core.context import Context
from sukkal.core.dispatch import Dispatcher, Handler, unavailable
from sukkal.core.health import Health
from sukkal.core.ids import Mint
from sukkal.core.journal import Call
from sukkal.core.messages import Messages
from sukkal.core.notifier import Notifier
from sukkal.core.policy import authorize
from sukkal.core.pooling.assembly import Pooling
from sukkal.core.pooling.backends import Opener
from sukkal.core.pooling.flavors import Flavors
from sukkal.core.pooling.health import PoolHealth
from sukkal.core.pooling.pools import Pools
from sukkal.core.signing import Signer
from sukkal.core.subscribing.confirmation import Confirmation, Send, Terms
from sukkal.core.subscribing.dead_letters import DeadLetters
from sukkal.core.subscribing.deliveries import Deliveries
from sukkal.core.subscribing.filters import compile_filter
from sukkal.core.subscribing.recipients import Recipients
from sukkal.core.subscribing.rules import Check, Entrust, Rules
from sukkal.core.subscribing.subscriptions import Subscriptions
from sukkal.core.waiting import Waiting
from sukkal.errors import Invalid, InvalidBody, StoreUnavailable
from sukkal.limits import MAX_BODY, Limits
from sukkal.model import QueueKey, Stats
from sukkal.operations import TABLE, Body, Operation
from sukkal.requests import ListMessages, MessageList
from sukkal.stores.contract import Backend, ControlBackend, Trait
from sukkal.tally import Figures

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0  # between looks for space to reclaim


class Service:
    """Everything a transport needs: `authorize`, `body_limit`, `at_hand`, `call`, `follow`."""

    def __init__(
        self,
        backend: Backend,
        *,
        control: ControlBackend | None = None,
        limits: Limits | None = None,
        encryption_key: str | None = None,
        compress_above: int = 0,
        delete_with_claim_id: bool = False,
        new_id: Callable[[float], str] | None = None,
        clock: Clock | None = None,
        figures: Figures | None = None,
        opener: Opener | None = None,
        carrier: Carrier | None = None,
        signer: Signer | None = None,
        terms: Terms | None = None,
        subscriber_types: Collection[str] = (),
        subscriber_checks: Mapping[str, Check] | None = None,
        entrusts: Mapping[str, Entrust] | None = None,
        send: Send | None = None,
    ) -> None:
        """`clock` times those who wait; it agrees with the `now` of the contexts that calls come with.

        With a `carrier`, messages bring along the trace they were posted in.
        `terms` on which outside subscribers are told of messages; `subscriber_types`: schemes of their URIs.
        `entrusts`: by scheme, what lets the service deliver in the name of whoever subscribes.
        `send` takes what they are asked; by default it is recorded for delivery.
        With an `opener` messages lie in pools, and in `backend` only those from before.
        """
        limits = limits or Limits()
        control = control or backend
        clock = clock or SystemClock()
        new_id = new_id or Mint()
        self.figures = figures = figures or Figures()
        self._cipher = cipher = Cipher(encryption_key)
        self._catalog = catalog = Catalog(control.documents, limits)
        self.pooling = opener is not None
        self._pools: Pooling | None = None
        store, waker = backend.messages, backend.waker
        if opener is not None:
            self._pools = pools = Pooling(opener, backend, control, clock, self._flavor)
            store, waker = pools.messages, pools.waker
        self._placement = self._pools.placement if self._pools is not None else None
        self._store = store
        self._backend = backend
        self._control = control
        self._limits = limits
        self._waiting = waiting = Waiting(store, waker, clock)
        in_order = opener is None and Trait.IN_ORDER in backend.traits
        self.deliveries = deliveries = Deliveries(store, waiting, new_id, in_order=in_order)
        self._messages = messages = Messages(
            catalog,
            store,
            waiting,
            deliveries,
            limits,
            cipher,
            Compression(compress_above),
            new_id,
            figures,
            delete_with_claim_id=delete_with_claim_id,
            carrier=carrier,
        )
        notifier = Notifier(waker, clock, messages.opened, figures, carrier, compile_filter=compile_filter)
        waiting.hand_on(notifier.heard)
        self.signer = signer = signer or Signer(None)
        rules = Rules(
            limits,
            schemes=subscriber_types,
            checks={} if subscriber_checks is None else subscriber_checks,
            check_filter=compile_filter,
        )
        confirmation = Confirmation(
            terms or Terms(), signer, send or deliveries.send, default_ttl=limits.default_subscription_ttl
        )
        self.subscriptions = subscriptions = Subscriptions(
            catalog,
            control.documents,
            store,
            limits,
            notifier,
            new_id,
            rules=rules,
            confirmation=confirmation,
            entrusts={} if entrusts is None else entrusts,
        )
        self.recipients = Recipients(catalog, subscriptions, confirmation, messages, cipher)
        dead_letters = DeadLetters(self.recipients, messages, deliveries, store, cipher)
        self._queues = queues = Containers(
            catalog,
            store,
            waiting,
            limits,
            subscriptions,
            may_encrypt=cipher.ready,
            placement=self._placement,
        )
        topics = Containers(
            catalog,
            store,
            waiting,
            limits,
            subscriptions,
            kind="topic",
            may_encrypt=cipher.ready,
            placement=self._placement,
        )
        claims = Claims(catalog, store, waiting, messages, limits, new_id, figures)
        self._health = health = Health((backend, control), queues, messages, claims)
        handlers: dict[str, Handler] = {
            "ping.get": health.ping,
            "ping.probe": health.probe,
            "health.get": health.get,
            "queues.list": queues.page,
            "queues.create": queues.create,
            "queues.get": queues.get,
            "queues.update": queues.update,
            "queues.delete": queues.delete,
            "queues.stats": queues.stats,
            "queues.purge": queues.purge,
            "messages.list": messages.page,
            "messages.get_many": messages.get_many,
            "messages.post": messages.post,
            "messages.delete_many": messages.delete_many,
            "messages.get": messages.get,
            "messages.delete": messages.delete,
            "claims.create": claims.create,
            "claims.get": claims.get,
            "claims.renew": claims.renew,
            "claims.release": claims.release,
            "subscriptions.list": subscriptions.page,
            "subscriptions.create": subscriptions.create,
            "subscriptions.get": subscriptions.get,
            "subscriptions.update": subscriptions.update,
            "subscriptions.delete": subscriptions.delete,
            "subscriptions.confirm": subscriptions.confirm,
            "subscriptions.replay": dead_letters.replay,
            "queues.share": signer.share,
            "topics.list": topics.page,
            "topics.get": topics.get,
            "topics.update": topics.update,
        }
        handlers |= {row.name: handlers[row.like] for row in TABLE if row.like and row.name not in handlers}
        if self._pools is not None:
            handlers |= self._pooled(health)
        self.dispatcher = Dispatcher(handlers)
        self.forward = messages.forward
        self.authorize = authorize
        self.call: Call = self.dispatcher.call

    def _pooled(self, health: Health) -> dict[str, Handler]:
        """What is served otherwise, or only, where messages lie in pools."""
        assert self._pools is not None
        topology, backends, placement = self._pools.topology, self._pools.backends, self._pools.placement
        pools = Pools(topology, backends, placement, self._limits)
        flavors = Flavors(topology, backends, placement, self._catalog, self._limits)
        return {
            "health.get": PoolHealth(health, topology, backends, placement).get,
            "pools.list": pools.page,
            "pools.put": pools.put,
            "pools.get": pools.get,
            "pools.update": pools.update,
            "pools.delete": pools.delete,
            "flavors.list": flavors.page,
            "flavors.put": flavors.put,
            "flavors.get": flavors.get,
            "flavors.update": flavors.update,
            "flavors.delete": flavors.delete,
        }

    async def _flavor(self, key: QueueKey, now: float) -> str | None:
        """The flavor that a queue's record names, as it is now."""
        entry = await self._catalog.get(key, now=now, fresh=True)
        return (entry.queue.metadata.get(FLAVOR) or None) if entry is not None else None

    async def check_key(self, now: float) -> None:
        """Raise WrongKey unless what was encrypted in the store before can be read; to be asked first."""
        await check_key(self._cipher, self._control.documents, now=now)

    def at_hand(self, ctx: Context, queue: str) -> bool:
        """Whether a post to this queue reaches the store without waiting, and so keeps its place."""
        placed = self._placement is None or self._placement.stays_at_hand(QueueKey(ctx.project, queue))
        return placed and self._messages.at_hand(ctx, queue)

    async def body_limit(self, operation: Operation, ctx: Context, queue: str) -> int:
        """How many bytes the body of a request may have; to be asked before it is read."""
        known = self.known_body_limit(operation, ctx, queue)
        if known is not None:
            return known
        try:
            return await self._messages.body_limit(ctx, queue)
        except StoreUnavailable as exc:
            raise unavailable(operation, ctx, exc) from exc

    def known_body_limit(self, operation: Operation, ctx: Context, queue: str) -> int | None:
        """The same, when it can be told without asking the store."""
        if operation.body is Body.MESSAGES:
            return self._messages.known_body_limit(ctx, queue)
        if operation.body in (Body.METADATA, Body.CHANGES):
            return self._limits.max_queue_metadata
        return MAX_BODY

    async def too_large(self, operation: Operation, ctx: Context, queue: str) -> Invalid:
        """What to say of a body over that limit."""
        if operation.body is Body.MESSAGES:
            try:
                return await self._messages.too_large(ctx, queue)
            except StoreUnavailable as exc:
                raise unavailable(operation, ctx, exc) from exc
        if operation.body is Body.METADATA:
            return Invalid(self._queues.too_large())
        if operation.body is Body.CHANGES:
            return InvalidBody(self._queues.too_large())
        return InvalidBody(f"Request body is too large. Max size: {MAX_BODY}")

    async def follow(
        self, operation: Operation, ctx: Context, request: ListMessages, *, pause: float
    ) -> AsyncGenerator[MessageList]:
        """Serve a listing without end, see `Messages.follow`; raises as `call` does."""
        try:
            async with aclosing(self._messages.follow(ctx, request, pause=pause)) as pages:
                async for page in pages:
                    yield page
        except StoreUnavailable as exc:
            raise unavailable(operation, ctx, exc) from exc

    def wrap_calls(self, wrap: Callable[[Call], Call]) -> None:
        """Have every call made through what `wrap` makes of it; to be asked before transports are."""
        self.call = wrap(self.call)

    @property
    def waiters(self) -> int:
        """How many wait now, for messages to come."""
        return self._waiting.count

    async def close(self) -> None:
        """Let go of the stores of pools; of those that were handed in, who opened them does."""
        await self.subscriptions.close()
        if self._pools is not None:
            await self._pools.close()

    async def stats(self, queue: QueueKey, *, now: float) -> Stats:
        """What a queue holds. Raises StoreUnavailable."""
        return await self._store.stats(queue, now=now)

    async def busiest(self, count: int, now: float) -> list[tuple[QueueKey, Stats]]:
        """Up to `count` of the queues used most in this process lately, and what they hold.

        Raises StoreUnavailable; but a queue whose pool is away is left out.
        """
        found = []
        for key in self._catalog.busiest(count, now):
            try:
                found.append((key, await self.stats(key, now=now)))
            except StoreUnavailable:
                if not self.pooling:
                    raise
        return found

    async def ping(self) -> None:
        """Return when the stores answer; StoreUnavailable when one does not."""
        await self._health.ping_both()

    def stop_waiting(self) -> None:
        """Answer all who wait now, with what there is; nobody waits any more from then on."""
        self._waiting.stop()

    async def sweep(self, clock: Callable[[], float]) -> None:
        """Reclaim space, a little at a time, for as long as the task lives."""
        while True:
            try:
                swept = await self._backend.messages.sweep(now=clock())
                if self._pools is not None:
                    swept += await self._pools.sweep(clock())
            except StoreUnavailable as exc:
                log.warning("sweep: %s", exc)
                swept = 0
            except Exception:
                log.exception("sweep failed")
                swept = 0
            # While there is more to reclaim, requests get their turn in between and no more than that.
            await asyncio.sleep(0 if swept else SWEEP_SECONDS)
