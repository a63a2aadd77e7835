"""Flavors: named sets of pools, from which a project's users choose where their queues lie."""

from collections.abc import AsyncIterator
from typing import Any

from sukkal import requests as r
from sukkal.core.attributes import FLAVOR
from sukkal.core.catalog import Catalog
from sukkal.core.context import Context
from sukkal.core.pooling.backends import CAPABILITIES, Backends
from sukkal.core.pooling.placement import Placement
from sukkal.core.pooling.pools import OTHER_CAPABILITIES
from sukkal.core.pooling.topology import Topology, TopologyRecord
from sukkal.errors import Forbidden, Invalid, InvalidBody, NotFound
from sukkal.limits import DEFAULT_PAGE, MAX_NAME, Limits, is_name
from sukkal.model import Flavor, FlavorKey

SCAN = 100  # records of queues looked through at a time
MOST_NAMED = 10  # queues, in an error


class Flavors:
    def __init__(
        self,
        topology: TopologyRecord,
        backends: Backends,
        placement: Placement,
        catalog: Catalog,
        limits: Limits,
    ) -> None:
        self._topology = topology
        self._backends = backends
        self._placement = placement
        self._catalog = catalog
        self._limits = limits

    async def page(self, ctx: Context, request: r.ListFlavors) -> r.FlavorList:
        limit = min(DEFAULT_PAGE, self._limits.max_flavors_per_page)
        if request.limit is not None:
            limit = request.limit
        self._limits.check_flavor_limit(limit)
        topology = await self._topology.refresh()
        after = FlavorKey(ctx.project, request.marker or "")
        keys = [key for key in topology.flavors if key.project == ctx.project and key > after]
        return r.FlavorList(flavors=[self._flavor(topology, key) for key in keys[:limit]])

    async def get(self, ctx: Context, request: r.GetFlavor) -> Flavor:
        key = FlavorKey(ctx.project, request.flavor)
        topology = await self._topology.refresh()
        _check_existence(topology, key)
        return self._flavor(topology, key)

    def _flavor(self, topology: Topology, key: FlavorKey) -> Flavor:
        pools = topology.of(key)
        promised = [set(self._backends.promised(pool)) for pool in pools]
        common = set.intersection(*promised) if promised else set()
        return Flavor(
            name=key.name,
            pools=[pool.name for pool in pools],
            capabilities=[trait.value for trait in CAPABILITIES if trait.value in common],
        )

    async def put(self, ctx: Context, request: r.PutFlavor) -> r.FlavorPut:
        if not is_name(request.flavor):
            raise Invalid(
                f"The name of a flavor must be 1 to {MAX_NAME} of the characters a-z A-Z 0-9 _ . -."
            )
        given = _object(request.document)
        for name in given:
            if name not in ("pool_list", "capabilities"):
                raise InvalidBody(f"{name!r} is not known; a flavor has pool_list.")
        if not isinstance(given.get("capabilities", {}), dict):
            raise InvalidBody("'capabilities' must be an object.")
        pools = _pool_list(given)
        key = FlavorKey(ctx.project, request.flavor)
        wrong = Invalid(f"Flavor {key.name} could not be created, error:", title="Unable to create")
        await self._topology.change(lambda topology: self._with(topology, key, pools, wrong))
        self._placement.forget()
        return r.FlavorPut()

    async def update(self, ctx: Context, request: r.UpdateFlavor) -> Flavor:
        pools = _pool_list(_object(request.document))
        key = FlavorKey(ctx.project, request.flavor)
        wrong = Invalid(f"Flavor {key.name} cant be updated, error:", title="updatefail")

        def change(topology: Topology) -> Topology:
            _check_existence(topology, key)
            return self._with(topology, key, pools, wrong)

        topology = await self._topology.change(change)
        self._placement.forget()
        return self._flavor(topology, key)

    def _with(self, topology: Topology, key: FlavorKey, pools: list[str], wrong: Invalid) -> Topology:
        """The topology in which the flavor has these pools; what is `wrong` is said with a reason."""
        if not pools:
            raise Invalid("Bad Request", title="Unable to create")
        for name in pools:
            if name not in topology.pools:
                raise Invalid(f"{wrong.message}Pool {name} does not exist", title=wrong.title)
        promised = [self._backends.promised(topology.pools[name]) for name in pools]
        if any(other != promised[0] for other in promised):
            raise Invalid(f"{wrong.message}{OTHER_CAPABILITIES}", title=wrong.title)
        return topology.with_flavor(key, pools)

    async def delete(self, ctx: Context, request: r.DeleteFlavor) -> None:
        key = FlavorKey(ctx.project, request.flavor)
        queues = []
        async for name in self._queues(key, now=ctx.now):
            queues.append(name)
            if len(queues) == MOST_NAMED:
                break
        if queues:
            raise Forbidden(
                f"This flavor is used by queues {{{', '.join(queues)}}}; It cannot be deleted.",
                title="Unable to delete",
            )
        await self._topology.change(lambda topology: topology.without_flavor(key))
        self._placement.forget()

    async def _queues(self, flavor: FlavorKey, *, now: float) -> AsyncIterator[str]:
        """What has the flavor: names of queues, then of topics."""
        for kind in ("queue", "topic"):
            after = ""
            while found := await self._catalog.scan(kind, flavor.project, after=after, limit=SCAN, now=now):
                for queue in found:
                    if queue.metadata.get(FLAVOR) == flavor.name:
                        yield queue.name
                after = found[-1].name


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise InvalidBody("The request body must be a JSON object that describes the flavor.")
    return document


def _pool_list(given: dict[str, Any]) -> list[str]:
    if "pool_list" not in given:
        raise InvalidBody("`pool_list` needs to be specified")
    pools = given["pool_list"]
    if not isinstance(pools, list) or not all(isinstance(name, str) for name in pools):
        raise InvalidBody("`pool_list` must be an array of names of pools.")
    return pools


def _check_existence(topology: Topology, key: FlavorKey) -> None:
    if key not in topology.flavors:
        raise NotFound(f"Flavor {key.name} does not exist")
