"""What the process counts: plain numbers, cheap to add to, read when somebody asks.

Whoever meets a fact adds it here. How figures are named and shown to the outside is `admin/metrics.py`.
Figures are added to on one event loop only, so nothing guards them.
"""

import asyncio
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fnmatch import translate
from itertools import accumulate
from time import perf_counter

WATCH_SECONDS = 0.5
KNOWN_PROJECTS = 10_000  # whose classes are kept ready
OTHER = "other"  # the class of projects that are in none

# Upper bounds of what is told apart, each about twice the one before.
SECONDS = (
    *(0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    10.0,
)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Histogram:
    """How often values of each size came, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # of values up to each bound and above the last before; rest
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add_all(self, values: Iterable[float]) -> None:
        values = sorted(values)
        below = 0
        for index, bound in enumerate(self.bounds):
            until = bisect_right(values, bound, below)
            self.counts[index] += until - below
            below = until
        self.counts[-1] += len(values) - below
        self.total += sum(values)

    def add_histogram(self, other: "Histogram") -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, int]]:
        """How many values were not above each bound, the last of which is `+Inf`; as Prometheus has it."""
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


class Requests:
    """The answers to requests of one kind: how long each took, by status.

    Putting a number into a list is all that a request pays for; the lists are sorted into histograms by
    `settle`, many at a time, which costs a fraction of doing it one by one.
    """

    __slots__ = ("_settled", "took")

    def __init__(self) -> None:
        self.took: defaultdict[int, list[float]] = defaultdict(list)  # seconds, by status; to be added to
        self._settled: dict[int, Histogram] = {}

    def settle(self) -> dict[int, Histogram]:
        """All answers so far, by status."""
        for status, seconds in self.took.items():
            if seconds:
                self._settled.setdefault(status, Histogram()).add_all(seconds)
                seconds.clear()
        return self._settled


class Counts:
    """What became of messages of one class of projects; see `Figures`."""

    __slots__ = ("claimed", "dead_lettered", "deleted", "expired", "posted")

    def __init__(self) -> None:
        self.posted = 0
        self.claimed = 0  # handed out under claims, each time
        self.deleted = 0  # by callers, popped ones too
        self.expired = 0  # dropped since their life was over
        self.dead_lettered = 0  # moved to a dead letter queue


class ByProject(dict[str, Counts]):
    """Where messages of a project are counted: with those of all projects of its class.

    Which class that is, is worked out when a project is first met. The first pattern that fits tells,
    and OTHER is what none fits.
    """

    def __init__(self, patterns: Sequence[tuple[str, str]] = ()) -> None:
        """`patterns` are classes, each with a pattern of names as in a shell."""
        super().__init__()
        self.classes = {name: Counts() for name in dict.fromkeys([*(name for name, _ in patterns), OTHER])}
        self._patterns = [(re.compile(translate(pattern)), self.classes[name]) for name, pattern in patterns]

    def __missing__(self, project: str) -> Counts:
        if len(self) >= KNOWN_PROJECTS:
            self.clear()  # and those that are busy are soon known again
        fitting = (counts for pattern, counts in self._patterns if pattern.match(project))
        counts = self[project] = next(fitting, self.classes[OTHER])
        return counts


class StoreFigures:
    """What a store counts. A driver leaves a histogram empty that it cannot tell."""

    def __init__(self) -> None:
        self.messages = ByProject()  # of which it counts the expired; who opens it may replace this
        self.batch_sizes = Histogram(SIZES)  # writes committed together, or commands sent together
        self.batch_seconds = Histogram()  # until they were committed, or all answered

    def count_expired(self, project: str, messages: int) -> None:
        self.messages[project].expired += messages


class Figures:
    """What the service counts since the process began."""

    def __init__(self, messages: ByProject | None = None) -> None:
        self.messages = messages if messages is not None else ByProject()
        self.notified = 0  # messages told to subscribers over their connections
        self.notifications_dropped = 0  # the same that were not: filters took too long
        self.delivered = 0  # messages brought to subscribers outside, each to one of them
        self.deliveries_retried = 0  # attempts that failed and were not the last
        self.deliveries_dead_lettered = 0  # deliveries given up and kept in a dead letter queue
        self.deliveries_dropped = 0  # deliveries given up, or whose subscription went
        self.lag = Histogram()  # how late the event loop came back to what was due
        # By transport, operation, and whether the request asked to wait or for a stream.
        self.requests: dict[tuple[str, str, bool], Requests] = {}

    def of(self, transport: str, operation: str, *, waits: bool = False) -> Requests:
        """Where requests of a kind are counted."""
        return self.requests.setdefault((transport, operation, waits), Requests())

    async def watch(self) -> None:
        """Put what came in order, so that it does not pile up, and note how late the event loop is.

        For as long as the task lives.
        """
        while True:
            begun = perf_counter()
            await asyncio.sleep(WATCH_SECONDS)
            self.lag.add(max(0.0, perf_counter() - begun - WATCH_SECONDS))
            for requests in self.requests.values():
                requests.settle()
