"""Examples for the protocol page: asked of the real application, in this process, so that none can be wrong.

The store is the one in memory, the clock stands still unless moved, and ids are counted, so that every run
gives the same answers.
"""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from itertools import count
from typing import Any

from msgspec import Struct

from sukkal import config
from sukkal.core.pooling.backends import Site
from sukkal.core.service import Service
from sukkal.core.signing import Signer
from sukkal.http.app import HttpApp
from sukkal.stores.contract import Backend
from sukkal.stores.registry import located, open_backend

HEADERS = {
    "Client-ID": "3381af92-2b9e-11e3-b191-71861300734c",
    "X-Project-ID": "acme",
    "Content-Type": "application/json",
}
BEGINNING = 1_767_225_600.0  # 1 January 2026
WIDTH = 100

_UNSTEADY = re.compile(r'("seconds": ?)[0-9.e-]+')  # how long something took


class Exchange(Struct, frozen=True, kw_only=True):
    """A request and its answer."""

    method: str
    target: str
    sent: Any
    status: int
    headers: dict[str, str]
    answer: Any

    def shown(self) -> str:
        """As a page shows it: without the headers that every request and answer have."""
        lines = [f"{self.method} {self.target}"]
        if self.sent is not None:
            lines.append(pretty(self.sent))
        lines += ["", f"{self.status} {HTTPStatus(self.status).phrase}"]
        if "location" in self.headers:
            lines.append(f"Location: {self.headers['location']}")
        if self.answer is not None:
            lines.append(pretty(self.answer))
        return "\n".join(lines)


class _InMemory:
    """Opens pools of this process: an `Opener`."""

    def site(self, uri: str, options: Mapping[str, Any]) -> Site:
        return Site(*located(uri, options))

    async def open(self, site: Site) -> Backend:
        return await open_backend(site.uri)


class Conversation:
    """An application of its own, and what it was asked so far."""

    def __init__(self, app: HttpApp, clock: list[float]) -> None:
        self._app = app
        self._clock = clock

    @classmethod
    async def begin(cls, *, pooling: bool = False) -> "Conversation":
        clock, numbers = [BEGINNING], count(1)
        service = Service(
            await open_backend("memory:"),
            new_id=lambda now: f"{int(now * 1000):012x}7000{next(numbers):016x}",
            opener=_InMemory() if pooling else None,
            signer=Signer("for the examples of the documentation"),
            subscriber_types=config.Settings().subscriber_types,
        )
        return cls(HttpApp(service, clock=lambda: clock[0], admin_mode=True), clock)

    def wait(self, seconds: float) -> None:
        self._clock[0] += seconds

    async def ask(
        self, method: str, target: str, send: Any = None, headers: dict[str, str | None] | None = None
    ) -> Exchange:
        """A header that is None is left out. What is sent may be text that is no JSON."""
        text = send if isinstance(send, str) else json.dumps(send)
        body = b"" if send is None else text.encode()
        fields = {**HEADERS, **(headers or {})}
        if body:
            fields["Content-Length"] = str(len(body))
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode()) for k, v in fields.items() if v is not None],
        }
        answers: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def answered(message: Any) -> None:
            answers.append(message)

        await self._app(scope, receive, answered)
        start, end = answers
        raw = _UNSTEADY.sub(r"\g<1>0.0004", end["body"].decode())
        return Exchange(
            method=method,
            target=target,
            sent=send,
            status=start["status"],
            headers={name.decode(): value.decode() for name, value in start["headers"]},
            answer=json.loads(raw) if raw else None,
        )


def pretty(value: Any, indent: int = 0) -> str:
    """JSON on one line where it fits, else one member a line."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + indent <= WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        members = [
            f"{json.dumps(name, ensure_ascii=False)}: {pretty(each, indent + 2)}"
            for name, each in value.items()
        ]
        opening, closing = "{", "}"
    else:
        members = [pretty(each, indent + 2) for each in value]
        opening, closing = "[", "]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(members) + f"\n{' ' * indent}{closing}"
