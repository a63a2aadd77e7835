"""Spans: of a request, of the operation it asks for, of calls of the store, of telling subscribers.

Those of deliveries are in traces/deliveries.py.

Each is put round its subject when the service is assembled, so that without tracing nothing is in the way.
A message brings the trace it was posted in along (wire/bodies.py): whoever is handed it has a link to there,
and subscribers are told of it as part of that trace.

    request (server)                 HTTP or WebSocket; its parent is the caller's span, if it names one
    └── operation                    linked to the spans that posted the messages it hands out
        └── store (client)           one for each call
    notify (producer)                below the span that posted the message, in whatever process it is told
    deliver (producer)               the same, for each attempt to deliver to a subscriber outside
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Protocol

from opentelemetry import propagate
from opentelemetry.context import Context as Surroundings
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from sukkal import __version__
from sukkal.core.carrier import Told
from sukkal.core.context import Context
from sukkal.core.journal import Call
from sukkal.errors import ServiceError
from sukkal.http.answer import EXCHANGE
from sukkal.model import Message, QueueKey
from sukkal.operations import Operation
from sukkal.stores.observed import Ended
from sukkal.wire.bodies import trace_of
from sukkal.wire.status import status_of
from sukkal.ws.responder import Answering, Question, Reply

OURS = "sukkal"  # the vendor in a trace's state; its presence: the trace goes to OSProfiler
PARENT = "osprofiler.parent_id"  # attribute of a request's span: OSProfiler's id of its parent
MESSAGE_TRACE = b"x-message-trace"  # a caller who sends it is told of the traces of messages in an answer

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_TO_OSPROFILER = 0x80  # in the flags that a message carries; W3C has no use for this bit

App = Callable[[Any, Any, Any], Awaitable[None]]


class Origin(Protocol):
    """Another place than W3C's headers where a caller may name its span."""

    def __call__(self, headers: Mapping[str, str]) -> tuple[SpanContext, dict[str, str]] | None:
        """The caller's span, and attributes for that of the request; None when it names none."""
        ...


class _Served:
    """What becomes known of a request while it is served."""

    __slots__ = ("handed", "operation")

    def __init__(self, *, asked: bool) -> None:
        self.operation: Operation | None = None
        self.handed: list[bytes] | None = [] if asked else None  # traces of messages, in the answer's order


_SERVED: ContextVar[_Served | None] = ContextVar("served", default=None)


