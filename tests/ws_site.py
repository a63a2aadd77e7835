"""A WebSocket service in the test's own process, on a store in the test's reach."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from core.world import Stage
from hand_clock import HandClock
from until import until as until
from websockets.asyncio.client import ClientConnection, connect

from sukkal.core.service import Service
from sukkal.http.app import HttpApp
from sukkal.http.server import Server
from sukkal.ws.app import WebSocketApp
from sukkal.ws.connection import Connection
from sukkal.ws.responder import Responder

HEADERS = {"Client-ID": "3381af92-2b9e-11e3-b191-71861300734c", "X-Project-ID": "acme"}


class Site:
    """The service, its server and their address."""

    def __init__(self, *, encryption_key: str | None = None, **options: Any) -> None:
        self.stage = Stage()
        self.clock = HandClock()
        self.service = Service(self.stage, clock=self.clock, encryption_key=encryption_key)
        self.responder = Responder(self.service, clock=lambda: self.now)
        self.sockets = WebSocketApp(
            self.responder, self.service.subscriptions, clock=lambda: self.now, **options
        )
        self.http = HttpApp(self.service, clock=lambda: self.now)
        self.port = 0

    @property
    def now(self) -> float:
        return self.clock.time

    @now.setter
    def now(self, time: float) -> None:
        self.clock.time = time

    @property
    def connection(self) -> Connection:
        """The only one there is."""
        (connection,) = self.sockets.connections.values()
        return connection

    def connect(self, **options: Any) -> connect:
        options = {"compression": None, "ping_interval": None, "max_size": None} | options
        return connect(f"ws://127.0.0.1:{self.port}/any/path", **options)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Site"]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
            server = Server(self.http, self.sockets.connect)
            serving = asyncio.create_task(server.serve([listener]))
            await server.ready.wait()
            try:
                yield self
            finally:
                self.sockets.abort()
                server.should_exit = True
                await serving


def request(action: str, /, **body: Any) -> dict[str, Any]:
    return {"action": action, "headers": HEADERS, "body": body}


def text(action: str, /, **body: Any) -> str:
    return msgspec.json.encode(request(action, **body)).decode()


def post(queue: str, *bodies: Any) -> str:
    return text("message_post", queue_name=queue, messages=[{"body": body} for body in bodies])


async def receive(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        frame = await socket.recv()
    document: dict[str, Any] = (
        msgspec.json.decode(frame) if isinstance(frame, str) else msgspec.msgpack.decode(frame)
    )
    return document


async def ask(socket: ClientConnection, frame: str | bytes) -> dict[str, Any]:
    await socket.send(frame)
    return await receive(socket)
