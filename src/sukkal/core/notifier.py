"""Who is told of posts at once: listeners of this process, by queue.

A listener hears of each message after it was stored, never before, in the order of the queue, whichever
process it was posted through. The queues that somebody here listens to are followed over the store's line;
posts to others cost nothing.
"""

import logging
from collections.abc import Callable

from msgspec import Struct

from sukkal.core.carrier import Carrier
from sukkal.core.clock import Clock
from sukkal.model import Message, Notice, QueueKey
from sukkal.stores.contract import Waker
from sukkal.tally import Figures

log = logging.getLogger(__name__)

Hear = Callable[[Notice], None]


class Listener(Struct, frozen=True):
    """One who listens to a queue. It must take what it hears without waiting."""

    hear: Hear
    expires: float  # s since epoch; deaf from then on


class Notifier:
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
        self._clock = clock
        self._opened = opened
        self._figures = figures
        self._listeners: dict[QueueKey, dict[str, Listener]] = {}
        waker.listen_to_messages(self._tell if carrier is None else carrier.telling(self._tell))

    async def listen(self, key: QueueKey, id_: str, listener: Listener) -> None:
        """Let it hear of what is stored from now on. Raises StoreUnavailable; then it hears nothing."""
        self._listeners.setdefault(key, {})[id_] = listener
        try:
            await self._waker.follow(key)
        except BaseException:
            self.forget(key, id_)
            raise

    def renew(self, key: QueueKey, id_: str, expires: float) -> None:
        """Let one who listens do so until then; nothing happens when it does not."""
        listener = self._listeners.get(key, {}).get(id_)
        if listener is not None:
            self._listeners[key][id_] = Listener(listener.hear, expires)

    def forget(self, key: QueueKey, id_: str) -> None:
        """Let this one hear nothing more; it may have gone already."""
        listeners = self._listeners.get(key)
        if listeners is not None and listeners.pop(id_, None) is not None and not listeners:
            del self._listeners[key]
            self._waker.unfollow(key)

    def _tell(self, key: QueueKey, stored: Message) -> None:
        """Tell all who listen, at once also of what is delayed."""
        listeners = self._listeners.get(key)
        if not listeners:
            return
        (message,) = self._opened([stored])
        delay = round(message.visible - message.created)
        notice = Notice(queue=key.title, body=message.body, ttl=message.ttl, delay=delay)
        now = self._clock.now()
        for id_, listener in list(listeners.items()):
            if listener.expires <= now:
                self.forget(key, id_)
                continue
            try:
                listener.hear(notice)
                self._figures.notified += 1
            except Exception:  # a listener's fault is not the poster's, nor other listeners'
                log.exception("a listener to %s failed", key.name)
