"""uvicorn as it is fitted: connections, pipelining, slow readers, idle ones."""

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import uvloop
from until import until

import sukkal.server
from sukkal.http.answer import EXCHANGE
from sukkal.http.server import KEEP_ALIVE, LONGEST_HEAD, MOST_AHEAD, Server

BIG = b"x" * (8 << 20)  # more than the buffers of both ends hold


told = asyncio.Event()
present: set[str] = set()  # who asked for these paths is there and waits


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the path it was asked for; whole, or by ASGI's way when it must or is told to."""
    if scope["path"].startswith("/until-gone"):
        present.add(scope["path"])
        while (await receive())["type"] != "http.disconnect":
            pass
        present.remove(scope["path"])
        return
    if scope["path"] == "/fails":
        raise RuntimeError("a fault of ours")
    body = BIG if scope["path"] == "/big" else scope["path"].encode()
    whole = scope.pop(EXCHANGE).answer
    if scope["path"] == "/echo":
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
    length = b"content-length: %d\r\n" % len(body)
    if scope["path"] == "/when-told":
        await told.wait()
    if scope["path"].startswith("/slow-way") or not whole(200, length, body):
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Server, int]]:
    monkeypatch.setattr(sys.modules[__name__], "told", asyncio.Event())  # of this test's loop
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


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"


async def test_requests_behind_one_that_asks_for_another_protocol_are_answered(
    server: tuple[Server, int],
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server[1])
    writer.write(b"GET /0 HTTP/1.1\r\n%b\r\n" % UPGRADE)
    writer.write(b"POST /echo HTTP/1.1\r\n%bContent-Length: 3\r\n\r\nabc" % UPGRADE)
    writer.write(b"GET /2 HTTP/1.1\r\n\r\n")
    writer.write(b"POST /echo HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n" % UPGRADE)
    async with asyncio.timeout(10):
        assert [(await answer(reader))[1] for _ in range(3)] == [b"/0", b"abc", b"/2"]
        writer.write(b"1\r\nf\r\n0\r\n\r\nPOST /echo HTTP/1.1\r\n%bContent-Length: 0\r\n\r\n" % UPGRADE)
        writer.write(b"GET /5 HTTP/1.1\r\n\r\n")
        assert [(await answer(reader))[1] for _ in range(3)] == [b"def", b"", b"/5"]
    writer.close()


