"""Queues that are placed anew again and again agree with one store, step by step, over random calls."""

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from sukkal.core.pooling import placement
from sukkal.core.pooling.assembly import Pooling
from sukkal.core.pooling.backends import Site
from sukkal.errors import Conflict
from sukkal.model import FlavorKey, Pool, QueueKey, Stats
from sukkal.stores.contract import Backend
from sukkal.stores.memory import MemoryBackend

from .agreement import PROFILE, QUEUES, Agreement, posts, queues
from .samples import NOW

FLAVORS = ("blue", "green", "red")  # each has one pool


class Opener:
    def site(self, uri: str, options: Mapping[str, Any]) -> Site:
        return Site(uri, uri)

    async def open(self, site: Site) -> Backend:
        return MemoryBackend()


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, act: object) -> Any:
        raise NotImplementedError


class PlacedBackend:
    """Pools as one store."""

    def __init__(self) -> None:
        self.own = MemoryBackend()
        self.clock = Clock()
        self.flavors: dict[QueueKey, str | None] = {}
        self.pooling = Pooling(Opener(), self.own, self.own, self.clock, self.flavor_of)
        self.messages: Any = self.pooling.messages
        self.messages.volume = self.volume
        self.messages.sweep = self.sweep
        self.traits = self.own.traits

    async def flavor_of(self, key: QueueKey, now: float) -> str | None:
        return self.flavors.get(key)

    async def open(self) -> "PlacedBackend":
        pools = {name: Pool(name=name, uri=f"memory:///{name}", weight=1) for name in ("plain", *FLAVORS)}

        def change(topology: Any) -> Any:
            for pool in pools.values():
                topology = topology.put(pool)
            for name in FLAVORS:
                for project in ("acme", "umbrella"):
                    topology = topology.with_flavor(FlavorKey(project, name), [])
            return topology

        await self.pooling.topology.change(change)
        return self

    async def every(self) -> list[Backend]:
        topology = await self.pooling.topology.get()
        return [self.own, *[await self.pooling.backends.of(pool) for pool in topology.pools.values()]]

    async def volume(self, *, now: float) -> Stats:
        found = [await backend.messages.volume(now=now) for backend in await self.every()]
        return Stats(free=sum(one.free for one in found), claimed=sum(one.claimed for one in found))

    async def sweep(self, *, now: float) -> int:
        return sum([await backend.messages.sweep(now=now) for backend in await self.every()])

    async def place(self, queue: QueueKey, flavor: str | None) -> bool:
        """Give the queue a flavor, whose only pool it then gets; False when that pool is not empty yet."""
        before = self.flavors.get(queue)
        self.flavors[queue] = flavor
        if flavor is not None:
            key = FlavorKey(queue.project, flavor)
            await self.pooling.topology.change(lambda topology: topology.with_flavor(key, [flavor]))
        try:
            await self.pooling.placement.arrange(queue)
        except Conflict:
            self.flavors[queue] = before
            return False
        return True

    async def close(self) -> None:
        await self.pooling.close()


class PlacedAgreement(Agreement):
    subject_backend: Any

    def __init__(self) -> None:
        super().__init__(open_placed, open_model)
        self.chains = 0
        self.ended = 0

    def finish(self, call: Coroutine[Any, Any, Any]) -> Any:
        backend = getattr(self, "subject_backend", None)
        if backend is not None:
            backend.clock.time = getattr(self, "now", NOW)
        return super().finish(call)

    @rule(queue=queues, way=st.lists(st.sampled_from([*FLAVORS, None]), min_size=1, max_size=3), post=posts)
    def place_anew(self, queue: QueueKey, way: list[str | None], post: Any) -> None:
        """Once or several times. Between them something is stored, and stored again."""
        for flavor in way:
            posted = [self.new_message(queue, post)]
            self.append_to_both(queue, posted)
            self.finish(self.subject_backend.place(queue, flavor))
            self.append_to_both(queue, posted)

    @rule()
    def know_nothing(self) -> None:
        """As another process does, or this one after a while."""
        self.subject_backend.pooling.placement.forget()

    def teardown(self) -> None:
        for queue in QUEUES:
            place = self.finish(self.subject_backend.pooling.placement.find(queue))
            SEEN.append(len(place.wakers))
        super().teardown()


SEEN: list[int] = []  # in how many stores queues had messages at the ends of runs


async def open_placed(directory: Path) -> Backend:
    backend: Any = await PlacedBackend().open()
    return backend


async def open_model(directory: Path) -> Backend:
    await asyncio.sleep(0)
    return MemoryBackend()


def test_queues_placed_anew_agree_with_one_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "RETAINED", 5.0)
    monkeypatch.setattr(placement, "SWITCH_SECONDS", 0.0)
    SEEN.clear()
    run_state_machine_as_test(PlacedAgreement, settings=settings(PROFILE))
    assert max(SEEN) > 1, "no queue ever lay in several stores"
    assert min(SEEN) == 1, "no queue ever lay in one store"
