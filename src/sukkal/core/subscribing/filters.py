"""Filters: which messages a subscription is told of, by what their bodies hold.

A filter is an object. Each of its keys names a member of the body, and holds either a list of conditions, of
which one must hold, or a filter for the object there. All keys must match. Of an array in the body, one
element must match; of an array of objects, one object must match the whole filter below it.

    "text", 5, true, null                    is equal; numbers by their value
    {"prefix": "a"}, {"suffix": "z"}         a text that begins or ends so
    {"equals-ignore-case": "A"}              a text
    {"anything-but": …}                      is none of these: a value, a list of them, a prefix or a suffix
    {"numeric": [">", 0, "<=", 5]}           a number within bounds; also ["=", 5]
    {"exists": true}, {"exists": false}      there is a value other than null or an object; there is none
    "$or": [{…}, {…}]                        beside the other keys: one of these filters matches

Source: filter policies of Amazon SNS with the scope MessageBody. Ours differs where theirs has limits: number
of keys, range of numbers. A body that is no object matches no filter but the empty one, which all match.
"""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sukkal.errors import Invalid
from sukkal.wire.bodies import PACKED

Matcher = Callable[[bytes], bool]  # a body, opened → whether the subscription is told of the message

OR = "$or"
MOST_PARTS = 300  # keys and conditions of a filter
DEEPEST = 10  # filters inside of filters
MOST_STEPS = 50_000  # looks at values of one body; see `compile_filter`

_Value = Callable[[Any], bool]  # a text, number, boolean or null → whether a condition holds of it

_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_LOWER, _UPPER = (">", ">="), ("<", "<=")

_decode_json = msgspec.json.Decoder().decode
_decode_msgpack = msgspec.msgpack.Decoder().decode


