"""Calls the HTTP application without a socket: what it is given and how it comes is the test's to say."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from hand_clock import NOW as NOW
from hand_clock import HandClock

from sukkal.core.service import Service
from sukkal.http.app import HttpApp
from sukkal.stores.memory import MemoryBackend

CLIENT = "3381af92-2b9e-11e3-b191-71861300734c"
IDENTITY = {"client-id": CLIENT, "x-project-id": "acme"}
PATCH = "application/openstack-messaging-v2.0-json-patch"

Event = Mapping[str, Any]


class Reply:
    """What came back."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def send(self, event: Any) -> None:
        if event["type"] == "http.response.start":
            assert self.status == 0, "two answers"
            self.status = event["status"]
            self.headers = {name.decode(): value.decode() for name, value in event["headers"]}
            assert len(self.headers) == len(event["headers"]), "a header twice"
        else:
            self.body += event["body"]

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def fault(self) -> tuple[int, str]:
        return self.status, self.document["title"]


class Sender:
    """A caller's side of the connection: sends events one by one and counts them."""

    def __init__(self, events: Iterable[Event], *, between: Callable[[], Any] | None = None) -> None:
        self._events = iter(events)
        self._between = between
        self.asked = 0

    async def receive(self) -> Any:
        self.asked += 1
        if self._between is not None:
            await self._between()
        return dict(next(self._events, {"type": "http.disconnect"}))


def whole(body: bytes) -> Sender:
    return Sender([{"type": "http.request", "body": body, "more_body": False}])


def chunked(*chunks: bytes) -> Sender:
    """The chunks, each in an event of its own, as a caller without Content-Length sends them."""
    last = len(chunks) - 1
    return Sender(
        {"type": "http.request", "body": chunk, "more_body": number < last}
        for number, chunk in enumerate(chunks)
    )


def endless(chunk: bytes) -> Sender:
    return Sender({"type": "http.request", "body": chunk, "more_body": True} for _ in itertools.count())


def hanging_up(*chunks: bytes) -> Sender:
    """Sends chunks, then goes away in the middle."""
    return Sender({"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks)


class Patient(Sender):
    """A caller that has sent its request and stays, until it hangs up."""

    def __init__(self) -> None:
        super().__init__([{"type": "http.request", "body": b"", "more_body": False}])
        self._stays = asyncio.Event()

    async def receive(self) -> Any:
        if self.asked:
            await self._stays.wait()
        return await super().receive()

    def hang_up(self) -> None:
        self._stays.set()


class Web:
    """The HTTP application over a service on an empty store, and a clock in the test's hand."""

    def __init__(self, *, service: Any = None, **options: Any) -> None:
        self.clock = HandClock()
        self.service = service or Service(MemoryBackend(), clock=self.clock)
        self.app = HttpApp(self.service, clock=self.clock.now, **options)

    @property
    def now(self) -> float:
        return self.clock.time

    @now.setter
    def now(self, time: float) -> None:
        self.clock.time = time

    async def ask(
        self,
        line: str,
        body: bytes | Any = None,
        *,
        sender: Sender | None = None,
        reply: Reply | None = None,
        identity: Mapping[str, str] = IDENTITY,
        **headers: str,
    ) -> Reply:
        """`ask("POST /v2/queues/q/messages?x=y", {...})`. Headers by keyword: `content_type="…"`.

        What comes back can be looked at while it comes, in a `reply` of the caller's.
        """
        method, target = line.split(" ", 1)
        path, _, query = target.partition("?")
        given = {**identity, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if sender is None:
            sent = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
            sender = whole(sent)
            if body is not None:
                given.setdefault("content-length", str(len(sent)))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        }
        reply = reply or Reply()
        await self.app(scope, sender.receive, reply.send)
        return reply

    async def queues(self) -> list[str]:
        reply = await self.ask("GET /v2/queues?limit=20")
        return [queue["name"] for queue in reply.document["queues"]]

    async def post(self, queue: str, *bodies: Any) -> list[str]:
        """Post; answers the messages' links."""
        document = {"messages": [{"body": body} for body in bodies]}
        reply = await self.ask(f"POST /v2/queues/{queue}/messages", document)
        assert reply.status == 201, reply.body
        links: list[str] = reply.document["resources"]
        return links


async def others_go_on() -> None:
    """Let other tasks run as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)
