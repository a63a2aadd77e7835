"""How a call gets to the right server: with one server, or with the one that sentinels say is the master."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from sukkal.errors import StoreUnavailable
from sukkal.stores.redis.dial import Dialer, load_scripts
from sukkal.stores.redis.layout import Layout, command
from sukkal.stores.redis.link import Link, Lost, Refused, Reply
from sukkal.stores.redis.node import Node, said
from sukkal.stores.redis.uri import Options
from sukkal.stores.uris import Address

log = logging.getLogger(__name__)

ATTEMPTS = 3  # of a call whose connection is lost, or whose server has changed
# Answers that say the server cannot serve now: nothing was done.
_UNABLE = (
    *("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOAUTH", "NOPERM", "NOREPLICAS", "OOM"),
    *("READONLY", "TRYAGAIN", "UNKILLABLE", "WRONGPASS"),
)


class Servers(Protocol):
    """Where calls are made."""

    @property
    def durable(self) -> bool:
        """Whether every server now in use keeps what it acknowledges through a crash of the machine."""
        ...

    async def open(self) -> None:
        """Return when the servers are there; raises StoreUnavailable when they are not."""
        ...

    async def call(self, partition: int, packed: bytes, *, write: bool = False) -> Reply:
        """The answer to a command, sent with the others of this turn.

        It is sent again when its connection breaks, so it must be one that may be done twice. Raises
        StoreUnavailable, within seconds.
        """
        ...

    async def everywhere(self, packed: list[bytes]) -> list[Reply]:
        """The answers to one command for each partition, in their order. Raises StoreUnavailable."""
        ...

    def send(self, partition: int, packed: bytes) -> "asyncio.Future[Reply] | None":
        """Send a command once, if that can be done at once; what comes of it may be looked at or not."""
        ...

    async def line(self, make: Callable[[], Link]) -> Link:
        """A further connection to a server, for what is told there; raises what `Node` expects."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


def failure(refused: Refused) -> Exception:
    """What an error answered by a server is to the caller: a store that cannot serve, or a fault of ours."""
    if refused.code in _UNABLE:
        return StoreUnavailable(f"Redis refuses: {refused}")
    return RuntimeError(f"Redis answers: {refused}")


def check_patience(lost: Lost, node: Node) -> None:
    """Raise StoreUnavailable when a call has waited so long that it is not to be made again."""
    if lost.overdue:
        raise StoreUnavailable(f"{node.name} does not answer.") from lost


async def reload_scripts(link: Link) -> None:
    """Do so for a server that has lost them. If the connection is lost too, the next one has them."""
    try:
        await load_scripts(link)
    except Lost:
        return
    except Refused as exc:
        raise failure(exc) from exc


class OneServer:
    """All partitions on one server."""

    def __init__(self, options: Options, layout: Layout, dialer: Dialer) -> None:
        self._dialer = dialer
        self._fence = layout.tags[0] + b"fence"
        self._address = options.addresses[0]
        self._node = Node(self._named(options), self._connect)

    def _named(self, options: Options) -> str:
        host, port = options.addresses[0]
        return f"Redis at {host}:{port}"

    @property
    def durable(self) -> bool:
        return self._dialer.durable({self._address})

    async def open(self) -> None:
        await self._node.ready()

    async def call(self, partition: int, packed: bytes, *, write: bool = False) -> Reply:
        for _ in range(ATTEMPTS):
            link = self._node.link or await self._node.ready()
            try:
                return await link.send(packed, write=write)
            except Lost as exc:
                check_patience(exc, self._node)
            except Refused as exc:
                if exc.code == "NOSCRIPT":
                    await reload_scripts(link)
                elif exc.code == "READONLY":  # it is a replica by now
                    link.close()
                else:
                    raise failure(exc) from exc
        raise StoreUnavailable(f"{self._node.name} lost the connection again and again.")

    async def everywhere(self, packed: list[bytes]) -> list[Reply]:
        link = self._node.link or await self._node.ready()
        try:
            return list(await asyncio.gather(*[link.send(each) for each in packed]))
        except Lost as exc:
            raise StoreUnavailable(f"{self._node.name} lost the connection.") from exc
        except Refused as exc:
            raise failure(exc) from exc

    def send(self, partition: int, packed: bytes) -> "asyncio.Future[Reply] | None":
        try:
            return self._node.link.send(packed) if self._node.link is not None else None
        except (Lost, StoreUnavailable):
            return None

    async def ping(self) -> None:
        await self.call(0, command(b"PING"))

    async def close(self) -> None:
        await self._node.close()

    async def line(self, make: Callable[[], Link]) -> Link:
        return await self._dialer.line(await self._find(), make)

    async def _connect(self) -> Link:
        self._address = await self._find()
        return await self._dialer.link(self._address, self._fence)

    async def _find(self) -> Address:
        return self._address


