"""What a run found, as it is written to a file. `msgspec.json.schema(Result)` is its schema."""

from pathlib import Path
from typing import Literal

import msgspec

from sukkal.bench.histogram import Histogram
from sukkal.bench.samples import Interval

TOTAL = "all requests"
PERCENTS = (50.0, 90.0, 99.0, 99.9)


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds from when a request was due until its answer was read."""

    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, histogram: Histogram) -> "Latency":
        p50, p90, p99, p999 = (round(value, 4) for value in histogram.percentiles(PERCENTS))
        return cls(
            mean=round(histogram.mean, 4), p50=p50, p90=p90, p99=p99, p999=p999, max=round(histogram.most, 4)
        )


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one operation, or all together, did."""

    requests: int  # answered as expected
    rate: float  # of them, per second, within the measured time
    latency_ms: Latency
    histogram: list[tuple[int, int]]  # (lowest latency of the bucket in ns, requests)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One operation, or all together, in one interval."""

    rate: float  # answers per second
    latency_ms: Latency


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One interval."""

    end: float  # s since the measuring began
    seconds: float
    operations: dict[str, Sample]
    errors: int
    messages: float  # per second


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of the server, and how."""

    scenario: str
    duration: float  # s
    warmup: float  # s
    connections: int
    rate: float | None  # turns per second; None: a closed loop
    processes: int
    batch: int
    limit: int
    pipeline: int
    backlog: int
    queues: int
    projects: int
    body_bytes: list[int]  # of the messages, the first hundred


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    text: str  # as it was given
    value: float  # measured, in the unit of the text
    kept: bool


class Result(msgspec.Struct, frozen=True, kw_only=True):
    format: Literal["sukkal-bench/1"] = "sukkal-bench/1"
    tool: str  # version
    started: str  # UTC
    target: str  # address, without credentials
    load: Load
    seconds: float  # measured
    total: Figures
    operations: dict[str, Figures]
    messages: int  # that went all the way
    message_rate: float
    turn_rate: float  # of the scenario's turns, per second
    errors: dict[str, int]
    error_count: int
    intervals: list[Moment]
    load_cores: (
        float  # that the busiest process of the load kept busy; near 1, it is the load that is measured
    )
    slo: list[Objective] = []

    @property
    def error_share(self) -> float:
        return self.error_count / ((self.error_count + self.total.requests) or 1)


class BadResult(ValueError):
    """The text says why a file cannot be read."""


def read(path: Path) -> Result:
    """The result in a file. Raises BadResult."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except (OSError, msgspec.DecodeError) as exc:
        raise BadResult(f"{path} is no result of this tool: {exc}.") from exc


class Merged:
    """What the processes of a run tell, put together as it comes."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._uncounted: set[str] = set()
        self._seen: dict[int, list[Interval]] = {}
        self.moments: list[Moment] = []
        self._end = 0.0
        self._operations: dict[str, Histogram] = {}
        self._within: dict[str, int] = {}  # how many answers came before the time was up
        self._all = Histogram()
        self._errors: dict[str, int] = {}
        self._messages = 0
        self._turns = 0
        self._busiest = 0.0

    def add(self, interval: Interval, *, last: bool) -> Moment | None:
        """Take one in; the moment it completes, when it is the last process to tell of it.

        The `last` of a run came after the measured time and completes none.
        """
        together = self._seen.setdefault(interval.number, [])
        together.append(interval)
        self._uncounted.update(interval.uncounted)
        for name, buckets in interval.latencies.items():
            histogram = Histogram(buckets)
            self._operations.setdefault(name, Histogram()).add(histogram)
            if name not in self._uncounted:
                self._all.add(histogram)
            if not last:
                self._within[name] = self._within.get(name, 0) + len(histogram)
        for what, count in interval.errors.items():
            self._errors[what] = self._errors.get(what, 0) + count
        self._messages += interval.messages
        self._turns += interval.turns
        if last or len(together) < self._processes:
            return None
        del self._seen[interval.number]
        moment = self._moment(together)
        self.moments.append(moment)
        return moment

    def _moment(self, together: list[Interval]) -> Moment:
        seconds = sum(each.seconds for each in together) / len(together)
        self._end += seconds
        self._busiest = max(self._busiest, *(each.busy / seconds for each in together), 0.0)
        operations: dict[str, Histogram] = {TOTAL: Histogram()}
        for each in together:
            for name, buckets in each.latencies.items():
                histogram = Histogram(buckets)
                operations.setdefault(name, Histogram()).add(histogram)
                if name not in self._uncounted:
                    operations[TOTAL].add(histogram)
        return Moment(
            end=round(self._end, 3),
            seconds=round(seconds, 4),
            operations={
                name: Sample(rate=round(len(histogram) / seconds, 2), latency_ms=Latency.of(histogram))
                for name, histogram in operations.items()
            },
            errors=sum(sum(each.errors.values()) for each in together),
            messages=round(sum(each.messages for each in together) / seconds, 2),
        )

    def result(self, *, tool: str, started: str, target: str, load: Load) -> Result:
        seconds = self._end or 1.0
        within = sum(count for name, count in self._within.items() if name not in self._uncounted)
        return Result(
            tool=tool,
            started=started,
            target=target,
            load=load,
            seconds=round(self._end, 3),
            total=_figures(self._all, within / seconds),
            operations={
                name: _figures(histogram, self._within.get(name, 0) / seconds)
                for name, histogram in sorted(self._operations.items())
            },
            messages=self._messages,
            message_rate=round(self._messages / seconds, 2),
            turn_rate=round(self._turns / seconds, 2),
            errors=dict(sorted(self._errors.items(), key=lambda item: -item[1])),
            error_count=sum(self._errors.values()),
            intervals=self.moments,
            load_cores=round(self._busiest, 2),
        )


def _figures(histogram: Histogram, rate: float) -> Figures:
    return Figures(
        requests=len(histogram),
        rate=round(rate, 2),
        latency_ms=Latency.of(histogram),
        histogram=histogram.buckets(),
    )
