"""Results → answers: a function for each operation that answers more than a status."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import UNSET, Raw, Struct, UnsetType

from sukkal import requests as r
from sukkal.core.context import Context
from sukkal.http.answer import Answer, line
from sukkal.model import Edge, Flavor, Message, Pool, Queue, Subscription
from sukkal.operations import TABLE
from sukkal.wire import links
from sukkal.wire.checksum import checksum
from sukkal.wire.media import Medium
from sukkal.wire.shown import ShownSubscription, age, moment, popped, subscription

LONGEST_LOCATION = 32 * 1024  # characters
KEPT_PAGES = 256
KEPT_BYTES = 32 * 1024  # of an answer; longer ones are not kept


class _Link(Struct):
    rel: str
    href: str


class _Message(Struct, gc=False):
    id: str
    href: str
    ttl: int
    age: int
    body: Raw
    checksum: str | UnsetType = UNSET


class _Messages(Struct):
    messages: list[Any]


class _Page(Struct):
    messages: list[_Message]
    links: list[_Link]


class _Claim(Struct):
    age: int
    ttl: int
    messages: list[_Message]
    href: str


class _Edge(Struct):
    href: str
    age: int
    created: str


class _Counts(Struct):
    claimed: int
    free: int
    total: int
    oldest: _Edge | UnsetType = UNSET
    newest: _Edge | UnsetType = UNSET


class _Queue(Struct):
    name: str
    href: str
    metadata: dict[str, Any] | UnsetType = UNSET


class _Queues(Struct):
    queues: list[_Queue]
    links: list[_Link]
    count: int | UnsetType = UNSET


class _Pool(Struct):
    name: str
    uri: str
    weight: int
    flavor: str
    href: str
    options: dict[str, Any] | UnsetType = UNSET


class _Pools(Struct):
    pools: list[_Pool]
    links: list[_Link]


class _Flavor(Struct, omit_defaults=True):
    name: str
    href: str
    pool_list: list[str] | UnsetType = UNSET
    capabilities: list[str] | UnsetType = UNSET


class _Flavors(Struct):
    flavors: list[_Flavor]
    links: list[_Link]


class _Topics(Struct):
    topics: list[_Queue]
    links: list[_Link]
    count: int | UnsetType = UNSET


class _Subscriptions(Struct):
    subscriptions: list[ShownSubscription]
    links: list[_Link]


class _KeptPage(NamedTuple):
    """A page as it was written out. Holding the list keeps its identity from being used again."""

    found: list[Message]
    ages: list[int]
    queue: str
    query: str
    answer: Answer

    def shows(self, found: list[Message], ages: list[int], queue: str, query: str) -> bool:
        return self.found is found and self.ages == ages and self.queue == queue and self.query == query


Renderer = Callable[[Context, Any, Any], Answer]  # context, request, result


class Renderers:
    """Answers by operation name, in one medium."""

    def __init__(self, medium: Medium, *, checksums: bool) -> None:
        self.media_type = medium.name.encode()
        self._medium = medium
        self._encode = medium.encode
        self._empty_page = self._answer(200, _Page([], []))
        self._checksums = checksums
        self._pages: dict[int, _KeptPage] = {}
        self.by_operation: dict[str, Renderer] = {
            "queues.list": self._queues,
            "queues.create": self._created_queue,
            "queues.get": self._metadata,
            "queues.update": self._metadata,
            "queues.stats": self._stats,
            "messages.list": self._page,
            "messages.get_many": self._found,
            "messages.get": self._one,
            "messages.post": self._posted,
            "messages.delete_many": self._popped,
            "claims.create": self._claimed,
            "claims.get": self._claim,
            "subscriptions.list": self._subscriptions,
            "subscriptions.create": self._subscribed,
            "subscriptions.get": self._subscription,
            "subscriptions.update": self._updated_subscription,
            "subscriptions.confirm": self._confirmed_subscription,
            "subscriptions.replay": self._replayed,
            "queues.share": self._shared,
            "topics.list": self._topics,
            "health.get": self._health,
            "pools.list": self._pools,
            "pools.put": self._put_pool,
            "pools.get": self._got_pool,
            "pools.update": self._updated_pool,
            "flavors.list": self._flavors,
            "flavors.put": self._put_flavor,
            "flavors.get": self._flavor,
            "flavors.update": self._flavor,
        }
        for row in TABLE:
            if row.like in self.by_operation and row.name not in self.by_operation:
                self.by_operation[row.name] = self.by_operation[row.like]

    def _answer(self, status: int, document: Any, lines: bytes = b"") -> Answer:
        return Answer(status, self._encode(document), lines, self.media_type)

    # --- queues --------------------------------------------------------------------------------------

    def _queues(self, _ctx: Context, request: r.ListQueues, result: r.QueueList) -> Answer:
        return self._answer(200, _Queues(*self._listing(request, result, links.QUEUES)))

    def _topics(self, _ctx: Context, request: r.ListQueues, result: r.QueueList) -> Answer:
        return self._answer(200, _Topics(*self._listing(request, result, links.TOPICS)))

    def _listing(
        self, request: r.ListQueues, result: r.QueueList, base: str
    ) -> tuple[list[_Queue], list[_Link], int | UnsetType]:
        next_links = []
        if result.queues:
            query = {
                "limit": request.limit,
                "detailed": request.detailed,
                "name": request.name,
                "with_count": request.with_count,
                **request.filters,
                "marker": result.queues[-1].name,
            }
            next_links = [_Link("next", f"{base}?{links.query(query)}")]

        def shown(queue: Queue) -> _Queue:
            metadata: dict[str, Any] | UnsetType = UNSET
            if request.detailed:
                metadata = r.QueueMetadata(stored=queue.metadata, defaults=result.defaults).shown
            return _Queue(queue.name, f"{base}/{queue.name}", metadata)

        queues = [shown(queue) for queue in result.queues]
        return queues, next_links, UNSET if result.count is None else result.count

    def _created_queue(self, _ctx: Context, request: r.CreateQueue, result: r.QueueCreated) -> Answer:
        location = _location(links.queue(request.queue))
        return Answer(201 if result.created else 204, b"", location, self.media_type)

    def _shared(self, _ctx: Context, _request: r.ShareQueue, result: r.SharedQueue) -> Answer:
        return self._answer(200, result)

    def _metadata(self, _ctx: Context, _request: Any, result: r.QueueMetadata) -> Answer:
        return self._answer(200, result.shown)

    def _stats(self, ctx: Context, request: r.GetQueueStats, result: r.QueueStats) -> Answer:
        base = links.messages(request.queue)

        def edge(found: Edge | None) -> _Edge | UnsetType:
            if found is None:
                return UNSET
            return _Edge(f"{base}/{found.id}", age(ctx.now, found.created), moment(found.created))

        counts = _Counts(
            result.claimed,
            result.free,
            result.claimed + result.free,
            edge(result.oldest),
            edge(result.newest),
        )
        return self._answer(200, _Messages(counts))  # type: ignore[arg-type]

    # --- messages ------------------------------------------------------------------------------------

    def documents(self, ctx: Context, queue: str, found: list[Message]) -> list[bytes]:
        """Messages written out one by one, each as it stands in a listing."""
        return [self._medium.encode(message) for message in self._wire(ctx, queue, found)]

    def _wire(self, ctx: Context, queue: str, found: list[Message]) -> list[_Message]:
        now, base = ctx.now, links.messages(queue) + "/"
        show, verbatim_above = self._medium.show, self._medium.verbatim_above
        messages = [
            _Message(
                m.id,
                base + m.id if m.claim is None else links.claimed(base + m.id, m.claim),
                m.ttl,
                int(now - m.created) if now > m.created else 0,
                Raw(m.body) if m.body[0] > verbatim_above else show(m.body),
            )
            for m in found
        ]
        if self._checksums:
            for message, m in zip(messages, found, strict=True):
                message.checksum = checksum(m.body)
        return messages

    def _page(self, ctx: Context, request: r.ListMessages, result: r.MessageList) -> Answer:
        found, now = result.messages, ctx.now
        if not found:
            return self._empty_page
        query = _page_query(
            request.limit, request.echo, request.include_claimed, result.include_delayed, request.wait
        )
        # Readers of one feed ask for the same page again and again; it is written out once a second.
        ages = [int(now - m.created) for m in found]
        kept = self._pages.get(id(found))
        if kept is not None and kept.shows(found, ages, request.queue, query):
            return kept.answer
        marker = links.query({"marker": found[-1].marker})
        href = f"{links.messages(request.queue)}?{query}{marker}"
        answer = self._answer(200, _Page(self._wire(ctx, request.queue, found), [_Link("next", href)]))
        if len(answer.body) <= KEPT_BYTES:
            if len(self._pages) >= KEPT_PAGES:
                del self._pages[next(iter(self._pages))]
            self._pages[id(found)] = _KeptPage(found, ages, request.queue, query, answer)
        return answer

    def _found(self, ctx: Context, request: r.GetMessages, result: r.MessageList) -> Answer:
        return self._messages(200, ctx, request.queue, result.messages)

    def _messages(
        self, status: int, ctx: Context, queue: str, found: list[Message], location: str | None = None
    ) -> Answer:
        lines = _location(location) if location else b""
        return self._answer(status, _Messages(self._wire(ctx, queue, found)), lines)

    def _one(self, ctx: Context, request: r.GetMessage, result: Message) -> Answer:
        return self._answer(200, self._wire(ctx, request.queue, [result])[0])

    def _posted(self, _ctx: Context, request: r.PostMessages, result: r.MessagesPosted) -> Answer:
        base = links.messages(request.queue)
        resources = [f"{base}/{id_}" for id_ in result.ids]
        location = f"{base}?ids={','.join(result.ids)}"
        # Clients give up on a header over 64 KiB, though the messages are stored; the body names them too.
        lines = _location(location) if len(location) <= LONGEST_LOCATION else b""
        return self._answer(201, {"resources": resources}, lines)

    def _popped(self, ctx: Context, _request: r.DeleteMessages, result: r.MessagesPopped | None) -> Answer:
        if result is None:
            return Answer(204, media_type=self.media_type)
        messages = [
            popped(self._medium, message, now=ctx.now, checksums=self._checksums)
            for message in result.messages
        ]
        return self._answer(200, _Messages(messages))

    # --- claims --------------------------------------------------------------------------------------

    def _claimed(self, ctx: Context, request: r.CreateClaim, result: r.Claimed) -> Answer:
        if result.id is None:
            return Answer(204, media_type=self.media_type)
        location = links.claim(request.queue, result.id)
        return self._messages(201, ctx, request.queue, result.messages, location)

    def _claim(self, ctx: Context, request: r.GetClaim, result: r.Claim) -> Answer:
        lease = result.lease
        claim = _Claim(
            age(ctx.now, lease.since),
            lease.ttl,
            self._wire(ctx, request.queue, result.messages),
            links.claim(request.queue, lease.id),
        )
        return self._answer(200, claim)

    # --- subscriptions -------------------------------------------------------------------------------

    def _subscriptions(
        self, ctx: Context, request: r.ListSubscriptions, result: r.SubscriptionList
    ) -> Answer:
        next_links = []
        if result.subscriptions:
            query = {"limit": request.limit, "marker": result.subscriptions[-1].id}
            next_links = [_Link("next", f"{links.subscriptions(request.queue)}?{links.query(query)}")]
        found = [subscription(each, now=ctx.now) for each in result.subscriptions]
        return self._answer(200, _Subscriptions(found, next_links))

    def _subscribed(
        self, _ctx: Context, request: r.CreateSubscription, result: r.SubscriptionCreated
    ) -> Answer:
        location = _location(links.subscriptions(request.queue))
        return self._answer(201, {"subscription_id": result.id}, location)

    def _subscription(self, ctx: Context, _request: r.GetSubscription, result: Subscription) -> Answer:
        return self._answer(200, subscription(result, now=ctx.now))

    def _updated_subscription(
        self, _ctx: Context, request: r.UpdateSubscription, _result: Subscription
    ) -> Answer:
        location = _location(links.subscription(request.queue, request.subscription_id))
        return Answer(204, b"", location, self.media_type)

    def _confirmed_subscription(
        self, _ctx: Context, request: r.ConfirmSubscription, _result: Subscription
    ) -> Answer:
        location = _location(links.confirmation(request.queue, request.subscription_id))
        return Answer(204, b"", location, self.media_type)

    def _replayed(self, _ctx: Context, _request: r.ReplaySubscription, result: r.Replayed) -> Answer:
        return self._answer(200, result)

    # --- the service itself --------------------------------------------------------------------------

    def _health(self, _ctx: Context, _request: r.GetHealth, result: r.Health | r.PooledHealth) -> Answer:
        return self._answer(200, result.document if isinstance(result, r.PooledHealth) else result)

    # --- pools and flavors ---------------------------------------------------------------------------

    def _pools(self, _ctx: Context, request: r.ListPools, result: r.PoolList) -> Answer:
        next_links = _next(links.POOLS, _asked(request), [pool.name for pool in result.pools])
        shown = [_pool(pool, request.detailed) for pool in result.pools]
        return self._answer(200, _Pools(shown, next_links))

    def _put_pool(self, _ctx: Context, request: r.PutPool, _result: r.PoolPut) -> Answer:
        return Answer(201, b"", _location(links.pool(request.pool)), self.media_type)

    def _got_pool(self, _ctx: Context, request: r.GetPool, result: Pool) -> Answer:
        return self._answer(200, _pool(result, request.detailed))

    def _updated_pool(self, _ctx: Context, _request: r.UpdatePool, result: Pool) -> Answer:
        return self._answer(200, _pool(result, False))

    def _flavors(self, _ctx: Context, request: r.ListFlavors, result: r.FlavorList) -> Answer:
        shown = [
            _Flavor(
                flavor.name,
                links.flavor(flavor.name),
                flavor.pools or UNSET,
                flavor.capabilities if request.detailed else UNSET,
            )
            for flavor in result.flavors
        ]
        next_links = _next(links.FLAVORS, _asked(request), [flavor.name for flavor in result.flavors])
        return self._answer(200, _Flavors(shown, next_links))

    def _put_flavor(self, _ctx: Context, request: r.PutFlavor, _result: r.FlavorPut) -> Answer:
        return Answer(201, b"", _location(links.flavor(request.flavor)), self.media_type)

    def _flavor(self, _ctx: Context, _request: Any, result: Flavor) -> Answer:
        href = links.flavor(result.name)
        return self._answer(200, _Flavor(result.name, href, result.pools, result.capabilities))


def _asked(request: r.ListPools | r.ListFlavors) -> dict[str, str | int | bool | None]:
    """What a listing's query says."""
    return {"detailed": request.detailed, "limit": request.limit, "marker": request.marker}


def _next(path: str, asked: dict[str, str | int | bool | None], names: list[str]) -> list[_Link]:
    if not names:
        return []
    return [_Link("next", f"{path}?{links.query({**asked, 'marker': names[-1]})}")]


def _pool(pool: Pool, detailed: bool) -> _Pool:
    return _Pool(
        pool.name,
        pool.shown_uri,
        pool.weight,
        pool.flavor.name if pool.flavor is not None else "",
        links.pool(pool.name),
        pool.shown_options if detailed else UNSET,
    )


def _location(href: str) -> bytes:
    return line("location", href)


@lru_cache(1024)
def _page_query(
    limit: int | None, echo: bool, include_claimed: bool, include_delayed: bool, wait: int
) -> str:
    """A listing's query but for its marker, which is put after it."""
    query = links.query(
        {
            "limit": limit,
            "echo": echo,
            "include_claimed": include_claimed,
            "include_delayed": include_delayed,
            "wait": wait or None,
        }
    )
    return f"{query}&" if query else ""
