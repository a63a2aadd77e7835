"""uvicorn, fitted to this service: answers leave together, and signals are left to the caller.

Every write to a socket may wake who waits at its other end, which costs more than the write. So what is
written within a turn of the loop is kept until its end, and goes out in one go: an answer's head with its
body, and the answers of many connections one right after the other. Our own application takes a
request's body and hands over its answer whole, which spares the steps of ASGI.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
import msgspec
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sukkal.http.answer import CLOSE, EXCHANGE, Answer
from sukkal.wire.identity import RequestIds

TICKS = 10  # of uvicorn, a tenth of a second each, between looks for idle connections
KEEP_ALIVE = 75  # seconds a connection may be idle, also in the midst of a request
LONGEST_HEAD = 64 * 1024  # bytes of a request line and its headers
MOST_AHEAD = 8  # requests of a connection that are read while an earlier one is under way

_HEAD_TOO_LONG = "Request line and headers may have 64 KiB."
_UNREADABLE = "This is no HTTP/1.1 request that could be read."
_TOO_SOON = "A WebSocket cannot be opened before earlier requests are answered."

_FRAMING = (b"content-length", b"transfer-encoding")

log = logging.getLogger(__name__)


class _Outbox:
    """Connections with something to send at the end of this turn."""

    def __init__(self) -> None:
        self._waiting: list[_Transport] = []

    def add(self, transport: "_Transport") -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.append(transport)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            try:
                transport.flush()
            except Exception:  # one connection's fault must not keep the others from their answers
                log.exception("an answer could not be sent")


class _Transport:
    """A connection's transport, for its protocol: it keeps what is written until the turn ends."""

    def __init__(self, transport: asyncio.Transport, outbox: _Outbox) -> None:
        self._transport = transport
        self._outbox = outbox
        self._kept: list[bytes] = []
        self._size = 0  # of what is kept
        self.abort = transport.abort
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.set_protocol = transport.set_protocol

    def write(self, data: bytes) -> None:
        if not self._kept:
            self._outbox.add(self)
        self._kept.append(data)
        self._size += len(data)

    def flush(self) -> None:
        kept, self._kept, self._size = self._kept, [], 0
        if kept and not self._transport.is_closing():
            self._transport.write(b"".join(kept))

    def get_write_buffer_size(self) -> int:
        """Bytes that are not on their way yet."""
        return self._transport.get_write_buffer_size() + self._size

    def write_eof(self) -> None:
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        self.flush()
        self._transport.close()


def _nothing() -> None:
    pass


def _lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


