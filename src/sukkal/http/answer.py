"""What HTTP gives back, near to how it travels."""

from typing import Protocol

from msgspec import Struct

JSON = b"application/json"
CLOSE = b"connection: close\r\n"

# In a request's scope, where the server offers it: an Exchange. Other servers are spoken to as ASGI has it.
EXCHANGE = "sukkal.exchange"


class Exchange(Protocol):
    """A way past ASGI's messages for requests that came whole, and answers that go so."""

    def whole_body(self) -> bytes | None:
        """The request's body; None when it has not come whole yet, and `receive` has to wait for it."""
        ...

    def answer(self, status: int, head: bytes, body: bytes) -> bool:
        """Send an answer; False when its receiver is too slow just now, and ASGI's `send` has to wait."""
        ...


class Answer(Struct, frozen=True):
    status: int
    body: bytes = b""
    lines: bytes = b""  # further headers, `name: value\r\n` each
    media_type: bytes = JSON

    def head(self, request_id: str) -> bytes:
        """All header lines."""
        if self.status == 204:
            return b"content-type: %b\r\nx-openstack-request-id: %b\r\n%b" % (
                self.media_type,
                request_id.encode(),
                self.lines,
            )
        return b"content-type: %b\r\nx-openstack-request-id: %b\r\n%bcontent-length: %d\r\n" % (
            self.media_type,
            request_id.encode(),
            self.lines,
            len(self.body),
        )


class Refused(Exception):
    """An answer that HTTP itself gives, before any operation is asked."""

    def __init__(self, status: int, title: str, description: str | None = None, lines: bytes = b"") -> None:
        super().__init__(title)
        self.status = status
        self.document = {"title": title} | ({"description": description} if description else {})
        self.lines = lines


def line(name: str, value: str) -> bytes:
    """One header line. The value must not come from a caller unchecked: it is not quoted."""
    return f"{name}: {value}\r\n".encode()


def split(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Header lines as the pairs ASGI wants."""
    pairs = (one.split(b": ", 1) for one in lines.split(b"\r\n") if one)
    return [(name, value) for name, value in pairs]
