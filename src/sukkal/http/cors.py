"""Cross-origin requests: lets pages of named origins call the API from a browser.

A wrapper round an ASGI application. Source: Messaging API v2, middleware; Fetch standard, CORS protocol.
"""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from sukkal.http.answer import EXCHANGE

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

ALLOWED_HEADERS = (
    b"X-Auth-Token, X-Identity-Status, X-Roles, X-Service-Catalog, X-User-Id, X-Tenant-Id, "
    b"X-OpenStack-Request-ID, X-Trace-Info, X-Trace-HMAC, Client-id, Prefer, Last-Event-ID"
)
ALLOWED_METHODS = b"GET, PUT, POST, DELETE, PATCH, HEAD"
EXPOSED_HEADERS = (
    b"X-Auth-Token, X-Subject-Token, X-Service-Token, X-OpenStack-Request-ID, Preference-Applied"
)
MAX_AGE = b"3600"  # seconds a browser may keep the answer to a preflight


class Cors:
    """`origins` may call; the origin `*` stands for all."""

    def __init__(self, app: App, origins: Collection[str]) -> None:
        self._app = app
        self._any = "*" in origins
        self._origins = {origin.encode() for origin in origins}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is None or not (self._any or origin in self._origins):
            await self._app(scope, receive, send)
            return
        added = [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"vary", b"Origin"),
        ]
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            added += [
                (b"access-control-allow-methods", ALLOWED_METHODS),
                (b"access-control-allow-headers", ALLOWED_HEADERS),
                (b"access-control-max-age", MAX_AGE),
            ]
        else:
            added.append((b"access-control-expose-headers", EXPOSED_HEADERS))

        async def send_with_permission(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        scope.pop(EXCHANGE, None)  # that way would go round us
        await self._app(scope, receive, send_with_permission)
