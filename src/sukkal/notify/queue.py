"""Other queues as subscribers: `queue:NAME` is told by a message in the queue NAME of the same project.

The message's body is the notification and, as `hops`, how many queues it came through, so that queues which
tell each other in a circle come to an end. Its id is made from the delivery's: repeated, it stores one copy.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from sukkal.core.subscribing.recipients import DEAD_LETTER
from sukkal.errors import Invalid, StoreUnavailable, Unavailable
from sukkal.limits import is_name
from sukkal.model import QueueKey, Subscription
from sukkal.notify.deliverer import Outcome, Parcel, Result
from sukkal.notify.notice import KIND

SCHEME = "queue:"
MOST_HOPS = 5


class Forward(Protocol):
    """Stores bodies under ids; the same ids again store one copy."""

    async def __call__(self, key: QueueKey, bodies: Mapping[str, bytes], *, ttl: int, now: float) -> None: ...


class _Notice(Struct):
    ttl: int
    body: Raw


class _Forwarded(Struct):
    kind: str = msgspec.field(name="Message_Type")
    hops: int = 0  # of one that was forwarded
    notification: _Notice | None = None  # of a dead letter


_read_notice = msgspec.json.Decoder(_Notice).decode
_read_forwarded = msgspec.json.Decoder(_Forwarded).decode


class OtherQueue:
    """A Deliverer to queues."""

    def __init__(self, forward: Forward, now: Callable[[], float]) -> None:
        self._forward = forward
        self._now = now

    def check(self, subscriber: str) -> None:
        if not subscriber.startswith(SCHEME) or not is_name(subscriber.removeprefix(SCHEME)):
            raise Invalid("The subscriber must be queue: and the name of a queue, such as queue:audit.")

    def host(self, subscriber: str) -> str:
        return subscriber

    def size(self, subscription: Subscription, told: int) -> int:
        return told

    async def deliver(self, parcel: Parcel) -> Outcome:
        subscriber = parcel.subscription.subscriber
        try:
            self.check(subscriber)
        except Invalid as exc:
            return Outcome(Result.FAILED, exc.message)
        name = subscriber.removeprefix(SCHEME)
        bodies, ttl = {}, 0
        for number, notice in enumerate(parcel.notices):
            try:
                told = _read_notice(notice)
            except (msgspec.DecodeError, RecursionError):
                return Outcome(Result.FAILED, "it is no notification")
            hops = _hops(told.body) + 1
            if hops > MOST_HOPS:
                return Outcome(Result.FAILED, f"it came through {MOST_HOPS} queues already")
            bodies[_id(parcel.delivery, number)] = notice[:-1] + b',"hops":%d}' % hops
            ttl = max(ttl, told.ttl)
        try:
            await self._forward(QueueKey(parcel.project, name), bodies, ttl=ttl, now=self._now())
        except (StoreUnavailable, Unavailable):
            return Outcome(Result.RETRY, "the store cannot be reached")
        return Outcome(Result.DELIVERED)

    async def close(self) -> None:
        pass


def _hops(body: Raw) -> int:
    """How many queues a message came through before it came to this one.

    A dead letter came through those that what failed came through: else one that leads back to where it
    failed would do so for ever, and become more each time.
    """
    try:
        forwarded = _read_forwarded(body)
        if forwarded.kind == DEAD_LETTER and forwarded.notification is not None:
            forwarded = _read_forwarded(forwarded.notification.body)
    except (msgspec.DecodeError, RecursionError):
        return 0
    return max(forwarded.hops, 0) if forwarded.kind == KIND else 0


def _id(parcel: str, number: int) -> str:
    return hashlib.blake2b(f"{parcel}/{number}".encode(), digest_size=16).hexdigest()
