"""Keeping a connection to one Redis server: connecting, checking it, connecting again."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Struct

from sukkal.errors import StoreUnavailable
from sukkal.stores.redis.layout import command
from sukkal.stores.redis.link import Link, Lost, Refused, Reply
from sukkal.stores.redis.scripts import EVERY
from sukkal.stores.redis.uri import Address, Options

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.05  # seconds after a first failure to connect; doubled from then on
LONGEST_PAUSE: Final = 2.0


class Unfit(Exception):
    """A server that answers, but not one to keep messages on; one sentence why."""


class Facts(Struct, frozen=True, kw_only=True):
    """What a server says of itself."""

    role: str  # master or replica
    appendfsync: str | None = None  # "off" without a log; None when it does not tell
    policy: str | None = None


async def connect(
    address: Address, options: Options, make: Callable[[], Link], *, user: str, password: str
) -> tuple[Link, Facts]:
    """A connection that has introduced itself. Raises OSError, TimeoutError, Lost or Refused."""
    host, port = address
    link: Link | None = None
    try:
        async with asyncio.timeout(options.connect_timeout):
            _, link = await asyncio.get_running_loop().create_connection(
                make, host, port, ssl=options.ssl_context(), server_hostname=host if options.tls else None
            )
            hello = [b"HELLO", b"3"]
            if password:
                hello += [b"AUTH", (user or "default").encode(), password.encode()]
            said = await link.send(command(*hello, b"SETNAME", b"sukkal"))
            return link, Facts(role=said[b"role"].decode())
    except BaseException:
        if link is not None:
            link.close()
        raise


async def read_facts(link: Link, facts: Facts) -> Facts:
    """The same with what the server's configuration says; without it where that is not for us to read."""
    try:
        names = (b"appendonly", b"appendfsync", b"maxmemory-policy")
        answers = await asyncio.gather(*[link.send(command(b"CONFIG", b"GET", name)) for name in names])
        appendonly, appendfsync, policy = map(_value, answers)
    except Refused:
        return facts
    return Facts(
        role=facts.role,
        appendfsync=appendfsync if appendonly == "yes" else "off",
        policy=policy,
    )


def _value(answer: Reply) -> str:
    for value in answer.values():
        return str(value.decode())
    raise Refused("ERR unknown")


async def load_scripts(link: Link) -> None:
    await asyncio.gather(*[link.send(script.load) for script in EVERY])


class Node:
    """A connection that is made anew whenever it is lost, for as long as this lives."""

    def __init__(self, name: str, connect: Callable[[], Awaitable[Link]]) -> None:
        """`connect` yields a link ready for use; it raises what `connect` above does, or Unfit."""
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
            except (OSError, TimeoutError, Lost, Refused, Unfit, StoreUnavailable) as exc:
                reason = _said(exc)
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
            link.on_end = self._lose
            self._decided.set()
            try:
                await asyncio.shield(link.ended)
            finally:
                link.close()

    def _lose(self) -> None:
        """Have calls wait for the next connection, while it is being made."""
        self.link = None
        self._decided.clear()

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._reason = "the store was closed"
        self._decided.set()


def _said(exc: Exception) -> str:
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
