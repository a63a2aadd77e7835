"""Spans as OpenTelemetry's own SDK sees them, of a service in the test's process."""

import asyncio
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

sys.path.append(str(Path(__file__).parents[1] / "http"))

from asgi_caller import Reply, Web
from core.world import Stage
from hand_clock import HandClock

from sukkal.core.context import Context
from sukkal.core.service import Service
from sukkal.model import QueueKey
from sukkal.operations import BY_NAME
from sukkal.requests import CreateSubscription
from sukkal.stores.observed import Observed
from sukkal.traces.spans import Spans, packed, traceparent, unpacked

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
ONE = {"messages": [{"body": {"n": 1}, "ttl": 300}]}


class Site:
    """A traced service over a store in the test's reach, and the spans that have ended."""

    def __init__(self, *, key: str | None = None, recording: bool = True) -> None:
        self._ended = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        if not recording:
            provider.sampler = ALWAYS_OFF
        provider.add_span_processor(SimpleSpanProcessor(self._ended))
        self.spans = Spans(provider)
        self.stage = Stage()
        clock = HandClock()
        service = Service(
            Observed(self.stage, self.spans.store),  # type: ignore[arg-type]
            clock=clock,
            encryption_key=key,
            carrier=self.spans,
        )
        service.wrap_calls(self.spans.operations)
        self.web = Web(service=service)
        self.web.clock = clock
        self.web.app = self.spans.http(self.web.app)  # type: ignore[assignment]

    def ended(self) -> dict[str, ReadableSpan]:
        """By name, those since the last call."""
        spans = {span.name: span for span in self._ended.get_finished_spans()}
        self._ended.clear()
        return spans

    async def ask(self, *args: object, **headers: str) -> Reply:
        return await self.web.ask(*args, **headers)  # type: ignore[arg-type]

    async def stored(self, queue: str) -> list[bytes]:
        key = QueueKey("acme", queue)
        return [message.body for message in await self.stage.messages.pop(key, limit=9, now=self.web.now)]


