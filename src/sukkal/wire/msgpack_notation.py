"""MessagePack, for `media`: its encoder, its decoders, and what is allowed in it.

Bodies of messages may hold what JSON does not have, as long as a reader of JSON can be shown something for
it (`bodies.as_json`): all is checked when it comes, so that no reading fails. Other documents are kept as
JSON and may hold nothing else.
"""

import math
from typing import Any, NoReturn

import msgspec
from msgspec import Raw

from sukkal.errors import InvalidBody
from sukkal.requests import NewMessage
from sukkal.wire import bodies
from sukkal.wire.json_notation import TOO_DEEP, UNPARSABLE, UNREADABLE, check_integers
from sukkal.wire.nesting import MAX_DEPTH, msgpack_openings, too_deep

VERBATIM_ABOVE = 255  # no body is kept in exactly the form that is inserted

_ENVELOPE = 3  # levels around a body: the object, its array, the message
_UINT64 = b"\xcf"  # without this byte there is no integer beyond 64 bits with a sign


class _Posted(msgspec.Struct):
    messages: list[NewMessage]


def _refuse_extension(code: int, _data: memoryview) -> NoReturn:
    raise InvalidBody(
        f"Extension type {code} is not supported; of MessagePack's extensions only timestamps are."
    )


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(ext_hook=_refuse_extension).decode
decode_members = msgspec.msgpack.Decoder(dict[str, Raw]).decode
decode_items = msgspec.msgpack.Decoder(list[Raw]).decode
_decode_posted = msgspec.msgpack.Decoder(_Posted).decode
_decode_listed = msgspec.msgpack.Decoder(list[NewMessage]).decode


def decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind, ext_hook=_refuse_extension)


def parse(raw: bytes) -> dict[Any, Any] | list[Any]:
    """A map or array that can be shown in JSON; InvalidBody for anything else."""
    try:
        value = decode(raw)
    except UNREADABLE as exc:
        raise InvalidBody(UNPARSABLE) from exc
    if not isinstance(value, dict | list):
        raise InvalidBody(UNPARSABLE)
    if _UINT64 in raw:
        check_integers(value)
    if too_deep(value, msgpack_openings(raw), MAX_DEPTH + _ENVELOPE):
        raise InvalidBody(TOO_DEEP)
    return value


def check_document(value: Any, raw: bytes) -> None:
    """Raise InvalidBody for what cannot be kept as metadata."""
    if too_deep(value, msgpack_openings(raw)):
        raise InvalidBody(TOO_DEEP)
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if not all(isinstance(key, str) for key in item):
                raise InvalidBody("Keys must be texts, for JSON has no others.")
            pending += item.values()
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise InvalidBody("Numbers must be finite, for JSON has no others.")
        elif not (item is None or isinstance(item, str | int)):
            raise InvalidBody("Only values that JSON has are allowed here: no bytes, no timestamps.")


def quick_messages(raw: bytes) -> list[NewMessage] | None:
    """The messages of a post whose body this is; None when something about it is suspect."""
    parse(raw)  # the decoder steps over raw values without looking into them
    try:
        return _kept(_decode_posted(raw).messages)
    except msgspec.ValidationError:
        return None


def quick_list(raw: bytes) -> list[NewMessage] | None:
    """The same of the array of messages alone."""
    parse(raw)
    try:
        return _kept(_decode_listed(raw))
    except msgspec.ValidationError:
        return None


def _kept(messages: list[NewMessage]) -> list[NewMessage]:
    return [
        NewMessage(body=bodies.packed(message.body), ttl=message.ttl, delay=message.delay)
        for message in messages
    ]


def body(raw: Raw) -> Raw:
    """A message's body, as it is kept."""
    return bodies.packed(raw)


def show(body: bytes) -> Raw:
    return Raw(bodies.as_msgpack(body))
