"""Spans of deliveries, of a dispatcher in the test's process that posts to real receivers."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from notify.carrier import Post, dispatching, key
from notify.receiver import Receiver, answer, receiving
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, StatusCode
from until import until

from sukkal.notify.addresses import Addresses
from sukkal.notify.deliverer import Deliverer
from sukkal.notify.queue import OtherQueue
from sukkal.notify.sender import Sender
from sukkal.notify.target import Ports, Targets
from sukkal.notify.webhook import Webhook
from sukkal.traces.deliveries import traced
from sukkal.traces.spans import Spans, packed
from sukkal.wire.bodies import trace_of


class Site:
    """A service and a dispatcher that are traced, and the spans that have ended."""

    def __init__(self) -> None:
        self._ended = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._ended))
        self.post = Post(carrier=Spans(self.provider), subscriber_checks={"queue": lambda _: None})

    @contextmanager
    def span(self) -> Iterator[SpanContext]:
        """That of whoever posts."""
        with self.provider.get_tracer("test").start_as_current_span("post") as span:
            yield span.get_span_context()

    def delivered(self) -> list[ReadableSpan]:
        return [span for span in self._ended.get_finished_spans() if span.name == "deliver"]


@asynccontextmanager
async def delivering(site: Site) -> AsyncIterator[None]:
    """Deliver by webhooks and to other queues, with spans."""
    addresses, clock = Addresses(["127.0.0.0/8"]), site.post.clock
    webhook = Webhook(Sender(addresses), Targets(addresses, Ports()), [], clock.now)
    ways: dict[str, Deliverer] = {"http": webhook, "queue": OtherQueue(site.post.service.forward, clock.now)}
    site.post.deliverers = traced(ways, Spans(site.provider))
    async with dispatching(site.post):
        yield
        await site.post.settled()


def own(span: ReadableSpan) -> str:
    """As W3C writes it."""
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


async def arrived(receiver: Receiver, count: int) -> None:
    await receiver.until(lambda it: len(it.received) >= count)


async def test_webhook_is_posted_in_the_trace_of_the_message_and_told_so() -> None:
    site = Site()
    async with receiving() as receiver, delivering(site):
        await site.post.subscribe("q", receiver.url)
        with site.span() as posted:
            await site.post.post("q", 1)
        await arrived(receiver, 1)
    (span,) = site.delivered()
    assert span.context is not None
    assert span.parent is not None
    assert (span.context.trace_id, span.parent.span_id) == (posted.trace_id, posted.span_id)
    assert receiver.received[0].header("traceparent") == own(span)
    about = dict(span.attributes or {})
    assert about["messaging.destination.name"] == "q"
    assert about["sukkal.outcome"] == "delivered"
    assert about["server.address"] == f"127.0.0.1:{receiver.port}"
    assert span.status.status_code is StatusCode.UNSET
    assert receiver.url not in str(about), "what else the URI says is the subscriber's"


async def test_message_that_was_posted_in_no_trace_is_delivered_without_one() -> None:
    site = Site()
    async with receiving() as receiver, delivering(site):
        await site.post.subscribe("q", receiver.url, post_headers={"traceparent": "theirs"})
        await site.post.post("q", 1)
        await arrived(receiver, 1)
    assert receiver.received[0].header("traceparent") == "theirs"
    assert site.delivered() == []


async def test_each_attempt_has_a_span_and_says_what_came_of_it() -> None:
    site = Site()
    async with receiving(answer(503), answer(200)) as receiver, delivering(site):
        await site.post.subscribe("q", receiver.url)
        with site.span() as posted:
            await site.post.post("q", 1)
        await arrived(receiver, 1)
        await site.post.settled()
        await site.post.pass_time(60)
        await arrived(receiver, 2)
    spans = site.delivered()
    assert [dict(span.attributes or {})["sukkal.outcome"] for span in spans] == ["retry", "delivered"]
    assert [dict(span.attributes or {})["sukkal.attempt"] for span in spans] == [0, 1]
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR, StatusCode.UNSET]
    assert spans[0].status.description == "it answered 503"
    assert {span.parent.span_id for span in spans if span.parent} == {posted.span_id}
    told = [received.header("traceparent") for received in receiver.received]
    assert told == [own(span) for span in spans]


async def test_parcel_of_several_messages_is_linked_to_the_others_traces() -> None:
    site = Site()
    posted = []
    async with receiving() as receiver:
        await site.post.subscribe("q", receiver.url, batch=10)
        for number in range(2):
            with site.span() as context:
                await site.post.post("q", number)
            posted.append(context)
        await site.post.post("q", "untraced")
        async with delivering(site):
            await arrived(receiver, 1)
    (span,) = site.delivered()
    assert span.parent is not None
    assert span.parent.span_id == posted[0].span_id
    assert [link.context.span_id for link in span.links] == [posted[1].span_id]
    assert dict(span.attributes or {})["messaging.batch.message_count"] == 3


async def test_message_in_another_queue_carries_the_span_of_the_delivery() -> None:
    site = Site()
    async with delivering(site):
        await site.post.call("subscriptions.create", queue="q", subscriber="queue:audit", options={})
        with site.span():
            await site.post.post("q", 1)
        await until(lambda: site.post.service.figures.delivered)
        stored = await site.post.backend.messages.pop(key("audit"), limit=2, now=site.post.now)
    (span,) = site.delivered()
    assert span.context is not None
    assert [trace_of(message.body) for message in stored] == [packed(span.context)]
