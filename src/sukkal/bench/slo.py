"""Objectives: `p99<10ms`, `errors=0`, `errors<0.1%`, `rate>=5000`, `messages.post:p99.9<50ms`."""

import operator
import re
from collections.abc import Callable

import msgspec

from sukkal.bench.histogram import Histogram
from sukkal.bench.result import Objective, Result

_FORM = re.compile(
    r"\s*(?:(?P<operation>[\w. -]+?)\s*:\s*)?"
    r"(?P<metric>p\d+(?:\.\d+)?|mean|max|errors|rate|messages|requests)"
    r"\s*(?P<relation><=|>=|<|>|==?)\s*(?P<bound>\d+(?:\.\d+)?)\s*(?P<unit>us|ms|s|%)?\s*"
)
_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
}
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


class BadObjective(ValueError):
    """The text says what is wrong with it."""


class Slo(msgspec.Struct, frozen=True):
    text: str
    operation: str | None  # None: all requests
    metric: str
    relation: str
    bound: float
    unit: str  # "" for numbers

    @classmethod
    def parse(cls, text: str) -> "Slo":
        """Raises BadObjective."""
        form = _FORM.fullmatch(text)
        if form is None:
            raise BadObjective(f"{text!r} is not an objective such as p99<10ms, errors=0 or rate>=1000.")
        metric, unit, operation = form["metric"], form["unit"] or "", form["operation"]
        is_time = metric[0] == "p" or metric in ("mean", "max")
        if is_time != (unit in _MS) or (unit == "%" and metric != "errors"):
            wanted = "a time such as 10ms" if is_time else "a number" + (" or a share" * (metric == "errors"))
            raise BadObjective(f"{text!r}: {metric} is compared with {wanted}.")
        if metric[0] == "p" and float(metric[1:]) > 100:
            raise BadObjective(f"{text!r}: there are a hundred percentiles.")
        if operation is not None and metric in ("errors", "messages"):
            raise BadObjective(f"{text!r}: {metric} are counted for all operations together.")
        return cls(text, operation, metric, form["relation"], float(form["bound"]), unit)

    def judge(self, result: Result) -> Objective:
        """An operation that never took place breaks every objective it has."""
        value = self._measured(result)
        kept = value is not None and _RELATIONS[self.relation](value, self.bound)
        return Objective(text=self.text, value=round(value or 0.0, 4), kept=kept)

    def _measured(self, result: Result) -> float | None:
        if self.metric == "errors":
            return result.error_share * 100 if self.unit == "%" else result.error_count
        if self.metric == "messages":
            return result.message_rate
        figures = result.total if self.operation is None else result.operations.get(self.operation)
        if figures is None or not figures.requests:
            return None
        if self.metric in ("rate", "requests"):
            return figures.rate if self.metric == "rate" else figures.requests
        histogram = Histogram(figures.histogram)
        if self.metric == "mean":
            ms = histogram.mean
        elif self.metric == "max":
            ms = histogram.most
        else:
            ms = histogram.percentile(float(self.metric[1:]))
        return ms / _MS[self.unit]
