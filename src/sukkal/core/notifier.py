"""Who is told of posts at once: listeners of this process, by queue.

A listener hears of each message after it was stored, never before, in the order in which posts were done.
Posts to queues that nobody listens to pay for one look into a dictionary.
"""

import logging
from collections.abc import Callable, Sequence

from msgspec import Struct

from sukkal.model import Notice, QueueKey
from sukkal.tally import Figures

log = logging.getLogger(__name__)

Hear = Callable[[Notice], None]


class Listener(Struct, frozen=True):
    """One who listens to a queue. It must take what it hears without waiting."""

    hear: Hear
    expires: float  # s since epoch; deaf from then on


class Notifier:
    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._listeners: dict[QueueKey, dict[str, Listener]] = {}

    def heard(self, key: QueueKey) -> bool:
        """Whether anybody listens to this queue."""
        return key in self._listeners

    def listen(self, key: QueueKey, id_: str, listener: Listener) -> None:
        self._listeners.setdefault(key, {})[id_] = listener

    def forget(self, key: QueueKey, id_: str) -> None:
        """Let this one hear nothing more; it may have gone already."""
        listeners = self._listeners.get(key)
        if listeners is not None and listeners.pop(id_, None) is not None and not listeners:
            del self._listeners[key]

    def posted(self, key: QueueKey, notices: Sequence[Notice], *, now: float) -> None:
        """Tell all who listen."""
        for id_, listener in list(self._listeners.get(key, {}).items()):
            if listener.expires <= now:
                self.forget(key, id_)
                continue
            try:
                for notice in notices:
                    listener.hear(notice)
                    self._figures.notified += 1
            except Exception:  # a listener's fault is not the poster's, nor other listeners'
                log.exception("a listener to %s failed", key.name)
