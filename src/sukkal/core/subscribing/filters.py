"""Filters: which messages a subscription is told of, by what their bodies hold.

A filter is an object. Each of its keys names a member of the body, and holds either a list of conditions, of
which one must hold, or a filter for the object there. All keys must match. Of an array in the body, one
element must match; of an array of objects, one object must match the whole filter below it.

    "text", 5, true, null                    is equal; numbers by their value
    {"prefix": "a"}, {"suffix": "z"}         a text that begins or ends so
    {"equals-ignore-case": "A"}              a text
    {"cidr": "10.0.0.0/24"}                  a text that is an address of this network, IPv4 or IPv6
    {"anything-but": …}                      is none of these: a value, a list of them, or one of
                                             {"prefix": …}, {"suffix": …}, {"equals-ignore-case": …}
    {"numeric": [">", 0, "<=", 5]}           a number within bounds; also ["=", 5]
    {"exists": true}, {"exists": false}      there is a value other than null or an object; there is none
    "$or": [{…}, {…}]                        beside the other keys: one of these filters matches

A body of MessagePack is looked at as its readers get it in JSON. One that is no object matches no filter but
the empty one, which all match. What cannot be decided is told of, for that is better than to lose it.

A queue may have hundreds of filters, and a body is looked at with each: so a body is read once, what takes
time to find out about an array or a long text is kept with it, and one look has a bound.

Source: filter policies of Amazon SNS with the scope MessageBody. Ours differs where theirs has limits: number
of keys, range of numbers.
"""

import logging
import math
import socket
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from ipaddress import ip_network
from typing import Any

import msgspec

from sukkal.core.subscribing.rules import FILTER
from sukkal.errors import Invalid
from sukkal.wire.bodies import as_json

log = logging.getLogger(__name__)

OR = "$or"
MOST_PARTS = 300  # keys and conditions of a filter
LONGEST = 16 * 1024  # bytes of a filter in JSON
DEEPEST = 10  # filters inside of filters
MOST_KEPT = 32 * 1024 * 1024  # bytes of compiled filters
MOST_STEPS = 10_000  # of one look; the dearest that were found took half a microsecond each
LONG = 64  # characters of a text that are a step of their own; one that has more is kept with the body

_decode = msgspec.json.Decoder().decode
_decode_any_number = msgspec.json.Decoder(float_hook=float).decode  # slower; 1e999 is infinite
_ABSENT = object()


class Content:
    """A message's body, read once for all filters, which keep here what took time to find out."""

    __slots__ = ("known", "value")

    def __init__(self, value: Any) -> None:
        """`value` is JSON, decoded; `_ABSENT` is what cannot be read."""
        self.value = value
        self.known: dict[int, _Values] = {}  # of an array or a long text, by its identity


Matcher = Callable[[Content], bool]  # → whether the subscription is told of the message
_Condition = Callable[["_Values"], bool]  # whether it holds of one of the values


UNREADABLE = Content(_ABSENT)  # matches every filter


def content(body: bytes) -> Content:
    """A message's body, opened, for matchers to look at."""
    text = as_json(body)
    for decode in (_decode, _decode_any_number):
        try:
            return Content(decode(text))
        except (msgspec.DecodeError, RecursionError, ValueError):
            pass
    return UNREADABLE


def filter_of(options: Mapping[str, Any]) -> Matcher | None:
    """The filter that a subscription's options hold, if any."""
    given = options.get(FILTER)
    return _recorded(msgspec.json.encode(given)) if given else None


class _Kept:
    """Filters of records that were compiled, the latest used last: as many as MOST_KEPT allows."""

    def __init__(self) -> None:
        self._matchers = OrderedDict[bytes, Matcher]()
        self._size = 0

    def __call__(self, given: bytes) -> Matcher:
        matcher = self._matchers.get(given)
        if matcher is not None:
            self._matchers.move_to_end(given)
            return matcher
        try:
            matcher = compile_filter(msgspec.json.decode(given))
        except Invalid as exc:  # it was checked when it came, maybe by a release that took more
            log.warning("a subscription's filter cannot be used, everything matches it: %s", exc)
            matcher = _everything
        self._matchers[given] = matcher
        self._size += _footprint(given)
        while self._size > MOST_KEPT:
            oldest, _ = self._matchers.popitem(last=False)
            self._size -= _footprint(oldest)
        return matcher


def _footprint(given: bytes) -> int:
    """Bytes that a compiled filter takes up at most: its parts, of some characters each, and its texts."""
    return 500 + 65 * min(len(given), 5 * MOST_PARTS) + 4 * len(given)


_recorded = _Kept()


