"""A plain WebSocket caller for tests, and replies as they come."""

import contextlib
import json
import uuid
from typing import Any, NamedTuple

import msgspec
from websockets.sync.client import connect

TIMEOUT = 30.0


class Reply(NamedTuple):
    document: dict[str, Any]
    binary: bool  # the kind of frame it came in

    @property
    def status(self) -> int:
        return self.document["headers"]["status"]

    @property
    def body(self) -> Any:
        return self.document["body"]


def decode(frame: str | bytes) -> Any:
    return json.loads(frame) if isinstance(frame, str) else msgspec.msgpack.decode(frame)


def encode(document: Any, *, binary: bool) -> str | bytes:
    return msgspec.msgpack.encode(document) if binary else json.dumps(document)


class Socket:
    """One client of one project on one connection, speaking text or binary frames."""

    def __init__(
        self, host: str, port: int, *, project: str, client: str | None = None, binary: bool = False
    ) -> None:
        self.project = project
        self.client = client or str(uuid.uuid4())
        self.binary = binary
        self._open = contextlib.ExitStack()
        self.wire = self._open.enter_context(
            connect(f"ws://{host}:{port}/", compression=None, open_timeout=TIMEOUT, max_size=None)
        )

    @property
    def identity(self) -> dict[str, str]:
        return {"Client-ID": self.client, "X-Project-ID": self.project}

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, action: str, body: Any = None, **parts: Any) -> dict[str, Any]:
        """A request as it goes out; further parts, such as `headers`, replace its own."""
        request = {"action": action, "headers": self.identity}
        return request | ({} if body is None else {"body": body}) | parts

    def send(self, document: Any) -> None:
        """Send one document; what is text or bytes already goes out as it is."""
        self.wire.send(
            document if isinstance(document, str | bytes) else encode(document, binary=self.binary)
        )

    def receive(self) -> Reply:
        frame = self.wire.recv(TIMEOUT)
        return Reply(decode(frame), isinstance(frame, bytes))

    def __call__(self, action: str, body: Any = None, **parts: Any) -> Reply:
        """Ask, and wait for the reply."""
        self.send(self.request(action, body, **parts))
        return self.receive()
