"""The ASGI application: HTTP in, dispatcher, HTTP out.

The steps and their order are the API's: a request with two faults reports the first. See the protocol
document. Everything about queues, messages and claims is decided behind `Service`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, MutableMapping
from time import perf_counter
from typing import Any

from msgspec.structs import replace

from sukkal.core.context import Context
from sukkal.core.journal import Journal
from sukkal.core.service import Service
from sukkal.errors import AlreadySubscribed, ServiceError
from sukkal.http import content, events, identity
from sukkal.http.accept import chosen
from sukkal.http.answer import CLOSE, EXCHANGE, Answer, Exchange, Refused, line, split
from sukkal.http.events import EventStream, Send
from sukkal.http.hangup import HungUp, Receive, while_there
from sukkal.http.identity import REQUEST_ID_HEADER
from sukkal.http.prefer import preferred_wait
from sukkal.http.render import Renderers
from sukkal.http.routes import TRANSPORT, Endpoint, Match, Router
from sukkal.limits import MAX_PROJECT, MAX_WAIT
from sukkal.model import Message
from sukkal.operations import Body, Operation, offered
from sukkal.requests import ListMessages
from sukkal.wire.home import VERSIONS, home_document
from sukkal.wire.identity import NOBODY, ClientIds, RequestIds, bad_name
from sukkal.wire.media import JSON, MSGPACK, Medium
from sukkal.wire.status import status_of

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Headers = Mapping[bytes, bytes]

JSON_TYPE = b"application/json"
FORM = b"application/x-www-form-urlencoded"
RETRY_AFTER = "2"  # seconds, for a caller whose request would be served later or elsewhere
VARIES = line("vary", "Accept")
CACHEABLE = line("cache-control", "max-age=86400") + VARIES
MEDIA = (JSON, MSGPACK)
OTHER = "other"  # as figures have it: what asks for no operation, or for none that there is
HUNG_UP = 499  # counted instead of a status when the caller went away before it had an answer
DISCARDED = 1 << 20  # bytes of an oversize body that are read to keep its connection


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
        journal: Journal | None = None,
    ) -> None:
        self.draining = False
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._request_ids = RequestIds()
        self._service = service
        self._clock = clock
        self._callers = identity.Callers(client_ids or ClientIds())
        pooling = service.pooling
        self._router = Router(offered(admin_mode=admin_mode, pooling=pooling), service.figures)
        self._took_other = service.figures.of(TRANSPORT, OTHER).took
        self._journal = journal or Journal()
        self._tell_from = self._journal.tell_from
        self._home = {
            medium: home_document(admin_mode=admin_mode, pooling=pooling, medium=medium) for medium in MEDIA
        }
        self._renderers = {medium: Renderers(medium, checksums=checksums) for medium in MEDIA}

    async def drained(self) -> None:
        """Return when no request is in flight; to be asked once `draining` is set."""
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = perf_counter()
        request_id = self._request_ids.next()
        # Taken out: it refers back to the scope, and a ring would be the garbage collector's to find.
        exchange: Exchange | None = scope.pop(EXCHANGE, None)
        self.in_flight += 1
        try:
            try:
                if self.draining:
                    raise _stopping()
                answer = await self._answer(scope, receive, exchange, request_id, begun)
            except Refused as refused:
                answer = _error(scope, refused.status, refused.document, refused.lines)
                self._count(scope, request_id, refused.status, begun)
            except ServiceError as error:
                document = {"title": error.title, "description": error.message}
                status = status_of(error)
                lines = _LATER if status == 503 else b""
                if isinstance(error, AlreadySubscribed):
                    lines = line("location", scope["path"])
                answer = _error(scope, status, document, lines)
                self._count(scope, request_id, status, begun)
            except HungUp:
                self._count(scope, request_id, HUNG_UP, begun, waited=True)
                return
            except Exception:
                log.exception("request failed", extra=self._about(scope, request_id))
                self._count(scope, request_id, 500, begun)
                answer = _error(
                    scope,
                    500,
                    {
                        "title": "Internal server error",
                        "description": f"The request could not be served. It is logged as {request_id}.",
                    },
                )
            if isinstance(answer, EventStream):
                await answer.run(request_id, receive, send)
                self._count(scope, request_id, 200, begun, waited=True)
                return
            head = answer.head(request_id)
            if exchange is None or not exchange.answer(answer.status, head, answer.body):
                await send({"type": "http.response.start", "status": answer.status, "headers": split(head)})
                await send({"type": "http.response.body", "body": answer.body})
        finally:
            self.in_flight -= 1
            if self.draining:
                self._idle.set()

    async def _answer(
        self, scope: Scope, receive: Receive, exchange: Exchange | None, request_id: str, begun: float
    ) -> Answer | EventStream:
        """The answer; it is counted, unless it is a stream."""
        path, method, query = scope["path"], scope["method"], scope["query_string"]
        if path == "/":
            return self._counted(scope, self._versions(scope), request_id, begun)
        found = self._router.match(path)
        if found is None and path != "/v2/":
            raise Refused(404, "404 Not Found")
        if method == "OPTIONS":
            return self._counted(scope, Answer(200), request_id, begun)
        headers = _headers(scope["headers"])
        signed = identity.SIGNATURE_HEADER in headers
        if signed:
            self._verify(headers, method, path)
        sent_as = headers.get(b"content-type", b"")
        if sent_as and sent_as != JSON_TYPE and b"content-length" in headers:
            _check_content_type(sent_as)
        accept = headers.get(b"accept", JSON_TYPE)
        plain = accept == JSON_TYPE
        medium = JSON if plain else chosen(accept)
        stream = not plain and events.wanted(accept) and _is_streamed(found, method, query)
        if stream:
            medium, headers = JSON, events.identified(headers, query)
        if medium is None:
            raise Refused(
                406,
                "406 Not Acceptable",
                "Endpoint only serves `application/json` and `application/x-msgpack`; specify client-side "
                'media type support with the "Accept" header.',
            )
        client, project, roles = self._callers.read(headers)
        ctx = Context(project=project, client=client, request_id=request_id, now=self._clock(), roles=roles)
        if signed:
            ctx = replace(ctx, roles=NOBODY, signed=True)
        if REQUEST_ID_HEADER in headers:
            ctx = replace(ctx, global_request_id=identity.global_request_id(headers))
        if found is None:
            return self._counted(scope, self._home_document(method, medium), request_id, begun)
        resource = found.resource
        if not found.well_named or (len(ctx.project) > MAX_PROJECT and found.fields):
            raise bad_name("topic" if resource.of_topic else "queue")
        endpoint = resource.endpoint(method, query)
        if endpoint is None:
            raise _method_not_allowed(resource.allow)
        operation = endpoint.operation
        self._service.authorize(operation, ctx)
        if operation.delegates and not signed:
            ctx = replace(ctx, credentials=identity.credentials(headers))
        fields: dict[str, Any] = found.fields.copy()
        if query:
            fields |= endpoint.query.fields(query)
        preferred: int | None = None
        if stream:
            return await self._stream(operation, ctx, fields, headers)
        if endpoint.waits and b"prefer" in headers and "wait" not in fields:
            preferred = preferred_wait(headers[b"prefer"])
        if operation.body is not Body.NONE:
            queue = fields.get("queue", "")
            sent = content.media_type(sent_as)
            octets = sent == content.OCTETS and operation.body is Body.MESSAGES
            times = content.octets_times(query) if octets else {}
            raw = exchange.whole_body() if exchange is not None else None
            limit = self._service.known_body_limit(operation, ctx, queue)
            if raw is None or limit is None or len(raw) > limit:
                raw = await self._read_body(operation, ctx, headers, receive, queue)
            if octets:
                fields |= content.octets_fields(raw, times)
            else:
                fields |= content.body_fields(endpoint, raw, sent, announced=b"content-length" in headers)
        request = operation.request(**fields)
        wait = fields.get("wait", 0) if preferred is None else min(preferred, MAX_WAIT)
        if wait:
            async with while_there(receive):
                result = await self._service.call(operation, ctx, replace(request, wait=wait))
            ctx = replace(ctx, now=self._clock())  # ages are told as they are when the answer goes
        else:
            result = await self._service.call(operation, ctx, request)
        renderers = self._renderers[medium]
        renderer = renderers.by_operation.get(operation.name)
        if renderer is None:
            answer = Answer(operation.success[0], media_type=renderers.media_type)
        else:
            answer = renderer(ctx, request, result)
        if preferred is not None:
            answer = replace(answer, lines=answer.lines + line("preference-applied", f"wait={wait}"))
        if operation.repeats:
            asked = path.encode() + (b"?" + query if query else b"")
            answer = replace(answer, lines=answer.lines + b"content-location: %b\r\n" % asked)
        seconds = perf_counter() - begun
        (endpoint.took_waiting if wait else endpoint.took)[answer.status].append(seconds)
        if seconds >= self._tell_from:
            self._tell(scope, request_id, answer.status, seconds, waited=bool(wait))
        return answer

    def _verify(self, headers: Headers, method: str, path: str) -> None:
        """Refuse a pre-signed request unless it names a project, and its signature covers it."""
        project, grant = identity.named_project(headers), identity.grant(headers)
        if project is None or not self._service.signer.allows(grant, method, path, project, self._clock()):
            raise Refused(404, "404 Not Found")

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
            return self._renderers[JSON].documents(replace(ctx, now=self._clock()), request.queue, found)

        return EventStream(first, pages, documents)

    # --- counting and telling ------------------------------------------------------------------------

    def _counted(self, scope: Scope, answer: Answer, request_id: str, begun: float) -> Answer:
        self._count(scope, request_id, answer.status, begun)
        return answer

    def _count(
        self, scope: Scope, request_id: str, status: int, begun: float, *, waited: bool = False
    ) -> None:
        """Count an answer other than the ordinary: which operation was meant is looked up once more."""
        endpoint = self._endpoint(scope)
        seconds = perf_counter() - begun
        if endpoint is None:
            self._took_other[status].append(seconds)
        else:
            (endpoint.took_waiting if waited else endpoint.took)[status].append(seconds)
        if seconds >= self._tell_from:
            self._tell(scope, request_id, status, seconds, waited=waited)

    def _endpoint(self, scope: Scope) -> Endpoint | None:
        found = self._router.match(scope["path"])
        return found.resource.endpoint(scope["method"], scope["query_string"]) if found is not None else None

    def _tell(self, scope: Scope, request_id: str, status: int, seconds: float, *, waited: bool) -> None:
        self._journal.answered(self._about(scope, request_id) | {"status": status}, seconds, waited=waited)

    def _about(self, scope: Scope, request_id: str) -> dict[str, Any]:
        """What a log line about a request carries. Never its query, where a caller may say who it is."""
        headers, endpoint, peer = _headers(scope["headers"]), self._endpoint(scope), scope.get("client")
        said = {
            "request_id": request_id,
            "global_request_id": identity.global_request_id(headers),
            "operation": endpoint.operation.name if endpoint is not None else None,
            "project": identity.named_project(headers),
            "method": scope["method"],
            "path": scope["path"],
            "peer": peer[0] if peer else None,
        }
        return {name: value for name, value in said.items() if value is not None}

    # --- what is no operation ------------------------------------------------------------------------

    def _versions(self, scope: Scope) -> Answer:
        if scope["method"] == "OPTIONS":
            return Answer(200)
        if scope["method"] != "GET":
            raise _method_not_allowed("GET, OPTIONS")
        medium = _preferred(scope)
        return Answer(300, medium.encode(VERSIONS), media_type=medium.name.encode())

    def _home_document(self, method: str, medium: Medium) -> Answer:
        if method != "GET":
            raise _method_not_allowed("GET, OPTIONS")
        media_type = b"application/json-home" if medium is JSON else medium.name.encode()
        return Answer(200, self._home[medium], CACHEABLE, media_type)

    # --- bodies --------------------------------------------------------------------------------------

    async def _read_body(
        self, operation: Operation, ctx: Context, headers: Headers, receive: Receive, queue: str
    ) -> bytes:
        """The body, which is refused when it is longer than the operation allows, before it is all read."""
        limit = await self._service.body_limit(operation, ctx, queue)
        length = headers.get(b"content-length")
        if length is None or int(length) <= limit:
            raw = await _read(receive, limit)
            if raw is not None:
                return raw
        error = await self._service.too_large(operation, ctx, queue)
        # What is left of the body is read and dropped, so that the caller gets to see the answer;
        # unless it is so long that the connection is better closed.
        far_over = length is not None and int(length) > limit + DISCARDED
        raise Refused(400, error.title, error.message, CLOSE if far_over else b"")


def _is_streamed(found: Match | None, method: str, query: bytes) -> bool:
    endpoint = found.resource.endpoint(method, query) if found is not None else None
    return endpoint is not None and endpoint.operation.streamed


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
            "media types are `application/json` and `application/x-msgpack`; specify proper client-side "
            'media type with the "Content-Type" header.',
        )


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


def _method_not_allowed(allow: str) -> Refused:
    return Refused(405, "405 Method Not Allowed", None, line("allow", allow))


_LATER = line("retry-after", RETRY_AFTER)


def _stopping() -> Refused:
    return Refused(
        503,
        "Service temporarily unavailable",
        "The server is stopping. Please try again in a few seconds.",
        _LATER + CLOSE,
    )


def _preferred(scope: Scope) -> Medium:
    """The medium for an answer that is given whatever the caller accepts."""
    accept = _headers(scope["headers"]).get(b"accept", b"")
    return chosen(accept) or JSON


def _error(scope: Scope, status: int, document: dict[str, str], lines: bytes = b"") -> Answer:
    medium = _preferred(scope)
    return Answer(status, medium.encode(document), VARIES + lines, medium.name.encode())