def compile_filter(given: Any) -> Matcher:
    """The filter as a function of a message's content; None stands for no filter.

    Raises Invalid, saying what is wrong and where. A look takes a few milliseconds at most: content of which
    more would have to be looked at matches, as does content that cannot be read.
    """
    if given is None:
        return _everything
    rule = _Reader().rule(given, "", 1)
    if len(msgspec.json.encode(given)) > LONGEST:
        raise Invalid(f"The filter is too long; it may have {LONGEST} bytes in JSON.")
    if rule.is_empty:
        return _everything

    def matches(body: Content) -> bool:
        if not isinstance(body.value, dict):
            return body.value is _ABSENT
        try:
            return rule.matches(body.value, _Look(body))
        except _SpentError:
            return True

    return matches


def _everything(_body: Content) -> bool:
    return True


class _SpentError(Exception):
    pass


class _Look:
    """One look at a body with one filter, and how much longer it may go on."""

    __slots__ = ("_known", "_left", "_paid")

    def __init__(self, body: Content) -> None:
        self._known = body.known
        self._left = MOST_STEPS
        self._paid: set[int] = set()  # for which of what is known

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _SpentError

    def at(self, value: Any) -> "_Values":
        """The values to match of a member of the body: of an array, its elements."""
        kind = type(value)
        if kind is str and len(value) < LONG:
            return _Values((value,))
        if kind is int or kind is float:
            return _Values((), (value,))
        if kind is bool or value is None:
            return _Values((), (), (value,))
        if kind is not str and kind is not list:
            return _NOTHING
        values = self._known.get(id(value))
        if values is None:
            values = _elements([value] if kind is str else value)
            self._known[id(value)] = values
        # The same whether another filter has looked there before, so that a filter always decides the same.
        if id(value) not in self._paid:
            self._paid.add(id(value))
            self.spend(values.steps)
        return values


class _Values:
    """Values of which one has to match, as what conditions ask for."""

    def __init__(
        self,
        texts: Sequence[str] = (),
        numbers: Sequence[float] = (),
        constants: Sequence[bool | None] = (),
        objects: Sequence[dict[str, Any]] = (),
        steps: int = 0,
    ) -> None:
        """`objects` are no values, but what has been found beside them. `steps` is what a look costs."""
        self.texts = frozenset(texts)
        self._numbers = numbers
        self.constants = constants
        self.objects = objects
        self.steps = steps

    @property
    def exist(self) -> bool:
        return bool(self.texts or self._numbers or True in self.constants or False in self.constants)

    @property
    def other_than_texts(self) -> bool:
        return bool(self._numbers or self.constants)

    # A set of numbers would not do: whoever sends them could choose those whose hashes collide.
    @cached_property
    def numbers(self) -> Sequence[float]:
        """Different ones, in order."""
        if len(self._numbers) < 2:
            return self._numbers
        ordered = sorted(self._numbers)
        return [each for n, each in enumerate(ordered) if n == 0 or each != ordered[n - 1]]

    @cached_property
    def ordered(self) -> Sequence[str]:
        return sorted(self.texts)

    @cached_property
    def mirrored(self) -> Sequence[str]:
        return sorted([text[::-1] for text in self.texts])

    @cached_property
    def folded(self) -> frozenset[str]:
        return frozenset([text.casefold() for text in self.texts])

    @cached_property
    def addresses(self) -> Sequence[tuple[int, bytes]]:
        return sorted(filter(None, map(_address, self.texts)))


_NOTHING = _Values()


def _elements(array: list[Any]) -> _Values:
    """The elements of an array and of the arrays in it; none when they are more than a look may cost."""
    texts: list[str] = []
    numbers: list[float] = []
    constants: list[bool | None] = []
    objects: list[dict[str, Any]] = []
    steps, pending = 0, [array]
    while pending:
        items = pending.pop()
        steps += 1 + len(items)
        if steps > MOST_STEPS:
            return _Values(steps=steps)
        for item in items:
            kind = type(item)
            if kind is str:
                steps += 1 + len(item) // LONG
                texts.append(item)
            elif kind is int or kind is float:
                numbers.append(item)
            elif kind is dict:
                objects.append(item)
            elif kind is list:
                pending.append(item)
            elif item not in constants:
                constants.append(item)
    return _Values(texts, numbers, constants, objects, steps)


