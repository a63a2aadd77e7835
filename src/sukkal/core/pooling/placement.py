"""Which pool holds a queue: decided once, recorded, and the same for every process.

    placement/<project>    queue → the pools in which it has messages, the newest last

A queue is placed when it is created, or by its first message: among the pools of its flavor, or those
without flavor, by chance and weight. The record is put only if there is none, so of two processes that
place one queue at once one finds it placed.

Records are cached for some seconds. Whatever changes one must do no harm to those who act on what it was:

- A queue that gets another flavor is placed anew, but its messages stay where they are (`chain.py`), and
  new ones are stored in the new place only from a moment on that everybody knows of by then. An older place
  is dropped when it is empty, and not before everybody must have stopped to use it.
- The record of a queue that is deleted is kept for that long, in case it is made again, or somebody who
  does not know yet goes on posting.

Queues of the service itself, those of the project "", are not placed: they stay in its own store, so that no
pool's failure can keep others' messages from being delivered.

What has no record may have messages all the same: those of the time before there were pools, in the service's
own store, where reads of a queue without record look. When it is placed, that store becomes its oldest place.

Changes are announced on the line of the service's own store, as a hint that nothing came: see `placed.py`.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection
from itertools import pairwise
from typing import NamedTuple, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sukkal.core.clock import Clock
from sukkal.core.pooling.backends import Backends, answers
from sukkal.core.pooling.chain import Chain, ChainWaker, Part
from sukkal.core.pooling.topology import CACHE_SECONDS, Topology, TopologyRecord
from sukkal.errors import Conflict, Invalid, StoreUnavailable
from sukkal.model import FlavorKey, Pool, QueueKey
from sukkal.stores.contract import Backend, Documents, Messages, Shelf, Waker

log = logging.getLogger(__name__)

CACHED_PLACES = 100_000
SPARE_SECONDS = 1.0  # a place counts as at hand for a further step when it stays known for so long
SWITCH_SECONDS = 2 * CACHE_SECONDS  # until a queue that is placed anew uses its new place
RETAINED = 3600.0  # seconds; nobody acts on what he read so long ago
# Seconds the place of a deleted queue is kept: a process that had not heard of that may have stored messages
# there, which nobody would find without it. Two days more than they may live, unless limits are raised.
LEFT_SECONDS = 16 * 86_400.0

PATIENCE = 2.0  # seconds a pool may take to answer before a new queue goes to another
SHUN_SECONDS = 10.0  # for which others are preferred to it then

OWN = ""  # the service's own store, as records name it


class Stay(Struct, frozen=True, kw_only=True):
    """A pool in which a queue has messages."""

    pool: str
    since: float = 0.0  # new messages are stored here from then on, until the next one's time
    epoch: int = 0  # how often the queue had been placed anew


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    stays: list[Stay]  # never empty
    flavor: str | None = None  # for which the last of them was chosen
    leaving: bool = False  # the queue was deleted


class Telling(Protocol):
    """The part of `Waker` that tells."""

    def wanted(self, queue: QueueKey) -> bool: ...

    def tell(self, queue: QueueKey, count: int | None, due: float = 0.0) -> None: ...


class Place(NamedTuple):
    """Where a queue's messages are."""

    messages: Messages
    waker: Telling
    wakers: tuple[Waker, ...]  # the lines on which the queue is told of
    until: float  # not to be trusted from then on
    direct: bool = True  # a call takes effect in the turn in which it is begun


