"""What a process tells its operators, over HTTP, on a port of its own.

    /metrics   figures, as Prometheus reads them
    /livez     200 while the event loop turns: that there is an answer is the answer
    /stats     what one queue holds, `?project=…&queue=…`, as JSON; for autoscalers
    /readyz    200 when requests can be served, else 503 and a line that says why not

Nothing here asks who calls: who can reach the port may read it.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec

from sukkal.admin.metrics import Exposition
from sukkal.errors import StoreUnavailable
from sukkal.model import QueueKey, Stats

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PROBE_SECONDS = 2.0  # a store that takes longer to answer is not one to send requests to
TEXT = b"text/plain; charset=utf-8"


class Look(Protocol):
    async def __call__(self, queue: QueueKey, *, now: float) -> Stats: ...


class AdminApp:
    """An ASGI application.

    `ping` asks the stores, `stats` for a queue; `stopping` tells that the process is about to end.
    """

    def __init__(
        self,
        exposition: Exposition,
        *,
        ping: Callable[[], Awaitable[None]],
        stats: Look,
        clock: Callable[[], float],
        stopping: Callable[[], bool],
        probe_seconds: float = PROBE_SECONDS,
    ) -> None:
        self._exposition = exposition
        self._ping = ping
        self._stats = stats
        self._clock = clock
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
            case "/stats":
                return await self._of_queue(scope["query_string"])
            case "/livez":
                return 200, b"alive\n", TEXT
            case "/readyz":
                reason = await self._unready()
                return (503, f"not ready: {reason}\n".encode(), TEXT) if reason else (200, b"ready\n", TEXT)
        return 404, b"There are /metrics, /stats, /livez and /readyz.\n", TEXT

    async def _of_queue(self, query: bytes) -> tuple[int, bytes, bytes]:
        given = parse_qs(query.decode("latin-1"))
        try:
            (project,), (queue,) = given["project"], given["queue"]
        except (KeyError, ValueError):
            return 400, b"A project and a queue are to be named: /stats?project=...&queue=...\n", TEXT
        now = self._clock()
        try:
            async with asyncio.timeout(self._probe_seconds):
                stats = await self._stats(QueueKey(project, queue), now=now)
        except (StoreUnavailable, TimeoutError) as exc:
            return 503, f"the store cannot be reached: {exc}\n".encode(), TEXT
        document = {
            "free": stats.free,
            "claimed": stats.claimed,
            "total": stats.free + stats.claimed,
            "oldest_age": max(0.0, now - stats.oldest.created) if stats.oldest is not None else 0.0,
        }
        return 200, msgspec.json.encode(document), b"application/json"

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
