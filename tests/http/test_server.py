"""uvicorn as it is fitted: connections, pipelining, slow readers, idle ones."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sukkal.http.answer import SEND_WHOLE
from sukkal.http.server import KEEP_ALIVE, Server

BIG = b"x" * (8 << 20)  # more than the buffers of both ends hold


async def application(scope: Any, _receive: Any, send: Any) -> None:
    """Answers with the path it was asked for; whole, or by ASGI's way when it must or is told to."""
    body = BIG if scope["path"] == "/big" else scope["path"].encode()
    whole = scope.pop(SEND_WHOLE)
    length = b"content-length: %d\r\n" % len(body)
    if scope["path"].startswith("/slow-way") or not whole(200, length, body):
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, int]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = Server(application)
        serving = asyncio.create_task(server.serve([listener]))
        await server.ready.wait()
        yield server, listener.getsockname()[1]
        server.should_exit = True
        await serving


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
    return head, await reader.readexactly(length)


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_pipelined_requests_are_answered_in_order(server: tuple[Server, int]) -> None:
    paths = [f"/{'slow-way' if number % 3 == 0 else 'whole'}/{number}" for number in range(2000)]
    async with connected(server[1]) as (reader, writer):
        writer.write(b"".join(get(path) for path in paths))
        assert [(await answer(reader))[1].decode() for _ in paths] == paths


async def test_answer_has_a_date_and_each_header_once(server: tuple[Server, int]) -> None:
    async with connected(server[1]) as (reader, writer):
        writer.write(get("/"))
        head, _ = await answer(reader)
    names = [line.split(b":")[0] for line in head.split(b"\r\n")[1:] if line]
    assert sorted(names) == [b"content-length", b"date"]


async def test_reader_that_is_slow_gets_everything_in_the_end(server: tuple[Server, int]) -> None:
    async with connected(server[1]) as (reader, writer):
        writer.write(get("/big") + get("/whole/after"))
        assert (await answer(reader))[1] == BIG
        assert (await answer(reader))[1] == b"/whole/after"


@pytest.mark.parametrize("asked", [get("/last", "Connection: close"), b"GET /last HTTP/1.0\r\n\r\n"])
async def test_connection_that_is_to_end_ends_after_the_answer(
    server: tuple[Server, int], asked: bytes
) -> None:
    async with connected(server[1]) as (reader, writer):
        writer.write(asked)
        head, body = await answer(reader)
        assert body == b"/last"
        assert b"connection: close" in head
        assert await reader.read() == b""


async def test_idle_connection_is_closed_and_a_busy_one_is_not(server: tuple[Server, int]) -> None:
    async with connected(server[1]) as (idle, asks), connected(server[1]) as (busy, asks_again):
        for reader, writer in ((idle, asks), (busy, asks_again)):
            writer.write(get("/once"))
            await answer(reader)
        first, second = sorted(
            server[0].server_state.connections, key=lambda c: c.client != asks.get_extra_info("sockname")
        )
        now = asyncio.get_running_loop().time()
        first.idle_since, second.idle_since = now - KEEP_ALIVE - 1, now - KEEP_ALIVE + 10
        assert await idle.read() == b""
        asks_again.write(get("/twice"))
        assert (await answer(busy))[1] == b"/twice"
