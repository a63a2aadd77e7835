"""Who is told of posts at once: listeners of this process, by queue.

A listener hears of each message after it was stored, never before, in the order of the queue, whichever
process it was posted through. The queues that somebody here listens to are followed over the store's line;
posts to others cost nothing.

Each listens by a subscription, whose record any process may change. Whoever has done so tells it under a key
that stands for the subscriptions of that queue: one of the project "", which holds no messages. It is watched
as long as somebody here listens to the queue. Told is, in place of an amount, the id of the subscription as a
number: so one record is read again, however many listen, and that only where this one does.

Who listens to everything is told at once. To ask a filter may take as long as all of a request, and there may
be hundreds: those are asked by and by, from a backlog. While a queue has one, everybody is told from it, so
that all hear in the order of the queue.
"""

import logging
from collections.abc import Callable

from msgspec import Struct

from sukkal.core.backlog import Backlog, Untold
from sukkal.core.carrier import Carrier
from sukkal.core.clock import Clock
from sukkal.core.ids import number_of, numbered
from sukkal.core.subscribing.filters import Matcher, filter_of
from sukkal.model import Message, Notice, QueueKey, Subscription
from sukkal.stores.contract import Waker
from sukkal.tally import Figures

log = logging.getLogger(__name__)

Hear = Callable[[Notice], None]


class Listener(Struct, frozen=True):
    """One who listens to a queue. It must take what it hears without waiting."""

    hear: Hear
    expires: float  # s since epoch; deaf from then on
    matches: Matcher | None  # whether it hears of a message; None: of all


class Notifier:
    doubted: Callable[[QueueKey, str], None]  # called with a listener that may be other than its record says

    def __init__(
        self,
        waker: Waker,
        clock: Clock,
        opened: Callable[[list[Message]], list[Message]],
        figures: Figures,
        carrier: Carrier | None = None,
    ) -> None:
        """`opened` gives messages their bodies as they were sent."""
        self._waker = waker
        self.clock = clock
        self._opened = opened
        self._figures = figures
        self._listeners: dict[QueueKey, dict[str, Listener]] = {}  # by queue, by subscription
        self._queues: dict[QueueKey, QueueKey] = {}  # the same queues, by the keys of their subscriptions
        self._backlog = Backlog(self._tell_one)
        waker.listen_to_messages(self._tell if carrier is None else carrier.telling(self._tell))

    async def listen(self, key: QueueKey, subscription: Subscription, hear: Hear) -> None:
        """Let it hear of what is stored from now on, as far as the subscription wants it.

        Raises StoreUnavailable; then it hears nothing.
        """
        id_ = subscription.id
        self._listeners.setdefault(key, {})[id_] = _listener(hear, subscription)
        self._queues[_subscriptions(key)] = key
        try:
            await self._waker.follow(key)
            await self._waker.watch(_subscriptions(key))
        except BaseException:
            self.forget(key, id_)
            raise
        finally:
            if key not in self._listeners:  # it was forgotten meanwhile
                self._hang_up(key)
        self.doubted(key, id_)  # nobody has heard what was told of it before

    def renew(self, key: QueueKey, subscription: Subscription) -> None:
        """Let one who listens do so as the subscription says; nothing happens when it does not listen."""
        listener = self._listeners.get(key, {}).get(subscription.id)
        if listener is not None:
            self._listeners[key][subscription.id] = _listener(listener.hear, subscription)

    def forget(self, key: QueueKey, id_: str) -> None:
        """Let this one hear nothing more; it may have gone already."""
        listeners = self._listeners.get(key)
        if listeners is not None and listeners.pop(id_, None) is not None and not listeners:
            del self._listeners[key], self._queues[_subscriptions(key)]
            self._hang_up(key)

    def _hang_up(self, key: QueueKey) -> None:
        self._waker.unfollow(key)
        self._waker.unwatch(_subscriptions(key))

    def changed(self, key: QueueKey, id_: str | None = None) -> None:
        """Tell all processes that a subscription's record was changed or deleted; without id, that any was.

        To be called after the write, also when that failed: it may have had its effect.
        """
        number = None if id_ is None else number_of(id_)
        if id_ is None or number is not None:  # nobody listens by what is no id
            self._waker.tell(_subscriptions(key), number)

    def heard(self, queue: QueueKey, number: int | None, _due: float) -> None:
        """Take what was told of some key, if it stands for the subscriptions of a queue with listeners."""
        key = self._queues.get(queue)
        if key is None:
            return
        listeners = self._listeners[key]
        ids = list(listeners) if number is None else [numbered(number)]
        for id_ in ids:
            if id_ in listeners:
                self.doubted(key, id_)

    async def close(self) -> None:
        """Tell nothing more of what is yet to be told."""
        await self._backlog.close()

    def _tell(self, key: QueueKey, stored: Message) -> None:
        """Tell all who listen, at once also of what is delayed."""
        listeners = self._listeners.get(key)
        if not listeners:
            return
        (message,) = self._opened([stored])
        delay = round(message.visible - message.created)
        notice = Notice(queue=key.title, body=message.body, ttl=message.ttl, delay=delay)
        now = self.clock.now()
        all_wait = self._backlog.holds(key)
        later = []
        for id_, listener in list(listeners.items()):
            if listener.expires <= now:
                self.doubted(key, id_)  # another process may have renewed it a moment ago
            elif all_wait or listener.matches is not None:
                later.append(id_)
            else:
                self._hear(key, listener, notice)
        if later and not self._backlog.add(key, notice, later):
            self._figures.notifications_dropped += len(later)

    def _tell_one(self, key: QueueKey, id_: str, untold: Untold, hurried: bool) -> None:
        listener = self._listeners.get(key, {}).get(id_)
        if listener is None:
            return
        try:
            if hurried or listener.matches is None or listener.matches(untold.content):
                self._hear(key, listener, untold.notice)
        except Exception:
            log.exception("a filter on %s failed", key.name)

    def _hear(self, key: QueueKey, listener: Listener, notice: Notice) -> None:
        try:
            listener.hear(notice)
            self._figures.notified += 1
        except Exception:  # a listener's fault is not the poster's, nor other listeners'
            log.exception("a listener to %s failed", key.name)


def _listener(hear: Hear, subscription: Subscription) -> Listener:
    return Listener(hear, subscription.expires, filter_of(subscription.options))


def _subscriptions(key: QueueKey) -> QueueKey:
    """The key under which changes of a queue's subscriptions are told."""
    return QueueKey("", f"subscriptions/{key.project}/{key.name}")
