"""Sending again what could not be delivered."""

import msgspec

from sukkal import requests as r
from sukkal.core.cipher import Cipher, is_sealed
from sukkal.core.context import Context
from sukkal.core.messages import Messages
from sukkal.core.subscribing.deliveries import Deliveries, Parked
from sukkal.core.subscribing.recipients import DEAD_LETTER, Failure, Recipients, id_again, is_genuine
from sukkal.core.subscribing.rules import wants_series
from sukkal.errors import Conflict, Forbidden, NotFound
from sukkal.model import UNCLAIMED, Message, QueueKey, Subscription, View
from sukkal.stores.contract import Messages as Store

READ_AT_ONCE = 100  # dead letters
MOST_READ = 2000  # in one request

_read = msgspec.json.Decoder(Failure).decode


class DeadLetters:
    def __init__(
        self, recipients: Recipients, messages: Messages, deliveries: Deliveries, store: Store, cipher: Cipher
    ) -> None:
        self._recipients = recipients
        self._messages = messages
        self._deliveries = deliveries
        self._store = store
        self._cipher = cipher

    async def replay(self, ctx: Context, request: r.ReplaySubscription) -> r.Replayed:
        """Record anew the failed deliveries of one subscription, and take away their dead letters.

        Looks at a bounded number of letters, and answers where to go on. Those that somebody has claimed are
        left alone, and so are messages that only look like dead letters. A crash on the way may have
        delivered what is still there; it loses none. Raises Conflict when nothing would be delivered to the
        subscription.
        """
        if ctx.signed:
            raise Forbidden(
                "A pre-signed URL gives leave for one queue, and replaying takes messages out of another. "
                "Ask who signed it to replay them."
            )
        key, now = QueueKey(ctx.project, request.queue), ctx.now
        subscription = await self._recipients.find(key, request.subscription_id, now=now)
        if subscription is None:
            raise NotFound(f"Subscription {request.subscription_id} does not exist")
        self._check_receives(subscription)
        letters = await self._recipients.dead_letter_queue(key, subscription, now=now)
        if letters is None:
            return r.Replayed(replayed=0)
        marker, replayed = request.marker, 0
        failing = set[str]()  # letters that these deliveries make if they fail at once
        for _ in range(0, MOST_READ, READ_AT_ONCE):
            page = await self._store.page(letters, view=View(), after=marker, limit=READ_AT_ONCE, now=now)
            if not page:
                return r.Replayed(replayed=replayed)
            marker = page[-1].marker
            again = [
                (letter.id, parked)
                for letter in page
                if letter.id not in failing
                and (parked := self._parked(key, subscription.id, letter, now)) is not None
            ]
            if again:
                failing.update(parked.letter for _, parked in again)
                if wants_series(subscription):
                    await self._deliveries.line_up([parked for _, parked in again], now=now)
                else:
                    await self._deliveries.park([(parked, now) for _, parked in again], now=now)
                ids = [id_ for id_, _ in again]
                replayed += len(await self._store.delete(letters, ids, holder=UNCLAIMED, now=now))
        return r.Replayed(replayed=replayed, marker=marker)

    def _check_receives(self, subscription: Subscription) -> None:
        """Raise Conflict when what is recorded for it would not be brought to it."""
        if subscription.connection:
            raise Conflict(
                f"Subscription {subscription.id} is a connection's own: it hears of messages as they come, "
                "and nothing is delivered to it. Have another subscriber take it over first."
            )
        if subscription.gone is not None:
            raise Conflict(
                f"Subscription {subscription.id} is disabled, since its receiver answered that it is gone: "
                "nothing is delivered to it. Subscribe the same URI again first; the dead letters stay."
            )
        if self._recipients.awaited(subscription):
            raise Conflict(
                f"Subscription {subscription.id} is not confirmed: nothing is delivered to it. "
                "Have the subscriber confirm it first; the dead letters stay."
            )

    def _parked(self, key: QueueKey, subscription: str, letter: Message, now: float) -> Parked | None:
        """The delivery that a dead letter of our own tells of, if it is one to that subscription."""
        body = self._messages.opened([letter])[0].body
        if DEAD_LETTER.encode() not in body:
            return None
        try:
            failure = _read(body)
        except (msgspec.DecodeError, RecursionError):
            return None
        if failure.kind != DEAD_LETTER or failure.subscription_id != subscription:
            return None
        if not is_genuine(failure, letter.id):
            return None
        text, id_ = bytes(failure.notification), id_again(failure, letter.id)
        return Parked(
            id=id_,
            project=key.project,
            queue=key.name,
            subscription=subscription,
            since=now,
            text=self._cipher.seal(text, id_) if is_sealed(letter.body) else text,
        )
