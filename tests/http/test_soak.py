"""Those who wait and those who read streams come and go in every way, and nothing of them stays.

Short: some hundred. SUKKAL_LONG=1: twenty thousand.
"""

import asyncio
import contextlib
import gc
import os
import random
import socket
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from raw_socket import request
from until import PATIENCE, until
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from sukkal.core.service import Service
from sukkal.core.waiting import Place
from sukkal.http.app import HttpApp
from sukkal.http.events import EventStream
from sukkal.http.server import Server, _Protocol
from sukkal.model import QueueKey
from sukkal.stores.memory import MemoryBackend

pytestmark = pytest.mark.faults

CONNECTIONS = 20_000 if os.environ.get("SUKKAL_LONG") == "1" else 600
AT_ONCE = 20
MOST_GROWTH = 400  # bytes a connection, measured over them all; one that stayed would be some kilobytes
KINDS = (_Protocol, RequestResponseCycle, Place, EventStream)
STREAM = "Accept: text/event-stream"
LIST = "/v2/queues/{}/messages?echo=true"


class Site:
    """The service behind a socket, in the test's own process."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.service = Service(self.backend)
        self.app = HttpApp(self.service, clock=time.time)
        self.server = Server(self.app)
        self.port = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Site"]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
            serving = asyncio.create_task(self.server.serve([listener]))
            await self.server.ready.wait()
            try:
                yield self
            finally:
                self.server.should_exit = True
                await serving

    @property
    def empty(self) -> bool:
        """Whether nobody is connected, asks or waits."""
        return not (
            self.server.server_state.connections
            or self.server.server_state.tasks
            or self.app.in_flight
            or self.service._waiting._lines
        )


class Visitor:
    """One connection after the other, each with a queue of its own."""

    def __init__(self, site: Site, number: int, chance: random.Random) -> None:
        self._site = site
        self._chance = chance
        self._queue = f"q{number}"
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def come_and_go(self) -> str:
        """Connect, wait or follow a stream, and leave in one of the ways there are."""
        way: Callable[[], Awaitable[None]] = self._chance.choice(WAYS).__get__(self)
        await until(lambda: not self._somebody_waits())  # the last visitor may just be going
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._site.port)
        try:
            async with asyncio.timeout(PATIENCE):
                await way()
        finally:
            self._writer.transport.abort()
        return way.__name__

    async def answered(self) -> None:
        """What it waits for is posted, and it goes on with the same connection."""
        self._wait()
        await self._until_it_waits()
        await self._post("x")
        await self._answer()
        self._ask("DELETE", "/v2/queues/{}")
        await self._answer()

    async def hangs_up(self) -> None:
        self._wait()
        if self._chance.random() < 0.7:
            await self._until_it_waits()

    async def says_that_it_is_done(self) -> None:
        self._wait()
        await self._until_it_waits()
        self._writer.write_eof()
        await self._reader.read()

    async def hangs_up_as_it_is_woken(self) -> None:
        self._wait()
        await self._until_it_waits()
        posting = asyncio.create_task(self._post("x"))
        await asyncio.sleep(0)
        self._writer.transport.abort()
        await posting
        await self._clear()

    async def hangs_up_with_more_under_way(self) -> None:
        self._wait()
        self._ask("GET", "/v2/ping")
        self._ask("GET", LIST, STREAM)
        await self._until_it_waits()

    async def breaks_off_a_request(self) -> None:
        whole = request("POST", LIST.format(self._queue), "acme", "Content-Length: 1000") + b'{"messages": ['
        self._writer.write(whole[: self._chance.randrange(1, len(whole))])
        await self._writer.drain()

    async def follows_a_stream(self) -> None:
        self._ask("GET", LIST, STREAM)
        await self._until_it_waits()
        await self._post("x")
        await self._reader.readuntil(b"data: ")
        self._writer.transport.abort()
        await self._clear()

    async def stops_reading_a_stream(self) -> None:
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]
        self._ask("GET", LIST, STREAM)
        await self._until_it_waits()
        for _ in range(self._chance.randrange(4)):
            await self._post("x" * 100_000)
        self._writer.transport.abort()
        await self._clear()

    def _wait(self) -> None:
        if self._chance.random() < 0.5:
            self._ask("GET", LIST + "&wait=20")
        else:
            self._ask("POST", "/v2/queues/{}/claims?wait=20")

    def _ask(self, method: str, path: str, *headers: str) -> None:
        self._writer.write(request(method, path.format(self._queue), "acme", *headers))

    async def _answer(self) -> None:
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[16:]) for line in lines if line.startswith(b"content-length: ")), 0)
        await self._reader.readexactly(length)

    def _somebody_waits(self) -> bool:
        return QueueKey("acme", self._queue) in self._site.service._waiting._lines

    async def _until_it_waits(self) -> None:
        await until(self._somebody_waits)

    async def _post(self, body: str) -> None:
        await self._elsewhere("POST", "/messages", msgspec.json.encode({"messages": [{"body": body}]}))

    async def _clear(self) -> None:
        await self._elsewhere("DELETE", "")

    async def _elsewhere(self, method: str, path: str, body: bytes = b"") -> None:
        """Ask over another connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._site.port)
        headers = [f"Content-Length: {len(body)}", "Connection: close"]
        writer.write(request(method, f"/v2/queues/{self._queue}{path}", "acme", *headers) + body)
        assert (await reader.read()).startswith(b"HTTP/1.1 20")
        writer.close()


WAYS = [
    Visitor.answered,
    Visitor.hangs_up,
    Visitor.says_that_it_is_done,
    Visitor.hangs_up_as_it_is_woken,
    Visitor.hangs_up_with_more_under_way,
    Visitor.breaks_off_a_request,
    Visitor.follows_a_stream,
    Visitor.stops_reading_a_stream,
]


async def visit(site: Site, times: int, chance: random.Random) -> Counter[str]:
    async def visits(number: int) -> Counter[str]:
        visitor = Visitor(site, number, chance)
        return Counter([await visitor.come_and_go() for _ in range(times // AT_ONCE)])

    counts = await asyncio.gather(*(visits(number) for number in range(AT_ONCE)))
    await until(lambda: site.empty)
    return sum(counts, Counter())


def left() -> Counter[type]:
    gc.collect()
    return Counter(type(each) for each in gc.get_objects() if isinstance(each, KINDS))


async def test_nothing_is_left_of_those_who_waited_and_went() -> None:
    chance = random.Random(7)
    before = left()
    async with Site().open() as site:
        await visit(site, 200, chance)  # fills what is kept for all, once
        tasks = len(asyncio.all_tasks())
        gc.collect()
        tracemalloc.start()
        try:
            ways = await visit(site, CONNECTIONS, chance)
            await until(lambda: len(asyncio.all_tasks()) == tasks)
            assert left() == before
            gc.collect()
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < MOST_GROWTH * CONNECTIONS
    assert len(ways) == len(WAYS), "every way of leaving was taken"