class _Cycle(RequestResponseCycle):
    """One request and its answer; also the Exchange by which our own application passes ASGI by.

    Most requests come whole and are answered at once, so it is made with no more than that takes. What the
    class it is derived from sets for each request are attributes of this class until they change.
    """

    disconnected = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding = None
    expected_content_length = 0
    access_log = False
    body = b""  # type: ignore[assignment]
    _event: asyncio.Event | None = None

    # What uvicorn adds to each answer. It is made anew, as another list, once a second.
    _defaults: ClassVar[list[tuple[bytes, bytes]]] = []
    _default_lines: ClassVar[bytes] = b""

    def __init__(self, protocol: "_Protocol", *, keep_alive: bool, announces: bool) -> None:
        """`announces`: the caller sends its body only when it is told to."""
        self.scope = protocol.scope
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.default_headers = protocol.server_state.default_headers
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = announces
        self.on_response = protocol.on_response_complete

    @property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]
        """Set when there is news for `receive`; there is none before somebody asks for it."""
        if self._event is None:
            self._event = asyncio.Event()
            if self.body or not self.more_body or self.disconnected:
                self._event.set()
        return self._event

    def came(self, body: bytes) -> None:
        """Take a part of the request's body."""
        self.body = self.body + body if self.body else body
        if len(self.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        if self._event is not None:
            self._event.set()

    def ended(self) -> None:
        """Take note that the request has come whole."""
        self.more_body = False
        if self._event is not None:
            self._event.set()

    def whole_body(self) -> bytes | None:
        if self.more_body or self.disconnected:
            return None
        return bytes(self.body)

    def answer(self, status: int, head: bytes, body: bytes) -> bool:
        if self.flow.write_paused:
            return False
        if self.disconnected:
            return True
        if self.scope["method"] == "HEAD":
            body = b""
        if self.waiting_for_100_continue and self.more_body:
            self.keep_alive = False  # what comes next could be the body that was announced, or a request
        if not self.keep_alive:
            head += CLOSE
        elif CLOSE in head:
            self.keep_alive = False
        defaults = self.default_headers
        if defaults is not _Cycle._defaults:
            _Cycle._defaults, _Cycle._default_lines = defaults, _lines(defaults)
        self.transport.write(b"%b%b%b\r\n%b" % (STATUS_LINE[status], _Cycle._default_lines, head, body))
        self.response_started = self.response_complete = True
        if self._event is not None:
            self._event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True


class _Protocol(HttpToolsProtocol):
    """One connection. It is noted when data last came, instead of setting a timer after each request."""

    outbox = _Outbox()
    request_ids = RequestIds()
    last_active = 0.0  # by the loop's clock
    _head = 0  # bytes so far of a head that has not come to its end
    _upgrading = False  # the request that came last asks for a WebSocket
    _framing = b""  # how the body is sent of one that asks for another upgrade: the parser looks for none
    _resuming = False  # the parser is being told to look for it
    _upgraded = False
    _blank: dict[str, Any]  # what the scopes of all requests of this connection have
    _task: asyncio.Task[None] | None = None  # serves the requests, one after the other
    _idle: asyncio.Future[None] | None = None  # while it has none
    _served: _Cycle | None = None  # the request under way; `cycle` is the one that came last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.last_active = self.loop.time()
        super().connection_made(_Transport(transport, self.outbox))  # type: ignore[arg-type]
        self._blank = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
        }

    # --- reading -------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.last_active = self.loop.time()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse_rest()
        except httptools.HttpParserUpgrade as upgrade:
            self._read_upgrade(data, upgrade)
        if self.flow.read_paused:
            self._read_ahead()
        scope: Any = self.scope  # None before the first request; without a path until its head is whole
        if scope is None or "path" in scope or self._upgraded:
            self._head = 0
            return
        self._head += len(data)
        if self._head > LONGEST_HEAD and not self.transport.is_closing():
            self._refuse(431, _HEAD_TOO_LONG)

    def _refuse(self, status: int, why: str) -> None:
        """Answer what does not get as far as the application; nothing more can be read."""
        title = STATUS_LINE[status][len(b"HTTP/1.1 ") :].strip().decode()
        document = msgspec.json.encode({"title": title, "description": why})
        head = Answer(status, document, CLOSE).head(self.request_ids.next())
        self.transport.write(
            b"%b%b%b\r\n%b" % (STATUS_LINE[status], _lines(self.server_state.default_headers), head, document)
        )
        self.transport.close()

    def _read_upgrade(self, data: bytes, upgrade: httptools.HttpParserUpgrade | None) -> None:
        """Hand the connection over, or go on where a request has asked for what is not spoken here."""
        while upgrade is not None and not self._upgrading:
            data = data[upgrade.args[0] :]
            upgrade = None
            try:
                if self._framing:
                    self._resume()
                self.parser.feed_data(data)
            except httptools.HttpParserError:
                self._refuse_rest()
            except httptools.HttpParserUpgrade as another:
                upgrade = another
        if upgrade is not None:
            self.handle_websocket_upgrade()

    def _resume(self) -> None:
        """Have the parser go on with the body of the request whose head it has read."""
        scope, framing = self.scope, self._framing
        self._resuming, self._framing = True, b""
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % framing)
        self._resuming, self.scope = False, scope

    def _refuse_rest(self) -> None:
        """Say that what came is no request, unless that would pass for the answer to an earlier one."""
        if self.working:
            self.cycle.keep_alive = False
        else:
            self._refuse(400, _UNREADABLE)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = self._upgrading = False
        scope: Any = self._blank.copy()
        scope["headers"] = self.headers
        self.scope = scope

    def on_headers_complete(self) -> None:
        if self._resuming:
            return
        parser, scope = self.parser, self.scope
        scope["method"] = parser.get_method().decode("ascii")
        version = parser.get_http_version()
        if version != "1.1":
            scope["http_version"] = version
        if parser.should_upgrade():
            if self._should_upgrade():
                self._upgrading = True
                return
            self._framing = _lines([header for header in self.headers if header[0] in _FRAMING])
        raw_path, query = _split(self.url)
        path = raw_path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        self.cycle = cycle = _Cycle(
            self,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            announces=self.expect_100_continue,
        )
        if self._idle is not None:
            self._served = cycle
            self._rouse(self._idle)
        elif self._task is None:
            self._served = cycle
            self._task = self.loop.create_task(self._serve())
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        cycle: Any = self.cycle
        if not self._upgrading and not cycle.response_complete:
            cycle.came(body)

    def on_message_complete(self) -> None:
        cycle: Any = self.cycle
        if not self._upgrading and not self._framing and not cycle.response_complete:
            cycle.ended()

    def _read_ahead(self) -> None:
        """Read on though requests wait for their turn: else nobody would hear that the caller goes."""
        if 0 < len(self.pipeline) <= MOST_AHEAD and len(self.cycle.body) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)  # tells the request that came last
        served = self._served
        if served is not None and not served.response_complete:
            served.disconnected = True
            served.message_event.set()
        self._end()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over: what it sends from now on is the WebSocket's."""
        if self.working:  # replies would come before the answer to an earlier request
            self._refuse(400, _TOO_SOON)
            return
        self._upgraded = True
        super().handle_websocket_upgrade()
        self._end()
        self.parser = None  # type: ignore[assignment] # it refers back to us, and nobody else does now

    # --- serving -------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Serve requests for as long as the connection lasts: to go on costs less than a task for each."""
        while (cycle := self._served) is not None:
            scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
            scope[EXCHANGE] = cycle
            try:
                await self.app(scope, cycle.receive, cycle.send)
            except Exception:
                log.exception("a request failed")
            finally:
                if not cycle.response_complete and not self.transport.is_closing():
                    self.transport.close()  # there is no answer, or not all of it: none will come
                cycle.on_response = _nothing  # it refers back to us
            if self.transport.is_closing():
                break
            del cycle, scope
            if self.pipeline:
                self._served = self.pipeline.pop()[0]  # type: ignore[assignment]
            else:
                self._served = None
                self._idle = self.loop.create_future()
                await self._idle
        self._served = None

    def _rouse(self, idle: "asyncio.Future[None]") -> None:
        self._idle = None
        idle.set_result(None)

    def _end(self) -> None:
        """No more requests will come."""
        if self._idle is not None:
            self._rouse(self._idle)

    def on_response_complete(self) -> None:
        self.last_active = self.loop.time()
        if self.flow.read_paused and not self.transport.is_closing():
            self.flow.resume_reading()

    @property
    def working(self) -> bool:
        """Whether a request has come whole and is not answered yet."""
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete and not cycle.more_body


