"""Connections of the load: each carries requests and hands the answers to whoever sent them.

A line that was closed is opened anew by the next request, so that a server may close when it likes.
"""

import asyncio
import contextlib
import ssl
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

import httptools
import msgspec
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from sukkal.bench.calls import Request, Target

CONNECT_SECONDS = 10.0
_RETRY_SECONDS = 0.1  # between attempts at a server that cannot be reached
_LARGEST_FRAME = 64 * 1024 * 1024


class Sender(Protocol):
    """Who sends a request over a line. One of the two is called for each, within the turn it arrives in."""

    def answered(self, status: int, body: bytes) -> None: ...
    def lost(self, reason: str) -> None: ...


class Line(Protocol):
    async def open(self) -> None:
        """Raises OSError (or a subclass: TimeoutError, ssl.SSLError) when that fails."""

    def send(self, request: Request, sender: Sender) -> None: ...
    def close(self, why: str = "closed") -> None: ...


class _Socket(asyncio.Protocol, ABC):
    """What both kinds of lines have in common: opening, reopening, and telling senders of a loss."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Sender] = deque()  # in the order of their requests
        self._opening: asyncio.Task[None] | None = None
        self._unsent: list[Request] = []  # their senders are the last of those waiting
        self._why = "closed by the server"

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        context = _tls(self._target) if self._target.scheme == "https" else None
        async with asyncio.timeout(CONNECT_SECONDS):
            await loop.create_connection(lambda: self, self._target.host, self._target.port, ssl=context)

    def send(self, request: Request, sender: Sender) -> None:
        self._waiting.append(sender)
        if self._ready():
            self._write(request)
            return
        self._unsent.append(request)
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._reopen())

    async def _reopen(self) -> None:
        while self._transport is not None:  # noqa: ASYNC110 - it is closing, which takes a turn of the loop
            await asyncio.sleep(0)
        try:
            await self.open()
        except OSError as exc:
            await asyncio.sleep(_RETRY_SECONDS)
            self._opening = None
            self._give_up(f"no connection: {str(exc) or type(exc).__name__}")
            return
        self._opening = None
        unsent, self._unsent = self._unsent, []
        for request in unsent:
            self._write(request)

    def close(self, why: str = "closed") -> None:
        self._why = why
        if self._opening:
            self._opening.cancel()
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        reason, self._why = f"connection lost: {exc or self._why}", "closed by the server"
        under_way = [self._waiting.popleft() for _ in range(len(self._waiting) - len(self._unsent))]
        for sender in under_way:
            sender.lost(reason)

    def _give_up(self, reason: str) -> None:
        waiting, self._waiting, self._unsent = self._waiting, deque(), []
        for sender in waiting:
            sender.lost(reason)

    def _ready(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @abstractmethod
    def _write(self, request: Request) -> None: ...


class HttpLine(_Socket):
    """A connection with one request under way at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._parser: Any = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def _write(self, request: Request) -> None:
        assert self._transport is not None
        self._transport.write(request.wire)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self.close(f"not an answer of HTTP ({exc})")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        if not self._waiting:
            self.close("an answer nobody asked for")
            return
        if not self._parser.should_keep_alive():
            assert self._transport is not None
            self._transport.close()
        self._waiting.popleft().answered(self._parser.get_status_code(), body)

    def connection_lost(self, exc: Exception | None) -> None:
        with contextlib.suppress(AttributeError):
            del self._parser  # it refers to this line
        super().connection_lost(exc)


class _Headers(msgspec.Struct):
    status: int


class _Reply(msgspec.Struct):
    body: msgspec.Raw = msgspec.Raw()
    headers: _Headers | None = None  # None: a notification


class SocketLine(_Socket):
    """A WebSocket with as many requests under way as there are senders; replies come in their order."""

    def __init__(
        self,
        target: Target,
        *,
        first: tuple[Request, ...] = (),
        noticed: Callable[[bytes], None] = lambda body: None,
    ) -> None:
        """`first` is sent, and must succeed, on every new connection.

        `noticed` gets the body of each notification.
        """
        super().__init__(target)
        self._first = first
        self._noticed = noticed
        self._decode = msgspec.json.Decoder(_Reply).decode
        scheme = {"http": "ws", "https": "wss"}[target.scheme]
        self._uri = parse_uri(f"{scheme}://{target.authority}{target.prefix}/")
        self._opened: asyncio.Future[None] | None = None
        self._greeted = False

    async def open(self) -> None:
        self._greeted = False
        self._opened = asyncio.get_running_loop().create_future()
        await super().open()
        async with asyncio.timeout(CONNECT_SECONDS):
            await self._opened
        for request in self._first:
            greeting = _Greeting(request)
            self._waiting.appendleft(greeting)
            self._write(request)
            async with asyncio.timeout(CONNECT_SECONDS):
                await greeting.done
        self._greeted = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._parts: list[bytes] = []  # of a message in fragments
        self._protocol = ClientProtocol(self._uri, max_size=_LARGEST_FRAME)
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def _ready(self) -> bool:
        return super()._ready() and self._greeted

    def _write(self, request: Request) -> None:
        self._protocol.send_text(request.wire)
        self._flush()

    def _flush(self) -> None:
        if self._transport is None:
            return
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:  # the end of what there is to say
                self._transport.close()

    def data_received(self, data: bytes) -> None:
        protocol = self._protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Frame):
                self._framed(event)
        if protocol.handshake_exc is not None:
            self.close(f"no WebSocket: {protocol.handshake_exc}")
            return
        if protocol.state is not State.CONNECTING and self._opened is not None and not self._opened.done():
            self._opened.set_result(None)
        self._flush()
        if protocol.state in (State.CLOSING, State.CLOSED):
            self.close(f"closed by the server: {protocol.close_reason or protocol.close_code}")

    def _framed(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._parts.append(bytes(frame.data))
            if frame.fin:
                whole, self._parts = b"".join(self._parts), []
                self._received(whole)

    def _received(self, data: bytes) -> None:
        reply = self._decode(data)
        if reply.headers is None:
            self._noticed(reply.body)
        elif self._waiting:
            self._waiting.popleft().answered(reply.headers.status, reply.body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._greeted = False
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(ConnectionError(str(exc or self._why)))
        super().connection_lost(exc)


class _Greeting:
    """Waits for the answer to what is sent first."""

    def __init__(self, request: Request) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request

    def answered(self, status: int, body: bytes) -> None:
        if status in self._request.expect:
            self.done.set_result(None)
        else:
            text = bytes(body)[:300].decode(errors="replace")
            self.done.set_exception(ConnectionError(f"{self._request.name}: {status} {text}"))

    def lost(self, reason: str) -> None:
        self.done.set_exception(ConnectionError(reason))


def _tls(target: Target) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if target.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
