"""The waker of a store that one process has to itself: who tells is who hears."""

from sukkal.model import QueueKey
from sukkal.stores.contract import Heard


class LocalWaker:
    """See `Waker`. What is told is heard before `tell` returns, and nothing is done when nobody watches."""

    def __init__(self) -> None:
        self._heard: Heard | None = None
        self._watched: set[QueueKey] = set()

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
