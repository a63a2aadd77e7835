"""The connection itself: handshake, fragments, limits, the pace of both sides, and the end."""

import asyncio
import contextlib
import json
import socket as sockets
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from ws_site import HEADERS, Site, ask, post, receive, text, until

from sukkal.model import QueueKey
from sukkal.ws.connection import Patience

LIST = text("queue_list")
QUEUE = QueueKey("acme", "q")


async def closed(socket: Any) -> tuple[int, str]:
    """Code and reason of the close that ends what is still to come."""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code, socket.close_reason


# --- handshake -----------------------------------------------------------------------------------------


async def test_any_path_is_served_and_nothing_is_said_first(site: Site) -> None:
    async with site.connect() as socket:
        assert socket.subprotocol is None
        assert socket.protocol.extensions == []
        assert (await ask(socket, LIST))["headers"]["status"] == 200


async def test_compression_and_subprotocols_are_not_taken_up(site: Site) -> None:
    async with site.connect(compression="deflate", subprotocols=["a", "b"]) as socket:
        assert socket.protocol.extensions == []
        assert socket.subprotocol is None


@pytest.mark.parametrize("allowed", [(), ("https://a.example",)])
async def test_page_of_another_origin_may_not_connect(allowed: tuple[str, ...]) -> None:
    async with Site(origins=allowed).open() as site:
        for origin in ("https://evil.example", "null", f"https://127.0.0.1:{site.port}x", "http://127.0.0.1"):
            with pytest.raises(InvalidStatus) as refusal:
                async with site.connect(origin=origin):
                    pass
            assert refusal.value.response.status_code == 403
            assert refusal.value.response.headers["X-OpenStack-Request-ID"].startswith("req-")
        assert not site.sockets.connections


async def test_pages_of_the_servers_own_origin_and_of_allowed_ones_may_connect() -> None:
    async with Site(origins=("https://a.example",)).open() as site:
        for origin in ("https://a.example", f"http://127.0.0.1:{site.port}", None):
            async with site.connect(origin=origin) as socket:
                assert (await ask(socket, LIST))["headers"]["status"] == 200
    async with Site(origins=("*",)).open() as site, site.connect(origin="https://b.example") as socket:
        assert (await ask(socket, LIST))["headers"]["status"] == 200


def test_default_port_of_an_origin_need_not_be_named() -> None:
    admits = Site().sockets.admits
    assert admits("https://q.example", "q.example:443")
    assert admits("http://Q.example:80", "q.example")
    assert not admits("http://q.example", "q.example:8888")
    assert not admits("https://q.example", "q.example:80")
    assert not admits("ftp://q.example", "q.example")
    assert not admits("", "")


