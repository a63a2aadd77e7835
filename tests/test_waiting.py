"""Waiting and streams through real sockets: many who wait, who go away, and a server that stops meanwhile."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from raw_socket import request
from server_process import ServerProcess, running

READER = "7a1e1cda-26cc-4f7e-8f05-3ff8a1a1f1a1"
CROWD = 1000
GENEROUS = 20.0  # seconds: for a loaded test machine; the benchmarks say how long it takes


class Connection:
    """One connection of one reader."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, project: str) -> None:
        self._reader = reader
        self._writer = writer
        self._project = project
        self.last_event = ""

    def ask(self, line: str, body: bytes = b"", *headers: str) -> None:
        method, path = line.split(" ", 1)
        length = [f"Content-Length: {len(body)}"] if body else []
        self._writer.write(request(method, path, self._project, *length, *headers, client=READER) + body)

    async def answer(self) -> tuple[int, list[object]]:
        """The status and the bodies of the messages in the answer."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        lines = head.lower().split(b"\r\n")
        length = next((int(line[16:]) for line in lines if line.startswith(b"content-length: ")), 0)
        document = msgspec.json.decode(await self._reader.readexactly(length) or b"{}")
        return status, [message["body"] for message in document.get("messages", [])]

    async def events(self, count: int) -> list[object]:
        """The bodies of the next messages of a stream."""
        bodies: list[object] = []
        while len(bodies) < count:
            line = await self._reader.readuntil(b"\n")
            if line.startswith(b"id: "):
                self.last_event = line[4:-1].decode()
            elif line.startswith(b"data: "):
                bodies.append(msgspec.json.decode(line[6:])["body"])
        return bodies

    async def end_of_stream(self) -> bool:
        """Whether the stream comes to its proper end."""
        return (await self._reader.read()).endswith(b"0\r\n\r\n")

    async def is_silent(self) -> bool:
        """Whether nothing has come yet."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                return not await self._reader.read(1)
        return True

    def close(self) -> None:
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def connections(server: ServerProcess, project: str, count: int) -> AsyncIterator[list[Connection]]:
    opened: list[Connection] = []
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection(server.host, server.port, limit=1 << 20)
            opened.append(Connection(reader, writer, project))
        yield opened
    finally:
        for connection in opened:
            connection.close()


async def until_served(connection: Connection) -> None:
    """Return when the server has taken in what was sent to it before, on other connections too."""
    for _ in range(5):
        connection.ask("GET /v2/ping")
        assert await connection.answer() == (204, [])


def post(connection: Connection, *bodies: object) -> None:
    document = msgspec.json.encode({"messages": [{"body": body} for body in bodies]})
    connection.ask("POST /v2/queues/q/messages", document)


LIST = "GET /v2/queues/q/messages?echo=true&wait=20"
CLAIM = "POST /v2/queues/q/claims?limit=1&wait=20"


async def test_one_post_wakes_a_thousand_waiting_readers(server: ServerProcess, project: str) -> None:
    async with connections(server, project, CROWD + 1) as (poster, *readers):
        for reader in readers:
            reader.ask(LIST)
        await until_served(poster)
        assert all([await reader.is_silent() for reader in readers])
        async with asyncio.timeout(GENEROUS):
            post(poster, "here")
            assert await poster.answer() == (201, [])
            answers = await asyncio.gather(*(reader.answer() for reader in readers))
        assert answers == [(200, ["here"])] * CROWD


async def test_messages_go_to_waiting_claimers_once_each(server: ServerProcess, project: str) -> None:
    async with connections(server, project, 101) as (poster, *claimers):
        for claimer in claimers:
            claimer.ask(CLAIM)
        await until_served(poster)
        async with asyncio.timeout(GENEROUS):
            for number in range(0, 100, 5):
                post(poster, *range(number, number + 5))
                assert await poster.answer() == (201, [])
            answers = await asyncio.gather(*(claimer.answer() for claimer in claimers))
        assert [status for status, _ in answers] == [201] * 100
        assert sorted(body for _, (body,) in answers) == list(range(100))  # type: ignore[type-var]