def _split(url: bytes) -> tuple[bytes, bytes]:
    """The path and the query of a request's target."""
    if url[:1] == b"/" and b"#" not in url:
        path, _, query = url.partition(b"?")
        return path, query
    parsed = httptools.parse_url(url)
    return parsed.path, parsed.query or b""


def _upgrade_to(connect: Callable[[], asyncio.Protocol]) -> Any:
    """What uvicorn takes for the class of a WebSocket's protocol."""
    return lambda **_: connect()


class Server(uvicorn.Server):
    """Serves an ASGI application on the running loop; `ready` is set when it listens.

    A connection that asks for an upgrade to a WebSocket goes to a protocol that `connect` makes.
    """

    def __init__(self, app: Any, connect: Callable[[], asyncio.Protocol] | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=_Protocol,
                loop="none",
                ws="none" if connect is None else _upgrade_to(connect),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=4096,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=5,
            )
        )
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            self._close_idle()
        return await super().on_tick(counter)

    def _close_idle(self) -> None:
        oldest = asyncio.get_running_loop().time() - self.config.timeout_keep_alive
        for connection in list(self.server_state.connections):
            assert isinstance(connection, _Protocol)
            if connection.last_active < oldest and not connection.working:
                connection.timeout_keep_alive_handler()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals mean drain first, which is decided elsewhere."""
        yield
