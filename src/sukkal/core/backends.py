"""The opened stores of pools. Each is opened when it is first needed, and closed when its pool has gone.

A store that cannot be opened fails those who need it, at once for a moment, and is then tried again. It is
opened once for all who ask at the same time, and for as long as that takes they wait; nobody else does.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from sukkal.core.clock import Clock
from sukkal.core.topology import Topology
from sukkal.errors import BadStoreURI, StoreInUse, StoreUnavailable
from sukkal.model import Pool
from sukkal.stores.contract import Backend, Trait

log = logging.getLogger(__name__)

OPEN_SECONDS = 5.0  # that opening a store, or a sign of life from it, may take
RETRY_SECONDS = 1.0  # between attempts to open a store

CAPABILITIES = (Trait.FIFO, Trait.CLAIMS, Trait.DURABLE, Trait.AT_LEAST_ONCE, Trait.HIGH_THROUGHPUT)


class Site(NamedTuple):
    """Where a store is."""

    uri: str  # as it is opened, options included
    identity: str  # equal for URIs that lead to the same store


class Opener(Protocol):
    """How pools' stores are found and opened."""

    def site(self, uri: str, options: Mapping[str, Any]) -> Site:
        """Where that leads; BadStoreURI when it leads nowhere, or to where no pool may be."""
        ...

    async def open(self, site: Site) -> Backend:
        """Raises BadStoreURI, StoreInUse, StoreUnavailable."""
        ...


def capabilities(backend: Backend) -> list[str]:
    """What the store promises now, of what the API has names for."""
    return [trait.value for trait in CAPABILITIES if trait in backend.traits]


class _Entry:
    """A pool's store."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.backend: Backend | None = None  # once it is open
        self.opening: asyncio.Task[Backend] | None = None
        self.retry = float("-inf")  # not to be tried again before
        self.reason = ""  # why it could not be opened

    def leads_to(self, site: Site) -> bool:
        """Whether it is the store at `site`; one that is used alone is never opened a second time."""
        if self.site.identity != site.identity:
            return False
        return self.site == site or (self.backend is not None and Trait.SHARED not in self.backend.traits)


class Backends:
    def __init__(self, opener: Opener, clock: Clock) -> None:
        self.opened: Callable[[Backend], None] = _nothing  # called with each store when it is open
        self._opener = opener
        self._clock = clock
        self._entries: dict[str, _Entry] = {}  # by pool

    def site(self, pool: Pool) -> Site:
        """Raises BadStoreURI."""
        return self._opener.site(pool.uri, pool.options)

    def at_hand(self, pool: str) -> Backend | None:
        """The pool's store, if it is open."""
        entry = self._entries.get(pool)
        return entry.backend if entry is not None else None

    def promised(self, pool: Pool) -> list[str]:
        """What the pool's store promises now; when it is not open, what it did."""
        backend = self.at_hand(pool.name)
        return pool.capabilities if backend is None else capabilities(backend)

    async def of(self, pool: Pool) -> Backend:
        """The pool's store, opened; StoreUnavailable when it cannot be had."""
        try:
            site = self.site(pool)
        except BadStoreURI as exc:
            raise StoreUnavailable(f"pool {pool.name}: {exc}") from exc
        entry = self._entries.get(pool.name)
        while entry is None or not entry.leads_to(site):
            await self._close(pool.name)
            entry = self._entries.setdefault(pool.name, _Entry(site))  # or somebody else was faster
        if entry.backend is not None:
            return entry.backend
        if self._clock.now() < entry.retry:
            raise StoreUnavailable(f"pool {pool.name}: {entry.reason}")
        if entry.opening is None:
            entry.opening = asyncio.create_task(self._open(pool.name, entry))
        # Shielded: it is opened for others too, who stay when this one goes.
        return await asyncio.shield(entry.opening)

    async def _open(self, name: str, entry: _Entry) -> Backend:
        try:
            backend = await self.attempt(entry.site)
        except (BadStoreURI, StoreInUse, StoreUnavailable) as exc:
            entry.reason, entry.retry = str(exc), self._clock.now() + RETRY_SECONDS
            raise StoreUnavailable(f"pool {name}: {exc}") from exc
        finally:
            entry.opening = None
        if self._entries.get(name) is not entry:  # the pool went, or moved, meanwhile
            await backend.close()
            raise StoreUnavailable(f"pool {name}: its store is another now")
        entry.backend = backend
        self.opened(backend)
        return backend

    async def attempt(self, site: Site) -> Backend:
        """Open a store that may become a pool's. Raises BadStoreURI, StoreInUse, StoreUnavailable."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                backend = await self._opener.open(site)
        except TimeoutError as exc:
            raise StoreUnavailable(f"It was not open after {OPEN_SECONDS:g} s.") from exc
        try:
            await answers(backend)
        except BaseException:
            await backend.close()
            raise
        return backend

    async def adopt(self, pool: Pool, site: Site, backend: Backend) -> None:
        """Take an opened store for the pool's, from now on; the one it had is closed."""
        before = self._entries.pop(pool.name, None)
        entry = self._entries[pool.name] = _Entry(site)
        entry.backend = backend
        self.opened(backend)
        await _end(pool.name, before)

    def is_open(self, pool: str, site: Site) -> Backend | None:
        """The pool's store, if it is open and this one."""
        entry = self._entries.get(pool)
        return entry.backend if entry is not None and entry.leads_to(site) else None

    async def keep(self, topology: Topology) -> None:
        """Close the stores of pools that are no more."""
        for name in [name for name in self._entries if name not in topology.pools]:
            await self._close(name)

    async def close(self) -> None:
        for name in list(self._entries):
            await self._close(name)

    async def _close(self, name: str) -> None:
        await _end(name, self._entries.pop(name, None))


async def _end(name: str, entry: _Entry | None) -> None:
    """Close the store of an entry that is no longer among the others, also if it is just being opened."""
    if entry is None:
        return
    if entry.opening is not None:
        await asyncio.wait([entry.opening])
        entry.opening = None
    if entry.backend is not None:
        try:
            await entry.backend.close()
        except StoreUnavailable as exc:
            log.warning("pool %s: closing its store: %s", name, exc)


async def answers(backend: Backend) -> None:
    """Return when the store gives a sign of life in time; StoreUnavailable when it does not."""
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await backend.ping()
    except TimeoutError as exc:
        raise StoreUnavailable(f"The store did not answer within {OPEN_SECONDS:g} s.") from exc


def _nothing(_backend: Backend) -> None:
    pass
