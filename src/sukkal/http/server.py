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

import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sukkal.http.answer import CLOSE, EXCHANGE

TICKS = 10  # of uvicorn, a tenth of a second each, between looks for idle connections
KEEP_ALIVE = 75  # seconds a connection may be idle, also in the midst of a request
LONGEST_HEAD = 64 * 1024  # bytes of a request line and its headers
MOST_AHEAD = 8  # requests of a connection that are read while an earlier one is under way

_HEAD_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b"connection: close\r\ncontent-length: 105\r\n\r\n"
    b'{"title":"431 Request Header Fields Too Large",'
    b'"description":"Request line and headers may have 64 KiB."}'
)

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


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_cycle",)

    # What uvicorn adds to each answer. It is made anew, as another list, once a second.
    _defaults: ClassVar[list[tuple[bytes, bytes]]] = []
    _default_lines: ClassVar[bytes] = b""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def body(self) -> bytes | None:
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected:
            return None
        return bytes(cycle.body)

    def send(self, status: int, head: bytes, body: bytes) -> bool:
        cycle = self._cycle
        if cycle.flow.write_paused:
            return False
        if cycle.disconnected:
            return True
        if cycle.scope["method"] == "HEAD":
            body = b""
        if cycle.waiting_for_100_continue and cycle.more_body:
            cycle.keep_alive = False  # what comes next could be the body that was announced, or a request
        if not cycle.keep_alive:
            head += CLOSE
        elif CLOSE in head:
            cycle.keep_alive = False
        defaults = cycle.default_headers
        if defaults is not _Exchange._defaults:
            _Exchange._defaults, _Exchange._default_lines = defaults, _lines(defaults)
        cycle.transport.write(b"%b%b%b\r\n%b" % (STATUS_LINE[status], _Exchange._default_lines, head, body))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True


class _Protocol(HttpToolsProtocol):
    """One connection. It is noted when data last came, instead of setting a timer after each request."""

    outbox = _Outbox()
    last_active = 0.0  # by the loop's clock
    _head = 0  # bytes so far of a head that has not come to its end
    _upgraded = False
    _task: asyncio.Task[None]  # serves the request under way; nobody else may hold on to it
    _served: RequestResponseCycle | None = None  # that request; `cycle` is the one that came last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.last_active = self.loop.time()
        super().connection_made(_Transport(transport, self.outbox))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.flow.read_paused:
            self._read_ahead()
        scope: Any = self.scope  # None before the first request; without a path until its head is whole
        if scope is None or "path" in scope or self._upgraded:
            self._head = 0
            return
        self._head += len(data)
        if self._head > LONGEST_HEAD and not self.transport.is_closing():
            self.transport.write(_HEAD_TOO_LONG)
            self.transport.close()

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

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over: what it sends from now on is the WebSocket's."""
        if self.working:  # replies would come before the answer to an earlier request
            self.send_400_response("A WebSocket cannot be opened before earlier requests are answered.")
            return
        self._upgraded = True
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment] # it refers back to us, and nobody else does now

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        self._task = self.loop.create_task(self._serve(cycle, app))

    async def _serve(self, cycle: RequestResponseCycle, app: Any) -> None:
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        scope[EXCHANGE] = _Exchange(cycle)
        try:
            await app(scope, cycle.receive, cycle.send)
        finally:
            if not cycle.response_complete and not self.transport.is_closing():
                self.transport.close()  # there is no answer, or not all of it: none will come
            cycle.on_response = _nothing  # it refers back to us

    def _unset_keepalive_if_required(self) -> None:
        self.last_active = self.loop.time()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.last_active = self.loop.time()

    @property
    def working(self) -> bool:
        """Whether a request has come whole and is not answered yet."""
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete and not cycle.more_body


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
