"""Event streams: a listing without end, as server-sent events.

A browser's `EventSource` can neither set headers nor see an answer's status. So what other callers say in
headers may stand in the query, and a stream that has to end just ends: the browser comes back by itself and
says in `Last-Event-ID` how far it got. Source: HTML Living Standard, server-sent events.
"""

import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing, suppress
from functools import lru_cache
from typing import Any

from sukkal.errors import ServiceError
from sukkal.http.hangup import HungUp, Receive, while_there
from sukkal.http.identity import PROJECT_HEADERS
from sukkal.http.query import parameters
from sukkal.model import Message
from sukkal.requests import MessageList

log = logging.getLogger(__name__)

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MEDIA_TYPE = b"text/event-stream"
HEARTBEAT_SECONDS = 15.0  # of silence, before a comment says that the stream is alive
RETRY = 1000  # milliseconds until a browser comes back

_START = b"retry: %d\n\n" % RETRY
_HEARTBEAT = b":\n\n"
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")
_HEADERS = [
    (b"content-type", MEDIA_TYPE),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy is to pass on each event as it comes
    (b"vary", b"Accept"),
]


@lru_cache(256)
def wanted(accept: bytes) -> bool:
    """Whether an `Accept` header asks for a stream: by name, and not for JSON by name."""
    names = {
        parts[0].strip()
        for parts in (media_range.split(b";") for media_range in accept.lower().split(b","))
        if not any(part.replace(b" ", b"") in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000") for part in parts[1:])
    }
    return MEDIA_TYPE in names and b"application/json" not in names


def identified(headers: Mapping[bytes, bytes], query: bytes) -> Mapping[bytes, bytes]:
    """The headers, with who calls from the query where they do not say it; without a client, a new one."""
    given = parameters(query)
    filled = {b"client-id": given.get("client_id", [uuid.uuid4().hex])[-1].encode(), **headers}
    if "project_id" in given and not any(name in headers for name in PROJECT_HEADERS):
        filled[PROJECT_HEADERS[0]] = given["project_id"][-1].encode()
    return filled


def event(marker: str, document: bytes) -> bytes:
    # Line ends stand only between the parts of a JSON document, where a blank is as good.
    return b"id: %b\ndata: %b\n\n" % (marker.encode(), document.translate(_LINE_ENDS))


class EventStream:
    """An answer that goes on for as long as its caller stays and the service waits."""

    def __init__(
        self,
        first: MessageList,
        pages: AsyncGenerator[MessageList],
        documents: Callable[[list[Message]], list[bytes]],
    ) -> None:
        """`pages` as `Service.follow` gives them; `documents` writes messages out as JSON."""
        self._first = first
        self._pages = pages
        self._documents = documents

    async def run(self, request_id: str, receive: Receive, send: Send) -> None:
        headers = [*_HEADERS, (b"x-openstack-request-id", request_id.encode())]
        async with aclosing(self._pages) as pages:
            with suppress(HungUp):
                async with while_there(receive):
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                    await send(_body(_START + self._events(self._first)))
                    try:
                        async for page in pages:
                            await send(_body(self._events(page) or _HEARTBEAT))
                    except ServiceError as error:  # the caller comes back, and is told then
                        log.warning("a stream ends: %s (%s)", error.message, request_id)
                    await send(_body(b"", more=False))

    def _events(self, page: MessageList) -> bytes:
        found = page.messages
        return b"".join(
            event(message.marker, document)
            for message, document in zip(found, self._documents(found), strict=True)
        )


def _body(data: bytes, *, more: bool = True) -> MutableMapping[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}
