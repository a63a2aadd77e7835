"""Which pools and flavors there are: one record of the control plane, changed as a whole.

    topology/    pools → all pools, and the flavors of all projects

Pools are few, and what is asked of them is about several at once: no two share a store, those of a flavor
promise the same, the last one of a flavor stays. Since they lie in one record, whoever changes one replaces
the very state that was judged, or judges anew; two who change at once never see half of each other.

The record is read again when it is older than some seconds, so a change made through another process is
known that much later.
"""

from collections.abc import Callable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sukkal.core.clock import Clock
from sukkal.model import FlavorKey, Pool
from sukkal.stores.contract import Documents, Shelf

CACHE_SECONDS = 5.0

_SHELF, _NAME = Shelf("topology", ""), "pools"


class Topology(Struct, frozen=True):
    """All pools and flavors at one moment."""

    pools: dict[str, Pool] = {}
    flavors: list[FlavorKey] = []  # in order

    def of(self, flavor: FlavorKey | None) -> list[Pool]:
        """The flavor's pools, or those without flavor, by name."""
        return [self.pools[name] for name in sorted(self.pools) if self.pools[name].flavor == flavor]

    def put(self, pool: Pool) -> "Topology":
        return replace(self, pools={**self.pools, pool.name: pool})

    def without(self, pool: str) -> "Topology":
        return replace(self, pools={name: one for name, one in self.pools.items() if name != pool})

    def with_flavor(self, flavor: FlavorKey, pools: list[str]) -> "Topology":
        """The flavor has exactly these pools; they leave the flavors they were in."""
        changed = {
            name: replace(pool, flavor=flavor if name in pools else None)
            if name in pools or pool.flavor == flavor
            else pool
            for name, pool in self.pools.items()
        }
        return Topology(changed, sorted({*self.flavors, flavor}))

    def without_flavor(self, flavor: FlavorKey) -> "Topology":
        """No pool is in the flavor any more, and it is gone."""
        emptied = self.with_flavor(flavor, [])
        return replace(emptied, flavors=[one for one in emptied.flavors if one != flavor])


class TopologyRecord:
    def __init__(self, documents: Documents, clock: Clock) -> None:
        self.read = float("-inf")  # when what is known was read
        self._documents = documents
        self._clock = clock
        self._changes = 0  # by this process
        self.known = Topology()  # what was read

    async def get(self) -> Topology:
        """What there is, as it was at most some seconds ago."""
        if not self.read <= self._clock.now() < self.read + CACHE_SECONDS:
            await self.refresh()
        return self.known

    async def refresh(self) -> Topology:
        """What there is now."""
        while True:
            changes, read = self._changes, self._clock.now()
            topology, _ = await self._load()
            if changes == self._changes:  # else it may be what was there before
                self.known, self.read = topology, read
                return topology

    async def change(self, change: Callable[[Topology], Topology]) -> Topology:
        """Replace what there is by what `change` makes of it, which may refuse by raising.

        It is called again, with what there is then, when another writer was first.
        """
        while True:
            now = self._clock.now()
            topology, version = await self._load()
            changed = change(topology)
            if changed != topology:
                put = await self._documents.put(
                    _SHELF, _NAME, msgspec.json.encode(changed), expect=version, now=now
                )
                if put is None:
                    continue
            self._changes += 1
            self.known, self.read = changed, now
            return changed

    async def _load(self) -> tuple[Topology, int]:
        document = await self._documents.get(_SHELF, _NAME, now=self._clock.now())
        if document is None:
            return Topology(), 0
        return msgspec.json.decode(document.value, type=Topology), document.version
