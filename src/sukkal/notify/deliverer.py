"""What a deliverer is: it brings notifications to subscribers of one URI scheme."""

import enum
from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from sukkal.core.subscribing.recipients import first_id
from sukkal.model import Subscription


class Result(enum.Enum):
    """How an attempt ended."""

    DELIVERED = "delivered"
    RETRY = "retry"  # not now; the retry policy says when again
    FAILED = "failed"  # for good
    GONE = "gone"  # and so will everything after it: the subscriber wants nothing more


class Outcome(Struct, frozen=True):
    result: Result
    reason: str = ""  # for people, when it was not delivered
    retry_after: float | None = None  # seconds the subscriber asked to be left alone
    reached: bool = False  # of a RETRY: the host works, and others may be delivered to there


class Parcel(Struct, frozen=True, kw_only=True):
    """What is brought to one subscriber at once."""

    id: str  # the same on every attempt
    project: str
    subscription: Subscription
    notices: list[bytes]  # JSON objects; more than one only where batching was asked for
    created: float  # s since epoch
    attempt: int  # 0 for the first
    traces: list[bytes] = []  # that its messages were posted in, of those posted in one
    traceparent: str = ""  # of the span this attempt is, as W3C writes it; empty when nobody traces it

    @property
    def delivery(self) -> str:
        """The id that receivers know it by: the same also when it was a dead letter meanwhile."""
        return first_id(self.id)


class Deliverer(Protocol):
    """One way to reach subscribers."""

    def check(self, subscriber: str) -> None:
        """Raise Invalid, saying what is wrong with the URI, unless it can be subscribed."""
        ...

    def host(self, subscriber: str) -> str:
        """Whom limits and circuit breakers count by."""
        ...

    def size(self, subscription: Subscription, told: int) -> int:
        """How many bytes it takes in memory to deliver notices of so many bytes together."""
        ...

    async def deliver(self, parcel: Parcel) -> Outcome:
        """Try once, within time-outs of its own. Whatever the receiver does is an outcome, never an error."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


Deliverers = Mapping[str, Deliverer]  # by URI scheme
