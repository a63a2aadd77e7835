"""Keeping a connection: it is made anew whenever it is lost."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from sukkal.errors import StoreUnavailable
from sukkal.stores.redis.dial import Unfit
from sukkal.stores.redis.link import Link, Lost, Refused

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.05  # seconds after a first failure to connect; doubled from then on
LONGEST_PAUSE: Final = 2.0


class Node:
    """A connection, for as long as this lives."""

    def __init__(self, name: str, connect: Callable[[], Awaitable[Link]]) -> None:
        """`connect` yields a link ready for use, or raises what a `Dialer` does, or StoreUnavailable."""
        self.name = name
        self.link: Link | None = None
        self._connect = connect
        self._reason = "not connected yet"
        self._decided = asyncio.Event()  # set but while the first attempt after a loss is under way
        self._task = asyncio.create_task(self._keep())

    async def ready(self) -> Link:
        """The connection; StoreUnavailable when there is none, at once if that is known."""
        await self._decided.wait()
        if self.link is None:
            raise StoreUnavailable(f"{self.name} cannot be reached: {self._reason}")
        return self.link

    async def _keep(self) -> None:
        failures = 0
        while True:
            try:
                link = await self._connect()
            except Exception as exc:  # whatever it is, calls must hear of it and not wait
                if not isinstance(exc, (OSError, Lost, Refused, Unfit, StoreUnavailable)):
                    log.exception("%s cannot be reached", self.name)
                reason = said(exc)
                if failures == 0 or reason != self._reason:
                    log.warning("%s cannot be reached: %s", self.name, reason)
                self._reason = reason
                self._decided.set()
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures)
                failures = min(failures + 1, 10)
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - to spread, not to hide
                continue
            if failures:
                log.warning("%s is back", self.name)
            failures = 0
            if link.ended.done():
                continue
            self.link = link
            link.on_end = partial(self._lose, link)
            self._decided.set()
            try:
                await asyncio.shield(link.ended)
            finally:
                link.close()

    def _lose(self, link: Link) -> None:
        """Have calls wait for the next connection while it is being made, unless they have waited already."""
        self.link = None
        if link.overdue:
            self._reason = "it does not answer"
        else:
            self._decided.clear()

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._reason = "the store was closed"
        self._decided.set()


def said(exc: Exception) -> str:
    """Why, in words; what the operating system and the server say holds no credentials."""
    match exc:
        case TimeoutError():
            return "it does not answer"
        case Lost():
            return "it ended the connection"
        case OSError():
            return exc.strerror or type(exc).__name__
        case _:
            return str(exc)


def ignore(future: "asyncio.Future[Any]") -> None:
    """A callback for what nobody waits for: its failure is no news."""
    if not future.cancelled():
        future.exception()
