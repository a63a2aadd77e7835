"""JSON in: documents, fields and messages, with the API's own words for what is wrong with them."""

import re
from types import UnionType
from typing import Any, get_args, get_origin

import msgspec
from msgspec import Raw

from sukkal.errors import Invalid, InvalidBody
from sukkal.limits import INT64_MAX, INT64_MIN
from sukkal.requests import NewMessage

MAX_DEPTH = 200  # of a document that is kept; message bodies are not taken apart, so theirs is free

_LONG_NUMBER = re.compile(rb"\d{19}")  # may not fit 64 bits
_NO_DIGITS = bytes(set(range(256)) - set(b"0123456789"))

_UNPARSABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Posted(msgspec.Struct):
    messages: list[NewMessage]


_decode_any = msgspec.json.Decoder().decode
_decode_posted = msgspec.json.Decoder(_Posted).decode
_decode_raw_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_raw_array = msgspec.json.Decoder(list[Raw]).decode


def document(raw: bytes) -> dict[str, Any] | list[Any]:
    """A JSON object or array that can be kept; InvalidBody for anything else."""
    value = _parsed(raw)
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise InvalidBody(f"Request body is nested too deeply; {MAX_DEPTH} levels are allowed.")
    return value


def _parsed(raw: bytes) -> dict[str, Any] | list[Any]:
    try:
        value = _decode_any(raw)
    except _UNPARSABLE as exc:
        raise InvalidBody("Request body could not be parsed.") from exc
    if not isinstance(value, dict | list):
        raise InvalidBody("Request body could not be parsed.")
    if _has_long_number(raw):
        _check_integers(value)
    return value


def _depth(value: Any) -> int:
    """How many levels of arrays and objects there are."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [item for outer in level for item in (outer.values() if isinstance(outer, dict) else outer)]
    return depth


def _has_long_number(raw: bytes) -> bool:
    """Whether 19 digits stand in a row. Such a row has one of them at every 19th place: look there first."""
    return bool(raw[18::19].translate(None, _NO_DIGITS)) and _LONG_NUMBER.search(raw) is not None


def _check_integers(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += item.values()
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, int) and not INT64_MIN <= item <= INT64_MAX:
            raise InvalidBody("JSON contains integer that is too large.")


def json_object(raw: bytes) -> dict[str, Any]:
    value = document(raw)
    if not isinstance(value, dict):
        raise InvalidBody("Document type not supported.")
    return value


def messages(raw: bytes) -> list[NewMessage]:
    """The messages of a post. Their bodies stay as they were sent, and are known to be JSON."""
    try:
        # The decoder steps over raw values without looking at their text and numbers.
        if (raw.isascii() or raw.decode()) and not _has_long_number(raw):
            return _decode_posted(raw).messages
    except _UNPARSABLE:
        pass
    return _diagnosed_messages(raw)


def _diagnosed_messages(raw: bytes) -> list[NewMessage]:
    """The same, a step at a time, to say what is wrong; or to accept what only looked suspect."""
    value = _parsed(raw)
    if not isinstance(value, dict) or "messages" not in value:
        raise Invalid("No messages were found in the request body.")
    if not isinstance(value["messages"], list):
        raise InvalidBody("Document type not supported.")
    return [_message(item) for item in _decode_raw_array(_decode_raw_object(raw)["messages"])]


def _message(raw: Raw) -> NewMessage:
    if not isinstance(_decode_any(raw), dict):
        raise InvalidBody("Document type not supported.")
    fields = _decode_raw_object(raw)
    if "body" not in fields:
        raise InvalidBody('Missing "body" field.')
    times = {
        name: checked(_decode_any(fields[name]), int, name) for name in ("ttl", "delay") if name in fields
    }
    return NewMessage(body=fields["body"], **times)


def fields(value: dict[str, Any], types: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Those members of an object that are wanted, each of its type; others are ignored.

    A type that admits None takes `null` as absent.
    """
    for name in required:
        if name not in value:
            raise InvalidBody(f'Missing "{name}" field.')
    found = {}
    for name, wanted in types.items():
        if name in value and not (value[name] is None and type(None) in get_args(wanted)):
            found[name] = checked(value[name], plain_type(wanted), name)
    return found


def plain_type(annotation: Any) -> type:
    """`int` for `int` and `int | None`; `list` for `list[str]`; and so on."""
    if get_origin(annotation) is UnionType:
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    plain = get_origin(annotation) or annotation
    assert isinstance(plain, type)
    return plain


def checked(value: Any, wanted: type, name: str) -> Any:
    """The value of a field, if it is of the wanted type; `true` passes for 1, as it always has."""
    if wanted is int and isinstance(value, bool):
        return int(value)
    if isinstance(value, wanted) and not (wanted is not bool and isinstance(value, bool)):
        return value
    raise InvalidBody(f'The value of the "{name}" field must be a {wanted.__name__}.')
