"""A plain HTTP caller for tests: it sends what it is told, adds nothing clever, and hides nothing."""

import http.client
import json
import socket
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

TIMEOUT = 30.0
PATCH_TYPE = "application/openstack-messaging-v2.0-json-patch"


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """One client of one project, over one connection that is kept alive."""

    def __init__(self, host: str, port: int, *, project: str, client: str | None = None) -> None:
        self.project = project
        self.client = client or str(uuid.uuid4())
        self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)

    @property
    def identity(self) -> dict[str, str]:
        return {"Client-ID": self.client, "X-Project-ID": self.project}

    @property
    def socket(self) -> socket.socket:
        """The connection, once something was answered over it."""
        assert self._connection.sock is not None
        return self._connection.sock

    def close(self) -> None:
        self._connection.close()

    def __call__(
        self,
        method: str,
        path: str,
        body: bytes | str | dict[str, Any] | list[Any] | Iterable[bytes] | None = None,
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str | bytes]] = (),
        anonymous: bool = False,
    ) -> Answer:
        """Send one request; `body` as text or bytes goes out as it is, as an iterator in chunks.

        Headers overlay the caller's identity, or stand alone when `anonymous`.
        """
        pairs: list[tuple[str, str | bytes]] = list(
            headers.items() if isinstance(headers, Mapping) else headers
        )
        given = {name.lower() for name, _ in pairs}
        if not anonymous:
            pairs = [pair for pair in self.identity.items() if pair[0].lower() not in given] + pairs
        if isinstance(body, dict | list):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        chunked = body is not None and not isinstance(body, bytes)
        if isinstance(body, bytes) and "content-length" not in given:
            pairs.append(("Content-Length", str(len(body))))
        elif chunked:
            pairs.append(("Transfer-Encoding", "chunked"))
        try:
            self._connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in pairs:
                self._connection.putheader(name, value.encode() if isinstance(value, str) else value)
            self._connection.endheaders(body, encode_chunked=chunked)
            response = self._connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except BaseException:
            self._connection.close()
            raise
