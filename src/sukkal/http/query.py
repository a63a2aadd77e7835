"""Query parameters: `?limit=3&echo=true` → fields of a request."""

from typing import Any
from urllib.parse import parse_qsl

from sukkal.errors import InvalidParameter
from sukkal.wire.media import plain_type

_TRUE = frozenset(("true", "True", "t", "yes", "y", "1", "on"))
_FALSE = frozenset(("false", "False", "f", "no", "n", "0", "off"))


def parameters(query: bytes) -> dict[str, list[str]]:
    """Values by name, in order; a blank value counts as absent."""
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(query.decode("latin-1")):
        found.setdefault(name, []).append(value)
    return found


def fields(given: dict[str, list[str]], types: dict[str, Any]) -> dict[str, Any]:
    """The wanted parameters, each read as its type; InvalidParameter when it cannot be."""
    return {name: _read(name, given[name], plain_type(types[name])) for name in types if name in given}


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
