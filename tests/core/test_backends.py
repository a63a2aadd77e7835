"""Stores of pools while they are opened, exchanged and closed: one for each, none left open."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hand_clock import HandClock

from sukkal.core.backends import Backends, Site
from sukkal.core.topology import Topology, TopologyRecord
from sukkal.model import Pool
from sukkal.stores.contract import Backend, Trait

from .world import Stage


class Opened(Stage):
    def __init__(self, traits: frozenset[Trait]) -> None:
        super().__init__()
        self.traits = traits
        self.closed = False
        self.may_close = asyncio.Event()
        self.may_close.set()

    async def close(self) -> None:
        await self.may_close.wait()
        self.closed = True


class Opener:
    """Opens `x`, also by the names `x/` and so on."""

    def __init__(self) -> None:
        self.traits = frozenset({Trait.SHARED})
        self.opened: list[Opened] = []

    def site(self, uri: str, options: Mapping[str, Any]) -> Site:
        return Site(uri, uri.rstrip("/"))

    async def open(self, site: Site) -> Backend:
        await asyncio.sleep(0)
        self.opened.append(Opened(self.traits))
        backend: Any = self.opened[-1]
        return backend  # type: ignore[no-any-return]


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def backends(opener: Opener) -> Backends:
    return Backends(opener, HandClock(0.0))


def pool(uri: str) -> Pool:
    return Pool(name="p", uri=uri, weight=1)


async def test_store_is_opened_once_for_all_who_ask(opener: Opener, backends: Backends) -> None:
    found = await asyncio.gather(*(backends.of(pool("x")) for _ in range(5)))
    assert found == opener.opened * 5
    await backends.close()
    assert opener.opened[0].closed


async def test_store_that_is_taken_while_the_old_one_closes_is_the_only_one(
    opener: Opener, backends: Backends
) -> None:
    old: Any = await backends.of(pool("x"))
    old.may_close.clear()
    site = backends.site(pool("y"))
    taking = asyncio.create_task(backends.adopt(pool("y"), site, await backends.attempt(site)))
    await asyncio.sleep(0)
    found: Any = await backends.of(pool("y"))
    old.may_close.set()
    await taking
    assert await backends.of(pool("y")) is found
    await backends.close()
    assert [store.closed for store in opener.opened] == [True, True]


async def test_who_asks_for_the_new_store_while_the_old_one_closes_gets_the_new_one(
    opener: Opener, backends: Backends
) -> None:
    """Though somebody else, who does not know of it yet, has the old one opened again meanwhile."""
    old: Any = await backends.of(pool("x"))
    old.may_close.clear()
    asking = asyncio.create_task(backends.of(pool("y")))
    await asyncio.sleep(0)
    await backends.of(pool("x"))
    old.may_close.set()
    found = await asking
    assert await backends.of(pool("y")) is found
    await backends.close()
    assert all(store.closed for store in opener.opened)


async def test_store_that_one_process_only_can_use_is_not_opened_again_under_another_name(
    opener: Opener, backends: Backends
) -> None:
    opener.traits = frozenset()
    found = await backends.of(pool("x"))
    assert await backends.of(pool("x/")) is found
    assert backends.is_open("p", backends.site(pool("x//"))) is found
    assert backends.is_open("p", backends.site(pool("y"))) is None
    assert len(opener.opened) == 1


async def test_what_was_read_before_a_change_does_not_outlast_it() -> None:
    stage, clock = Stage(), HandClock(0.0)
    record = TopologyRecord(stage.documents, clock)
    reading = stage.documents.hold_after("get")
    looking = asyncio.create_task(record.refresh())
    await reading.reached()
    await record.change(lambda known: known.put(pool("x")))
    reading.open()
    assert await looking == Topology({"p": pool("x")})
    assert record.known == Topology({"p": pool("x")})
