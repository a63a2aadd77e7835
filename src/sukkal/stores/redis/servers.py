"""The servers of a store, and how a call gets to the right one."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from sukkal.errors import StoreUnavailable
from sukkal.stores.redis.layout import Layout, command
from sukkal.stores.redis.link import Link, Lost, Refused, Reply
from sukkal.stores.redis.node import Facts, Node, Unfit, connect, load_scripts, read_facts
from sukkal.stores.redis.uri import Address, Options
from sukkal.tally import StoreFigures

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

    async def call(self, partition: int, packed: bytes, *, write: bool = False) -> Reply:
        """The answer to a command, sent with the others of this turn.

        It is sent again when its connection is lost, so it must be one that may be done twice. Raises
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


class Examiner:
    """Looks at each server when it is connected: may it keep messages, and what does it promise?"""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._warned: dict[Address, str] = {}
        self._safe: dict[Address, bool] = {}

    @property
    def durable(self) -> bool:
        if self._options.min_replicas:
            return True
        return bool(self._safe) and all(self._safe.values())

    def forget(self, address: Address) -> None:
        self._safe.pop(address, None)

    def judge(self, address: Address, facts: Facts) -> None:
        """Raises Unfit for a server that throws messages away when its memory is full."""
        if facts.policy not in (None, "noeviction"):
            raise Unfit(
                f"its maxmemory-policy is {facts.policy}, so it would throw messages away when memory runs "
                "short. Set it to noeviction."
            )
        self._safe[address] = facts.appendfsync == "always"
        if self._safe[address] or self._options.min_replicas:
            return
        warning = _WEAKNESS.get(facts.appendfsync or "", _UNKNOWN)
        if self._warned.get(address) != warning:
            self._warned[address] = warning
            log.warning("Redis at %s:%d: %s", *address, warning)


_ADVICE = "Set appendonly yes and appendfsync always, or min_replicas in the store's URI, for durable writes."
_UNKNOWN = f"its durability is not known, since CONFIG is not permitted, and so not claimed. {_ADVICE}"
_WEAKNESS = {
    "off": f"it keeps no log: a crash loses everything since its last snapshot. {_ADVICE}",
    "everysec": f"a crash of the machine may lose the last second or two of writes. {_ADVICE}",
    "no": f"a crash of the machine may lose the last half minute of writes. {_ADVICE}",
}


class OneServer:
    """All partitions on one server; with sentinels, on the one that is master now."""

    def __init__(self, options: Options, layout: Layout) -> None:
        self._options = options
        self._fence = layout.tags[0] + b"fence"
        self.figures = StoreFigures()
        self._examiner = Examiner(options)
        self._address: Address | None = None
        self._node = Node(_named(options), self._connect)

    @property
    def durable(self) -> bool:
        return self._examiner.durable

    async def open(self) -> None:
        """Return when the server is there; raises StoreUnavailable when it is not."""
        await self._node.ready()

    async def call(self, partition: int, packed: bytes, *, write: bool = False) -> Reply:
        for _ in range(ATTEMPTS):
            link = self._node.link or await self._node.ready()
            try:
                return await link.send(packed, write=write)
            except Lost:
                continue
            except Refused as exc:
                if exc.code == "NOSCRIPT":
                    await self._load(link)
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

    async def _load(self, link: Link) -> None:
        try:
            await load_scripts(link)
        except Lost:
            return
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
        link, _ = await self._introduce(await self._find(), make)
        return link

    async def _connect(self) -> Link:
        options = self._options
        address = await self._find()
        if self._address is not None and self._address != address:
            self._examiner.forget(self._address)
        self._address = address
        link, facts = await self._introduce(
            address,
            lambda: Link(
                timeout=options.timeout + (options.replica_timeout if options.min_replicas else 0.0),
                min_replicas=options.min_replicas,
                replica_timeout=options.replica_timeout,
                fence=self._fence,
                figures=self.figures,
            ),
        )
        try:
            async with asyncio.timeout(options.connect_timeout):
                self._examiner.judge(address, await read_facts(link, facts))
                await load_scripts(link)
        except BaseException:
            link.close()
            raise
        return link

    async def _introduce(self, address: Address, make: Callable[[], Link]) -> tuple[Link, Facts]:
        options = self._options
        link, facts = await connect(address, options, make, user=options.user, password=options.password)
        try:
            if facts.role != "master":
                raise Unfit(f"it is a {facts.role}, which takes no writes")
            if options.database:
                async with asyncio.timeout(options.connect_timeout):
                    await link.send(command(b"SELECT", b"%d" % options.database))
        except BaseException:
            link.close()
            raise
        return link, facts

    async def _find(self) -> Address:
        return self._options.addresses[0]


def _named(options: Options) -> str:
    host, port = options.addresses[0]
    return f"Redis at {host}:{port}"
