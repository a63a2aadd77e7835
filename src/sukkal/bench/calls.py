"""Requests as bytes, made from the table of operations before they are needed."""

from typing import NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from sukkal.operations import TABLE

_ROWS = {row.name: row for row in TABLE}
_PORTS = {"http": 80, "https": 443}


class BadTarget(ValueError):
    """The text says what is wrong with the address."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server is."""

    scheme: str
    host: str
    port: int
    prefix: str = ""  # of every path, without a slash at its end
    insecure: bool = False  # take any certificate

    @classmethod
    def parse(cls, url: str, *, insecure: bool = False) -> "Target":
        """`http://host:port/prefix`, with or without `/v2` at its end. Raises BadTarget."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise BadTarget(f"{url} is not an address: {exc}.") from exc
        if parts.scheme not in _PORTS or not parts.hostname:
            raise BadTarget(f"{url} is not an address such as http://127.0.0.1:8888.")
        prefix = parts.path.rstrip("/").removesuffix("/v2")
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            prefix=prefix,
            insecure=insecure,
        )

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Request(NamedTuple):
    """One request, ready to be sent."""

    name: str  # under which it is measured
    wire: bytes  # of HTTP, or the text of a frame
    expect: tuple[int, ...]  # the statuses that count as success
    counted: bool = True  # a part of the totals
    patient: bool = False  # waits at the server: neither slow nor lost when it is under way at the end


class Answer(NamedTuple):
    status: int
    body: bytes


class Caller:
    """One client of one project: puts requests together."""

    def __init__(self, target: Target, client: str, project: str, headers: dict[str, str]) -> None:
        """Further `headers` go with every request; those of an identity, such as a token."""
        self._target = target
        self._headers = {"Client-ID": client, "X-Project-ID": project, **headers}
        lines = {"Host": target.authority, "User-Agent": "sukkal-bench", "Accept": "application/json"}
        joined = "".join(f"{name}: {value}\r\n" for name, value in (lines | self._headers).items())
        self._head = f" HTTP/1.1\r\n{joined}".encode()
        self._frame_headers = msgspec.json.encode(self._headers)

    def request(
        self,
        operation: str,
        queue: str,
        *,
        query: str = "",
        body: bytes | None = None,
        name: str | None = None,
        counted: bool = True,
        patient: bool = False,
        **fields: str,
    ) -> Request:
        """A request over HTTP; `fields` fill what the path has beside the queue's name."""
        row = _ROWS[operation]
        method, template = row.http
        filled = {field: quote(value, safe="") for field, value in fields.items()}
        path = template.format(queue_name=quote(queue, safe=""), **filled) + (f"?{query}" if query else "")
        return Request(
            name or operation, self._wire(method, path, body), row.success, counted=counted, patient=patient
        )

    def follow(self, operation: str, href: str) -> Request:
        """A request to where a link of an answer leads."""
        row = _ROWS[operation]
        path = href if href.startswith("/") else "/" + urlsplit(href).path.lstrip("/")
        return Request(
            operation, self._wire(row.http[0], path.removeprefix(self._target.prefix)), row.success
        )

    def _wire(self, method: str, path: str, body: bytes | None = None) -> bytes:
        line = f"{method} {self._target.prefix}{path}".encode()
        if body is None:
            return b"%b%b\r\n" % (line, self._head)
        return b"%b%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            line,
            self._head,
            len(body),
            body,
        )

    def frame(self, operation: str, body: bytes) -> Request:
        """The same as a text frame for a WebSocket; `body` is a JSON object."""
        row = _ROWS[operation]
        assert row.action is not None, f"{operation} is not offered over WebSockets"
        return Request(operation, self._frame(row.action, body), row.success)

    def subscribe(self, queue: str, ttl: int) -> Request:
        """The frame by which a WebSocket asks to be told of a queue's messages."""
        body = msgspec.json.encode({"queue_name": queue, "ttl": ttl})
        return Request("subscribe", self._frame("subscription_create", body), (201,))

    def authenticate(self) -> Request | None:
        """The frame that a WebSocket starts with; None without a token."""
        if "X-Auth-Token" not in self._headers:
            return None
        return Request("authenticate", self._frame("authenticate", b"{}"), (200,))

    def _frame(self, action: str, body: bytes) -> bytes:
        return b'{"action":"%b","headers":%b,"body":%b}' % (action.encode(), self._frame_headers, body)
