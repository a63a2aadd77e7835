"""Messages in pools: the parts of it, put together."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sukkal.core.clock import Clock
from sukkal.core.pooling.backends import Backends, Opener
from sukkal.core.pooling.placed import PlacedMessages, PlacedWaker
from sukkal.core.pooling.placement import Placement
from sukkal.core.pooling.topology import TopologyRecord
from sukkal.errors import StoreUnavailable
from sukkal.model import Pool, QueueKey
from sukkal.stores.contract import Backend, ControlBackend

log = logging.getLogger(__name__)

LOOK_SECONDS = 30.0  # between looks for pools that have gone, or can be opened


class Pooling:
    def __init__(
        self,
        opener: Opener,
        own: Backend,
        control: ControlBackend,
        clock: Clock,
        flavor_of: Callable[[QueueKey, float], Awaitable[str | None]],
    ) -> None:
        """`own` and `control` keep what is not in pools; see `Placement` for `flavor_of`."""
        self.topology = TopologyRecord(control.documents, clock)
        self.backends = Backends(opener, clock)
        self.placement = Placement(control.documents, self.topology, self.backends, own, clock, flavor_of)
        self.messages = PlacedMessages(self.placement, own.messages)
        self.waker = PlacedWaker(self.placement, own.waker)
        self.backends.opened = self.waker.opened
        self._look_at = float("-inf")

    async def sweep(self, now: float) -> int:
        """Reclaim space in all pools; those that cannot be reached are left alone for a while.

        Raises StoreUnavailable when there is no telling which pools there are.
        """
        looking = now >= self._look_at
        topology = await self.topology.get()
        if looking:
            self._look_at = now + LOOK_SECONDS
            await self.backends.keep(topology)
        pools = [pool for pool in topology.pools.values() if looking or self.backends.at_hand(pool.name)]
        return sum(await asyncio.gather(*(self._sweep(pool, now) for pool in pools)))

    async def _sweep(self, pool: Pool, now: float) -> int:
        try:
            backend = await self.backends.of(pool)
            return await backend.messages.sweep(now=now)
        except StoreUnavailable as exc:
            log.warning("sweep: pool %s: %s", pool.name, exc)
            return 0

    async def close(self) -> None:
        await self.waker.close()
        await self.backends.close()