def parent(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def own(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


async def test_request_operation_and_store_are_spans_below_the_callers() -> None:
    site = Site()
    posted = await site.ask("POST /v2/queues/jobs/messages?x=secret", ONE, traceparent=TRACEPARENT)
    assert posted.status == 201
    spans = site.ended()
    request = spans["POST /v2/queues/{queue_name}/messages"]
    operation, store = spans["messages.post"], spans["store messages.append"]
    assert {f"{span.context.trace_id:032x}" for span in spans.values() if span.context} == {TRACE}
    assert f"{parent(request):016x}" == CALLER
    assert (parent(operation), parent(store)) == (own(request), own(operation))
    assert (request.kind, store.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    attributes = dict(request.attributes or {})
    assert attributes["http.response.status_code"] == 201
    assert attributes["http.route"] == "/v2/queues/{queue_name}/messages"
    assert attributes["sukkal.request_id"] == posted.headers["x-openstack-request-id"]
    assert "secret" not in str(attributes)
    about = dict(operation.attributes or {})
    assert (about["sukkal.project"], about["messaging.destination.name"]) == ("acme", "jobs")


async def test_consumer_is_linked_to_the_producer_and_told_when_it_asks() -> None:
    site = Site()
    await site.ask("POST /v2/queues/jobs/messages", ONE, traceparent=TRACEPARENT)
    producer = own(site.ended()["messages.post"])
    told = f"00-{TRACE}-{producer:016x}-01"
    for line, name, body in (
        ("GET /v2/queues/jobs/messages?echo=true", "messages.list", None),
        ("POST /v2/queues/jobs/claims", "claims.create", {"ttl": 60, "grace": 60}),
        ("DELETE /v2/queues/jobs/messages?pop=1", "messages.delete_many", None),
    ):
        if "pop" in line:
            await site.ask("POST /v2/queues/jobs/messages", ONE, traceparent=TRACEPARENT)
            producer = own(site.ended()["messages.post"])
            told = f"00-{TRACE}-{producer:016x}-01"
        answer = await site.ask(line, body, x_message_trace="1")
        (message,) = answer.document["messages"]
        assert message["body"] == {"n": 1}
        assert answer.headers["x-message-trace"] == told
        span = site.ended()[name]
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" != TRACE, "what is done with a message is a trace of its own"
        (link,) = span.links
        assert (f"{link.context.trace_id:032x}", link.context.span_id) == (TRACE, producer)


async def test_nobody_is_told_who_did_not_ask() -> None:
    site = Site()
    await site.ask("POST /v2/queues/jobs/messages", ONE, traceparent=TRACEPARENT)
    answer = await site.ask("GET /v2/queues/jobs/messages?echo=true", traceparent=TRACEPARENT)
    assert "x-message-trace" not in answer.headers
    plain = Web()
    await plain.ask("POST /v2/queues/jobs/messages", ONE)
    untraced = await plain.ask("GET /v2/queues/jobs/messages?echo=true")
    assert set(answer.document["messages"][0]) == set(untraced.document["messages"][0])
    assert set(answer.headers) == set(untraced.headers)


async def test_traces_of_messages_are_told_in_the_order_of_the_answer() -> None:
    site = Site()
    plain = Web(service=Service(site.stage, clock=site.web.clock))  # type: ignore[arg-type]
    await site.ask("POST /v2/queues/jobs/messages", ONE, traceparent=TRACEPARENT)
    await plain.ask("POST /v2/queues/jobs/messages", ONE)
    answer = await site.ask("GET /v2/queues/jobs/messages?echo=true", x_message_trace="1")
    first, second = answer.headers["x-message-trace"].split(", ")
    assert first.startswith(f"00-{TRACE}-")
    assert second == "-"


@pytest.mark.parametrize("body", ["x", {"n": 1}, "y" * 9000])
async def test_messages_posted_in_a_trace_are_read_by_a_service_that_does_not_trace(body: object) -> None:
    site = Site(key="secret")
    await site.ask("PUT /v2/queues/sealed", {"_enable_encrypt_messages": True})
    for queue in ("jobs", "sealed"):
        await site.ask(f"POST /v2/queues/{queue}/messages", {"messages": [{"body": body}]})
    service = Service(site.stage, clock=site.web.clock, encryption_key="secret", compress_above=4096)  # type: ignore[arg-type]
    plain = Web(service=service)
    for queue in ("jobs", "sealed"):
        answer = await plain.ask(f"GET /v2/queues/{queue}/messages?echo=true")
        assert [message["body"] for message in answer.document["messages"]] == [body]


async def test_trace_that_is_not_recorded_adds_nothing_to_messages() -> None:
    site = Site(recording=False)
    await site.ask("POST /v2/queues/jobs/messages", ONE, traceparent=TRACEPARENT)
    assert await site.stored("jobs") == [b'{"n":1}']
    assert site.ended() == {}


async def test_refusal_is_no_error_and_a_failing_store_is() -> None:
    site = Site()
    assert (await site.ask("GET /v2/queues/jobs/messages/none")).status == 404
    refused = site.ended()
    assert refused["messages.get"].attributes is not None
    assert refused["messages.get"].attributes["error.type"] == "NotFound"
    assert all(span.status.status_code is StatusCode.UNSET for span in refused.values())
    site.stage.break_down()
    assert (await site.ask("GET /v2/queues/jobs/messages")).status == 503
    failed = site.ended()
    assert all(span.status.status_code is StatusCode.ERROR for span in failed.values()), failed
    assert len(failed) == 3


async def test_dead_letter_keeps_the_trace_it_was_posted_in() -> None:
    site = Site()
    await site.ask("PUT /v2/queues/jobs", {"_max_claim_count": 1, "_dead_letter_queue": "dead"})
    await site.ask("POST /v2/queues/jobs/messages", ONE, traceparent=TRACEPARENT)
    for _ in range(2):
        claim = await site.ask("POST /v2/queues/jobs/claims", {"ttl": 60, "grace": 60})
        if claim.status == 201:
            await site.ask(f"DELETE {claim.headers['location']}")
    answer = await site.ask("GET /v2/queues/dead/messages?echo=true", x_message_trace="1")
    assert answer.headers["x-message-trace"].startswith(f"00-{TRACE}-")


async def test_listener_is_told_within_the_trace_of_the_post() -> None:
    site = Site()
    heard = asyncio.Event()
    service = site.web.service
    service.subscriptions.connected("one", "http://here/one", lambda _: heard.set())
    row = BY_NAME["subscriptions.create"]
    who = Context(project="acme", client="c", request_id="r", now=site.web.now, connection="one")
    await service.call(row, who, CreateSubscription(queue="jobs", subscriber="", ttl=600))
    await site.ask("POST /v2/queues/jobs/messages", ONE, traceparent=TRACEPARENT)
    async with asyncio.timeout(5):
        await heard.wait()
    spans = site.ended()
    assert parent(spans["notify"]) == own(spans["messages.post"])
    assert spans["notify"].kind is SpanKind.PRODUCER


async def test_request_that_asks_for_no_operation_has_a_span_by_its_method() -> None:
    site = Site()
    assert (await site.ask("GET /nowhere")).status == 404
    (span,) = site.ended().values()
    assert span.name == "GET"
    assert (span.attributes or {})["http.response.status_code"] == 404


async def test_only_we_ask_osprofiler_for_anything() -> None:
    site = Site()
    await site.ask("GET /v2/queues", traceparent=TRACEPARENT, tracestate="sukkal=1,other=2")
    for span in site.ended().values():
        assert span.context is not None
        assert dict(span.context.trace_state) == {"other": "2"}


def test_what_a_message_carries_is_what_was_packed() -> None:
    trace = bytes.fromhex(TRACE + CALLER + "81")
    assert packed(unpacked(trace)) == trace
    assert traceparent(trace) == TRACEPARENT.encode()
