"""The ASGI application: HTTP in, dispatcher, HTTP out.

The steps and their order are the API's: a request with two faults reports the first. See the protocol
document. Everything about queues, messages and claims is decided behind `Service`.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

from msgspec.structs import replace

from sukkal.core.context import Context
from sukkal.core.service import Service
from sukkal.errors import InvalidBody, InvalidIdentity, ServiceError
from sukkal.http import events, identity
from sukkal.http.answer import CLOSE, EXCHANGE, JSON, Answer, Exchange, line, split
from sukkal.http.events import EventStream, Send
from sukkal.http.hangup import HungUp, Receive, while_there
from sukkal.http.home import VERSIONS, home_document
from sukkal.http.identity import ClientIds, RequestIds
from sukkal.http.prefer import preferred_wait
from sukkal.http.render import Renderers, encode
from sukkal.http.routes import Endpoint, Match, Router
from sukkal.limits import MAX_PROJECT, MAX_WAIT
from sukkal.model import Message
from sukkal.operations import PATCH_MEDIA_TYPE, TABLE, Body, Operation
from sukkal.requests import ListMessages
from sukkal.wire import media
from sukkal.wire.status import status_of

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Headers = Mapping[bytes, bytes]

FORM = b"application/x-www-form-urlencoded"
RETRY_AFTER = "2"  # seconds, for a caller that meets a server about to stop
CACHEABLE = line("cache-control", "max-age=86400")
DISCARDED = 1 << 20  # bytes of an oversize body that are read to keep its connection
MEDIA_RANGES = (JSON, b"application/*", b"*/*")  # that match JSON, the most specific first

_REFUSES = re.compile(rb"q\s*=\s*0(\.0*)?")


class Refused(Exception):
    """An answer that HTTP itself gives, before any operation is asked."""

    def __init__(self, status: int, title: str, description: str | None = None, lines: bytes = b"") -> None:
        super().__init__(title)
        self.status = status
        self.document = {"title": title} | ({"description": description} if description else {})
        self.lines = lines


class HttpApp:
    """`clock` gives seconds since the epoch. `draining` refuses new requests; `in_flight` counts others."""

    def __init__(
        self,
        service: Service,
        *,
        clock: Callable[[], float],
        client_ids: ClientIds | None = None,
        admin_mode: bool = False,
        checksums: bool = False,
    ) -> None:
        self.draining = False
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._request_ids = RequestIds()
        self._service = service
        self._clock = clock
        self._client_ids = client_ids or ClientIds()
        self._router = Router(op for op in TABLE if admin_mode or not op.admin)
        self._home = home_document(admin_mode=admin_mode)
        renderers = Renderers(queue_defaults=service.queue_defaults, checksums=checksums)
        self._renderers = renderers.by_operation
        self._documents = renderers.documents

    async def drained(self) -> None:
        """Return when no request is in flight."""
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = self._request_ids.next()
        # Taken out: it refers back to the scope, and a ring would be the garbage collector's to find.
        exchange: Exchange | None = scope.pop(EXCHANGE, None)
        self.in_flight += 1
        try:
            try:
                if self.draining:
                    raise _stopping()
                answer = await self._answer(scope, receive, exchange, request_id)
            except Refused as refused:
                answer = _error(refused.status, refused.document, refused.lines)
            except ServiceError as error:
                answer = _error(status_of(error), {"title": error.title, "description": error.message})
            except HungUp:
                return
            except Exception:
                log.exception("request failed", extra={"request_id": request_id, "path": scope["path"]})
                answer = _error(
                    500,
                    {
                        "title": "Internal server error",
                        "description": f"The request could not be served. It is logged as {request_id}.",
                    },
                )
            if isinstance(answer, EventStream):
                await answer.run(request_id, receive, send)
                return
            head = answer.head(request_id)
            if exchange is None or not exchange.send(answer.status, head, answer.body):
                await send({"type": "http.response.start", "status": answer.status, "headers": split(head)})
                await send({"type": "http.response.body", "body": answer.body})
        finally:
            self.in_flight -= 1
            self._idle.set()

    async def _answer(
        self, scope: Scope, receive: Receive, exchange: Exchange | None, request_id: str
    ) -> Answer | EventStream:
        path, method, query = scope["path"], scope["method"], scope["query_string"]
        if path == "/":
            return self._versions(method)
        found = self._router.match(path)
        if found is None and path != "/v2/":
            raise Refused(404, "404 Not Found")
        if method == "OPTIONS":
            return Answer(200)
        headers = _headers(scope["headers"])
        if b"content-type" in headers and b"content-length" in headers:
            _check_content_type(headers[b"content-type"])
        accept = headers.get(b"accept")
        stream = accept is not None and events.wanted(accept) and _is_streamed(found, method, query)
        if stream:
            headers = events.identified(headers, query)
        elif accept is not None and not admits_json(accept):
            raise Refused(
                406,
                "406 Not Acceptable",
                "Endpoint only serves `application/json`; specify client-side media type support "
                'with the "Accept" header.',
            )
        client = self._client_ids.read(headers)
        ctx = Context(
            project=identity.project(headers),
            client=client,
            request_id=request_id,
            now=self._clock(),
            roles=identity.roles(headers),
        )
        if found is None:
            return self._home_document(method)
        resource = found.resource
        if not found.well_named or (len(ctx.project) > MAX_PROJECT and found.fields):
            raise InvalidIdentity(
                "The format of the submitted queue name or project id is not valid.",
                title="Invalid queue identification",
            )
        endpoint = resource.endpoint(method, query)
        if endpoint is None:
            raise _method_not_allowed(resource.allow)
        operation = endpoint.operation
        self._service.authorize(operation, ctx)
        fields: dict[str, Any] = found.fields.copy()
        if query:
            fields |= endpoint.query.fields(query)
        preferred: int | None = None
        if stream:
            return await self._stream(operation, ctx, fields, headers)
        if endpoint.waits and b"prefer" in headers and "wait" not in fields:
            preferred = preferred_wait(headers[b"prefer"])
        if operation.body is not Body.NONE:
            raw = await self._read_body(operation, ctx, headers, receive, exchange, fields["queue"])
            fields |= _body_fields(endpoint, raw, headers)
        request = operation.request(**fields)
        wait = fields.get("wait", 0) if preferred is None else min(preferred, MAX_WAIT)
        if wait:
            async with while_there(receive):
                result = await self._service.call(operation, ctx, replace(request, wait=wait))
            ctx = replace(ctx, now=self._clock())  # ages are told as they are when the answer goes
        else:
            result = await self._service.call(operation, ctx, request)
        renderer = self._renderers.get(operation.name)
        if renderer is None:
            return Answer(operation.success[0])
        answer = renderer(ctx, request, result)
        if preferred is not None:
            return replace(answer, lines=answer.lines + line("preference-applied", f"wait={wait}"))
        return answer

    async def _stream(
        self, operation: Operation, ctx: Context, fields: dict[str, Any], headers: Headers
    ) -> EventStream:
        """The stream, once its first page is there: what is wrong with the request has an ordinary answer."""
        last_seen = headers.get(b"last-event-id")
        if last_seen:
            fields["marker"] = last_seen.decode("latin-1")
        request = ListMessages(**fields | {"wait": 0})
        pages = self._service.follow(operation, ctx, request, pause=events.HEARTBEAT_SECONDS)
        first = await anext(pages)

        def documents(found: list[Message]) -> list[bytes]:
            return self._documents(replace(ctx, now=self._clock()), request.queue, found)

        return EventStream(first, pages, documents)

    def _versions(self, method: str) -> Answer:
        if method == "OPTIONS":
            return Answer(200)
        if method != "GET":
            raise _method_not_allowed("GET, OPTIONS")
        return Answer(300, VERSIONS)

    def _home_document(self, method: str) -> Answer:
        if method != "GET":
            raise _method_not_allowed("GET, OPTIONS")
        return Answer(200, self._home, CACHEABLE, b"application/json-home")

    # --- bodies --------------------------------------------------------------------------------------

    async def _read_body(
        self,
        operation: Operation,
        ctx: Context,
        headers: Headers,
        receive: Receive,
        exchange: Exchange | None,
        queue: str,
    ) -> bytes:
        """The body, which is refused when it is longer than the operation allows, before it is all read."""
        limit = await self._service.body_limit(operation, ctx, queue)
        length = headers.get(b"content-length")
        if length is None or int(length) <= limit:
            raw = exchange.body() if exchange is not None else None
            if raw is None:
                raw = await _read(receive, limit)
            if raw is not None and len(raw) <= limit:
                return raw
        error = await self._service.too_large(operation, ctx, queue)
        # What is left of the body is read and dropped, so that the caller gets to see the answer;
        # unless it is so long that the connection is better closed.
        far_over = length is not None and int(length) > limit + DISCARDED
        raise Refused(400, error.title, error.message, CLOSE if far_over else b"")


def _is_streamed(found: Match | None, method: str, query: bytes) -> bool:
    endpoint = found.resource.endpoint(method, query) if found is not None else None
    return endpoint is not None and endpoint.operation.streamed


def _body_fields(endpoint: Endpoint, raw: bytes, headers: Headers) -> dict[str, Any]:
    """The fields of the request that its body fills."""
    form = endpoint.operation.body
    if form is Body.MESSAGES:
        if not raw:
            raise _no_body(headers)
        return {"messages": media.messages(raw)}
    if form is Body.CHANGES:
        _check_patch_type(headers.get(b"content-type", b""))
        if not raw:
            raise InvalidBody("PATCH body could not be empty for update.")
        changes = media.document(raw)
        if not isinstance(changes, list):
            raise InvalidBody("Request body must be a JSON array of operation objects.")
        return {"changes": changes}
    if not raw:
        if form is Body.REQUIRED:
            raise _no_body(headers)
        return {}
    document = media.json_object(raw)
    if form is Body.METADATA:
        return {"metadata": document}
    return media.fields(document, endpoint.body_types, endpoint.operation.required)


def _headers(given: list[tuple[bytes, bytes]]) -> Headers:
    """Headers by name; those given more than once are joined by commas, as HTTP has it."""
    headers = dict(given)
    if len(headers) < len(given):
        headers = {}
        for name, value in given:
            headers[name] = headers[name] + b"," + value if name in headers else value
    return headers


def _check_content_type(value: bytes) -> None:
    if value.lower() == FORM:
        raise Refused(
            400,
            "Invalid Content-Type",
            "Endpoint does not accept `application/x-www-form-urlencoded` content; currently supported "
            "media type is `application/json`; specify proper client-side media type with the "
            '"Content-Type" header.',
        )


def _check_patch_type(value: bytes) -> None:
    if value.split(b";")[0].strip() != PATCH_MEDIA_TYPE.encode():
        raise Refused(
            415,
            "415 Unsupported Media Type",
            f"Accepted media type for PATCH: {{'Accept-Patch': '{PATCH_MEDIA_TYPE}'}}.",
        )


@lru_cache(256)
def admits_json(accept: bytes) -> bool:
    """Whether an `Accept` header admits JSON: what its most specific matching range says."""
    found: dict[bytes, bool] = {}
    for media_range in accept.lower().split(b","):
        name, *parameters = (part.strip() for part in media_range.split(b";"))
        if name in MEDIA_RANGES:
            found[name] = not any(_REFUSES.fullmatch(parameter) for parameter in parameters)
    return next((found[name] for name in MEDIA_RANGES if name in found), not accept.strip())


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The body; None as soon as it is longer than `limit`. Raises HungUp when it does not come to its end."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HungUp
        chunk: bytes = message.get("body", b"")
        body = body + chunk if body else chunk
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return body


def _no_body(headers: Headers) -> InvalidBody:
    """An empty body is unparsable JSON; none at all is missing."""
    if b"content-length" in headers:
        return InvalidBody("Request body could not be parsed.")
    return InvalidBody("Request body can not be empty")


def _method_not_allowed(allow: str) -> Refused:
    return Refused(405, "405 Method Not Allowed", None, line("allow", allow))


def _stopping() -> Refused:
    return Refused(
        503,
        "Service temporarily unavailable",
        "The server is stopping. Please try again in a few seconds.",
        line("retry-after", RETRY_AFTER) + CLOSE,
    )


def _error(status: int, document: dict[str, str], lines: bytes = b"") -> Answer:
    return Answer(status, encode(document), b"vary: Accept\r\n" + lines)