class _Rule:
    """A filter for one object."""

    __slots__ = ("_choices", "_objects", "_values")

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

    def matches(self, value: dict[str, Any], look: _Look) -> bool:
        look.spend(2)
        for key, conditions in self._values:
            if not conditions.hold(value.get(key, _ABSENT), look):
                return False
        for key, rule in self._objects:
            if not rule.matches_below(value.get(key, _ABSENT), look):
                return False
        return not self._choices or any(rule.matches(value, look) for rule in self._choices)

    def matches_below(self, value: Any, look: _Look) -> bool:
        """Whether the value is an object that matches, or holds one in its arrays.

        What is neither is an object without keys: only what must not exist matches there.
        """
        if type(value) is dict:
            return self.matches(value, look)
        return any(self.matches(each, look) for each in look.at(value).objects or ({},))


class _Conditions:
    """Conditions of which one must hold."""

    __slots__ = ("equal", "exists", "others")

    def __init__(self) -> None:
        self.equal = _Equal()
        self.others: list[_Condition] = []
        self.exists: tuple[bool, ...] = ()

    def hold(self, value: Any, look: _Look) -> bool:
        look.spend(2 + len(self.others))
        values = look.at(value)
        if self.exists and values.exist in self.exists:
            return True
        return self.equal.any(values) or (bool(self.others) and any(holds(values) for holds in self.others))


_EMPTY: set[Any] = set()  # and stays so


class _Equal:
    """Values to be equal to; true is not 1, and 1.0 is."""

    __slots__ = ("_constants", "_numbers", "_texts")

    def __init__(self, given: Iterable[Any] = (), where: str = "") -> None:
        # An empty set takes up as much as the rest, so one serves until there is something to put in.
        self._texts: set[str] = _EMPTY
        self._numbers: set[float] = _EMPTY
        self._constants: set[bool | None] = _EMPTY
        for value in given:
            self.add(value, where)

    def add(self, value: Any, where: str) -> None:
        match value:
            case str():
                self._texts = self._texts or set()
                self._texts.add(value)
            case bool() | None:
                self._constants = self._constants or set()
                self._constants.add(value)
            case int() | float() if math.isfinite(value):
                self._numbers = self._numbers or set()
                self._numbers.add(value)
            case _:
                raise _wrong(where, "has a condition that is no text, number, boolean, null or object")

    def any(self, values: _Values) -> bool:
        """Whether one of the values is one of these."""
        return (
            not self._texts.isdisjoint(values.texts)
            or not self._constants.isdisjoint(values.constants)
            or (bool(self._numbers) and self._any_number(values.numbers))
        )

    def _any_number(self, numbers: Sequence[float]) -> bool:
        if len(numbers) <= len(self._numbers):
            return not self._numbers.isdisjoint(numbers)
        return any(_one_between(numbers, each, each) for each in self._numbers)

    def all(self, values: _Values) -> bool:
        """Whether each of the values is one of these."""
        return (
            self._texts >= values.texts
            and self._constants.issuperset(values.constants)
            and len(values.numbers) <= len(self._numbers)
            and self._numbers.issuperset(values.numbers)
        )


def _one_between(ordered: Sequence[Any], lowest: Any, highest: Any) -> bool:
    """Whether something in an ordered sequence is neither below nor above."""
    place = bisect_left(ordered, lowest)
    return place < len(ordered) and bool(ordered[place] <= highest)


def _one_begins(ordered: Sequence[str], prefix: str) -> bool:
    """Whether one of these texts, in order, begins so."""
    place = bisect_left(ordered, prefix)
    return place < len(ordered) and ordered[place].startswith(prefix)


def _all_begin(ordered: Sequence[str], prefix: str) -> bool:
    """Whether each does. Those that do are in a row."""
    return not ordered or (ordered[0].startswith(prefix) and ordered[-1].startswith(prefix))


