"""Spans of deliveries to subscribers outside: one for each attempt, in the trace the message was posted in.

Of a parcel of several messages the first's trace is continued, and the span has links to the others. The
receiver of a webhook is told of the span, so that what it does can be part of the same trace.
"""

from msgspec.structs import replace
from opentelemetry.trace import StatusCode

from sukkal.notify.deliverer import Deliverer, Deliverers, Outcome, Parcel, Result
from sukkal.traces.spans import Spans, packed, traceparent


class Traced:
    """A Deliverer with spans round another's deliveries of messages that were posted in a trace."""

    def __init__(self, deliverer: Deliverer, spans: Spans) -> None:
        self._deliverer = deliverer
        self._spans = spans
        self.check = deliverer.check
        self.host = deliverer.host
        self.size = deliverer.size
        self.close = deliverer.close

    async def deliver(self, parcel: Parcel) -> Outcome:
        if not parcel.traces:
            return await self._deliverer.deliver(parcel)
        subscription = parcel.subscription
        attributes = {
            "messaging.system": "sukkal",
            "messaging.operation.name": "deliver",
            "messaging.destination.name": subscription.source,
            "messaging.batch.message_count": len(parcel.notices),
            "server.address": self.host(subscription.subscriber),  # its URI may hold secrets
            "sukkal.project": parcel.project,
            "sukkal.subscription": subscription.id,
            "sukkal.delivery": parcel.delivery,
            "sukkal.attempt": parcel.attempt,
        }
        first, *others = parcel.traces
        with self._spans.continued("deliver", first, attributes, others=others) as span:
            told = traceparent(packed(span.get_span_context())).decode()
            outcome = await self._deliverer.deliver(replace(parcel, traceparent=told))
            span.set_attribute("sukkal.outcome", outcome.result.value)
            if outcome.result in (Result.RETRY, Result.FAILED):
                span.set_status(StatusCode.ERROR, outcome.reason)
            return outcome


def traced(deliverers: Deliverers, spans: Spans) -> dict[str, Deliverer]:
    """The same deliverers with spans; one that serves several schemes stays one."""
    wrapped = {id(each): Traced(each, spans) for each in deliverers.values()}
    return {scheme: wrapped[id(each)] for scheme, each in deliverers.items()}
