"""Pools: the stores that operators add, change and remove while the service runs.

What is asked for is judged first, then its store is opened, and only then it is recorded, judged once more by
what there is at that moment. So nothing is half done when something is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from sukkal import requests as r
from sukkal.core.backends import Backends, Site, answers, capabilities
from sukkal.core.context import Context
from sukkal.core.placement import Placement
from sukkal.core.topology import Topology, TopologyRecord
from sukkal.errors import (
    BadStoreURI,
    Conflict,
    Forbidden,
    Invalid,
    InvalidBody,
    NotFound,
    StoreInUse,
    StoreUnavailable,
)
from sukkal.limits import DEFAULT_PAGE, MAX_NAME, MAX_POOL_TEXT, MAX_WEIGHT, Limits, is_name
from sukkal.model import FlavorKey, Pool
from sukkal.stores.contract import Backend

UNABLE = "Unable to create pool"
OTHER_CAPABILITIES = "The pool being added does not support the minimum set of capabilities"
CATALOG_REACHABLE = "catalog_reachable"  # stands among the pools in the health document

_KEYS = ("weight", "uri", "flavor", "options")


class Pools:
    def __init__(
        self, topology: TopologyRecord, backends: Backends, placement: Placement, limits: Limits
    ) -> None:
        self._topology = topology
        self._backends = backends
        self._placement = placement
        self._limits = limits

    async def page(self, ctx: Context, request: r.ListPools) -> r.PoolList:
        limit = min(DEFAULT_PAGE, self._limits.max_pools_per_page)
        if request.limit is not None:
            limit = request.limit
        self._limits.check_pool_limit(limit)
        topology = await self._topology.refresh()
        names = sorted(name for name in topology.pools if name > (request.marker or ""))
        return r.PoolList(pools=[topology.pools[name] for name in names[:limit]])

    async def get(self, ctx: Context, request: r.GetPool) -> Pool:
        return _existing(await self._topology.refresh(), request.pool)

    async def put(self, ctx: Context, request: r.PutPool) -> r.PoolPut:
        given = _object(request.document)
        check_name(request.pool)
        for key in ("uri", "weight"):
            if key not in given:
                raise InvalidBody(f"Missing {key!r}: a pool needs uri and weight.")
        for key in given:
            if key not in _KEYS:
                raise InvalidBody(f"{key!r} is not known; a pool has {', '.join(_KEYS)}.")
        _check(given)
        pool = _changed(Pool(name=request.pool, uri="", weight=0), given, ctx.project)
        await self._record(pool, lambda _: pool)
        return r.PoolPut()

    async def update(self, ctx: Context, request: r.UpdatePool) -> Pool:
        given = {key: value for key, value in _object(request.document).items() if key in _KEYS}
        if not given:
            raise InvalidBody("One of `uri`, `weight`, `flavor`, or `options` needs to be specified")
        _check(given)
        before = _existing(await self._topology.refresh(), request.pool)
        asked = _changed(before, given, ctx.project)
        return await self._record(
            asked, lambda topology: _changed(_existing(topology, asked.name), given, ctx.project)
        )

    async def _record(self, asked: Pool, wanted: Callable[[Topology], Pool]) -> Pool:
        """Record what `wanted` makes of the pool, once the store that was `asked` for has answered."""
        site = self._site(asked)
        self._check_site(await self._topology.refresh(), asked, site)
        backend, new = await self._reached(asked, site)
        promises = capabilities(backend)
        recorded: list[Pool] = []

        def change(topology: Topology) -> Topology:
            pool = replace(wanted(topology), capabilities=promises)
            if self._site(pool) != site:  # somebody has given it another store meanwhile
                raise Conflict(f"The pool {pool.name} was changed by somebody else. Please try again.")
            self._check_site(topology, pool, site)
            self._check_flavor(topology, pool)
            recorded[:] = [pool]
            return topology.put(pool)

        try:
            await self._topology.change(change)
        except BaseException:
            if new:
                await backend.close()
            raise
        self._placement.forget()
        if new:
            await self._backends.adopt(recorded[0], site, backend)
        return recorded[0]

    async def _reached(self, pool: Pool, site: Site) -> tuple[Backend, bool]:
        """The store at `site`, which answers, and whether it was opened for that."""
        present = self._backends.is_open(pool.name, site)
        try:
            if present is None:
                return await self._backends.attempt(site), True
            await answers(present)
        except BadStoreURI as exc:
            raise Invalid(str(exc), title=UNABLE) from exc
        except (StoreInUse, StoreUnavailable) as exc:
            raise Invalid(f"cannot connect to {pool.shown_uri}: {exc}", title=UNABLE) from exc
        return present, False

    def _site(self, pool: Pool) -> Site:
        try:
            return self._backends.site(pool)
        except BadStoreURI as exc:
            raise Invalid(str(exc), title=UNABLE) from exc

    def _check_site(self, topology: Topology, pool: Pool, site: Site) -> None:
        for other in topology.pools.values():
            if other.name != pool.name and self._leads_to(other, site):
                raise Conflict("The database URI is in use by another pool.")

    def _leads_to(self, pool: Pool, site: Site) -> bool:
        try:
            return self._backends.site(pool).identity == site.identity
        except BadStoreURI:  # as the service is set up now
            return False

    def _check_flavor(self, topology: Topology, pool: Pool) -> None:
        for other in topology.of(pool.flavor) if pool.flavor is not None else ():
            if other.name != pool.name and self._backends.promised(other) != pool.capabilities:
                raise Invalid(OTHER_CAPABILITIES, title=UNABLE)

    async def delete(self, ctx: Context, request: r.DeletePool) -> None:
        def change(topology: Topology) -> Topology:
            pool = topology.pools.get(request.pool)
            if pool is not None and pool.flavor in topology.flavors and len(topology.of(pool.flavor)) == 1:
                raise Forbidden(
                    f"This pool is used by flavors {{{pool.flavor.name}}}; It cannot be deleted.",
                    title="Unable to delete",
                )
            return topology.without(request.pool)

        topology = await self._topology.change(change)
        self._placement.forget()
        await self._backends.keep(topology)


def check_name(name: str) -> None:
    if not is_name(name) or name == CATALOG_REACHABLE:
        raise Invalid(
            f"The name of a pool must be 1 to {MAX_NAME} of the characters a-z A-Z 0-9 _ . -, "
            f"and not {CATALOG_REACHABLE}."
        )


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise InvalidBody("The request body must be a JSON object that describes the pool.")
    return document


def _check(given: Mapping[str, Any]) -> None:
    """Raise InvalidBody for the first field that is not of its type or lies out of range."""
    uri = given.get("uri", "-")
    if not isinstance(uri, str) or not 0 < len(uri) <= MAX_POOL_TEXT:
        raise InvalidBody(f"'uri' must be a string of 1 to {MAX_POOL_TEXT} characters.")
    weight = given.get("weight", 0)
    if not isinstance(weight, int) or isinstance(weight, bool) or not 0 <= weight <= MAX_WEIGHT:
        raise InvalidBody(f"'weight' must be a whole number from 0 to {MAX_WEIGHT}.")
    flavor = given.get("flavor", "")
    if not isinstance(flavor, str) or len(flavor) > MAX_POOL_TEXT:
        raise InvalidBody(f"'flavor' must be a string of up to {MAX_POOL_TEXT} characters.")
    if not isinstance(given.get("options", {}), dict):
        raise InvalidBody("'options' must be an object.")


def _changed(pool: Pool, given: Mapping[str, Any], project: str) -> Pool:
    """The pool with the fields that were given; its flavor is one of `project`."""
    changes = dict(given)
    if "flavor" in changes:
        changes["flavor"] = FlavorKey(project, changes["flavor"]) if changes["flavor"] else None
    return replace(pool, **changes)


def _existing(topology: Topology, name: str) -> Pool:
    if name not in topology.pools:
        raise NotFound(f"Pool {name} does not exist")
    return topology.pools[name]
