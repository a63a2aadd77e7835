"""A port for WebSockets only: plain requests that come there are told so."""

from typing import Any

from msgspec import json

from sukkal.http.cors import App, Receive, Send
from sukkal.wire.identity import RequestIds

_BODY = json.encode(
    {
        "title": "426 Upgrade Required",
        "description": "This port serves WebSockets only: connect with ws://.",
    }
)
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_BODY)).encode()),
    (b"upgrade", b"websocket"),
    (b"connection", b"upgrade, close"),
]  # and the request's id


class UpgradeOnly:
    """A wrapper round an ASGI application that keeps requests to `port` from it."""

    def __init__(self, app: App, port: int) -> None:
        self._app = app
        self._port = port
        self._request_ids = RequestIds()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["server"][1] != self._port:
            await self._app(scope, receive, send)
            return
        headers = [*_HEADERS, (b"x-openstack-request-id", self._request_ids.next().encode())]
        await send({"type": "http.response.start", "status": 426, "headers": headers})
        await send({"type": "http.response.body", "body": _BODY})
