"""Results → the bodies of replies, for each action; and what failures are called here.

Bodies are structs and plain values that any medium can write. The words are the API's.
"""

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType

from sukkal import requests as r
from sukkal.core.context import Context
from sukkal.errors import Conflict, Invalid, InvalidBody, NotFound, ServiceError, Unavailable, Undeletable
from sukkal.model import Edge, Message, Subscription
from sukkal.operations import Body, Operation
from sukkal.wire.checksum import checksum
from sukkal.wire.media import Medium
from sukkal.wire.shown import age, moment, popped, subscription
from sukkal.wire.status import status_of

Rendered = tuple[int, Any]  # status, body
Renderer = Callable[[Medium, Context, Any, Any], Rendered]  # medium, context, request, result


class _Message(Struct, gc=False):
    id: str
    claim_id: str | None
    ttl: int
    age: int
    body: Raw
    checksum: str | UnsetType = UNSET


class _Messages(Struct):
    messages: Any


class _Posted(Struct):
    message_ids: list[str]


class _Claimed(Struct):
    claim_id: str
    messages: list[_Message]


class _Claim(Struct):
    age: int
    ttl: int
    messages: list[_Message]


class _Edge(Struct):
    id: str
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
    metadata: dict[str, Any] | UnsetType = UNSET


class _Queues(Struct):
    queues: list[_Queue]


class Failure(Struct):
    """What the body of a failed action says."""

    exception: str
    error: str | None = None


# The sentence for `error`, where the API has one; {…} are fields of the request.
_UNAVAILABLE = {
    "queues.list": "Queues could not be listed.",
    "queues.create": "Queue {queue} could not be created.",
    "queues.get": "Cannot retrieve queue {queue}.",
    "subscriptions.list": "Subscriptions could not be listed.",
    "subscriptions.create": "Subscription {queue} could not be created.",
}
_NOT_FOUND = {
    "claims.get": "Claim {claim_id} does not exist.",
    "claims.renew": "Claim {claim_id} does not exist.",
    "subscriptions.get": "Subscription {subscription_id} for queue {queue} does not exist.",
}


def failed(operation: Operation, fields: dict[str, Any], error: ServiceError) -> Rendered:
    """The reply to an action that failed; `fields` of its request."""
    status, text = status_of(error), error.message
    match error:
        case Conflict():
            return status, _not_created(fields["queue"])
        case NotFound() if operation.name == "messages.get_many":
            return 200, _Messages([])
        case NotFound():
            sentence = _NOT_FOUND[operation.name].format(**fields) if operation.name in _NOT_FOUND else text
        case Unavailable():
            sentence = _UNAVAILABLE.get(operation.name, operation.failure).format(**fields)
        case InvalidBody() if operation.body is Body.MESSAGES:
            return status, Failure(f"Bad request. {text}")
        case Invalid() if not isinstance(error, Undeletable):
            return status, Failure(text)
        case _:
            sentence = text
    return status, Failure(text, sentence)


def _not_created(queue: str) -> str:
    return f"Subscription {queue} not created."


