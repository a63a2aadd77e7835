"""Posting, listing, fetching and deleting messages."""

from collections.abc import AsyncGenerator, Callable, Mapping
from itertools import repeat

from msgspec import UNSET, Raw
from msgspec.structs import replace

from sukkal import requests as r
from sukkal.core.attributes import Attributes
from sukkal.core.carrier import Carrier
from sukkal.core.catalog import Catalog
from sukkal.core.cipher import Cipher
from sukkal.core.compression import COMPRESSED, Compression
from sukkal.core.containers import queue_not_found
from sukkal.core.context import Context
from sukkal.core.ids import is_id
from sukkal.core.subscribing.deliveries import Deliveries
from sukkal.core.waiting import Waiting
from sukkal.errors import Held, Invalid, NotFound, Undeletable
from sukkal.limits import DEFAULT_PAGE, Limits
from sukkal.model import ANYONE, UNCLAIMED, Holder, Message, QueueKey, View, queue_key
from sukkal.stores.contract import Messages as Store
from sukkal.tally import Figures
from sukkal.wire.bodies import trace_of, traced, untraced

REMEMBERED_PAGES = 4096
HELD_TEXT = "This message is claimed; it cannot be deleted without a valid claim ID."


class Messages:
    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        waiting: Waiting,
        deliveries: Deliveries,
        limits: Limits,
        cipher: Cipher,
        compression: Compression,
        new_id: Callable[[float], str],
        figures: Figures,
        *,
        delete_with_claim_id: bool = False,
        carrier: Carrier | None = None,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._waiting = waiting
        self._deliveries = deliveries
        self._limits = limits
        self._cipher = cipher
        self._compression = compression
        self._new_id = new_id
        self._figures = figures
        self._delete_with_claim_id = delete_with_claim_id
        self._carrier = carrier
        self._page_ends: dict[tuple[QueueKey, str], str] = {}

    # --- posting -------------------------------------------------------------------------------------

    def at_hand(self, ctx: Context, queue: str) -> bool:
        """Whether a post need not wait for the queue's record, or for that of its delivery."""
        key = queue_key(ctx.project, queue)
        return self._catalog.cached(key, ctx.now) is not None and self._deliveries.at_hand(key)

    async def body_limit(self, ctx: Context, queue: str) -> int:
        """How many bytes a post to this queue may have."""
        entry = await self._catalog.get(queue_key(ctx.project, queue), now=ctx.now)
        return self._limits.max_messages_post_size if entry is None else entry.attributes.post_limit

    def known_body_limit(self, ctx: Context, queue: str) -> int | None:
        """The same, if the queue's record is at hand."""
        entry = self._catalog.cached(queue_key(ctx.project, queue), ctx.now)
        return None if entry is None else entry.attributes.post_limit

    async def too_large(self, ctx: Context, queue: str) -> Invalid:
        """What to say of a post over the limit."""
        entry = await self._catalog.get(queue_key(ctx.project, queue), now=ctx.now)
        service = self._limits.max_messages_post_size
        if entry is None or entry.attributes.max_post_size is None:
            return Invalid(f"Message collection size is too large. Max size {service}")
        own, limit = entry.attributes.max_post_size, entry.attributes.post_limit
        return Invalid(
            "Message collection size is too large. "
            f"The max size for current queue is {limit}. It is calculated by max size = "
            f"min(max_messages_post_size_config: {service}, max_messages_post_size_queue: {own})."
        )

    async def post(self, ctx: Context, request: r.PostMessages) -> r.MessagesPosted:
        news, now = request.messages, ctx.now
        if not news:
            raise Invalid("No messages to enqueu.")
        for new in news:
            if new.ttl is not UNSET:
                self._limits.check_message_ttl(new.ttl)
            if new.delay is not UNSET:
                self._limits.check_message_delay(new.delay)
        ids = list(map(self._new_id, repeat(now, len(news))))

        def batch(queue: Attributes) -> list[Message]:
            return list(map(self._message, repeat(ctx), news, ids, repeat(queue)))

        await self.append(queue_key(ctx.project, request.queue), batch, now=now)
        self._figures.messages[ctx.project].posted += len(ids)
        return r.MessagesPosted(ids=ids)

    async def move_in(self, key: QueueKey, messages: list[Message], *, now: float) -> None:
        """Store dead letters of another queue as they are."""
        await self.append(key, lambda _: messages, now=now, dead=True)

    async def append(
        self,
        key: QueueKey,
        batch: Callable[[Attributes], list[Message]],
        *,
        now: float,
        dead: bool = False,
    ) -> None:
        """Store the messages that `batch` makes for the queue, which is created when there is none.

        Afterwards the queue exists and holds them, or was deleted with them. Listeners hear of them, and
        their delivery to outside subscribers is recorded; of `dead` letters none is made again.
        """
        deliveries = self._deliveries
        while True:
            removals = self._catalog.removals
            entry = self._catalog.cached(key, now) or await self._catalog.ensure(key, now=now)
            entry.uses += 1
            messages = batch(entry.attributes)
            note = deliveries.notes.get(key) if deliveries.notes else None
            try:
                if note is not None:
                    stored = await deliveries.append(key, messages, note, dead=dead, now=now)
                else:
                    found = await self._store.append(key, messages)
                    stored = found is None
                    if found is not None:  # somebody has subscribed since
                        deliveries.learn(key, found)
            finally:  # also when the caller has gone meanwhile: they may be stored all the same
                if self._waiting.wanted(key):
                    self._waiting.posted(key, messages, now)
            if not stored:
                continue
            if removals == self._catalog.removals:
                return
            # Some queue was deleted meanwhile. If it was this one, the messages may have gone between
            # its record and its contents; storing them again under the same ids leaves one copy.
            current = await self._catalog.get(key, now=now)
            if current is not None and current.queue.version == entry.queue.version:
                return

    async def forward(self, key: QueueKey, bodies: Mapping[str, bytes], *, ttl: int, now: float) -> None:
        """Store bodies in the form readers meet, under ids; the same ids again store one copy."""
        ctx = Context(project=key.project, client="", request_id="", now=now)

        def batch(queue: Attributes) -> list[Message]:
            news = ((id_, r.NewMessage(ttl=ttl, body=Raw(body))) for id_, body in bodies.items())
            return [self._message(ctx, new, id_, queue) for id_, new in news]

        await self.append(key, batch, now=now)

    def _message(self, ctx: Context, new: r.NewMessage, id_: str, queue: Attributes) -> Message:
        ttl = queue.default_ttl if new.ttl is UNSET else new.ttl
        delay = queue.default_delay if new.delay is UNSET else new.delay
        body = bytes(new.body)
        if len(body) > self._compression.above:
            body = self._compression.compress(body)
        if queue.encrypt:
            body = self._cipher.seal(body, id_)
        if self._carrier is not None:
            body = traced(body, self._carrier.current())
        return Message(
            id=id_,
            body=body,
            ttl=ttl,
            created=ctx.now,
            visible=ctx.now + delay,
            expires=ctx.now + ttl,
            client=ctx.client,
        )

    # --- reading -------------------------------------------------------------------------------------

    async def page(self, ctx: Context, request: r.ListMessages) -> r.MessageList:
        limit = min(DEFAULT_PAGE, self._limits.max_messages_per_page)
        if request.limit is not None:
            limit = request.limit
        self._limits.check_message_limit(limit)
        if request.wait:
            self._limits.check_wait(request.wait)
        key = queue_key(ctx.project, request.queue)
        entry = self._catalog.cached(key, ctx.now) or await self._catalog.get(key, now=ctx.now)
        marker = request.marker
        if marker is not None and is_id(marker):
            marker = await self._marker_of(key, marker, ctx.now)
        messages = await self._store.page(
            key,
            view=View(
                include_claimed=request.include_claimed,
                include_delayed=request.include_delayed,
                without_client=None if request.echo else ctx.client,
            ),
            after=marker,
            limit=limit,
            now=ctx.now,
        )
        if messages:
            self._remember_end(key, messages[-1])
        elif request.wait:
            return await self._awaited_page(ctx, request, key)
        delays = entry is not None and entry.attributes.default_delay > 0
        return r.MessageList(
            messages=self.opened(messages), include_delayed=request.include_delayed or not delays
        )

    async def _awaited_page(self, ctx: Context, request: r.ListMessages, key: QueueKey) -> r.MessageList:
        until = ctx.now + request.wait
        request = replace(request, wait=0)
        async with self._waiting.place(key) as place:
            while True:
                page = await self.page(replace(ctx, now=self._waiting.clock.now()), request)
                if page.messages or not await place.woken(until):
                    return page

    async def follow(
        self, ctx: Context, request: r.ListMessages, *, pause: float
    ) -> AsyncGenerator[r.MessageList]:
        """Pages one after the other, as messages come; ends when all waiting is ended.

        The first comes at once, empty or not; later an empty one says that `pause` seconds brought nothing.
        """
        clock = self._waiting.clock
        yield (page := await self.page(ctx, request))
        async with self._waiting.place(queue_key(ctx.project, request.queue)) as place:
            while not self._waiting.stopped:
                if page.messages:
                    request = replace(request, marker=page.messages[-1].marker)
                page = await self.page(replace(ctx, now=clock.now()), request)
                while not page.messages:
                    if await place.woken(clock.now() + pause):
                        page = await self.page(replace(ctx, now=clock.now()), request)
                    elif self._waiting.stopped:
                        return
                    else:
                        yield page
                yield page

    async def _marker_of(self, key: QueueKey, id_: str, now: float) -> str:
        """The marker of a message. Some clients page with the id of the last message they saw.

        They may have deleted it since, so the ends of recent pages are remembered. Others that are gone
        yield a marker that leads to an empty page.
        """
        seen = await self._store.fetch(key, (id_,), now=now)
        return seen[0].marker if seen else self._page_ends.get((key, id_), "")

    def _remember_end(self, key: QueueKey, last: Message) -> None:
        if len(self._page_ends) >= REMEMBERED_PAGES:
            del self._page_ends[next(iter(self._page_ends))]
        self._page_ends[key, last.id] = last.marker

    def opened(self, messages: list[Message]) -> list[Message]:
        """The messages with their bodies as they were posted."""
        for message in messages:
            if message.body[0] <= COMPRESSED:  # or sealed, or traced
                return [replace(m, body=self._opened(m)) for m in messages]
        return messages

    def _opened(self, message: Message) -> bytes:
        body = untraced(message.body)
        if self._carrier is not None:
            self._carrier.handed(trace_of(message.body))
        return self._compression.expand(self._cipher.open(body, message.id))

    async def get_many(self, ctx: Context, request: r.GetMessages) -> r.MessageList:
        self._limits.check_message_limit(len(request.ids))
        key = queue_key(ctx.project, request.queue)
        messages = await self._store.fetch(key, request.ids, now=ctx.now)
        if not messages:
            raise NotFound(
                f"No messages with IDs: {request.ids!r} found in the {key.kind} {key.title} "
                f"for project {key.project}."
            )
        return r.MessageList(messages=self.opened(messages))

    async def get(self, ctx: Context, request: r.GetMessage) -> Message:
        key = queue_key(ctx.project, request.queue)
        messages = await self._store.fetch(key, (request.id,), now=ctx.now)
        if messages:
            return self.opened(messages)[0]
        if await self._catalog.get(key, now=ctx.now) is None:
            raise queue_not_found(key)
        raise NotFound(
            f"Message {request.id} does not exist in {key.kind} {key.title} for project {key.project}"
        )

    # --- deleting ------------------------------------------------------------------------------------

    async def delete(self, ctx: Context, request: r.DeleteMessage) -> None:
        key = queue_key(ctx.project, request.queue)
        claim = request.claim_id
        holder = UNCLAIMED if claim is None else Holder(claims=frozenset({claim}))
        if await self._store.delete(key, (request.id,), holder=holder, now=ctx.now):
            self._figures.messages[key.project].deleted += 1
            return
        messages = await self._store.fetch(key, (request.id,), now=ctx.now)
        if not messages:
            return
        if claim is None:
            raise Held(HELD_TEXT)
        if await self._store.held(key, claim, now=ctx.now) is None:
            raise Undeletable("The specified claim does not exist or has expired.")
        if messages[0].claim is None:
            raise Undeletable("A claim was specified, but the message is not currently claimed.")
        raise Held(HELD_TEXT)

    async def delete_many(self, ctx: Context, request: r.DeleteMessages) -> r.MessagesPopped | None:
        """Delete by ids, which answers nothing, or pop."""
        ids, pop, claims = request.ids, request.pop, request.claim_ids
        if ids is not None and pop is not None:
            raise Invalid("pop and id params cannot be present together in the delete request.")
        if ids is None and pop is None:
            raise Invalid(
                'The request should have either "ids" or "pop" parameter in the request, '
                "to be able to delete."
            )
        if self._delete_with_claim_id and (ids is None) != (claims is None):
            raise Invalid(
                'The request should have both "ids" and "claim_ids" parameter in the request when '
                "message_delete_with_claim_id is True."
            )
        key = queue_key(ctx.project, request.queue)
        if pop is not None:
            self._limits.check_pop(pop)
            popped = await self._store.pop(key, limit=pop, now=ctx.now)
            self._figures.messages[key.project].deleted += len(popped)
            return r.MessagesPopped(messages=self.opened(popped))
        assert ids is not None
        self._limits.check_deleted_ids(len(ids))
        if not self._delete_with_claim_id:
            self._figures.messages[key.project].deleted += len(
                await self._store.delete(key, ids, holder=ANYONE, now=ctx.now)
            )
            return None
        holder = Holder(claims=frozenset(claims or ()), unclaimed=True)
        found = await self._store.fetch(key, ids, now=ctx.now)
        if any(message.claim is not None and message.claim not in holder.claims for message in found):
            raise Held(HELD_TEXT)
        self._figures.messages[key.project].deleted += len(
            await self._store.delete(key, ids, holder=holder, now=ctx.now)
        )
        return None
