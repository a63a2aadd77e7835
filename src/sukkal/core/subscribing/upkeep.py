"""Keeping listeners as their records say, whichever process changes these.

When a listener may be other than its record says, that is read again; then it is forgotten, or listens to
what and until when the record says. This is in doubt

- once it listens, since until then no change of the record that was written before could be heard of;
- when somebody tells of a change, or the line on which it may have been told was broken;
- when its time is over, since that may have been put off a moment ago.

So no change is missed: whoever makes one tells of it afterwards, and whoever listens begins to hear that
before it reads. Reads of one record follow each other, and a doubt that arises during one brings another, so
what was read last is what counts.
"""

import asyncio
import logging
from collections.abc import Awaitable
from itertools import islice
from typing import Protocol

from sukkal.core.notifier import Notifier
from sukkal.errors import StoreUnavailable
from sukkal.model import QueueKey, Subscription

log = logging.getLogger(__name__)

READ_AT_ONCE = 100  # records
RETRY_SECONDS = 1.0  # until records that could not be read are tried again


class Find(Protocol):
    """Reads the record of one of a queue's live subscriptions."""

    def __call__(self, key: QueueKey, id_: str, *, now: float) -> Awaitable[Subscription | None]: ...


class Upkeep:
    def __init__(self, notifier: Notifier, find: Find) -> None:
        self._notifier = notifier
        self._clock = notifier.clock
        self._find = find
        self._doubted: dict[tuple[QueueKey, str], None] = {}  # by queue and subscription, the oldest first
        self._looking: asyncio.Task[None] | None = None
        notifier.doubted = self._doubt

    async def close(self) -> None:
        """Read nothing more, and tell nothing more to who listens."""
        self._doubted.clear()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._notifier.close()

    def _doubt(self, key: QueueKey, id_: str) -> None:
        self._doubted[key, id_] = None
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """Read records until nothing is in doubt."""
        try:
            while self._doubted:
                some = list(islice(self._doubted, READ_AT_ONCE))
                for each in some:
                    del self._doubted[each]
                read = await asyncio.gather(*(self._settle(key, id_) for key, id_ in some))
                if not all(read):
                    await self._pause()
        finally:
            self._looking = None

    async def _settle(self, key: QueueKey, id_: str) -> bool:
        """Have a listener be as its record says; False when that is still in doubt."""
        try:
            found = await self._find(key, id_, now=self._clock.now())
        except StoreUnavailable as exc:
            log.warning("a subscription of a connection: %s", exc)
            self._doubted[key, id_] = None
            return False
        except Exception:  # a record that cannot be read must not keep others from being read
            log.exception("the record of subscription %s to %s cannot be read", id_, key.name)
            return True
        if found is not None and found.connection:
            self._notifier.renew(key, found)
        else:  # gone, or another's
            self._notifier.forget(key, id_)
        return True

    async def _pause(self) -> None:
        over = asyncio.Event()
        timer = self._clock.call_at(self._clock.now() + RETRY_SECONDS, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()
