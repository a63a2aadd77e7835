"""Receivers of webhooks that do as the test says, on a socket of the loopback interface."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from msgspec import Struct

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Received(Struct):
    """One request, as it came."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int  # which of the receiver's

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0] if found else None


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Receiver:
    """Answers each request with the next of `answers`, the last of them for ever; or behaves otherwise."""

    def __init__(self, answers: Sequence[bytes] = (OK,), behaviour: Behaviour | None = None) -> None:
        self.answers = list(answers)
        self.received: list[Received] = []
        self.connections = 0
        self.ended = 0  # connections that came to their end
        self.port = 0
        self._behaviour = behaviour
        self._changed = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def until(self, reached: Callable[["Receiver"], bool]) -> None:
        """Return when this is so of the receiver."""
        async with asyncio.timeout(5):
            while not reached(self):
                self._changed.clear()
                await self._changed.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *fields = head.rstrip("\r\n").split("\r\n")
                headers = [(name, value.strip()) for name, _, value in (f.partition(":") for f in fields)]
                received = Received(line, headers, b"", connection)
                received.body = await reader.readexactly(int(received.header("content-length") or 0))
                self.received.append(received)
                self._changed.set()
                if self._behaviour is not None:
                    await self._behaviour(reader, writer)
                    return
                writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended += 1
            self._changed.set()
            writer.transport.abort()
            self._serving.discard(task)

    async def hang_up(self) -> None:
        """End all connections."""
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0)  # their sockets close in the next turn


@asynccontextmanager
async def receiving(
    *answers: bytes,
    behaviour: Behaviour | None = None,
    tls: ssl.SSLContext | None = None,
    at: tuple[str, int] = ("127.0.0.1", 0),
) -> AsyncIterator[Receiver]:
    receiver = Receiver(answers or (OK,), behaviour)
    server = await asyncio.start_server(receiver.serve, *at, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        await receiver.hang_up()


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status} Said so", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body
