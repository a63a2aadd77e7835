"""The WebSocket side of the service: its connections, who may open one, and their end."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from sukkal.core.subscribing.subscriptions import Subscriptions
from sukkal.errors import StoreUnavailable
from sukkal.ws.connection import Connection, Patience
from sukkal.ws.responder import Responder

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.5  # between looks at all connections
LOOK_SECONDS_DRAINING = 0.25
DEFAULT_PORTS = {"http": 80, "https": 443}


class WebSocketApp:
    """`origins` of pages that may connect, besides those this server's own address names; `*` is all.

    Software that is no browser names no origin and may always connect. A frame of more than `most_bytes`
    ends its connection. Connections can subscribe; `address` is where others would find them.
    """

    def __init__(
        self,
        responder: Responder,
        subscriptions: Subscriptions,
        *,
        clock: Callable[[], float],
        address: str = "localhost",
        origins: Collection[str] = (),
        most_bytes: int = 1 << 20,
        patience: Patience | None = None,
    ) -> None:
        self.responder = responder
        self._subscriptions = subscriptions
        self._clock = clock
        self._address = address
        self._leaving: set[asyncio.Task[None]] = set()
        self.patience = patience or Patience()
        self.draining = False
        self.log = logging.getLogger("sukkal.ws.wire")
        self.connections: dict[str, Connection] = {}  # by the ids of their sessions
        self._origins = frozenset(origins)
        self._most_bytes = most_bytes
        self._empty = asyncio.Event()

    def connect(self) -> asyncio.Protocol:
        """A protocol for a connection that asks for an upgrade."""
        return Connection(self, most_bytes=self._most_bytes)

    def opened(self, connection: Connection) -> None:
        session = connection.session
        self.connections[session.id] = connection
        self._subscriptions.connected(session.id, f"http://{self._address}/{session.id}", session.hear)

    def closed(self, connection: Connection) -> None:
        self.connections.pop(connection.session.id, None)
        task = asyncio.create_task(self._leave(connection.session.id))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        if not self.connections:
            self._empty.set()

    async def _leave(self, session: str) -> None:
        """Delete what a connection subscribed for itself."""
        try:
            await self._subscriptions.disconnected(session, now=self._clock())
        except StoreUnavailable as exc:
            log.warning("subscriptions of a connection stay until their time is over: %s", exc)

    def admits(self, origin: str, host: str) -> bool:
        """Whether pages of this origin may connect to this server, whose address they know as `host`."""
        if "*" in self._origins or origin in self._origins:
            return True
        page = urlsplit(origin)
        default = DEFAULT_PORTS.get(page.scheme)
        return default is not None and page.netloc.lower() in _spellings(host.lower(), default)

    # --- the end -------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return sum(connection.session.in_flight for connection in self.connections.values())

    def drain(self) -> None:
        """Take up no more requests, and close each connection when its last one is answered."""
        self.draining = True
        for connection in list(self.connections.values()):
            connection.stop()

    def abort(self) -> None:
        """Drop the connections that are left."""
        for connection in list(self.connections.values()):
            connection.abort()

    async def drained(self) -> None:
        """Return when all connections are closed, and nothing of them is left."""
        while self.connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), LOOK_SECONDS_DRAINING)
            self._look()
        await asyncio.gather(*self._leaving)

    async def watch(self) -> None:
        """Look after the connections for as long as the task lives."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        for connection in list(self.connections.values()):
            connection.look()


def _spellings(host: str, default_port: int) -> tuple[str, ...]:
    """How an address may be written: its default port may be left out."""
    suffix = f":{default_port}"
    return (host, host.removesuffix(suffix), host + suffix)
