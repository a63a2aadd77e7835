"""One WebSocket connection: the handshake, frames, the pace of both sides, and the end.

An asyncio protocol round the `websockets` package's protocol without I/O. The HTTP server hands a connection
over at its upgrade, with the request it had read. Times are the loop's.
"""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from msgspec import Struct
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from sukkal.ws.frames import BINARY, TEXT, Frame
from sukkal.ws.session import Session

if TYPE_CHECKING:
    from sukkal.ws.app import WebSocketApp

MOST_UNTAKEN = 4 * 1024 * 1024  # bytes sent and not taken; then notifications are too many

GOING_AWAY = 1001
POLICY = 1008


class Patience(Struct, frozen=True):
    """How long the other side may take, in seconds."""

    ping_after: float = 15.0  # of silence
    dead_after: float = 35.0  # of silence, in spite of a ping
    stuck_after: float = 10.0  # in which nothing of what is sent is taken
    close_within: float = 5.0  # once it is told that this is the end
    leave_within: float = 1.0  # the same when the server stops: many clients only listen when they ask


class Connection(asyncio.Protocol):
    def __init__(self, app: "WebSocketApp", *, most_bytes: int) -> None:
        self.session = Session(app.responder, self)
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._wire = ServerProtocol(max_size=most_bytes, logger=app.log)
        self._transport: asyncio.Transport
        self._opcode = Opcode.TEXT  # of the fragments so far
        self._fragments = bytearray()
        self._heard = self._loop.time()  # when data last came
        self._pinged = False  # since then
        self._reading = True
        self._writable = True
        self._untaken = 0  # bytes, when it was last looked
        self._stuck_since = 0.0  # and none of them were taken since
        self._closing_since: float | None = None
        self._stopping = False

    # --- what the transport tells --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._app.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.session.leave()
        self._app.closed(self)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._pinged = False
        self._wire.receive_data(data)
        for event in self._wire.events_received():
            if isinstance(event, Request):
                self._shake_hands(event)
            elif isinstance(event, WireFrame):
                self._take(event)
        self._flush()
        self._pace()

    def eof_received(self) -> None:
        self._wire.receive_eof()
        self._flush()

    def pause_writing(self) -> None:
        self._writable = False
        self._untaken, self._stuck_since = self._transport.get_write_buffer_size(), self._loop.time()
        self.session.hold()
        self._pace()

    def resume_writing(self) -> None:
        self._writable = True
        if self._wire.state is State.OPEN and not self._stopping:
            self.session.go_on()
        self._pace()

    # --- frames --------------------------------------------------------------------------------------

    def _shake_hands(self, request: Request) -> None:
        response = self._refusal(request) or self._wire.accept(request)
        response.headers["X-OpenStack-Request-ID"] = self._app.responder.new_request_id()
        self._wire.send_response(response)

    def _refusal(self, request: Request) -> Response | None:
        if self._app.draining:
            return self._wire.reject(HTTPStatus.SERVICE_UNAVAILABLE, "The server is stopping.\n")
        origins = request.headers.get_all("Origin")
        if origins and not self._app.admits(origins[0], request.headers.get("Host", "")):
            return self._wire.reject(HTTPStatus.FORBIDDEN, "This origin may not call the service.\n")
        return None

    def _take(self, frame: WireFrame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._opcode = frame.opcode
        elif frame.opcode is not Opcode.CONT:
            return  # pings, pongs and the close are answered below us
        if not frame.fin:
            self._fragments += frame.data
            return
        data = bytes(frame.data)
        if self._fragments:
            data = bytes(self._fragments) + data
            self._fragments.clear()
        if not self._stopping:
            self.session.receive(Frame(TEXT if self._opcode is Opcode.TEXT else BINARY, data))

    def send(self, data: bytes, *, binary: bool) -> None:
        if self._wire.state is State.OPEN:
            (self._wire.send_binary if binary else self._wire.send_text)(data)
            self._flush()

    def notify(self, data: bytes, *, binary: bool) -> None:
        if self._transport.get_write_buffer_size() + len(data) > MOST_UNTAKEN:
            self.close(POLICY, "Notifications are not taken.")
        else:
            self.send(data, binary=binary)

    def _flush(self) -> None:
        for data in self._wire.data_to_send():  # an empty one means the end
            if data:
                self._transport.write(data)
            elif self._wire.close_rcvd is not None or self._wire.state is State.CONNECTING:
                self._transport.close()
            else:
                # It may be sending still: if we closed, what it sends would undo what it has yet to read.
                self._closing_since = self._closing_since or self._loop.time()
                self._transport.write_eof()

    # --- pace ----------------------------------------------------------------------------------------

    def progressed(self) -> None:
        self._pace()
        if self._stopping:
            self._leave()

    def _pace(self) -> None:
        """Read while there is room; once closing, read on, for the other side's close."""
        wanted = self._wire.state is not State.OPEN or (self._writable and not self.session.full)
        if wanted is self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._heard = self._loop.time()  # it could not be heard meanwhile
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def look(self) -> None:
        """See whether the other side is still there; to be called every few seconds."""
        now, patience = self._loop.time(), self._app.patience
        if self._closing_since is not None:
            within = patience.leave_within if self._app.draining else patience.close_within
            if now - self._closing_since > within:
                self._transport.abort()
        elif not self._writable:
            untaken = self._transport.get_write_buffer_size()
            if untaken < self._untaken:
                self._untaken, self._stuck_since = untaken, now
            elif now - self._stuck_since > patience.stuck_after:
                self.close(POLICY, "What the server sends is not taken.")
        elif self._reading:
            silent = now - self._heard
            if silent > patience.dead_after:
                self._transport.abort()
            elif silent > patience.ping_after and not self._pinged and self._wire.state is State.OPEN:
                self._pinged = True
                self._wire.send_ping(b"")
                self._flush()

    # --- the end -------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Take nothing more, answer what is in flight, and close."""
        if not self._stopping:
            self._stopping = True
            self.session.stop()
            self._leave()

    def _leave(self) -> None:
        if not self.session.in_flight:
            self.close(GOING_AWAY, "The server is stopping.")

    def close(self, code: int, reason: str) -> None:
        """Say that this is the end, and why."""
        if self._wire.state is State.OPEN:
            self.session.leave()
            self._wire.send_close(code, reason)
            self._closing_since = self._loop.time()
            self._flush()
            self._pace()
        elif self._wire.state is State.CONNECTING:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
