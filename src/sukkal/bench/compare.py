"""What changed between two results, and whether it is noise.

The intervals of each run are samples. The median of their differences (Hodges-Lehmann) says how large a
change is, Welch's test on their logarithms how likely as much would come about between runs that are alike.
Neighbouring intervals resemble each other: the more they do, the fewer samples a run counts as. A change is
called one only when it is unlikely to be chance, all comparisons together, and larger than a threshold: two
runs of the same server differ by some percent, since the machine does.
"""

import enum
import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from sukkal.bench.report import Table, ms_text
from sukkal.bench.result import TOTAL, Moment, Result

CHANCE = 0.01  # how unlikely a change must be, over all that is compared
FEWEST = 5  # intervals of a run that can be compared

_SAME = 1e-9  # on the logarithmic scale
_SMALLEST = 1e-6
_REACH = 4.5  # median deviations; 3 standard deviations where there are no outliers
_MOST_ALIKE = 0.8


class Verdict(enum.Enum):
    NOISE = "noise"
    BETTER = "better"
    WORSE = "worse"
    UNKNOWN = "too few samples"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one operation, before and after."""

    operation: str
    figure: str
    before: float  # median of the intervals
    after: float
    shift: float  # relative: 0.1 is a tenth more
    chance: float  # that runs which are alike differ as much; 1.0 when unknown
    verdict: Verdict


class _Figure(msgspec.Struct, frozen=True):
    name: str
    more_is_better: bool

    def of(self, moment: Moment, operation: str) -> float | None:
        if self.name == "messages/s":
            return moment.messages
        sample = moment.operations.get(operation)
        if sample is None:
            return None
        return sample.rate if self.name == "per s" else getattr(sample.latency_ms, self.name)


_FIGURES = (_Figure("per s", True), _Figure("p50", False), _Figure("p90", False), _Figure("p99", False))
_MESSAGES = _Figure("messages/s", True)


def compare(before: Result, after: Result, *, threshold: float) -> list[Change]:
    """Every figure that both have, the total first. `threshold` is relative: 0.05 leaves 5 % to chance."""
    shared = [name for name in before.operations if name in after.operations]
    rows = [(TOTAL, figure) for figure in _FIGURES]
    rows += [(name, figure) for name in shared for figure in _FIGURES if len(shared) > 1]
    if before.messages and after.messages:
        rows.append((TOTAL, _MESSAGES))
    tested = [
        (name, figure, _samples(before, name, figure), _samples(after, name, figure)) for name, figure in rows
    ]
    chances = _together([chance(old, new) for _, _, old, new in tested])
    return [
        _change(name, figure, old, new, each, threshold)
        for (name, figure, old, new), each in zip(tested, chances, strict=True)
        if old and new
    ]


def differences(before: Result, after: Result) -> list[str]:
    """What was asked of one server and not of the other: then it is not the servers that are compared."""
    old, new = msgspec.to_builtins(before.load), msgspec.to_builtins(after.load)
    return [f"{name}: {old[name]} and {new[name]}" for name in old if old[name] != new[name]]


def _samples(result: Result, operation: str, figure: _Figure) -> list[float]:
    found = (figure.of(moment, operation) for moment in result.intervals)
    return [value for value in found if value is not None]


def _change(
    operation: str, figure: _Figure, old: list[float], new: list[float], chance: float, threshold: float
) -> Change:
    before, after = statistics.median(old), statistics.median(new)
    shift = _shift(old, new) / before if before else (math.inf if after else 0.0)
    if min(len(old), len(new)) < FEWEST:
        verdict = Verdict.UNKNOWN
    elif chance >= CHANCE or abs(shift) < threshold:
        verdict = Verdict.NOISE
    else:
        verdict = Verdict.BETTER if (shift > 0) == figure.more_is_better else Verdict.WORSE
    return Change(
        operation=operation,
        figure=figure.name,
        before=before,
        after=after,
        shift=shift,
        chance=chance,
        verdict=verdict,
    )


# --- statistics ---


def _shift(old: Sequence[float], new: Sequence[float]) -> float:
    """The median of all differences between a new and an old sample."""
    return statistics.median(after - before for after in new for before in old)


def chance(old: Sequence[float], new: Sequence[float]) -> float:
    """How likely two series that are alike are as far apart, two-sided; 1.0 with too few samples.

    A test of ranks would not see how small the drift within a run is beside a large change.
    """
    if min(len(old), len(new)) < FEWEST:
        return 1.0
    before, after = _Centre.of(old), _Centre.of(new)
    distance = abs(after.mean - before.mean)
    error = math.sqrt(before.error + after.error)
    if distance < _SAME:
        return 1.0
    if error < _SAME:
        return 0.0
    freedom = min(before.samples, after.samples) - 1
    # Student's distribution by way of the normal one (Wallace 1959), good to some thousandths.
    normal = (
        (8 * freedom + 1)
        / (8 * freedom + 3)
        * math.sqrt(freedom * math.log1p((distance / error) ** 2 / freedom))
    )
    return math.erfc(normal / math.sqrt(2))


class _Centre(msgspec.Struct, frozen=True):
    """Where a series lies, on the logarithmic scale."""

    mean: float
    error: float  # variance of the mean
    samples: float  # that are worth as much as independent ones

    @classmethod
    def of(cls, series: Sequence[float]) -> "_Centre":
        logs = _tamed([math.log(max(value, _SMALLEST)) for value in series])
        samples = max(3.0, len(logs) / _inflation(logs))
        return cls(statistics.fmean(logs), statistics.variance(logs) / samples, samples)


def _tamed(values: list[float]) -> list[float]:
    """With outliers drawn in: one stalled interval must not decide."""
    middle = statistics.median(values)
    reach = _REACH * statistics.median(abs(value - middle) for value in values)
    return [min(middle + reach, max(middle - reach, value)) for value in values]


def _inflation(values: Sequence[float]) -> float:
    """By how much the resemblance of neighbours widens a mean's variance, as in a first-order process."""
    middle = statistics.fmean(values)
    spread = sum((value - middle) ** 2 for value in values)
    if not spread:
        return 1.0
    likeness = sum((one - middle) * (other - middle) for one, other in pairwise(values)) / spread
    # Short series make it look smaller than it is.
    likeness = min(_MOST_ALIKE, max(0.0, likeness + 1 / len(values)))
    return (1 + likeness) / (1 - likeness)


def _together(chances: Sequence[float]) -> list[float]:
    """Chances corrected for how many there are (Holm): the smallest of many is often small."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    corrected, most = [1.0] * len(chances), 0.0
    for done, place in enumerate(order):
        most = max(most, min(1.0, chances[place] * (len(chances) - done)))
        corrected[place] = most
    return corrected


# --- shown ---


def table(changes: Sequence[Change]) -> Table:
    head = ["what", "before", "after", "change", "chance", "verdict"]
    return head, [
        [
            f"{each.operation}: {each.figure}",
            _text(each, each.before),
            _text(each, each.after),
            f"{each.shift:+.1%}",
            "-" if each.verdict is Verdict.UNKNOWN else f"{each.chance:.2g}",
            each.verdict.value,
        ]
        for each in changes
    ]


def _text(change: Change, value: float) -> str:
    return (
        f"{value:,.1f}"
        if change.figure.endswith("/s") or change.figure == "per s"
        else ms_text(value) + " ms"
    )
