"""What every transport shows alike: messages that were popped, subscriptions, ages, moments."""

import time
from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType

from sukkal.model import Message, Subscription
from sukkal.wire.checksum import checksum
from sukkal.wire.media import Medium


class Popped(Struct, gc=False):
    """A message that was taken out: nothing refers to it any more."""

    id: str
    age: int
    ttl: int
    body: Raw
    claim_id: str | None
    claim_count: int
    checksum: str | UnsetType = UNSET


def popped(medium: Medium, message: Message, *, now: float, checksums: bool) -> Popped:
    return Popped(
        message.id,
        age(now, message.created),
        message.ttl,
        medium.show(message.body),
        message.claim,
        message.claim_count,
        checksum(message.body) if checksums else UNSET,
    )


class ShownSubscription(Struct):
    id: str
    source: str
    subscriber: str
    ttl: int
    age: int
    options: dict[str, Any]
    confirmed: bool
    disabled: str | UnsetType = UNSET  # since when; left out of those that are not


def subscription(found: Subscription, *, now: float) -> ShownSubscription:
    return ShownSubscription(
        found.id,
        found.source,
        found.subscriber,
        found.ttl,
        age(now, found.created),
        found.options,
        found.confirmed,
        UNSET if found.gone is None else moment(found.gone),
    )


def age(now: float, since: float) -> int:
    """Whole seconds; none of what is to come yet, as the clock may have been set back."""
    return max(0, int(now - since))


def moment(when: float) -> str:
    """Seconds since the epoch as a date and time."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
