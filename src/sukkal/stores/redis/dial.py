"""Connecting to a Redis server: introducing ourselves, and looking at what it is and promises."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from sukkal.stores.redis.layout import command
from sukkal.stores.redis.link import Link, Refused, Reply
from sukkal.stores.redis.scripts import EVERY
from sukkal.stores.redis.uri import Options
from sukkal.stores.uris import Address
from sukkal.tally import StoreFigures

log = logging.getLogger(__name__)

_ADVICE: Final = (
    "Set appendonly yes and appendfsync always, or min_replicas in the store's URI, for durable writes."
)
_FORGETFUL: Final = (
    "it keeps no log: restarted before a replica takes over, it is empty, and its replicas with it. "
    "Set appendonly yes for durable writes."
)
_UNKNOWN: Final = f"its durability is not known, since CONFIG is not permitted, and so not claimed. {_ADVICE}"
_WEAKNESS: Final = {
    "off": f"it keeps no log: a crash loses everything since its last snapshot. {_ADVICE}",
    "everysec": f"a crash of the machine may lose the last second or two of writes. {_ADVICE}",
    "no": f"a crash of the machine may lose the last half minute of writes. {_ADVICE}",
}
# Of a server that is durable but for this; see docs/stores.md, "After a loss of power".
_TORN: Final = (
    "its aof-load-truncated is yes, as by default: when a loss of power has torn its log it starts all the "
    "same, and most releases may lose an acknowledged write at the restart after that. "
    "Set aof-load-truncated no."
)


class Unfit(Exception):
    """A server that answers, but not one to keep messages on; one sentence why."""


class _Facts(Struct, frozen=True):
    """What a server says of itself; None when that is not for us to read."""

    appendfsync: str | None = None  # "off" without a log
    policy: str | None = None
    takes_torn: bool = False  # whether it starts on a log that ends within a call
    replicas: int = 0  # that are connected to it


class _Ear(Link):
    """A connection that hears what is published."""

    def __init__(self, heard: Callable[[bytes], None], *, timeout: float) -> None:
        super().__init__(timeout=timeout)
        self._heard = heard

    def pushed(self, message: list[Reply]) -> None:
        if message[0] == b"message":
            self._heard(message[2])


class Dialer:
    """Makes connections as the store's URI asks for them. Its methods raise OSError, TimeoutError, Lost or
    Refused when there is none to be had, and Unfit as they say.
    """

    def __init__(self, options: Options, *, durable: bool) -> None:
        """`durable` says whether to warn of servers that are not."""
        self.figures = StoreFigures()  # of all connections together
        self._options = options
        self._warn = durable
        self._warned: dict[Address, str] = {}
        self._logs: dict[Address, str | None] = {}  # how each server syncs its log, as in `_Facts`
        self._heirs = 0

    def expect_heirs(self, count: int) -> None:
        """Note how many replicas of a primary may take over from it. The most ever noted counts: one that is
        away may come back, without what was written meanwhile.
        """
        self._heirs = max(self._heirs, count)

    def durable(self, addresses: set[Address]) -> bool:
        """Whether all these servers keep what they acknowledge through a crash of the machine."""
        return bool(addresses) and not any(self._weakness(address) for address in addresses)

    def _weakness(self, address: Address) -> str | None:
        """Why a server may lose what it has acknowledged."""
        wanted = self._options.min_replicas
        if self._heirs > wanted:
            return (
                f"{self._heirs} replicas may take over from it and {wanted} must have a write: a failover "
                f"may lose the last writes. Set min_replicas={self._heirs} in the store's URI for durable "
                "writes."
            )
        log_is = self._logs.get(address)
        if log_is == "always" or (wanted and log_is != "off"):
            return None
        if wanted:
            return _FORGETFUL
        return _WEAKNESS.get(log_is or "", _UNKNOWN)

    async def link(self, address: Address, fence: bytes) -> Link:
        """A connection for calls, to a server that has been looked at and has the scripts.

        Raises Unfit for a replica, and for a server that throws messages away when its memory is full.
        """
        options = self._options
        patience = options.timeout + (options.replica_timeout if options.min_replicas else 0.0)

        def make() -> Link:
            return Link(
                timeout=patience,
                min_replicas=options.min_replicas,
                replica_timeout=options.replica_timeout,
                fence=fence,
                figures=self.figures,
            )

        link = await self.line(address, make)
        try:
            async with asyncio.timeout(options.connect_timeout):
                self._judge(address, await _facts(link))
                await load_scripts(link)
        except BaseException:
            link.close()
            raise
        return link

    async def line(self, address: Address, make: Callable[[], Link]) -> Link:
        """A connection of that make to a primary. Raises Unfit for a replica."""
        options = self._options
        link, role = await self._introduce(address, make, options.user, options.password)
        try:
            if role != "master":
                raise Unfit(f"it is a {role}, which takes no writes")
            if options.database:
                async with asyncio.timeout(options.connect_timeout):
                    await link.send(command(b"SELECT", b"%d" % options.database))
        except BaseException:
            link.close()
            raise
        return link

    async def ask(self, address: Address, packed: bytes, *, sentinel: bool = False) -> Reply:
        """The answer to one question."""
        options = self._options
        user, password = options.user, options.password
        if sentinel:
            user, password = options.sentinel_user, options.sentinel_password
        link, _ = await self._introduce(address, lambda: Link(timeout=options.timeout), user, password)
        try:
            async with asyncio.timeout(options.connect_timeout):
                return await link.send(packed)
        finally:
            link.close()

    async def ear(self, sentinel: Address, heard: Callable[[bytes], None], *channels: bytes) -> Link:
        """A connection on which `heard` is called with what a sentinel says on these channels."""
        options = self._options

        def make() -> Link:
            return _Ear(heard, timeout=options.timeout)

        link, _ = await self._introduce(sentinel, make, options.sentinel_user, options.sentinel_password)
        link.say(command(b"SUBSCRIBE", *channels))
        return link

    async def _introduce(
        self, address: Address, make: Callable[[], Link], user: str, password: str
    ) -> tuple[Link, str]:
        """A connection, and the role of the server."""
        host, port = address
        options = self._options
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
                return link, said.get(b"role", b"sentinel").decode()
        except BaseException:
            if link is not None:
                link.close()
            raise

    def _judge(self, address: Address, facts: _Facts) -> None:
        if facts.policy not in (None, "noeviction"):
            raise Unfit(
                f"its maxmemory-policy is {facts.policy}, so it would throw messages away when memory runs "
                "short. Set it to noeviction."
            )
        self._logs[address] = facts.appendfsync
        if self._options.min_replicas or self._options.in_group:
            self.expect_heirs(facts.replicas)
        warning = self._weakness(address) or (_TORN if facts.takes_torn else None)
        if warning is not None and self._warn and self._warned.get(address) != warning:
            self._warned[address] = warning
            log.warning("Redis at %s:%d: %s", *address, warning)


async def _facts(link: Link) -> _Facts:
    names = (b"appendonly", b"appendfsync", b"maxmemory-policy")
    asked = [command(b"CONFIG", b"GET", name) for name in names]
    further = (command(b"CONFIG", b"GET", b"aof-load-truncated"), command(b"ROLE"))
    *answers, torn, role = await asyncio.gather(*[_unless_refused(link, each) for each in (*asked, *further)])
    replicas = 0 if role is None else len(role[2])
    try:
        appendonly, appendfsync, policy = [
            answer[name].decode() for answer, name in zip(answers, names, strict=True)
        ]
    except (TypeError, KeyError):
        return _Facts(replicas=replicas)
    log_is = appendfsync if appendonly == "yes" else "off"
    takes_torn = (torn or {}).get(b"aof-load-truncated") == b"yes"
    return _Facts(appendfsync=log_is, policy=policy, takes_torn=takes_torn, replicas=replicas)


async def _unless_refused(link: Link, packed: bytes) -> Reply:
    try:
        return await link.send(packed)
    except Refused:
        return None


async def load_scripts(link: Link) -> None:
    """Send the scripts to a server that does not have them."""
    await asyncio.gather(*[link.send(script.load) for script in EVERY])
