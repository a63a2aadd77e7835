"""Query parameters: `?limit=3&echo=true` → fields of a request."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from sukkal.errors import InvalidParameter
from sukkal.wire.fields import plain_type

LONGEST_CACHED = 256  # bytes; callers that poll repeat short queries

_TRUE = frozenset(("true", "True", "t", "yes", "y", "1", "on"))
_FALSE = frozenset(("false", "False", "f", "no", "n", "0", "off"))


Parameters = Mapping[str, list[str]]


def parameters(query: bytes) -> Parameters:
    """Values by name, in order; a blank value counts as absent."""
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(query.decode("latin-1")):
        found.setdefault(name, []).append(value)
    return found


class QueryReader:
    """Reads a query string as fields of one operation's request."""

    def __init__(self, types: Mapping[str, Any], *, filters: bool = False) -> None:
        """`types` of the parameters known; with `filters`, all others go into the field of that name."""
        self._types = {name: plain_type(kind) for name, kind in types.items()}
        self._filters = filters
        self._cached = lru_cache(512)(self._fields)

    def fields(self, query: bytes) -> Mapping[str, Any]:
        """Each known parameter as its type; InvalidParameter when it cannot be read so."""
        return self._cached(query) if len(query) <= LONGEST_CACHED else self._fields(query)

    def _fields(self, query: bytes) -> Mapping[str, Any]:
        given = parameters(query)
        fields = {
            name: _read(name, values, self._types[name])
            for name, values in given.items()
            if name in self._types
        }
        if self._filters:
            fields["filters"] = {
                name: values[-1] for name, values in given.items() if name not in self._types
            }
        return fields


def _read(name: str, values: list[str], wanted: type) -> Any:
    if wanted is list:
        return [item for value in values for item in value.split(",") if item]
    text = values[-1]
    if wanted is int:
        return _integer(name, text)
    if wanted is bool:
        return _boolean(name, text)
    return text


def _integer(name: str, text: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 100):
        raise InvalidParameter(f'The "{name}" parameter is invalid. The value must be an integer.')
    return int(text)


def _boolean(name: str, text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise InvalidParameter(
        f'The "{name}" parameter is invalid. The value of the parameter must be "true" or "false".'
    )
