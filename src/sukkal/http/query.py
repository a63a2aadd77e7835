"""Query parameters: `?limit=3&echo=true` → fields of a request."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from sukkal.errors import InvalidParameter
from sukkal.wire.media import plain_type

LONGEST_CACHED = 256  # bytes; callers that poll repeat short queries

_TRUE = frozenset(("true", "True", "t", "yes", "y", "1", "on"))
_FALSE = frozenset(("false", "False", "f", "no", "n", "0", "off"))


Parameters = Mapping[str, list[str]]


def parameters(query: bytes) -> Parameters:
    """Values by name, in order; a blank value counts as absent. Not to be changed: it may be cached."""
    return _cached(query) if len(query) <= LONGEST_CACHED else _parsed(query)


def _parsed(query: bytes) -> Parameters:
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(query.decode("latin-1")):
        found.setdefault(name, []).append(value)
    return found


_cached = lru_cache(1024)(_parsed)


class QueryReader:
    """Reads the parameters an operation knows as fields of its request."""

    def __init__(self, types: Mapping[str, Any]) -> None:
        self._types = {name: plain_type(kind) for name, kind in types.items()}

    def fields(self, given: Parameters) -> dict[str, Any]:
        """Each given parameter as its type; InvalidParameter when it cannot be read so."""
        return {
            name: _read(name, values, self._types[name])
            for name, values in given.items()
            if name in self._types
        }

    def others(self, given: Parameters) -> dict[str, str]:
        """Parameters the operation does not know."""
        return {name: values[-1] for name, values in given.items() if name not in self._types}


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
