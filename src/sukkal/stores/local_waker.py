"""The waker of a store that one process has to itself: who tells is who hears."""

from collections.abc import Sequence

from sukkal.model import Message, QueueKey
from sukkal.stores.contract import Heard, Told


class LocalWaker:
    """See `Waker`. What is told is heard before `tell` returns, and nothing is done when nobody watches."""

    def __init__(self) -> None:
        self._heard: Heard | None = None
        self._watched: set[QueueKey] = set()
        self._told: Told | None = None
        self._followed: set[QueueKey] = set()

    def listen(self, heard: Heard) -> None:
        self._heard = heard

    async def watch(self, queue: QueueKey) -> None:
        self._watched.add(queue)

    def unwatch(self, queue: QueueKey) -> None:
        self._watched.discard(queue)

    def wanted(self, queue: QueueKey) -> bool:
        return queue in self._watched

    def tell(self, queue: QueueKey, count: int | None, due: float = 0.0) -> None:
        if self._heard is not None and queue in self._watched:
            self._heard(queue, count, due)

    def listen_to_messages(self, told: Told) -> None:
        self._told = told

    async def follow(self, queue: QueueKey) -> None:
        self._followed.add(queue)

    def unfollow(self, queue: QueueKey) -> None:
        self._followed.discard(queue)

    def follows(self, queue: QueueKey) -> bool:
        """Whether it matters to anybody what is appended to this queue."""
        return queue in self._followed

    def appended(self, queue: QueueKey, batch: Sequence[Message]) -> None:
        """For the store: tell of what it has stored."""
        if self._told is not None and queue in self._followed:
            for message in batch:
                self._told(queue, message)