class _Budget:
    """How many more values of a body are looked at."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MOST_STEPS

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _SpentError


class _SpentError(Exception):
    pass


def compile_filter(given: Any) -> Matcher:
    """The filter as a function of a message's body; None stands for no filter.

    Raises Invalid, saying what is wrong and where. Matching takes bounded time: a body so large that its
    arrays cannot be looked through counts as one that matches, for it is better told of than lost.
    """
    if given is None:
        return _everything
    rule = _Reader().rule(given, "", 1)
    if rule.is_empty:
        return _everything

    def matches(body: bytes) -> bool:
        try:
            value = _decode_msgpack(memoryview(body)[1:]) if body[0] == PACKED else _decode_json(body)
        except (msgspec.DecodeError, RecursionError, ValueError, OverflowError):
            return False
        if not isinstance(value, dict):
            return False
        try:
            return rule.matches(value, _Budget())
        except _SpentError:
            return True

    return matches


def _everything(body: bytes) -> bool:
    return True


class _Rule:
    """A filter for one object."""

    def __init__(
        self,
        values: list[tuple[str, "_Conditions"]],
        objects: list[tuple[str, "_Rule"]],
        choices: list["_Rule"],
    ) -> None:
        self._values = values
        self._objects = objects
        self._choices = choices

    @property
    def is_empty(self) -> bool:
        return not (self._values or self._objects or self._choices)

    def matches(self, value: dict[Any, Any], budget: _Budget) -> bool:
        budget.spend()
        return (
            all(conditions.hold(value.get(key, _ABSENT), budget) for key, conditions in self._values)
            and all(rule.matches_below(value.get(key), budget) for key, rule in self._objects)
            and (not self._choices or any(rule.matches(value, budget) for rule in self._choices))
        )

    def matches_below(self, value: Any, budget: _Budget) -> bool:
        """Whether the value is an object that matches, or holds one in its arrays; absent, an empty one."""
        if isinstance(value, dict):
            return self.matches(value, budget)
        if not isinstance(value, list | tuple):
            return self.matches({}, budget)  # only what must not exist matches there
        return any(self.matches(item, budget) for item in _flat(value, budget) if isinstance(item, dict))


class _Conditions:
    """Conditions of which one must hold."""

    def __init__(self) -> None:
        self.exact: set[tuple[str, Any]] = set()
        self.others: list[_Value] = []
        self.exists: set[bool] = set()

    def hold(self, value: Any, budget: _Budget) -> bool:
        if isinstance(value, list | tuple):
            items = [item for item in _flat(value, budget) if not isinstance(item, dict)]
        else:
            budget.spend()
            items = [] if value is _ABSENT or isinstance(value, dict) else [value]
        if self.exists and any(item is not None for item in items) in self.exists:
            return True
        return any(
            _kind_and_value(item) in self.exact or any(other(item) for other in self.others) for item in items
        )


_ABSENT = object()


def _flat(value: list[Any] | tuple[Any, ...], budget: _Budget) -> list[Any]:
    """The elements of an array and of the arrays in it."""
    found: list[Any] = []
    pending: list[Any] = [value]
    while pending:
        for item in pending.pop():
            budget.spend()
            if isinstance(item, list | tuple):
                pending.append(item)
            else:
                found.append(item)
    return found


def _kind_and_value(value: Any) -> tuple[str, Any]:
    """What two equal values have in common; true is not 1, and 1.0 is."""
    match value:
        case None:
            return ("null", None)
        case bool():
            return ("boolean", value)
        case int() | float():
            return ("number", value)
        case str():
            return ("text", value)
    return ("other", None)  # of MessagePack; no condition has it


class _Reader:
    """Reads a filter, and counts its parts."""

    def __init__(self) -> None:
        self._parts = 0

    def rule(self, given: Any, where: str, depth: int) -> _Rule:
        if not isinstance(given, dict):
            raise _wrong(where, "must be an object")
        if depth > DEEPEST:
            raise _wrong(where, f"is nested too deeply; {DEEPEST} levels are allowed")
        values, objects, choices = [], [], []
        for key, below in given.items():
            self._count()
            place = f"{where}.{key}" if where else str(key)
            if key == OR and _is_choice(below):
                choices = [self.rule(choice, f"{place}[{n}]", depth + 1) for n, choice in enumerate(below)]
            elif isinstance(below, dict):
                if not below:
                    raise _wrong(place, "must not be empty")
                objects.append((key, self.rule(below, place, depth + 1)))
            else:
                values.append((key, self._conditions(below, place)))
        return _Rule(values, objects, choices)

    def _conditions(self, given: Any, where: str) -> _Conditions:
        if not isinstance(given, list) or not given:
            raise _wrong(where, "must be a list of conditions, or an object")
        conditions = _Conditions()
        for condition in given:
            self._count()
            if not isinstance(condition, dict):
                conditions.exact.add(_exact(condition, where))
                continue
            if len(condition) != 1:
                raise _wrong(where, "has a condition that is not an object with one key")
            ((name, operand),) = condition.items()
            if name == "exists":
                if not isinstance(operand, bool):
                    raise _wrong(where, '"exists" needs true or false')
                conditions.exists.add(operand)
            elif name == "anything-but":
                conditions.others.append(self._anything_but(operand, where))
            elif name == "numeric":
                conditions.others.append(_numeric(operand, where))
            else:
                conditions.others.append(_text(name, operand, where))
        return conditions

    def _anything_but(self, operand: Any, where: str) -> _Value:
        if isinstance(operand, dict):
            if len(operand) != 1 or not operand.keys() <= {"prefix", "suffix"}:
                raise _wrong(where, '"anything-but" needs values, a "prefix" or a "suffix"')
            ((name, inner),) = operand.items()
            holds = _text(name, inner, where)
            return lambda value: not holds(value)
        values = operand if isinstance(operand, list) else [operand]
        if not values:
            raise _wrong(where, '"anything-but" needs at least one value')
        for _ in values:
            self._count()
        excluded = frozenset(_exact(value, where) for value in values)
        return lambda value: _kind_and_value(value) not in excluded

    def _count(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Invalid(f"The filter is too large; it may have {MOST_PARTS} keys and conditions in all.")


def _is_choice(given: Any) -> bool:
    """Whether what stands under "$or" is a choice of filters; if not, "$or" is a key like others."""
    return (
        isinstance(given, list)
        and bool(given)
        and all(isinstance(choice, dict) and choice and not choice.keys() & _OPERATORS for choice in given)
    )


_OPERATORS = {"prefix", "suffix", "equals-ignore-case", "anything-but", "numeric", "exists"}


def _exact(value: Any, where: str) -> tuple[str, Any]:
    kind, value = _kind_and_value(value)
    if kind == "other" or (kind == "number" and not math.isfinite(value)):
        raise _wrong(where, "has a condition that is no text, number, boolean, null or object")
    return kind, value


def _text(name: str, operand: Any, where: str) -> _Value:
    if name not in _OPERATORS:
        raise _wrong(
            where, f'has an unknown condition "{name:.40}"; there are {", ".join(sorted(_OPERATORS))}'
        )
    if not isinstance(operand, str) or not operand:
        raise _wrong(where, f'"{name}" needs a text that is not empty')
    match name:
        case "prefix":
            return lambda value: isinstance(value, str) and value.startswith(operand)
        case "suffix":
            return lambda value: isinstance(value, str) and value.endswith(operand)
        case _:
            folded = operand.casefold()
            return lambda value: isinstance(value, str) and value.casefold() == folded


def _numeric(operand: Any, where: str) -> _Value:
    fault = _wrong(where, '"numeric" needs "=" and a number, or one or two bounds such as [">", 0, "<=", 5]')
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise fault
    signs, bounds = operand[::2], operand[1::2]
    if not all(isinstance(sign, str) and sign in _COMPARISONS for sign in signs):
        raise fault
    if not all(_is_number(bound) and math.isfinite(bound) for bound in bounds):
        raise fault
    if len(signs) == 2 and not (signs[0] in _LOWER and signs[1] in _UPPER and bounds[0] < bounds[1]):
        raise fault
    checks = [(_COMPARISONS[sign], bound) for sign, bound in zip(signs, bounds, strict=True)]
    return lambda value: _is_number(value) and all(compare(value, bound) for compare, bound in checks)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(where: str, what: str) -> Invalid:
    return Invalid(f'The filter\'s "{where:.200}" {what}.' if where else f"The filter {what}.")
