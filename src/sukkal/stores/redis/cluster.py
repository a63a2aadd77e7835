"""How a call gets to the right server of a Redis Cluster.

Partitions are mapped to the primaries of their slots, as some node says. The map is asked for anew when a
node says that a slot is elsewhere, and when a node cannot be reached: another may have taken over.
"""

import asyncio
import binascii
import logging
import random
from collections.abc import Callable

from sukkal.errors import StoreUnavailable
from sukkal.stores.redis.dial import Dialer, Unfit
from sukkal.stores.redis.layout import PARTITIONS, Layout, command
from sukkal.stores.redis.link import Link, Lost, Refused, Reply
from sukkal.stores.redis.node import Node, ignore, said
from sukkal.stores.redis.servers import check_patience, failure, reload_scripts
from sukkal.stores.redis.uri import Options
from sukkal.stores.uris import Address

log = logging.getLogger(__name__)

ATTEMPTS = 6  # of a call that is sent elsewhere, or whose connection is lost
SLOTS = 16384
MAP_PAUSE = 0.2  # seconds between two looks at the map
TRY_AGAIN = 0.05  # seconds to wait while a slot moves

_SLOT_OF = [binascii.crc_hqx(b"%d" % number, 0) % SLOTS for number in range(PARTITIONS)]
_ASK_FOR_MAP = command(b"CLUSTER", b"SLOTS")