class Renderers:
    """Bodies of replies by operation name."""

    def __init__(self, *, checksums: bool) -> None:
        self._checksums = checksums
        self.by_operation: dict[str, Renderer] = {
            "queues.list": self._queues,
            "queues.create": self._created_queue,
            "queues.get": self._metadata,
            "queues.delete": self._deleted_queue,
            "queues.stats": self._stats,
            "queues.purge": self._done,
            "messages.list": self._page,
            "messages.get_many": self._page,
            "messages.get": self._one,
            "messages.post": self._posted,
            "messages.delete": self._done,
            "messages.delete_many": self._popped,
            "claims.create": self._claimed,
            "claims.get": self._claim,
            "claims.renew": self._renewed_claim,
            "claims.release": self._released_claim,
            "subscriptions.list": self._subscriptions,
            "subscriptions.create": self._subscribed,
            "subscriptions.get": self._subscription,
            "subscriptions.delete": self._unsubscribed,
            "health.get": self._health,
            "ping.get": self._done,
        }

    def _done(self, _medium: Medium, _ctx: Context, _request: Any, _result: None) -> Rendered:
        return 204, {}

    # --- queues --------------------------------------------------------------------------------------

    def _queues(self, _medium: Medium, _ctx: Context, request: r.ListQueues, result: r.QueueList) -> Rendered:
        return 200, _Queues(
            [_Queue(queue.name, queue.metadata if request.detailed else UNSET) for queue in result.queues]
        )

    def _created_queue(
        self, _medium: Medium, _ctx: Context, request: r.CreateQueue, result: r.QueueCreated
    ) -> Rendered:
        return 201 if result.created else 204, f"Queue {request.queue} created."

    def _metadata(
        self, _medium: Medium, _ctx: Context, _request: r.GetQueue, result: r.QueueMetadata
    ) -> Rendered:
        return 200, result.stored

    def _deleted_queue(
        self, _medium: Medium, _ctx: Context, request: r.DeleteQueue, _result: None
    ) -> Rendered:
        return 204, f"Queue {request.queue} removed."

    def _stats(
        self, _medium: Medium, ctx: Context, _request: r.GetQueueStats, result: r.QueueStats
    ) -> Rendered:
        def edge(found: Edge | None) -> _Edge | UnsetType:
            if found is None:
                return UNSET
            return _Edge(found.id, age(ctx.now, found.created), moment(found.created))

        total = result.claimed + result.free
        counts = _Counts(result.claimed, result.free, total, edge(result.oldest), edge(result.newest))
        return 200 if result.exists else 404, _Messages(counts)

    # --- messages ------------------------------------------------------------------------------------

    def _message(self, medium: Medium, ctx: Context, message: Message, claim: str | None = None) -> _Message:
        return _Message(
            message.id,
            claim,
            message.ttl,
            age(ctx.now, message.created),
            medium.show(message.body),
            checksum(message.body) if self._checksums else UNSET,
        )

    def _page(self, medium: Medium, ctx: Context, _request: Any, result: r.MessageList) -> Rendered:
        return 200, _Messages([self._message(medium, ctx, message) for message in result.messages])

    def _one(self, medium: Medium, ctx: Context, _request: r.GetMessage, result: Message) -> Rendered:
        return 200, _Messages(self._message(medium, ctx, result))

    def _posted(
        self, _medium: Medium, _ctx: Context, _request: r.PostMessages, result: r.MessagesPosted
    ) -> Rendered:
        return 201, _Posted(result.ids)

    def _popped(
        self, medium: Medium, ctx: Context, _request: r.DeleteMessages, result: r.MessagesPopped | None
    ) -> Rendered:
        if result is None:
            return 204, {}
        messages = [
            popped(medium, message, now=ctx.now, checksums=self._checksums) for message in result.messages
        ]
        return 200, _Messages(messages)

    # --- claims --------------------------------------------------------------------------------------

    def _claimed(self, medium: Medium, ctx: Context, _request: r.CreateClaim, result: r.Claimed) -> Rendered:
        if result.id is None:
            return 204, {"claim_id": None}
        messages = [self._message(medium, ctx, message, result.id) for message in result.messages]
        return 201, _Claimed(result.id, messages)

    def _claim(self, medium: Medium, ctx: Context, _request: r.GetClaim, result: r.Claim) -> Rendered:
        lease = result.lease
        messages = [self._message(medium, ctx, message, lease.id) for message in result.messages]
        return 200, _Claim(age(ctx.now, lease.since), lease.ttl, messages)

    def _renewed_claim(
        self, _medium: Medium, _ctx: Context, request: r.RenewClaim, _result: None
    ) -> Rendered:
        return 204, f"Claim {request.claim_id} updated."

    def _released_claim(
        self, _medium: Medium, _ctx: Context, request: r.ReleaseClaim, _result: None
    ) -> Rendered:
        return 204, f"Claim {request.claim_id} deleted."

    # --- subscriptions -------------------------------------------------------------------------------

    def _subscriptions(
        self, _medium: Medium, ctx: Context, _request: r.ListSubscriptions, result: r.SubscriptionList
    ) -> Rendered:
        return 200, {"subscriptions": [subscription(each, now=ctx.now) for each in result.subscriptions]}

    def _subscribed(
        self, _medium: Medium, _ctx: Context, request: r.CreateSubscription, result: r.SubscriptionCreated
    ) -> Rendered:
        if not result.created:
            return 409, _not_created(request.queue)
        return 201, {"subscription_id": result.id, "message": f"Subscription {request.queue} created."}

    def _subscription(
        self, _medium: Medium, ctx: Context, _request: r.GetSubscription, result: Subscription
    ) -> Rendered:
        return 200, subscription(result, now=ctx.now)

    def _unsubscribed(
        self, _medium: Medium, _ctx: Context, request: r.DeleteSubscription, _result: None
    ) -> Rendered:
        return 204, f"Subscription {request.subscription_id} removed."

    # --- the service itself --------------------------------------------------------------------------

    def _health(
        self, _medium: Medium, _ctx: Context, _request: r.GetHealth, result: r.Health | r.PooledHealth
    ) -> Rendered:
        return 200, result.document if isinstance(result, r.PooledHealth) else result
