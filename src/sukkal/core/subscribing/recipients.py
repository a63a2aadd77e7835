"""Whom deliveries go to, and what becomes of those that fail for good."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct

from sukkal.core.attributes import DEAD_LETTER_QUEUE, DEAD_LETTER_TTL, Attributes
from sukkal.core.catalog import Catalog
from sukkal.core.cipher import Cipher, is_sealed
from sukkal.core.messages import Messages
from sukkal.core.subscribing.confirmation import Confirmation
from sukkal.core.subscribing.deliveries import Parked, Told, letter_id
from sukkal.core.subscribing.hidden import without_userinfo
from sukkal.core.subscribing.subscriptions import Subscriptions
from sukkal.limits import is_name
from sukkal.model import Message, QueueKey, Subscription

DEAD_LETTER = "DeliveryFailure"

_AGAIN = "~"  # in no id of a delivery that was not sent again


class Failure(Struct, frozen=True, kw_only=True):
    """The body of a dead letter: what was not delivered, to whom, and why."""

    kind: str = msgspec.field(name="Message_Type", default=DEAD_LETTER)
    queue: str = msgspec.field(name="queue_name")
    subscription_id: str
    subscriber: str
    reason: str
    attempts: int
    time: str  # of the last attempt, or of giving up
    notification: Raw
    delivery: str  # the id under which it was parked


def is_genuine(failure: Failure, letter: str) -> bool:
    """Whether a message with this body and id was written by `bury`; anybody else may write such a body."""
    return letter == letter_id(failure.delivery)


def id_again(failure: Failure, letter: str) -> str:
    """An id for sending again what this letter, by its id, tells of. `first_id` makes of it the delivery's.

    It is no other letter's, nor the delivery's own: what was made of those may not be forgotten yet.
    """
    return f"{first_id(failure.delivery)}{_AGAIN}{letter}"


def first_id(id_: str) -> str:
    """The id that a delivery had when it was first made, however often it was sent again."""
    return id_.partition(_AGAIN)[0]


class Recipients:
    def __init__(
        self,
        catalog: Catalog,
        subscriptions: Subscriptions,
        confirmation: Confirmation,
        messages: Messages,
        cipher: Cipher,
    ) -> None:
        self.awaited = confirmation.awaited
        self.outside = subscriptions.outside
        self.find = subscriptions.find
        self.disable = subscriptions.disable
        self._catalog = catalog
        self._messages = messages
        self._cipher = cipher

    async def metadata(self, key: QueueKey, *, now: float) -> Mapping[str, Any]:
        """What is set of a queue; nothing when it has gone."""
        entry = await self._catalog.get(key, now=now)
        return entry.queue.metadata if entry else {}

    def body(self, told: Told) -> bytes:
        """The message's body as it was sent. Raises Unavailable when it cannot be read."""
        return self._opened(told.id, told.body)

    def text(self, parked: Parked) -> bytes:
        """What stands in place of a message."""
        return self._opened(parked.id, parked.text)

    def _opened(self, id_: str, body: bytes) -> bytes:
        stored = Message(id=id_, body=body, ttl=0, created=0, visible=0, expires=0)
        return self._messages.opened([stored])[0].body

    async def dead_letter_queue(
        self, key: QueueKey, subscription: Subscription, *, now: float
    ) -> QueueKey | None:
        """Where deliveries go that fail for good: as the subscription says, or else its queue."""
        metadata = await self.metadata(key, now=now)
        target = subscription.options.get(DEAD_LETTER_QUEUE) or metadata.get(DEAD_LETTER_QUEUE)
        if not isinstance(target, str) or not is_name(target) or target == key.name:
            return None
        return QueueKey(key.project, target)

    async def bury(
        self, parked: Parked, subscription: Subscription, notification: bytes, reason: str, *, now: float
    ) -> bool:
        """Put a delivery that failed into its dead letter queue; False when it has none.

        Doing so again leaves one letter.
        """
        if parked.directed or parked.dead:
            return False
        target = await self.dead_letter_queue(parked.key, subscription, now=now)
        if target is None:
            return False
        letter = msgspec.json.encode(
            Failure(
                queue=parked.key.title,
                subscription_id=subscription.id,
                subscriber=without_userinfo(subscription.subscriber),
                reason=reason,
                attempts=parked.attempts,
                time=datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                notification=Raw(notification),
                delivery=parked.id,
            )
        )
        secret = is_sealed(parked.message.body if parked.message else parked.text)
        own_ttl = (await self.metadata(parked.key, now=now)).get(DEAD_LETTER_TTL)

        def batch(queue: Attributes) -> list[Message]:
            ttl = own_ttl or queue.default_ttl
            body = self._cipher.seal(letter, parked.letter) if secret or queue.encrypt else letter
            return [
                Message(id=parked.letter, body=body, ttl=ttl, created=now, visible=now, expires=now + ttl)
            ]

        await self._messages.append(target, batch, now=now, dead=True)
        return True
