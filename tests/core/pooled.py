"""A service whose messages lie in pools, in a test's hands.

`Site` keeps the stores that pools are opened from, by URI: each is a `Stage`, which a test can break. Several
services over one `Stage` of records are several processes.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from hand_clock import HandClock

from sukkal.core.pooling.backends import Site
from sukkal.core.service import Service
from sukkal.errors import BadStoreURI, StoreUnavailable
from sukkal.model import QueueKey
from sukkal.operations import BY_NAME
from sukkal.stores.contract import Backend, Trait

from .world import PROJECT, Stage, World


class Stores:
    """Opens stores by URI: an `Opener`. `test://x` is the same store whoever opens it, and when."""

    def __init__(self) -> None:
        self.stages: defaultdict[str, Stage] = defaultdict(Stage)
        self.opened: list[str] = []
        self.away: set[str] = set()  # URIs that nobody can reach

    def site(self, uri: str, options: Mapping[str, Any]) -> Site:
        if not uri.startswith("test://"):
            raise BadStoreURI(f"No store serves a URI that begins with {uri.partition(':')[0]!r}")
        return Site(f"{uri}?{options}" if options else uri, uri.rstrip("/"))

    async def open(self, site: Site) -> Backend:
        if site.identity in self.away:
            raise StoreUnavailable("nobody is there")
        self.opened.append(site.uri)
        backend: Any = self.stages[site.identity]
        return backend  # type: ignore[no-any-return]


class Pools(World):
    """A world with pools. Another one over the same records and stores is another process."""

    def __init__(self, like: "Pools | None" = None, **options: Any) -> None:
        self.stores = like.stores if like is not None else Stores()
        own: Any = like.backend if like is not None else Stage()
        super().__init__(own, opener=self.stores, **options)
        if like is not None:
            self.clock: HandClock = like.clock
            self.service = Service(self.backend, clock=self.clock, opener=self.stores, **options)

    async def pool(self, name: str, weight: int = 1, *, project: str = PROJECT, **fields: Any) -> None:
        document = {"uri": f"test://{name}", "weight": weight} | fields
        await self.call("pools.put", project=project, pool=name, document=document)

    async def flavor(self, name: str, *pools: str, project: str = PROJECT) -> None:
        await self.call("flavors.put", project=project, flavor=name, document={"pool_list": list(pools)})

    def stage(self, pool: str) -> Stage:
        return self.stores.stages[f"test://{pool}"]

    async def holds(self, pool: str, queue: str, *, project: str = PROJECT) -> int:
        """How many messages of a queue lie in a pool."""
        verbs = self.stage(pool).messages._part  # past what the test has done to it
        stats = await verbs.stats(QueueKey(project, queue), now=self.now)
        return int(stats.total)

    async def where(self, queue: str, *pools: str, project: str = PROJECT) -> list[str]:
        """Those of the pools that hold messages of a queue."""
        return [pool for pool in pools if await self.holds(pool, queue, project=project)]


def without_fifo(stage: Stage) -> None:
    stage.traits = stage.traits - {Trait.FIFO}


POOL_ROWS = [name for name in BY_NAME if name.startswith(("pools.", "flavors."))]
