"""Connections come and go in every way, and nothing of them stays.

Short: some hundred. SUKKAL_LONG=1: twenty thousand.
"""

import asyncio
import gc
import os
import random
import tracemalloc
from collections import Counter

import pytest
from websockets.server import ServerProtocol
from ws_site import Site, ask, post, receive, text, until

from sukkal.ws.connection import Connection
from sukkal.ws.session import Session

pytestmark = pytest.mark.faults

CONNECTIONS = 20_000 if os.environ.get("SUKKAL_LONG") == "1" else 500
AT_ONCE = 20
MOST_GROWTH = 400  # bytes a connection, measured over them all; one that stayed would be some kilobytes
KINDS = (Connection, Session, ServerProtocol)


async def come_and_go(site: Site, chance: random.Random) -> str:
    """Connect, do something, and leave in one of the ways there are."""
    way = chance.choice(["clean", "abrupt", "in flight", "mid-frame", "over the limit", "without a word"])
    async with site.connect() as socket:
        if way == "without a word":
            return way
        await ask(socket, post("q", 1))
        if chance.random() < 0.3:
            await ask(socket, text("subscription_create", queue_name=chance.choice("abc")))
        match way:
            case "abrupt":
                socket.transport.abort()
            case "in flight":
                for _ in range(5):
                    await socket.send(post("q", 1))
                await socket.send(text("queue_purge", queue_name="q"))
                if chance.random() < 0.5:
                    await receive(socket)
                socket.transport.abort()
            case "mid-frame":
                socket.transport.write(b"\x81\xfe\x10\x00abcd" + b"x" * 100)
                socket.transport.abort()
            case "over the limit":
                await socket.send("x" * 20_000)
                await socket.wait_closed()
    return way


async def visit(site: Site, times: int, chance: random.Random) -> Counter[str]:
    async def visitor(count: int) -> Counter[str]:
        return Counter([await come_and_go(site, chance) for _ in range(count)])

    counts = await asyncio.gather(*(visitor(times // AT_ONCE) for _ in range(AT_ONCE)))
    await until(lambda: not site.sockets.connections and not site.sockets._leaving)
    return sum(counts, Counter())


def left() -> Counter[type]:
    gc.collect()
    return Counter(type(each) for each in gc.get_objects() if isinstance(each, KINDS))


async def test_nothing_is_left_of_connections_that_came_and_went() -> None:
    chance = random.Random(7)
    before = left()
    async with Site(most_bytes=10_000).open() as site:
        await visit(site, 100, chance)  # fills what is kept for all, once
        tasks = len(asyncio.all_tasks())
        gc.collect()
        tracemalloc.start()
        try:
            ways = await visit(site, CONNECTIONS, chance)
            async with site.connect() as socket:
                await ask(socket, text("queue_purge", queue_name="q"))
            await until(lambda: not site.sockets.connections)
            assert left() == before
            await until(lambda: len(asyncio.all_tasks()) == tasks)
            gc.collect()
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < MOST_GROWTH * CONNECTIONS
    assert len(ways) == 6, "every way of leaving was taken"
