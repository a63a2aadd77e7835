"""A store opened in this process as the audits see it."""

import json

from sukkal.core.compression import Compression
from sukkal.model import Message, QueueKey, View
from sukkal.stores.contract import Messages

from .audit import Counts, Seen

ALL = View(include_claimed=True, include_delayed=True)
PAGE = 1000

_COMPRESSION = Compression(0)  # what servers stored with their setting is expanded with any


def seen(message: Message) -> Seen:
    body = json.loads(_COMPRESSION.expand(message.body))
    return Seen(body["number"], len(body["padding"]), message.id, message.claim)


class StoreReader:
    """Looks at a store at one moment, which may be moved."""

    def __init__(self, messages: Messages, now: float) -> None:
        self._messages = messages
        self.now = now

    def clock(self) -> float:
        return self.now

    async def listing(self, queue: QueueKey, after: str | None = None) -> list[Seen]:
        found: list[Seen] = []
        while page := await self._messages.page(queue, view=ALL, after=after, limit=PAGE, now=self.now):
            found += map(seen, page)
            after = page[-1].marker
        return found

    async def held(self, queue: QueueKey, claim: str) -> list[int] | None:
        found = await self._messages.held(queue, claim, now=self.now)
        return [seen(message).number for message in found[1]] if found else None

    async def stats(self, queue: QueueKey) -> Counts:
        stats = await self._messages.stats(queue, now=self.now)
        return Counts(stats.free, stats.claimed)
