"""What a process of the load measures, in intervals, and how it tells its parent."""

import msgspec

from sukkal.bench.histogram import Histogram

DELIVERY = "delivery"  # from when a message was due to be posted until a reader had it
WHOLE_TURN = "whole turn"  # from when a turn was due until its last answer


class Interval(msgspec.Struct, kw_only=True):
    """What ended within a stretch of time; the last of a run has what ended after the time was up."""

    number: int
    seconds: float
    latencies: dict[str, list[tuple[int, int]]]  # for each operation; see histogram.buckets
    uncounted: list[str]  # operations that are no part of the totals
    errors: dict[str, int]  # what went wrong, and how often
    messages: int  # that went all the way
    turns: int  # that ended, of those that are begun at a rate
    busy: float  # s of processor time


class Record:
    """Counts what happens; `cut` gives what has come together since the last cut.

    Nothing counts that was due (or, when nothing is ever due, answered) outside the measured time.
    """

    def __init__(self, opens: float, closes: float, *, by_due: bool) -> None:
        """Times of time.perf_counter."""
        self._opens, self._closes, self._by_due = opens, closes, by_due
        self._number = 0
        self._uncounted: set[str] = set()
        self._clear()

    def _clear(self) -> None:
        self._latencies: dict[str, Histogram] = {}
        self._errors: dict[str, int] = {}
        self._messages = 0

    def measured(self, due: float, now: float) -> bool:
        return self._opens <= (due if self._by_due else now) < self._closes

    def took(self, name: str, seconds: float, *, counted: bool = True) -> None:
        histogram = self._latencies.get(name)
        if histogram is None:
            histogram = self._latencies[name] = Histogram()
            if not counted:
                self._uncounted.add(name)
        histogram.record(seconds)

    def failed(self, what: str) -> None:
        self._errors[what] = self._errors.get(what, 0) + 1

    def moved(self, messages: int) -> None:
        self._messages += messages

    def cut(self, seconds: float, busy: float, turns: int) -> Interval:
        done = Interval(
            number=self._number,
            seconds=seconds,
            latencies={name: histogram.buckets() for name, histogram in self._latencies.items()},
            uncounted=sorted(self._uncounted),
            errors=self._errors,
            messages=self._messages,
            turns=turns,
            busy=busy,
        )
        self._number += 1
        self._clear()
        return done
