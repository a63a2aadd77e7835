"""What a process tells its operators, over HTTP, on a port of its own.

    /metrics   figures, as Prometheus reads them
    /livez     200 while the event loop turns: that there is an answer is the answer
    /readyz    200 when requests can be served, else 503 and a line that says why not

Nothing here asks who calls: who can reach the port may read it.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sukkal.admin.metrics import Exposition
from sukkal.errors import StoreUnavailable

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PROBE_SECONDS = 2.0  # a store that takes longer to answer is not one to send requests to
TEXT = b"text/plain; charset=utf-8"


class AdminApp:
    """An ASGI application. `ping` asks the stores; `stopping` tells that the process is about to end."""

    def __init__(
        self,
        exposition: Exposition,
        *,
        ping: Callable[[], Awaitable[None]],
        stopping: Callable[[], bool],
        probe_seconds: float = PROBE_SECONDS,
    ) -> None:
        self._exposition = exposition
        self._ping = ping
        self._stopping = stopping
        self._probe_seconds = probe_seconds

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        status, body, media_type = await self._answer(scope)
        headers = [
            (b"content-type", media_type),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope) -> tuple[int, bytes, bytes]:
        if scope["method"] not in ("GET", "HEAD"):
            return 405, b"Only GET is served here.\n", TEXT
        match scope["path"]:
            case "/metrics":
                accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
                body, media_type = await self._exposition.render(accept)
                return 200, body, media_type.encode()
            case "/livez":
                return 200, b"alive\n", TEXT
            case "/readyz":
                reason = await self._unready()
                return (503, f"not ready: {reason}\n".encode(), TEXT) if reason else (200, b"ready\n", TEXT)
        return 404, b"There are /metrics, /livez and /readyz.\n", TEXT

    async def _unready(self) -> str | None:
        """Why requests could not be served now."""
        if self._stopping():
            return "the server is stopping"
        try:
            async with asyncio.timeout(self._probe_seconds):
                await self._ping()
        except TimeoutError:
            return f"the store did not answer within {self._probe_seconds:g} s"
        except StoreUnavailable as exc:
            return f"the store cannot be reached: {exc}"
        return None