def _address(text: str) -> tuple[int, bytes] | None:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        packed = socket.inet_pton(family, text)
    except (OSError, ValueError):
        return None
    return len(packed), packed


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
                if not all(map(_is_filter, below)):
                    raise _wrong(
                        place,
                        "must be a list of filters, each with at least one key, none named as conditions",
                    )
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
                conditions.equal.add(condition, where)
                continue
            if len(condition) != 1:
                raise _wrong(where, "has a condition that is not an object with one key")
            ((name, operand),) = condition.items()
            if name == "exists":
                if not isinstance(operand, bool):
                    raise _wrong(where, '"exists" needs true or false')
                if operand not in conditions.exists:
                    conditions.exists += (operand,)
            elif name == "anything-but":
                conditions.others.append(self._anything_but(operand, where))
            elif name == "numeric":
                conditions.others.append(_numeric(operand, where))
            elif name == "cidr":
                conditions.others.append(_cidr(operand, where))
            elif name in _TEXTS:
                conditions.others.append(_TEXTS[name](_text(name, operand, where)))
            else:
                known = ", ".join(sorted(_CONDITIONS))
                raise _wrong(where, f'has an unknown condition "{name:.40}"; there are {known}')
        return conditions

    def _anything_but(self, operand: Any, where: str) -> _Condition:
        if isinstance(operand, dict):
            if len(operand) != 1 or not operand.keys() <= _EXCEPTIONS.keys():
                raise _wrong(
                    where, '"anything-but" needs values, a "prefix", a "suffix" or an "equals-ignore-case"'
                )
            ((name, inner),) = operand.items()
            return _EXCEPTIONS[name](_text(name, inner, where))
        values = operand if isinstance(operand, list) else [operand]
        if not values:
            raise _wrong(where, '"anything-but" needs at least one value')
        for _ in values:
            self._count()
        excluded = _Equal(values, where)
        return lambda values: not excluded.all(values)

    def _count(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Invalid(f"The filter is too large; it may have {MOST_PARTS} keys and conditions in all.")


def _is_choice(given: Any) -> bool:
    """Whether what stands under "$or" is meant as a choice of filters; if not, "$or" is a key like others."""
    return isinstance(given, list) and any(
        isinstance(each, dict) and not each.keys() & _CONDITIONS for each in given
    )


def _is_filter(given: Any) -> bool:
    """Whether this may be one of a choice."""
    return isinstance(given, dict) and bool(given) and not given.keys() & _CONDITIONS


def _prefix(text: str) -> _Condition:
    return lambda values: _one_begins(values.ordered, text)


def _suffix(text: str) -> _Condition:
    mirrored = text[::-1]
    return lambda values: _one_begins(values.mirrored, mirrored)


def _equals_ignore_case(text: str) -> _Condition:
    folded = text.casefold()
    return lambda values: folded in values.folded


def _no_prefix(text: str) -> _Condition:
    return lambda values: values.other_than_texts or not _all_begin(values.ordered, text)


def _no_suffix(text: str) -> _Condition:
    mirrored = text[::-1]
    return lambda values: values.other_than_texts or not _all_begin(values.mirrored, mirrored)


def _no_equals_ignore_case(text: str) -> _Condition:
    folded = frozenset([text.casefold()])
    return lambda values: values.other_than_texts or not values.folded <= folded


_TEXTS = {"prefix": _prefix, "suffix": _suffix, "equals-ignore-case": _equals_ignore_case}
_EXCEPTIONS = {"prefix": _no_prefix, "suffix": _no_suffix, "equals-ignore-case": _no_equals_ignore_case}
_CONDITIONS = {*_TEXTS, "anything-but", "cidr", "exists", "numeric"}


def _text(name: str, operand: Any, where: str) -> str:
    if not isinstance(operand, str) or not operand:
        raise _wrong(where, f'"{name}" needs a text that is not empty')
    return operand


def _numeric(operand: Any, where: str) -> _Condition:
    fault = _wrong(where, '"numeric" needs "=" and a number, or one or two bounds such as [">", 0, "<=", 5]')
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise fault
    signs, bounds = operand[::2], operand[1::2]
    if not all(isinstance(sign, str) and (sign in _FIRST or sign in _END) for sign in signs):
        raise fault
    if not all(type(bound) in (int, float) and math.isfinite(bound) for bound in bounds):
        raise fault
    if len(signs) == 2 and not (
        signs[0] in (">", ">=") and signs[1] in ("<", "<=") and bounds[0] < bounds[1]
    ):
        raise fault
    first, lowest, end, highest = bisect_left, -math.inf, bisect_right, math.inf
    for sign, bound in zip(signs, bounds, strict=True):
        if sign in _FIRST:
            first, lowest = _FIRST[sign], bound
        if sign in _END:
            end, highest = _END[sign], bound
    return lambda values: first(values.numbers, lowest) < end(values.numbers, highest)


# Where the numbers begin that a bound allows, of numbers in order, and where they end.
_FIRST = {"=": bisect_left, ">=": bisect_left, ">": bisect_right}
_END = {"=": bisect_right, "<=": bisect_right, "<": bisect_left}


def _cidr(operand: Any, where: str) -> _Condition:
    try:
        network = ip_network(_text("cidr", operand, where), strict=False)
    except ValueError as exc:
        raise _wrong(where, '"cidr" needs a network such as 10.0.0.0/24 or 2001:db8::/32') from exc
    lowest, highest = network.network_address.packed, network.broadcast_address.packed
    return lambda values: _one_between(values.addresses, (len(lowest), lowest), (len(highest), highest))


def _wrong(where: str, what: str) -> Invalid:
    return Invalid(f'The filter\'s "{where:.200}" {what}.' if where else f"The filter {what}.")
