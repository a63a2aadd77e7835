"""What HTTP gives back, near to how it travels."""

from msgspec import Struct

JSON = b"application/json"
CLOSE = b"connection: close\r\n"

# In a request's scope, where the server offers it: a function of status, header lines and body that sends an
# answer in one go. Answers of other servers go out by ASGI's `send`.
SEND_WHOLE = "sukkal.send_whole"


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


def line(name: str, value: str) -> bytes:
    """One header line. The value must not come from a caller unchecked: it is not quoted."""
    return f"{name}: {value}\r\n".encode()


def split(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Header lines as the pairs ASGI wants."""
    pairs = (one.split(b": ", 1) for one in lines.split(b"\r\n") if one)
    return [(name, value) for name, value in pairs]