class Spans:
    """Puts spans round parts of the service; core's `Carrier`."""

    def __init__(self, provider: TracerProvider, origin: Origin | None = None) -> None:
        self._provider = provider
        self._origin = origin
        self._tracer = provider.get_tracer("sukkal", __version__)

    def close(self) -> None:
        """Hand over what is left to be told. It may take seconds."""
        self._provider.shutdown()

    # --- requests ------------------------------------------------------------------------------------

    def http(self, app: App) -> App:
        """An ASGI application with a span for each request."""

        async def served(scope: Any, receive: Any, send: Any) -> None:
            scope.pop(EXCHANGE, None)  # that way would go round us
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            about = _Served(asked=MESSAGE_TRACE.decode() in headers)
            surroundings, links, attributes = self._from(headers)
            attributes |= {
                "http.request.method": scope["method"],
                "url.scheme": scope.get("scheme", "http"),
                "url.path": scope["path"],  # never the query, where a caller may say who it is
            }
            if scope.get("client"):
                attributes["client.address"] = scope["client"][0]
            if "user-agent" in headers:
                attributes["user_agent.original"] = headers["user-agent"]

            async def answered(message: Any) -> None:
                if message["type"] == "http.response.start":
                    _note_status(span, "http.response.status_code", message["status"])
                    _note_request_id(span, message["headers"])
                    if about.handed:
                        traces = b", ".join(traceparent(trace) for trace in about.handed)
                        message = {**message, "headers": [*message["headers"], (MESSAGE_TRACE, traces)]}
                await send(message)

            with self._tracer.start_as_current_span(
                scope["method"], surroundings, SpanKind.SERVER, attributes, links
            ) as span:
                token = _SERVED.set(about)
                try:
                    await app(scope, receive, answered)
                finally:
                    _SERVED.reset(token)
                    if about.operation is not None:
                        method, route = about.operation.http
                        span.update_name(f"{method} {route}")
                        span.set_attribute("http.route", route)

        return served

    def websocket(self, answer: Answering) -> Answering:
        """`answer`, with a span for each request of a connection."""

        async def answered(question: Question) -> Reply:
            headers = question.kind.medium.decoder(dict[str, Any])(question.request.headers)
            named = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
            surroundings, links, attributes = self._from(named)
            attributes |= {
                "network.protocol.name": "websocket",
                "sukkal.action": question.action.name,
                "sukkal.request_id": question.ctx.request_id,
            }
            with self._tracer.start_as_current_span(
                question.action.name, surroundings, SpanKind.SERVER, attributes, links
            ) as span:
                reply = await answer(question)
                _note_status(span, "sukkal.status", reply.status)
                return reply

        return answered

    def _from(self, headers: Mapping[str, str]) -> tuple[Surroundings, list[Link], dict[str, Any]]:
        """Where a request comes from: its surroundings, links and attributes.

        What another origin names is the parent; then what W3C's headers name is linked to.
        """
        surroundings = propagate.extract(headers, Surroundings())
        caller = get_current_span(surroundings).get_span_context()
        if OURS in caller.trace_state:  # only we say this
            caller = _context(caller, caller.trace_state.delete(OURS))
            surroundings = set_span_in_context(NonRecordingSpan(caller), surroundings)
        named = self._origin(headers) if self._origin is not None else None
        if named is None:
            return surroundings, [], {}
        parent, attributes = named
        links = [Link(caller)] if caller.is_valid else []
        return set_span_in_context(NonRecordingSpan(parent), surroundings), links, {**attributes}

    # --- below requests ------------------------------------------------------------------------------

    def operations(self, call: Call) -> Call:
        """`call`, with a span for each."""

        async def called(operation: Operation, ctx: Context, request: Any) -> Any:
            served = _SERVED.get()
            if served is not None:
                served.operation = operation
            attributes = {
                "messaging.system": "sukkal",
                "messaging.operation.name": operation.name,
                "sukkal.project": ctx.project,
            }
            queue = getattr(request, "queue", None)
            if isinstance(queue, str):
                attributes["messaging.destination.name"] = queue
            with self._tracer.start_as_current_span(
                operation.name, attributes=attributes, record_exception=False, set_status_on_exception=False
            ) as span:
                try:
                    return await call(operation, ctx, request)
                except BaseException as exc:
                    _note_failure(span, exc)
                    raise

        return called

    def store(self, verb: str) -> Ended:
        """Begin a span for a call of the store; to be called when it ends."""
        span = self._tracer.start_span(
            f"store {verb}", kind=SpanKind.CLIENT, attributes={"db.operation.name": verb}
        )

        def ended(exc: BaseException | None) -> None:
            if exc is not None:
                _note_failure(span, exc)
            span.end()

        return ended

    # --- messages ------------------------------------------------------------------------------------

    def current(self) -> bytes:
        """The trace under way. One that nobody will see is not worth its bytes in each message."""
        context = get_current_span().get_span_context()
        return packed(context) if context.is_valid and context.trace_flags.sampled else b""

    def handed(self, trace: bytes) -> None:
        served = _SERVED.get()
        if served is not None and served.handed is not None:
            served.handed.append(trace)
        span = get_current_span()
        if trace and isinstance(span, ReadableSpan) and span.is_recording():
            posted = unpacked(trace)
            parent = span.parent
            if parent is None or parent.span_id != posted.span_id:
                span.add_link(posted)

    def telling(self, told: Told) -> Told:
        def telling(queue: QueueKey, message: Message) -> None:
            trace = trace_of(message.body)
            if not trace:
                told(queue, message)
                return
            with self.continued("notify", trace, {"messaging.destination.name": queue.name}):
                told(queue, message)

        return telling

    def continued(
        self, name: str, trace: bytes, attributes: dict[str, Any], *, others: Sequence[bytes] = ()
    ) -> AbstractContextManager[Span]:
        """A span of what is done later with a message, in the trace it was posted in.

        It has links to `others`, the traces of messages with which the same is done at once.
        """
        surroundings = set_span_in_context(NonRecordingSpan(unpacked(trace)), Surroundings())
        links = [Link(unpacked(other)) for other in others]
        return self._tracer.start_as_current_span(name, surroundings, SpanKind.PRODUCER, attributes, links)


def packed(context: SpanContext) -> bytes:
    """A span's context as messages carry it."""
    flags = context.trace_flags | (_TO_OSPROFILER if OURS in context.trace_state else 0)
    return context.trace_id.to_bytes(16, "big") + context.span_id.to_bytes(8, "big") + bytes([flags])


def unpacked(trace: bytes) -> SpanContext:
    flags = trace[24]
    state = TraceState([(OURS, "1")]) if flags & _TO_OSPROFILER else TraceState()
    return SpanContext(
        int.from_bytes(trace[:16], "big"),
        int.from_bytes(trace[16:24], "big"),
        is_remote=True,
        trace_flags=TraceFlags(flags & ~_TO_OSPROFILER),
        trace_state=state,
    )


def traceparent(trace: bytes) -> bytes:
    """What a message carries, as W3C writes it; `-` for nothing."""
    if not trace:
        return b"-"
    flags = trace[24] & ~_TO_OSPROFILER
    return b"00-%b-%b-%02x" % (trace[:16].hex().encode(), trace[16:24].hex().encode(), flags)


def sampled(trace_id: int, span_id: int) -> SpanContext:
    """The context of a caller's span whose trace goes to OSProfiler."""
    return SpanContext(
        trace_id, span_id, is_remote=True, trace_flags=_SAMPLED, trace_state=TraceState([(OURS, "1")])
    )


def _context(context: SpanContext, state: TraceState) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags, state)


def _note_status(span: Span, attribute: str, status: int) -> None:
    span.set_attribute(attribute, status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


def _note_request_id(span: Span, headers: list[tuple[bytes, bytes]]) -> None:
    for name, value in headers:
        if name == b"x-openstack-request-id":
            span.set_attribute("sukkal.request_id", value.decode())


def _note_failure(span: Span, exc: BaseException) -> None:
    """A refusal is an answer, and no fault of ours."""
    span.set_attribute("error.type", type(exc).__name__)
    if not isinstance(exc, ServiceError) or status_of(exc) >= 500:
        span.set_status(StatusCode.ERROR, str(exc))
        span.record_exception(exc)
