"""How the pools are: the basic operations, tried on a throw-away queue in each."""

import asyncio
import logging
import uuid

from sukkal import requests as r
from sukkal.core.context import Context
from sukkal.core.health import PROBE_SECONDS, PROJECT, Health
from sukkal.core.pooling.backends import Backends, answers, capabilities
from sukkal.core.pooling.placement import Placement
from sukkal.core.pooling.topology import TopologyRecord
from sukkal.errors import StoreUnavailable
from sukkal.model import Pool, QueueKey
from sukkal.stores.contract import Backend, Trait

log = logging.getLogger(__name__)


class PoolHealth:
    def __init__(
        self, health: Health, topology: TopologyRecord, backends: Backends, placement: Placement
    ) -> None:
        self._health = health
        self._topology = topology
        self._backends = backends
        self._placement = placement

    async def get(self, ctx: Context, _request: r.GetHealth) -> r.PooledHealth:
        """How each pool is; they are tried at once, and one that does not answer holds up no other."""
        reachable = True
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._topology.refresh()
        except (StoreUnavailable, TimeoutError) as exc:
            log.error("health: the records of pools cannot be read: %s", exc)
            reachable = False
        pools = self._topology.known.pools
        found = await asyncio.gather(*(self._look(ctx, pools[name]) for name in sorted(pools)))
        return r.PooledHealth(catalog_reachable=reachable, pools=dict(zip(sorted(pools), found, strict=True)))

    async def _look(self, ctx: Context, pool: Pool) -> r.Health:
        try:
            backend = await self._backends.of(pool)
            await answers(backend)
        except StoreUnavailable as exc:
            ref = str(uuid.uuid4())
            log.error("health: pool %s cannot be reached, ref %s: %s", pool.name, ref, exc)
            failed = r.OperationHealth(succeeded=False, seconds=0.0, ref=ref)
            return r.Health(
                storage_reachable=False,
                durable=False,
                operation_status=dict.fromkeys(Health.OPERATIONS, failed),
                message_volume=None,
                capabilities=pool.capabilities,
            )
        return r.Health(
            storage_reachable=True,
            durable=Trait.DURABLE in backend.traits,
            operation_status=await self._try_operations(ctx, pool),
            message_volume=await self._volume(ctx, pool, backend),
            capabilities=capabilities(backend),
        )

    async def _try_operations(self, ctx: Context, pool: Pool) -> dict[str, r.OperationHealth]:
        queue = f"health-{uuid.uuid4().hex}"
        key = QueueKey(PROJECT, queue)
        try:
            await self._placement.assign(key, pool.name)
            return await self._health.try_operations(ctx, queue)
        except StoreUnavailable as exc:  # the records cannot be written
            ref = str(uuid.uuid4())
            log.error("health: pool %s could not be tried, ref %s: %s", pool.name, ref, exc)
            failed = r.OperationHealth(succeeded=False, seconds=0.0, ref=ref)
            return dict.fromkeys(Health.OPERATIONS, failed)
        finally:
            await self._dismiss(key)

    async def _dismiss(self, key: QueueKey) -> None:
        try:
            await self._placement.dismiss(key)
        except StoreUnavailable as exc:
            log.warning("health: the record of a throw-away queue stays: %s", exc)

    async def _volume(self, ctx: Context, pool: Pool, backend: Backend) -> r.Volume | None:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                volume = await backend.messages.volume(now=ctx.now)
        except (StoreUnavailable, TimeoutError) as exc:
            log.warning("health: pool %s does not tell how much it holds: %s", pool.name, exc)
            return None
        return r.Volume(free=volume.free, claimed=volume.claimed, total=volume.total)
