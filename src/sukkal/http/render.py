"""Results → answers: a function for each operation that answers more than a status."""

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from sukkal import requests as r
from sukkal.core.context import Context
from sukkal.model import Edge, Message, Queue
from sukkal.wire import links

encode = msgspec.json.Encoder().encode


JSON = b"application/json"


class Answer(Struct, frozen=True):
    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media_type: bytes = JSON


class _Link(Struct):
    rel: str
    href: str


class _Message(Struct):
    id: str
    href: str
    ttl: int
    age: int
    body: Raw
    checksum: str | UnsetType = UNSET


class _Popped(Struct):
    id: str
    age: int
    ttl: int
    body: Raw
    claim_id: str | None
    claim_count: int
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


Renderer = Callable[[Context, Any, Any], Answer]  # context, request, result


class Renderers:
    """Answers by operation name."""

    def __init__(self, *, queue_defaults: dict[str, Any], checksums: bool) -> None:
        self._queue_defaults = queue_defaults
        self._checksums = checksums
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
            "health.get": self._health,
        }

    # --- queues --------------------------------------------------------------------------------------

    def _queues(self, _ctx: Context, request: r.ListQueues, result: r.QueueList) -> Answer:
        next_links = []
        if result.queues:
            query = _given(request, "limit", "detailed", "name", "with_count") | request.filters
            next_links = [_Link("next", links.next_page(links.QUEUES, query, result.queues[-1].name))]
        page = _Queues(
            [self._queue(queue, request.detailed) for queue in result.queues],
            next_links,
            UNSET if result.count is None else result.count,
        )
        return Answer(200, encode(page))

    def _queue(self, queue: Queue, detailed: bool) -> _Queue:
        metadata: dict[str, Any] | UnsetType = UNSET
        if detailed:
            metadata = r.QueueMetadata(stored=queue.metadata, defaults=self._queue_defaults).shown
        return _Queue(queue.name, links.queue(queue.name), metadata)

    def _created_queue(self, _ctx: Context, request: r.CreateQueue, result: r.QueueCreated) -> Answer:
        return Answer(201 if result.created else 204, b"", _location(links.queue(request.queue)))

    def _metadata(self, _ctx: Context, _request: Any, result: r.QueueMetadata) -> Answer:
        return Answer(200, encode(result.shown))

    def _stats(self, ctx: Context, request: r.GetQueueStats, result: r.QueueStats) -> Answer:
        def edge(found: Edge | None) -> _Edge | UnsetType:
            if found is None:
                return UNSET
            created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.created))
            return _Edge(links.message(request.queue, found.id), _age(ctx, found.created), created)

        counts = _Counts(
            result.claimed,
            result.free,
            result.claimed + result.free,
            edge(result.oldest),
            edge(result.newest),
        )
        return Answer(200, encode(_Messages(counts)))  # type: ignore[arg-type]

    # --- messages ------------------------------------------------------------------------------------

    def _message(self, ctx: Context, queue: str, message: Message) -> _Message:
        return _Message(
            message.id,
            links.message(queue, message.id, message.claim),
            message.ttl,
            _age(ctx, message.created),
            Raw(message.body),
            checksum(message.body) if self._checksums else UNSET,
        )

    def _page(self, ctx: Context, request: r.ListMessages, result: r.MessageList) -> Answer:
        queue = request.queue
        next_links = []
        if result.messages:
            query = _given(request, "limit", "echo", "include_claimed")
            if result.include_delayed:
                query["include_delayed"] = "true"
            href = links.next_page(links.messages(queue), query, result.messages[-1].marker)
            next_links = [_Link("next", href)]
        return Answer(200, encode(_Page([self._message(ctx, queue, m) for m in result.messages], next_links)))

    def _found(self, ctx: Context, request: r.GetMessages, result: r.MessageList) -> Answer:
        return self._messages(200, ctx, request.queue, result.messages)

    def _messages(
        self, status: int, ctx: Context, queue: str, found: list[Message], location: str | None = None
    ) -> Answer:
        messages = [self._message(ctx, queue, message) for message in found]
        return Answer(status, encode(_Messages(messages)), _location(location) if location else ())

    def _one(self, ctx: Context, request: r.GetMessage, result: Message) -> Answer:
        return Answer(200, encode(self._message(ctx, request.queue, result)))

    def _posted(self, _ctx: Context, request: r.PostMessages, result: r.MessagesPosted) -> Answer:
        base = links.messages(request.queue)
        resources = [f"{base}/{id_}" for id_ in result.ids]
        location = f"{base}?ids={','.join(result.ids)}"
        return Answer(201, encode({"resources": resources}), _location(location))

    def _popped(
        self, ctx: Context, _request: r.DeleteMessages, result: r.MessagesPopped | None
    ) -> Answer:
        if result is None:
            return Answer(204)
        messages = [
            _Popped(
                m.id,
                _age(ctx, m.created),
                m.ttl,
                Raw(m.body),
                m.claim,
                m.claim_count,
                checksum(m.body) if self._checksums else UNSET,
            )
            for m in result.messages
        ]
        return Answer(200, encode(_Messages(messages)))

    # --- claims --------------------------------------------------------------------------------------

    def _claimed(self, ctx: Context, request: r.CreateClaim, result: r.Claimed) -> Answer:
        if result.id is None:
            return Answer(204)
        location = links.claim(request.queue, result.id)
        return self._messages(201, ctx, request.queue, result.messages, location)

    def _claim(self, ctx: Context, request: r.GetClaim, result: r.Claim) -> Answer:
        lease = result.lease
        claim = _Claim(
            _age(ctx, lease.since),
            lease.ttl,
            [self._message(ctx, request.queue, message) for message in result.messages],
            links.claim(request.queue, lease.id),
        )
        return Answer(200, encode(claim))

    # --- the service itself --------------------------------------------------------------------------

    def _health(self, _ctx: Context, _request: r.GetHealth, result: r.Health) -> Answer:
        return Answer(200, encode(result))


def _location(href: str) -> tuple[tuple[bytes, bytes]]:
    return ((b"location", href.encode()),)


def _age(ctx: Context, since: float) -> int:
    return max(0, int(ctx.now - since))


def _given(request: Any, *names: str) -> dict[str, str]:
    """Those query parameters that are not left at their default, as they are written."""
    values = ((name, getattr(request, name)) for name in names)
    return {
        name: "true" if value is True else str(value)
        for name, value in values
        if value is not None and value is not False
    }


def checksum(body: bytes) -> str | UnsetType:
    """`MD5:<hex>` over the body's JSON text in the API's canonical form; nothing for null."""
    if body == b"null":
        return UNSET
    text = json.dumps(json.loads(body))
    return f"MD5:{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"