@pytest.mark.faults
async def test_claimers_that_went_away_take_nothing_with_them(server: ServerProcess, project: str) -> None:
    async with connections(server, project, 102) as (poster, last, *claimers):
        for claimer in claimers:
            claimer.ask(CLAIM)
        await until_served(poster)
        for claimer in claimers:
            claimer.close()
        await until_served(poster)  # else the post may be there before the news of those that went
        last.ask(CLAIM)
        post(poster, "kept")
        async with asyncio.timeout(GENEROUS):
            assert await poster.answer() == (201, [])
            assert await last.answer() == (201, ["kept"])


async def test_connection_is_as_good_after_waiting_and_pipelined_answers_keep_their_order(
    server: ServerProcess, project: str
) -> None:
    async with connections(server, project, 2) as (poster, reader):
        reader.ask(LIST)
        reader.ask("GET /v2/ping")
        reader.ask(CLAIM)
        reader.ask("GET /v2/ping")
        await until_served(poster)
        assert await reader.is_silent()
        post(poster, 1)
        async with asyncio.timeout(GENEROUS):
            assert [await reader.answer() for _ in range(4)] == [(200, [1]), (204, []), (201, [1]), (204, [])]
            reader.ask("GET /v2/queues/q/messages?echo=true&wait=1")
            assert await reader.answer() == (200, [])
            reader.ask("GET /v2/queues/q/messages?echo=true&include_claimed=true&wait=20")
            assert await reader.answer() == (200, [1])


async def test_server_that_is_told_to_stop_answers_who_waits_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        async with connections(server, "acme", 3) as (lister, claimer, other):
            lister.ask(LIST)
            claimer.ask(CLAIM)
            await until_served(other)
            begun = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            assert await lister.answer() == (200, [])
            assert await claimer.answer() == (204, [])
            await asyncio.to_thread(server.stop)
            assert time.monotonic() - begun < 15, "before the waits were over"


# --- event streams ---------------------------------------------------------------------------------------

STREAM = "GET /v2/queues/q/messages?echo=true"


async def test_streams_of_many_readers_show_every_message_in_order(
    server: ServerProcess, project: str
) -> None:
    async with connections(server, project, 51) as (poster, *readers):
        for reader in readers:
            reader.ask(STREAM, b"", "Accept: text/event-stream")
        async with asyncio.timeout(GENEROUS):
            for number in range(20):
                post(poster, number)
                assert await poster.answer() == (201, [])
            for reader in readers:
                assert await reader.events(20) == list(range(20))


async def test_reader_that_is_slow_misses_nothing_and_its_connection_is_good_afterwards(
    tmp_path: Path,
) -> None:
    big = "x" * 200_000
    with running(tmp_path, "--store", "memory:") as server:
        async with connections(server, "acme", 2) as (poster, reader):
            reader.ask(STREAM, b"", "Accept: text/event-stream")
            async with asyncio.timeout(3 * GENEROUS):
                for _ in range(100):  # more than the buffers of both ends hold
                    post(poster, big)
                    assert await poster.answer() == (201, [])
                assert await reader.events(100) == [big] * 100
                os.kill(server.pid, signal.SIGTERM)
                assert await reader.end_of_stream()
                await asyncio.to_thread(server.stop)


@pytest.mark.faults
async def test_reader_that_goes_away_and_comes_back_goes_on_where_it_was(
    server: ServerProcess, project: str
) -> None:
    async with connections(server, project, 3) as (poster, reader, again):
        post(poster, 1, 2)
        assert await poster.answer() == (201, [])
        async with asyncio.timeout(GENEROUS):
            reader.ask(STREAM, b"", "Accept: text/event-stream")
            assert await reader.events(2) == [1, 2]
            reader.close()
            post(poster, 3)
            assert await poster.answer() == (201, [])
            last = f"Last-Event-ID: {reader.last_event}"
            again.ask(STREAM, b"", "Accept: text/event-stream", last)
            post(poster, 4)
            assert await again.events(2) == [3, 4]