class SentinelGroup(OneServer):
    """All partitions on the master of a group. Sentinels are asked for it before each attempt to connect.

    Sentinels may promote another while the old master lives, and tell that some ten seconds later; what it
    takes until then is lost. So we listen to all sentinels, and leave the old master when one says so.
    """

    def __init__(self, options: Options, layout: Layout, dialer: Dialer) -> None:
        self._sentinels = list(options.addresses)
        self._service = options.service
        self._chores: set[asyncio.Task[None]] = set()
        self._sentries = [self._sentry(sentinel) for sentinel in self._sentinels]
        super().__init__(options, layout, dialer)

    def _named(self, options: Options) -> str:
        return f"The master of {options.service!r}"

    async def close(self) -> None:
        for sentry in self._sentries:
            await sentry.close()
        for chore in self._chores:
            chore.cancel()
        await super().close()

    async def _find(self) -> Address:
        reasons = []
        for sentinel in list(self._sentinels):
            try:
                found = await self._ask(sentinel)
            except (OSError, TimeoutError, Lost, Refused) as exc:
                reasons.append(f"the sentinel {sentinel[0]}:{sentinel[1]}: {said(exc)}")
                continue
            if found is not None:
                await self._count_heirs(sentinel)
                self._prefer(sentinel)  # who has answered is asked first
                return found
            reasons.append(f"the sentinel {sentinel[0]}:{sentinel[1]} knows no such service")
        raise StoreUnavailable("; ".join(reasons))

    async def _ask(self, sentinel: Address) -> Address | None:
        asked = command(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._service.encode())
        found = await self._dialer.ask(sentinel, asked, sentinel=True)
        return None if found is None else (found[0].decode(), int(found[1]))

    def _prefer(self, sentinel: Address) -> None:
        self._sentinels.remove(sentinel)
        self._sentinels.insert(0, sentinel)

    async def _count_heirs(self, sentinel: Address) -> None:
        """Sentinels also know replicas that are away, as the master does not."""
        with contextlib.suppress(OSError, TimeoutError, Lost, Refused, KeyError):
            known = command(b"SENTINEL", b"MASTER", self._service.encode())
            facts = await self._dialer.ask(sentinel, known, sentinel=True)
            self._dialer.expect_heirs(int(facts[b"num-slaves"]))

    # --- hearing of a new master ---------------------------------------------------------------------

    def _sentry(self, sentinel: Address) -> Node:
        def heard(event: bytes) -> None:
            if self._service.encode() in event.split(b" "):
                self._check_soon(sentinel)

        async def connect() -> Link:
            link = await self._dialer.ear(sentinel, heard, b"+promoted-slave", b"+switch-master")
            self._check_soon(sentinel)  # there may have been news before we listened
            return link

        return Node(f"The sentinel {sentinel[0]}:{sentinel[1]}", connect)

    def _check_soon(self, sentinel: Address) -> None:
        chore = asyncio.create_task(self._check(sentinel))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _check(self, sentinel: Address) -> None:
        """Leave our master if a sentinel knows another."""
        with contextlib.suppress(OSError, TimeoutError, Lost, Refused):
            found = await self._ask(sentinel)
            link = self._node.link
            if found is not None and found != self._address and link is not None:
                log.warning("%s is %s:%d now", self._node.name, *found)
                self._prefer(sentinel)
                link.close()