class Cluster:
    """Each partition on the primary of its slot."""

    def __init__(self, options: Options, layout: Layout, dialer: Dialer) -> None:
        self._seeds = options.addresses
        self._layout = layout
        self._dialer = dialer
        self._nodes: dict[Address, Node] = {}
        self._home: list[Address | None] = [None] * PARTITIONS
        self._reading: asyncio.Task[None] | None = None  # the map
        self._looking: asyncio.Task[None] | None = None  # reads it in the background
        self._chores: set[asyncio.Task[None]] = set()

    @property
    def durable(self) -> bool:
        return self._dialer.durable({address for address in self._home if address is not None})

    async def open(self) -> None:
        await self._look()
        await asyncio.gather(*[node.ready() for node in self._nodes.values()])

    async def call(self, partition: int, packed: bytes, *, write: bool = False) -> Reply:
        for _ in range(ATTEMPTS):
            node = self._node(partition)
            link = node.link
            if link is None:
                try:
                    link = await node.ready()
                except StoreUnavailable:
                    self._look_soon()
                    raise
            try:
                return await link.send(packed, write=write)
            except Lost as exc:
                self._look_soon()
                check_patience(exc, node)
            except Refused as exc:
                if exc.code == "ASK":
                    return await self._ask(exc, packed, write)
                await self._follow(exc, link)
        raise StoreUnavailable("The Redis cluster does not settle: calls are sent from node to node.")

    async def everywhere(self, packed: list[bytes]) -> list[Reply]:
        sent = [self.send(partition, packed[partition]) for partition in range(PARTITIONS)]
        for future in sent:
            if future is not None:
                future.add_done_callback(ignore)
        answers = []
        for partition, future in enumerate(sent):
            try:
                answers.append(await (future or self.call(partition, packed[partition])))
            except (Lost, Refused):
                answers.append(await self.call(partition, packed[partition]))
        return answers

    def send(self, partition: int, packed: bytes) -> "asyncio.Future[Reply] | None":
        try:
            link = self._node(partition).link
            return link.send(packed) if link is not None else None
        except (Lost, StoreUnavailable):
            return None

    async def ping(self) -> None:
        """Every slot has a primary, which serves its keys: one that thinks the cluster is down does not."""
        one_of_each = {address: partition for partition, address in enumerate(self._home)}
        for partition in one_of_each.values():
            await self.call(partition, command(b"EXISTS", self._layout.tags[partition] + b"fence"))

    async def close(self) -> None:
        for task in (*self._chores, self._looking, self._reading):
            if task is not None:
                task.cancel()
        for node in self._nodes.values():
            await node.close()

    async def line(self, make: Callable[[], Link]) -> Link:
        """What is published on one node is heard on all, so any will do."""
        known = list({address for address in self._home if address is not None})
        random.shuffle(known)
        for address in known[:-1]:
            try:
                return await self._dialer.line(address, make)
            except (OSError, TimeoutError, Lost, Refused, Unfit):
                continue
        if not known:
            raise StoreUnavailable("No node of the Redis cluster is known.")
        return await self._dialer.line(known[-1], make)

    # --- being sent elsewhere ------------------------------------------------------------------------

    async def _follow(self, refused: Refused, link: Link) -> None:
        """Do what makes a further attempt worth while; raises what the refusal means, if nothing does."""
        match refused.code:
            case "NOSCRIPT":
                await reload_scripts(link)
            case "MOVED":
                await self._look()
            case "READONLY":
                link.close()
                await self._look()
            case "TRYAGAIN":
                await asyncio.sleep(TRY_AGAIN)
            case _:
                self._look_soon()
                raise failure(refused) from refused

    async def _ask(self, refused: Refused, packed: bytes, write: bool) -> Reply:
        """Ask the node that a slot is moving to. It wants to be told that we know."""
        host, _, port = refused.rest.split(" ")[1].rpartition(":")
        link = await self._reach((host, int(port))).ready()
        try:
            link.send(command(b"ASKING")).add_done_callback(ignore)
            return await link.send(packed, write=write)
        except Lost as exc:
            raise StoreUnavailable("A node of the Redis cluster lost the connection.") from exc
        except Refused as exc:
            if exc.code == "NOSCRIPT":
                await reload_scripts(link)
            raise StoreUnavailable(f"A node of the Redis cluster refuses: {exc}") from exc

    # --- the map -------------------------------------------------------------------------------------

    def _node(self, partition: int) -> Node:
        address = self._home[partition]
        if address is None:
            self._look_soon()
            raise StoreUnavailable("A part of the Redis cluster is down: nobody serves its slots.")
        return self._nodes[address]

    def _reach(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Node(
                f"Redis at {address[0]}:{address[1]}", lambda: self._connect(address)
            )
        return node

    async def _connect(self, address: Address) -> Link:
        try:
            return await self._dialer.link(address, self._fence(address))
        except Exception:
            self._look_soon()  # another may have taken over, which the next call should find
            raise

    def _fence(self, address: Address) -> bytes:
        partition = self._home.index(address) if address in self._home else 0
        return self._layout.tags[partition] + b"fence"

    def _look_soon(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_calmly())

    async def _look_calmly(self) -> None:
        try:
            await self._look()
        except StoreUnavailable as exc:
            log.warning("The map of the Redis cluster cannot be read: %s", exc)
        await asyncio.sleep(MAP_PAUSE)

    async def _look(self) -> None:
        """Return when the map has been read; raises StoreUnavailable when no node tells."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_map())
        await asyncio.shield(self._reading)

    async def _read_map(self) -> None:
        reasons = []
        for address in dict.fromkeys((*self._nodes, *self._seeds)):
            try:
                self._take(await self._dialer.ask(address, _ASK_FOR_MAP), address)
            except (OSError, TimeoutError, Lost, Refused) as exc:
                reasons.append(f"{address[0]}:{address[1]}: {said(exc)}")
            else:
                return
        raise StoreUnavailable("No node of the Redis cluster answers: " + "; ".join(reasons))

    def _take(self, slots: Reply, told_by: Address) -> None:
        served: list[Address | None] = [None] * SLOTS
        for first, last, primary, *replicas in slots:
            self._dialer.expect_heirs(len(replicas))
            host = primary[0].decode() if primary[0] else told_by[0]
            served[first : last + 1] = [(host, primary[1])] * (last + 1 - first)
        self._home = [served[slot] for slot in _SLOT_OF]
        used = {address for address in self._home if address is not None}
        for address in used:
            node = self._reach(address)
            if node.link is not None:
                node.link.fence(self._fence(address))
        for address in set(self._nodes) - used:
            chore = asyncio.create_task(self._nodes.pop(address).close())
            self._chores.add(chore)
            chore.add_done_callback(self._chores.discard)
