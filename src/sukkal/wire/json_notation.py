"""JSON, for `media`: its encoder, its decoders, and what is allowed in it."""

import re
from typing import Any

import msgspec
from msgspec import Raw

from sukkal.errors import InvalidBody
from sukkal.limits import INT64_MAX, INT64_MIN
from sukkal.requests import NewMessage
from sukkal.wire import bodies
from sukkal.wire.nesting import MAX_DEPTH, json_openings, too_deep

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
UNPARSABLE = "Request body could not be parsed."
TOO_DEEP = f"Request body is nested too deeply; {MAX_DEPTH} levels are allowed."

VERBATIM_ABOVE = bodies.PACKED

_LONG_NUMBER = re.compile(rb"\d{19}")  # may not fit 64 bits
_NO_DIGITS = bytes(set(range(256)) - set(b"0123456789"))


class _Posted(msgspec.Struct):
    messages: list[NewMessage]


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode
decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
decode_items = msgspec.json.Decoder(list[Raw]).decode
_decode_posted = msgspec.json.Decoder(_Posted).decode
_decode_listed = msgspec.json.Decoder(list[NewMessage]).decode


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def parse(raw: bytes) -> dict[str, Any] | list[Any]:
    """An object or array whose integers fit 64 bits; InvalidBody for anything else."""
    try:
        value = decode(raw)
    except UNREADABLE as exc:
        raise InvalidBody(UNPARSABLE) from exc
    if not isinstance(value, dict | list):
        raise InvalidBody(UNPARSABLE)
    if _has_long_number(raw):
        check_integers(value)
    return value


def check_document(value: Any, raw: bytes) -> None:
    """Raise InvalidBody for what cannot be kept as metadata."""
    if too_deep(value, json_openings(raw)):
        raise InvalidBody(TOO_DEEP)


def _has_long_number(raw: bytes) -> bool:
    """Whether 19 digits stand in a row. Such a row has one of them at every 19th place: look there first."""
    return bool(raw[18::19].translate(None, _NO_DIGITS)) and _LONG_NUMBER.search(raw) is not None


def check_integers(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += item.values()
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, int) and not INT64_MIN <= item <= INT64_MAX:
            raise InvalidBody("JSON contains integer that is too large.")


def quick_messages(raw: bytes) -> list[NewMessage] | None:
    """The messages of a post whose body this is; None when something about it is suspect."""
    try:
        # The decoder steps over raw values without looking at their text and numbers.
        if (raw.isascii() or raw.decode()) and not _has_long_number(raw):
            return _decode_posted(raw).messages
    except UNREADABLE:
        pass
    return None


def quick_list(raw: bytes) -> list[NewMessage] | None:
    """The same of the array of messages alone."""
    try:
        if (raw.isascii() or raw.decode()) and not _has_long_number(raw):
            return _decode_listed(raw)
    except UNREADABLE:
        pass
    return None


def body(raw: Raw) -> Raw:
    """A message's body, as it is kept."""
    return raw


def show(body: bytes) -> Raw:
    return Raw(bodies.as_json(body))
