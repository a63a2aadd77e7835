"""uvicorn, fitted to this service: answers leave together, and signals are left to the caller.

Every write to a socket may wake who waits at its other end, which costs more than the write. So what is
written within a turn of the loop is kept until its end, and goes out in one go: an answer's head with its
body, and the answers of many connections one right after the other. Our own application hands an answer
over whole, which spares the steps of ASGI.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sukkal.http.answer import CLOSE, SEND_WHOLE

TICKS = 10  # of uvicorn, a tenth of a second each, between looks for idle connections
KEEP_ALIVE = 75  # seconds a connection may be idle


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
            transport.flush()


class _Transport:
    """A connection's transport, for its protocol: it keeps what is written until the turn ends."""

    def __init__(self, transport: asyncio.Transport, outbox: _Outbox) -> None:
        self._transport = transport
        self._outbox = outbox
        self._kept: list[bytes] = []
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.set_protocol = transport.set_protocol

    def write(self, data: bytes) -> None:
        if not self._kept:
            self._outbox.add(self)
        self._kept.append(data)

    def flush(self) -> None:
        kept, self._kept = self._kept, []
        if kept:
            self._transport.write(b"".join(kept))

    def close(self) -> None:
        self.flush()
        self._transport.close()


@lru_cache(1)
def _lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Header lines; those uvicorn adds to each answer stay the same for a second."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def _send_whole(cycle: RequestResponseCycle, status: int, head: bytes, body: bytes) -> bool:
    """Send an answer; False when its receiver is too slow at the moment, and ASGI's `send` has to wait."""
    if cycle.flow.write_paused:
        return False
    if not cycle.disconnected:
        if not cycle.keep_alive:
            head += CLOSE
        elif CLOSE in head:
            cycle.keep_alive = False
        defaults = _lines(tuple(cycle.default_headers))
        cycle.transport.write(b"%b%b%b\r\n%b" % (STATUS_LINE[status], defaults, head, body))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
    return True


class _Protocol(HttpToolsProtocol):
    """One connection. When it is idle is noted, instead of setting and stopping a timer for each request."""

    outbox = _Outbox()
    idle_since: float | None = None  # by the loop's clock

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Transport(transport, self.outbox))  # type: ignore[arg-type]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        scope[SEND_WHOLE] = partial(_send_whole, cycle)
        super()._start_asgi_task(cycle, app)

    def _unset_keepalive_if_required(self) -> None:
        self.idle_since = None

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle_since = self.loop.time()


class Server(uvicorn.Server):
    """Serves an ASGI application on the running loop; `ready` is set when it listens."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=_Protocol,
                loop="none",
                ws="none",
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
            if connection.idle_since is not None and connection.idle_since < oldest:
                connection.timeout_keep_alive_handler()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals mean drain first, which is decided elsewhere."""
        yield
