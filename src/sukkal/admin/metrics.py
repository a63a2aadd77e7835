"""Figures under the names and labels that Prometheus gets to see.

Times are in seconds. Figures are of one process and since its start; those of a queue are the queue's own,
the same whichever process is asked. Cardinality is bounded: operations, statuses, stores and classes
of projects are few, and queues are shown by name only as far as `queues` allows.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sukkal import __version__
from sukkal.errors import StoreUnavailable
from sukkal.model import QueueKey, Stats
from sukkal.tally import Figures, Histogram, StoreFigures

QUEUES_SECONDS = 2.0  # a scrape waits for what queues hold no longer than this

Busiest = Callable[[int, float], Awaitable[list[tuple[QueueKey, Stats]]]]
Pending = Callable[[float], Awaitable[tuple[Stats, Stats]]]


class Moment(NamedTuple):
    """What is read off at the time of a scrape."""

    waiters: int
    in_flight: int
    connections: int  # of HTTP
    sockets: int  # open WebSockets
    deliveries: int  # tried now, or about to be


class Exposition:
    """`busiest` answers with queues and what they hold, `pending` with messages to be handed out for delivery
    and with deliveries parked; `look` with the moment's figures.
    """

    def __init__(
        self,
        figures: Figures,
        stores: Mapping[str, StoreFigures],
        *,
        look: Callable[[], Moment],
        busiest: Busiest,
        pending: Pending,
        queues: int,
        clock: Callable[[], float],
    ) -> None:
        self._figures = figures
        self._stores = stores
        self._look = look
        self._busiest = busiest
        self._pending = pending
        self._queues = queues
        self._clock = clock
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        GCCollector(registry=self._process)

    async def render(self, accept: str) -> tuple[bytes, str]:
        """All figures in the format that an `Accept` header asks for, and its media type."""
        now, found, pending = self._clock(), None, None
        try:
            async with asyncio.timeout(QUEUES_SECONDS):
                pending = await self._pending(now)
                found = await self._busiest(self._queues, now)
        except (StoreUnavailable, TimeoutError):
            pass  # what the process itself knows is told all the same
        registry = CollectorRegistry(auto_describe=False)
        families = [*self._families(), *_of_deliveries(pending), *_of_queues(found, now)]
        registry.register(_Collected([*families, *self._process.collect()]))
        encode, media_type = choose_encoder(accept)
        return encode(registry), media_type

    def _families(self) -> Iterator[Metric]:
        yield InfoMetricFamily("sukkal", "Which release this is.", value={"version": __version__})
        yield from self._of_requests()
        for name, text in (
            ("posted", "Messages posted and stored."),
            ("claimed", "Messages handed out under claims, counted each time."),
            ("deleted", "Messages deleted by callers, popped ones too."),
            ("expired", "Messages dropped after their life."),
            ("dead_lettered", "Messages moved to a dead letter queue."),
        ):
            messages = CounterMetricFamily(f"sukkal_messages_{name}", text, labels=["project_class"])
            for of, counts in self._figures.messages.classes.items():
                messages.add_metric([of], getattr(counts, name))
            yield messages
        yield CounterMetricFamily(
            "sukkal_notifications", "Messages told to subscribed connections.", value=self._figures.notified
        )
        yield CounterMetricFamily(
            "sukkal_notifications_dropped",
            "Messages not told to subscribed connections, since their filters took too long.",
            value=self._figures.notifications_dropped,
        )
        outcomes = CounterMetricFamily(
            "sukkal_deliveries",
            "Attempts to deliver a message to an outside subscriber, by what came of them.",
            labels=["outcome"],
        )
        for outcome, value in (
            ("delivered", self._figures.delivered),
            ("retried", self._figures.deliveries_retried),
            ("dead_lettered", self._figures.deliveries_dead_lettered),
            ("dropped", self._figures.deliveries_dropped),
        ):
            outcomes.add_metric([outcome], value)
        yield outcomes
        yield from self._of_stores()
        moment = self._look()
        for name, text, value in (
            ("waiters", "Requests and streams that wait for messages.", moment.waiters),
            ("requests_in_flight", "Requests taken up and not answered, waiting ones too.", moment.in_flight),
            ("http_connections", "Open connections, WebSockets not counted.", moment.connections),
            ("websocket_connections", "Open WebSockets.", moment.sockets),
            ("deliveries_open", "Deliveries that are tried now, or about to be.", moment.deliveries),
        ):
            yield GaugeMetricFamily(f"sukkal_{name}", text, value=value)
        lag = HistogramMetricFamily(
            "sukkal_event_loop_lag_seconds", "How late the event loop came back to what was due."
        )
        _add(lag, [], self._figures.lag)
        yield lag

    def _of_requests(self) -> Iterator[Metric]:
        labels = ["transport", "operation"]
        answered = CounterMetricFamily(
            "sukkal_requests",
            "Requests answered; 499: the caller went away before.",
            labels=[*labels, "status"],
        )
        took = HistogramMetricFamily(
            "sukkal_request_duration_seconds",
            "Requests that did not ask to wait: how long they took.",
            labels=labels,
        )
        waited = HistogramMetricFamily(
            "sukkal_request_wait_seconds",
            "Requests that asked to wait, and streams: how long they took.",
            labels=labels,
        )
        totals: dict[tuple[str, str, int], int] = {}
        for (transport, operation, waits), requests in self._figures.requests.items():
            by_status = requests.settle()
            if not by_status:
                continue
            together = Histogram()
            for status, histogram in by_status.items():
                together.add_histogram(histogram)
                key = (transport, operation, status)
                totals[key] = totals.get(key, 0) + histogram.count
            _add(waited if waits else took, [transport, operation], together)
        for (transport, operation, status), count in totals.items():
            answered.add_metric([transport, operation, str(status)], count)
        yield from (answered, took, waited)

    def _of_stores(self) -> Iterator[Metric]:
        sizes = HistogramMetricFamily(
            "sukkal_store_batch_size",
            "Writes committed together, or commands sent together.",
            labels=["store"],
        )
        seconds = HistogramMetricFamily(
            "sukkal_store_batch_seconds", "How long a batch took to be synced, or answered.", labels=["store"]
        )
        for name, store in self._stores.items():
            _add(sizes, [name], store.batch_sizes)
            _add(seconds, [name], store.batch_seconds)
        yield from (sizes, seconds)


class _Collected(Collector):
    """Families that are there already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _of_deliveries(pending: tuple[Stats, Stats] | None) -> Iterator[Metric]:
    stored = GaugeMetricFamily(
        "sukkal_deliveries_pending",
        "In the store: posts with deliveries yet to make (new), and deliveries to try again (parked).",
        labels=["kind"],
    )
    if pending is not None:
        for kind, stats in zip(("new", "parked"), pending, strict=True):
            stored.add_metric([kind], stats.total)
    yield stored


def _of_queues(found: list[tuple[QueueKey, Stats]] | None, now: float) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "sukkal_store_up", "Whether the store answered this scrape.", value=found is not None
    )
    depth = GaugeMetricFamily(
        "sukkal_queue_messages", "Messages in the busiest queues.", labels=["project", "queue", "state"]
    )
    oldest = GaugeMetricFamily(
        "sukkal_queue_oldest_message_age_seconds",
        "Age of the oldest message in the busiest queues, claimed ones too; 0 when there is none.",
        labels=["project", "queue"],
    )
    for key, stats in found or ():
        depth.add_metric([key.project, key.name, "free"], stats.free)
        depth.add_metric([key.project, key.name, "claimed"], stats.claimed)
        age = max(0.0, now - stats.oldest.created) if stats.oldest is not None else 0.0
        oldest.add_metric([key.project, key.name], age)
    yield from (depth, oldest)


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    family.add_metric(labels, buckets=histogram.cumulative(), sum_value=histogram.total)