async def test_upgrade_follows_requests_on_the_same_connection_but_not_in_their_midst(site: Site) -> None:
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    ping = b"GET /v2/ping HTTP/1.1\r\nHost: x\r\n%b\r\n" % b"".join(
        b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in HEADERS.items()
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(ping)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
    writer.write(upgrade)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    assert site.connection
    writer.close()

    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(ping + upgrade)
    answered = await asyncio.wait_for(reader.read(), 10)
    assert b"101" not in answered.split(b"\r\n")[0]
    assert b"HTTP/1.1 400" in answered
    writer.close()


# --- frames --------------------------------------------------------------------------------------------


async def test_fragmented_frame_is_one_request(site: Site) -> None:
    async with site.connect() as socket:
        await socket.send([LIST[:5], "", LIST[5:9], LIST[9:]])
        assert (await receive(socket))["headers"]["status"] == 200


async def test_frame_over_the_limit_ends_the_connection_and_says_why() -> None:
    async with Site(most_bytes=1000).open() as site:
        async with site.connect() as socket:
            assert (await ask(socket, " " * (1000 - len(LIST)) + LIST))["headers"]["status"] == 200
            await socket.send(" " * 1001)
            code, reason = await closed(socket)
        assert code == 1009
        assert "1000" in reason
        async with site.connect() as socket:
            await socket.send([" " * 600, " " * 600])
            assert (await closed(socket))[0] == 1009
        await until(lambda: not site.sockets.connections)


async def test_text_that_is_no_utf8_is_answered(site: Site) -> None:
    async with site.connect() as socket:
        await socket.send(b'{"action": "\xff"}', text=True)
        reply = await receive(socket)
        assert reply["body"]["error"].startswith("Can't decode text (JSON) request. UnicodeDecodeError: ")
        assert (await ask(socket, LIST))["headers"]["status"] == 200


async def test_project_is_the_same_one_over_http_and_over_a_websocket(site: Site) -> None:
    headers = {**HEADERS, "X-Project-ID": "Ölmühle"}
    async with site.connect() as socket:
        await ask(
            socket, json.dumps({"action": "queue_create", "headers": headers, "body": {"queue_name": "q"}})
        )
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET /v2/queues HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n".encode())
    assert b'"name":"q"' in await reader.read()
    writer.close()


# --- pace ----------------------------------------------------------------------------------------------


async def test_no_more_is_read_than_may_be_in_flight(site: Site) -> None:
    async with site.connect() as socket:
        await ask(socket, post("q", 0))
        gate = site.stage.messages.hold_before("append")
        body = "x" * 100_000
        sending = asyncio.create_task(_send_for_ever(socket, post("q", body)))
        await gate.reached()
        session = site.connection.session
        await until(lambda: session.full)
        assert session.in_flight <= 100
        gate.open()
        for _ in range(300):
            assert (await receive(socket))["headers"]["status"] == 201
        sending.cancel()
        socket.transport.abort()


async def _send_for_ever(socket: Any, frame: str) -> None:
    while True:
        await socket.send(frame)


def small_buffers(port: int) -> sockets.socket:
    """A connection whose receiver has room for little."""
    plain = sockets.socket()
    plain.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    plain.connect(("127.0.0.1", port))
    return plain


async def test_reader_that_takes_nothing_is_left_with_a_reason() -> None:
    async with Site(patience=Patience(stuck_after=0.05, close_within=60)).open() as site:
        async with site.connect(sock=small_buffers(site.port), max_queue=1) as socket:
            await ask(socket, post("q", "x" * 250_000))
            listing = text("message_list", queue_name="q", echo=True)
            for _ in range(200):
                await socket.send(listing)
            connection = site.connection
            await until(lambda: not connection.session.full and connection._writable is False)
            taken = len(site.stage.messages.calls)
            assert taken < 150, "it stopped serving who does not listen"

            def left() -> bool:
                connection.look()
                return connection._closing_since is not None

            await until(left)
            code, reason = await closed(socket)
        assert (code, reason) == (1008, "What the server sends is not taken.")
        await until(lambda: not site.sockets.connections)


async def test_slow_reader_who_goes_on_reading_gets_everything() -> None:
    async with (
        Site(patience=Patience(stuck_after=60)).open() as site,
        site.connect(sock=small_buffers(site.port), max_queue=1) as socket,
    ):
        await ask(socket, post("q", "x" * 250_000))
        for _ in range(60):
            await socket.send(text("message_list", queue_name="q", echo=True))
        await until(lambda: site.connection._writable is False)
        site.connection.look()
        for _ in range(60):
            assert len((await receive(socket))["body"]["messages"]) == 1
        assert (await ask(socket, LIST))["headers"]["status"] == 200


@pytest.mark.faults
async def test_silent_peer_is_pinged_and_stays() -> None:
    async with Site(patience=Patience(ping_after=-1, dead_after=60)).open() as site, site.connect() as socket:
        heard = site.connection._heard
        site.connection.look()
        await until(lambda: site.connection._heard > heard)
        assert (await ask(socket, LIST))["headers"]["status"] == 200


@pytest.mark.faults
async def test_dead_peer_is_dropped() -> None:
    async with (
        Site(patience=Patience(ping_after=0, dead_after=0.01)).open() as site,
        site.connect() as socket,
    ):
        socket.transport.pause_reading()  # it is there no more, and nothing tells us

        def dropped() -> bool:
            for connection in list(site.sockets.connections.values()):
                connection.look()
            return not site.sockets.connections

        await until(dropped)
        socket.transport.abort()


# --- the end -------------------------------------------------------------------------------------------


async def test_draining_answers_what_is_in_flight_takes_nothing_more_and_closes(site: Site) -> None:
    async with site.connect() as socket, site.connect() as idle:
        await ask(socket, post("q", 0))
        gate = site.stage.messages.hold_before("append")
        await socket.send(post("q", 1))
        await gate.reached()
        await socket.send(text("queue_delete", queue_name="q"))
        await asyncio.wait_for(await socket.ping(), 10)
        site.sockets.drain()
        assert await closed(idle) == (1001, "The server is stopping.")
        drained = asyncio.create_task(site.sockets.drained())
        await socket.send(post("q", 2))
        assert site.sockets.in_flight == 1
        gate.open()
        assert (await receive(socket))["request"]["body"]["messages"] == [{"body": 1}]
        assert await closed(socket) == (1001, "The server is stopping.")
        await asyncio.wait_for(drained, 10)
        assert site.stage.messages.calls.count("append") == 2
        assert site.stage.messages.calls.count("purge") == 0
        with pytest.raises(InvalidStatus) as refusal:
            async with site.connect():
                pass
        assert refusal.value.response.status_code == 503


async def test_client_that_closes_is_forgotten_and_its_last_posts_are_kept(site: Site) -> None:
    async with site.connect() as socket:
        await ask(socket, post("q", 0))
        for number in range(1, 20):
            await socket.send(post("q", number))
    await until(lambda: not site.sockets.connections)
    await until(lambda: site.stage.messages.calls.count("append") == 20)


@pytest.mark.parametrize("how", ["closed", "cut off", "told to go"])
@pytest.mark.parametrize("action", ["claim_create", "message_list"])
async def test_client_that_is_gone_does_not_wait_for_messages_any_more(
    site: Site, action: str, how: str
) -> None:
    async with site.connect() as socket:
        connection = site.connection
        async with site.connect() as other:
            await socket.send(text(action, queue_name="q", wait=20))
            await until(lambda: site.service._waiting.wanted(QUEUE))
            if how == "closed":
                await socket.close()
            elif how == "cut off":
                socket.transport.abort()
            else:
                connection.close(1008, "Because.")
            await until(lambda: not site.service._waiting.wanted(QUEUE))
            await ask(other, post("q", 1))
            stats = await ask(other, text("queue_get_stats", queue_name="q"))
            assert stats["body"]["messages"]["claimed"] == 0


async def test_ages_are_those_of_the_moment_of_the_answer(site: Site) -> None:
    site.now = site.service._waiting.clock.now()
    async with site.connect() as socket, site.connect() as other:
        await socket.send(text("message_list", queue_name="q", echo=True, wait=20))
        await until(lambda: site.service._waiting.wanted(QUEUE))
        gate = site.stage.messages.hold_after("page")
        await ask(other, post("q", 1))
        await gate.reached()
        site.now += 7
        gate.open()
        assert [each["age"] for each in (await receive(socket))["body"]["messages"]] == [7]


@pytest.mark.faults
async def test_client_that_is_killed_in_mid_frame_leaves_nothing(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x81\xfe\x10\x00abcd" + b"x" * 100)
    await until(lambda: site.connection._wire.reader.buffer)
    writer.transport.abort()
    await until(lambda: not site.sockets.connections)


async def test_unmasked_frame_is_a_fault_of_the_protocol(site: Site) -> None:
    async with site.connect() as socket:
        socket.transport.write(b"\x81\x02{}")
        with pytest.raises(ConnectionClosedError) as end:
            await receive(socket)
        assert end.value.rcvd is not None
        assert end.value.rcvd.code == 1002
    await until(lambda: not site.sockets.connections)