async def test_what_is_no_request_is_refused(server: tuple[Server, int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server[1])
    writer.write(b"GET /0 HTTP/1.1\r\n\r\n")
    assert (await answer(reader))[1] == b"/0"
    writer.write(b"no request at all\r\n\r\n")
    assert b"HTTP/1.1 400 " in await reader.read()
    writer.close()


async def test_what_is_no_request_does_not_answer_the_request_before(server: tuple[Server, int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server[1])
    writer.write(b"GET /0 HTTP/1.1\r\n\r\nGET /when-told HTTP/1.1\r\n\r\nno request at all\r\n\r\n")
    assert (await answer(reader))[1] == b"/0"
    told.set()
    head, body = await answer(reader)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in head
    assert body == b"/when-told"
    assert await reader.read() == b""
    writer.close()


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


async def test_connection_whose_request_fails_ends_and_others_go_on(server: tuple[Server, int]) -> None:
    async with connected(server[1]) as (reader, writer), connected(server[1]) as (other, asks):
        writer.write(get("/before") + get("/fails") + get("/after"))
        assert (await answer(reader))[1] == b"/before"
        assert await reader.read() == b""
        asks.write(get("/once"))
        assert (await answer(other))[1] == b"/once"


async def test_nothing_is_left_of_a_connection_that_has_gone(server: tuple[Server, int]) -> None:
    before = asyncio.all_tasks()
    for asked in (b"", b"GET / HT", get("/once"), get("/once") + get("/slow-way/2")):
        async with connected(server[1]) as (reader, writer):
            writer.write(asked)
            for _ in range(asked.count(b"1.1")):
                await answer(reader)
            await until(lambda: server[0].server_state.connections)
            (connection,) = server[0].server_state.connections
        await until(lambda: not server[0].server_state.connections)
        serving = connection._task
        assert (serving is None) == (b"1.1" not in asked)
        if serving is not None:
            await serving
    assert asyncio.all_tasks() == before


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
        first.last_active, second.last_active = now - KEEP_ALIVE - 1, now - KEEP_ALIVE + 10
        assert await idle.read() == b""
        asks_again.write(get("/twice"))
        assert (await answer(busy))[1] == b"/twice"


async def test_connection_that_waits_for_its_answer_is_not_idle(server: tuple[Server, int]) -> None:
    async with connected(server[1]) as (reader, writer), connected(server[1]) as (idle, asks):
        writer.write(get("/when-told"))
        asks.write(get("/once"))
        await answer(idle)
        for connection in server[0].server_state.connections:
            connection.last_active -= KEEP_ALIVE + 1
        assert await idle.read() == b"", "the server has looked for idle connections"
        told.set()
        assert (await answer(reader))[1] == b"/when-told"
        writer.write(get("/again"))
        assert (await answer(reader))[1] == b"/again"


@pytest.mark.faults
@pytest.mark.faults
@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="TCP gives up when it likes here")
async def test_peer_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is gone and could not say so: else its answer, or its stream, would be kept for hours."""
    monkeypatch.setattr(sukkal.server, "GIVEN_UP_AFTER", 0.2)
    with sukkal.server._listen("127.0.0.1", 0) as listener:
        server = Server(application)
        serving = asyncio.create_task(server.serve([listener]))
        await server.ready.wait()
        async with connected(listener.getsockname()[1]) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(get("/big"))
            await until(lambda: server.server_state.connections)
            await until(lambda: not server.server_state.connections)
        server.should_exit = True
        await serving


@pytest.mark.parametrize("behind", [1, MOST_AHEAD])
@pytest.mark.parametrize("when", ["at once", "later"])
async def test_request_is_told_that_its_caller_went_also_when_others_wait_behind_it(
    server: tuple[Server, int], behind: int, when: str
) -> None:
    async with connected(server[1]) as (_, writer):
        more = b"".join(get(f"/until-gone/{number}") for number in range(behind))
        writer.write(get("/until-gone") + (more if when == "at once" else b""))
        await until(lambda: present == {"/until-gone"})
        if when == "later":
            writer.write(more)
            (connection,) = server[0].server_state.connections
            await until(lambda: len(connection.pipeline) == behind)
        writer.transport.abort()
        await until(lambda: not present)
    assert not server[0].server_state.connections


async def test_no_more_than_some_requests_are_read_ahead(server: tuple[Server, int]) -> None:
    async with connected(server[1]) as (_, writer):
        writer.write(get("/until-gone"))
        await until(lambda: bool(present))
        (connection,) = server[0].server_state.connections
        for number in range(MOST_AHEAD + 1):
            assert not connection.flow.read_paused
            writer.write(get("/after"))
            await until(lambda: len(connection.pipeline) == number + 1)  # noqa: B023
        assert connection.flow.read_paused


async def test_answer_to_head_has_no_body_and_the_next_answer_is_its_own(server: tuple[Server, int]) -> None:
    async with connected(server[1]) as (reader, writer):
        writer.write(b"HEAD /first HTTP/1.1\r\nHost: x\r\n\r\n" + get("/second"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 6" in head
        assert (await answer(reader))[1] == b"/second"


async def test_refusal_of_an_announced_body_ends_the_connection(server: tuple[Server, int]) -> None:
    """What comes next could be that body, or another request."""
    async with connected(server[1]) as (reader, writer):
        writer.write(get("/refused", "Expect: 100-continue", "Content-Length: 10"))
        head, body = await answer(reader)
        assert body == b"/refused"
        assert b"connection: close" in head
        assert await reader.read() == b""


@pytest.mark.parametrize(
    "sent, title",
    [
        (b"GET / HTTP/1.1\r\nX-Long: " + b"a" * LONGEST_HEAD, "431 Request Header Fields Too Large"),
        (b"no request\r\n\r\n", "400 Bad Request"),
    ],
)
async def test_refusals_ahead_of_the_application_are_answers_like_others(
    server: tuple[Server, int], sent: bytes, title: str
) -> None:
    async with connected(server[1]) as (reader, writer):
        writer.write(sent)
        head, body = await answer(reader)
        assert head.startswith(b"HTTP/1.1 " + title.encode())
        assert b"\r\nx-openstack-request-id: req-" in head
        assert b"\r\nconnection: close\r\n" in head
        assert msgspec.json.decode(body)["title"] == title
        assert await reader.read() == b""


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX-Long: "])
async def test_endless_head_is_refused(server: tuple[Server, int], start: bytes) -> None:
    async with connected(server[1]) as (reader, writer):
        writer.write(start)
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                writer.write(b"a" * 4096)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert (await reader.read()).startswith(b"HTTP/1.1 431 ")


async def test_connection_on_which_nothing_was_asked_is_closed(server: tuple[Server, int]) -> None:
    async with connected(server[1]) as (silent, _), connected(server[1]) as (begun, writer):
        writer.write(b"GET / HTTP/1.1\r\nHo")
        connections = server[0].server_state.connections
        while len(connections) < 2 or not any(c.scope for c in connections):  # noqa: ASYNC110 nobody is told
            await asyncio.sleep(0)
        for connection in server[0].server_state.connections:
            connection.last_active -= KEEP_ALIVE + 1
        assert await silent.read() == b""
        assert await begun.read() == b""


def test_caller_that_resets_its_connection_keeps_nobody_else_waiting() -> None:
    """On the loop that the service runs on, whose transports raise when they are written to after that."""
    uvloop.run(one_resets_while_two_wait())


async def one_resets_while_two_wait() -> None:
    """One goes away in the turn in which its answer and that of another are ready."""
    release, both = asyncio.Event(), asyncio.Event()
    waiting = 0

    async def together(scope: Any, _receive: Any, _send: Any) -> None:
        nonlocal waiting
        exchange = scope.pop(EXCHANGE)
        waiting += 1
        if waiting == 2:
            both.set()
        await release.wait()
        exchange.answer(200, b"content-length: 2\r\n", b"ok")

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = Server(together)
        serving = asyncio.create_task(server.serve([listener]))
        await server.ready.wait()
        port = listener.getsockname()[1]
        gone = socket.create_connection(("127.0.0.1", port))
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.sendall(get("/"))
        async with connected(port) as (reader, writer):
            writer.write(get("/"))
            await both.wait()
            release.set()  # the answers are written in the next turn,
            gone.close()  # in which it is noticed that one has lost its receiver, before they are sent
            async with asyncio.timeout(5):
                assert (await answer(reader))[1] == b"ok"
                writer.write(get("/"))
                assert (await answer(reader))[1] == b"ok"
        server.should_exit = True
        await serving