class Placement:
    def __init__(
        self,
        documents: Documents,
        topology: TopologyRecord,
        backends: Backends,
        own: Backend,
        clock: Clock,
        flavor_of: Callable[[QueueKey, float], Awaitable[str | None]],
        *,
        draw: Callable[[float], float] | None = None,
    ) -> None:
        """`own` is the service's own store; `flavor_of` reads a queue's flavor from its record.

        `draw` gives a number from 0 up to its argument.
        """
        self._documents = documents
        self._topology = topology
        self._backends = backends
        self._own = own
        self._clock = clock
        self._flavor_of = flavor_of
        self._draw = draw or (lambda most: random.random() * most)  # noqa: S311 - of no secret
        self._places: dict[QueueKey, Place] = {}
        self._shunned: dict[str, float] = {}  # pools that did not answer: until when others are preferred
        self._writes = 0  # of records, begun and ended
        self._unplaced = Place(own.messages, own.waker, (own.waker,), float("inf"))

    # --- finding -------------------------------------------------------------------------------------

    def at_hand(self, key: QueueKey) -> Place | None:
        """The queue's place, if it is known without asking the store."""
        place = self._places.get(key)
        if place is not None:
            return place if self._clock.now() < place.until else None
        return None if key.project else self._unplaced

    def stays_at_hand(self, key: QueueKey) -> bool:
        """Whether it is, and will be for the step that follows, which then reaches the store at once."""
        place = self._places.get(key)
        return place is not None and place.direct and self._clock.now() + SPARE_SECONDS < place.until

    async def find(self, key: QueueKey) -> Place:
        """Where to look for the queue's messages. Raises StoreUnavailable."""
        place = self.at_hand(key)
        if place is not None:
            return place
        return await self._remember(key) or self._unplaced

    async def settle(self, key: QueueKey) -> Place:
        """Where to store the queue's messages; it is placed if it was not. Raises StoreUnavailable."""
        place = self.at_hand(key)
        while place is None:
            record, version = await self._load(key)
            stays = _left(record, await self._topology_for(record))
            if record is None or not _settled(record, stays):
                flavor = await self._flavor_of(key, self._clock.now())
                pool = await self.choose(key.project, flavor)
                await self._place(key, flavor, pool, record, stays, version)
            elif record.leaving:
                await self._put(key, replace(record, leaving=False), version)
            place = await self._remember(key)
        return place

    def forget(self, key: QueueKey | None = None) -> None:
        """Look at the record again, of this queue or of all."""
        self._writes += 1
        if key is None:
            self._places.clear()
        else:
            self._places.pop(key, None)

    async def _remember(self, key: QueueKey) -> Place | None:
        """The queue's place, read from the store; None when it has none."""
        writes, read = self._writes, self._clock.now()
        record, version = await self._load(key)
        if record is None:
            return None
        topology = await self._topology_for(record)
        record = await self._tidied(key, record, version, topology)
        stays = _left(record, topology)
        if not stays:  # its pools have been deleted, with its messages
            return None
        stores = [await self._store(stay.pool, topology) for stay in stays]
        wakers = tuple(store.waker for store in stores)
        until = min(read, self._topology.read) + CACHE_SECONDS
        if len(stays) == 1 and not stays[0].epoch:
            place = Place(stores[0].messages, stores[0].waker, wakers, until)
        else:
            parts = [
                Part(store.messages, stay.since, stay.epoch)
                for store, stay in zip(stores, stays, strict=True)
            ]
            await self._take_note_along(key, stores[-1])  # also one that somebody put in the old place only
            place = Place(Chain(parts, self._clock), ChainWaker(wakers), wakers, until, direct=False)
        # Else it may be outrun, or nothing may be stored there.
        if writes == self._writes and not record.leaving and _settled(record, stays):
            self._places.pop(key, None)  # so that the newest comes last
            if len(self._places) >= CACHED_PLACES:
                del self._places[next(iter(self._places))]
            self._places[key] = place
        return place

    async def _tidied(self, key: QueueKey, record: Record, version: int, topology: Topology) -> Record:
        """The record without places that are over, and not leaving when there are messages again."""
        tidied, now = record, self._clock.now()
        while len(tidied.stays) > 1 and tidied.stays[1].since + RETAINED <= now:
            oldest = tidied.stays[0]
            there = oldest.pool in topology.pools or oldest.pool == OWN
            if there and await self._holds(key, oldest.pool, topology):
                break
            tidied = replace(tidied, stays=tidied.stays[1:])
        if tidied.leaving:
            for stay in _left(tidied, topology):
                if await self._holds(key, stay.pool, topology):
                    tidied = replace(tidied, leaving=False)
        if tidied is not record:
            await self._put(key, tidied, version)  # or somebody else has
        return tidied

    async def _topology_for(self, record: Record | None) -> Topology:
        """The pools there are, not read before one was made in which the record says the queue is."""
        topology = await self._topology.get()
        if record is not None and len(_left(record, topology)) < len(record.stays):
            topology = await self._topology.refresh()
        return topology

    async def _holds(self, key: QueueKey, pool: str, topology: Topology) -> bool:
        store = await self._store(pool, topology)
        return (await store.messages.stats(key, now=self._clock.now())).total > 0

    async def _store(self, pool: str, topology: Topology) -> Backend:
        return self._own if pool == OWN else await self._backends.of(topology.pools[pool])

    async def _take_note_along(self, key: QueueKey, store: Backend) -> None:
        """Put the queue's note on it in a store that is new to it."""
        note = await self._own.messages.append(key, ())  # which answers it
        if note is not None:
            await store.messages.mark(key, note)

    # --- placing -------------------------------------------------------------------------------------

    async def check_flavor(self, project: str, flavor: object, fault: type[Invalid]) -> None:
        """Raise `fault` unless the project has the flavor; none is fine."""
        if not flavor:
            return
        topology = await self._topology.refresh()
        if not isinstance(flavor, str) or FlavorKey(project, flavor) not in topology.flavors:
            raise fault(f"Flavor {flavor} does not exist")

    async def choose(self, project: str, flavor: str | None, *, but: Collection[str] = ()) -> str:
        """A pool for a queue with this flavor, by chance and weight, that can be reached.

        Raises StoreUnavailable when there is none.
        """
        topology = await self._topology.refresh()
        fit = [pool for pool in topology.of(_key(project, flavor)) if pool.weight and pool.name not in but]
        now = self._clock.now()
        known_good = [pool for pool in fit if self._shunned.get(pool.name, now) <= now]
        # One that hangs must not hold up queues for which there are others. When there are none, all are
        # given the time that a store may take.
        for pools, patience in ((known_good, PATIENCE), (fit, None)):
            while pools:
                pool = self._drawn(pools)
                if await self._answers(pool, patience):
                    return pool.name
                pools.remove(pool)
        raise StoreUnavailable(f"no pool for a queue {f'of flavor {flavor}' if flavor else 'without flavor'}")

    async def _answers(self, pool: Pool, patience: float | None) -> bool:
        """Whether the pool's store shows life in so many seconds; if not, it is left alone for a while."""
        try:
            async with asyncio.timeout(patience):
                await answers(await self._backends.of(pool))
        except (StoreUnavailable, TimeoutError) as exc:
            log.warning("placing a queue elsewhere: %s", str(exc) or f"pool {pool.name} takes too long")
            self._shunned[pool.name] = self._clock.now() + SHUN_SECONDS
            return False
        self._shunned.pop(pool.name, None)
        return True

    def _drawn(self, pools: list[Pool]) -> Pool:
        rest = self._draw(float(sum(pool.weight for pool in pools)))
        for pool in pools:
            rest -= pool.weight
            if rest < 0:
                return pool
        return pools[-1]

    async def _place(
        self,
        key: QueueKey,
        flavor: str | None,
        pool: str,
        record: Record | None,
        left: list[Stay],
        version: int,
    ) -> None:
        """Record a place for a queue that has none, or whose newest one has gone, unless another has."""
        await self._take_note_along(key, await self._store(pool, await self._topology.get()))
        stays = [stay for stay in left if stay.pool not in (OWN, pool)]
        if (await self._own.messages.stats(key, now=self._clock.now())).total:
            stays = [Stay(pool=OWN), *stays]
        # Who has read far in a pool that has gone must find what comes now.
        epoch = len(stays) if record is None else record.stays[-1].epoch + 1
        stays.append(Stay(pool=pool, epoch=epoch))
        await self._put(key, Record(stays=stays, flavor=flavor), version)

    async def arrange(self, key: QueueKey, *, asked: bool = False) -> None:
        """Put a queue into a pool of its flavor, if it was placed for another one.

        With `asked`, also if its pool has since left the flavor. Raises StoreUnavailable when there is no
        pool, and Conflict when all hold messages from when the queue lay there before.
        """
        while True:
            flavor = await self._flavor_of(key, self._clock.now())
            record, version = await self._load(key)
            planned = await self._planned(key, flavor, record, asked=asked)
            if planned is None:
                await self.settle(key)
                return
            if planned == record or await self._put(key, planned, version):
                return

    async def check_arrangement(self, key: QueueKey, flavor: str | None, *, asked: bool = False) -> None:
        """Raise what `arrange` would, of a queue that is about to get this flavor."""
        record, _ = await self._load(key)
        if await self._planned(key, flavor, record, asked=asked) is None:
            await self.choose(key.project, flavor)

    async def _planned(
        self, key: QueueKey, flavor: str | None, record: Record | None, *, asked: bool
    ) -> Record | None:
        """What the record should be; None when the queue has no place that could be kept."""
        topology = await self._topology.refresh()
        stays = _left(record, topology)
        if record is None or not _settled(record, stays):
            return None
        wanted = [pool.name for pool in topology.of(_key(key.project, flavor))]
        if stays[-1].pool not in wanted and (record.flavor != flavor or asked):
            stays = await self._moved(key, flavor, stays, topology)
        return Record(stays=stays, flavor=flavor)

    async def _moved(
        self, key: QueueKey, flavor: str | None, stays: list[Stay], topology: Topology
    ) -> list[Stay]:
        """The places of a queue, with one more."""
        now = self._clock.now()
        wanted = {pool.name for pool in topology.of(_key(key.project, flavor)) if pool.weight}
        # Where it has messages from before it cannot lie anew: younger ones would come before others' elders.
        full = [stay.pool for stay in stays if await self._holds(key, stay.pool, topology)]
        # Nor where others still store, who do not know yet that it has left.
        used = [stay.pool for stay, newer in pairwise(stays) if newer.since > now]
        if wanted and wanted <= {*full, *used}:
            if not wanted <= set(full):
                raise Conflict(
                    f"The {key.kind} {key.title} is just leaving the pools of that flavor. "
                    f"Set the flavor again in {SWITCH_SECONDS:g} seconds."
                )
            raise Conflict(
                f"The {key.kind} {key.title} still has messages in every pool of that flavor, from when it "
                "was there before. Set the flavor again when they are gone."
            )
        pool = await self.choose(key.project, flavor, but=[*full, *used])
        since = self._clock.now() + SWITCH_SECONDS
        kept = [stay for stay in stays if stay.pool != pool]
        return [*kept, Stay(pool=pool, since=since, epoch=stays[-1].epoch + 1)]

    # --- leaving -------------------------------------------------------------------------------------

    async def leave(self, key: QueueKey) -> None:
        """Let the queue be placed anew some time after it was deleted, if it is not made again before."""
        while True:
            record, version = await self._load(key)
            if record is None or record.leaving:
                return
            expires = self._clock.now() + LEFT_SECONDS
            if await self._put(key, replace(record, leaving=True), version, expires=expires):
                return

    # --- a queue of the service's own ----------------------------------------------------------------

    async def assign(self, key: QueueKey, pool: str) -> None:
        """Place a new queue in this pool."""
        await self._put(key, Record(stays=[Stay(pool=pool)]), 0)

    async def dismiss(self, key: QueueKey) -> None:
        """Forget where a queue was that is gone, and that nobody else knows."""
        self.forget(key)
        await self._documents.delete(_shelf(key), key.name)

    # --- records -------------------------------------------------------------------------------------

    async def _load(self, key: QueueKey) -> tuple[Record | None, int]:
        document = await self._documents.get(_shelf(key), key.name, now=self._clock.now())
        if document is None:
            return None, 0
        return msgspec.json.decode(document.value, type=Record), document.version

    async def _put(self, key: QueueKey, record: Record, expect: int, *, expires: float | None = None) -> bool:
        """Replace the record, and say so; False when another writer was first."""
        self.forget(key)
        try:
            put = await self._documents.put(
                _shelf(key),
                key.name,
                msgspec.json.encode(record),
                expect=expect,
                now=self._clock.now(),
                expires=expires,
            )
        finally:
            self.forget(key)  # what was read meanwhile
        if put is not None and self._own.waker.wanted(key):
            self._own.waker.tell(key, 0)
        return put is not None


def _shelf(key: QueueKey) -> Shelf:
    return Shelf("placement", key.project)


def _key(project: str, flavor: str | None) -> FlavorKey | None:
    return FlavorKey(project, flavor) if flavor else None


def _settled(record: Record, left: list[Stay]) -> bool:
    """Whether the newest of a queue's places is still there, and one in which messages may be stored."""
    return bool(left) and left[-1] is record.stays[-1] and left[-1].pool != OWN


def _left(record: Record | None, topology: Topology) -> list[Stay]:
    """The places of a queue whose pools are still there."""
    if record is None:
        return []
    return [stay for stay in record.stays if stay.pool == OWN or stay.pool in topology.pools]
