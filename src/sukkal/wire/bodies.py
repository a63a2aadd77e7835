"""Forms of a message's body, and how each is shown to readers of JSON and of MessagePack.

Between the two wires a body is bytes that nothing looks into. The first of them tells its form:

    0             traced                25 bytes, see `traced`; then the body in another form
    1             sealed                see core/cipher.py
    2             compressed            see core/compression.py
    3             MessagePack           the value follows, as it was sent
    anything else JSON text             as it was sent; of control bytes it can start with white space only

Core takes the first three off, so that readers meet the last two only. Bytes that are no text are the `bin`
of MessagePack; `application/octet-stream` is kept as one.
"""

import base64
from typing import Any

import msgspec
from msgspec import Raw

from sukkal.wire.nesting import json_openings, too_deep

TRACED = 0
PACKED = 3
TRACE_BYTES = 25  # trace id, span id and flags as in W3C's traceparent, without its version
BASE64 = "$base64"  # the only key of the object that stands for bytes in JSON

_BIN = (b"\xc4", b"\xc5", b"\xc6")  # without these bytes there is no `bin`
_KEYS = {None: "null", True: "true", False: "false"}

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode
_encode_msgpack = msgspec.msgpack.Encoder().encode
_decode_msgpack = msgspec.msgpack.Decoder().decode


def traced(body: bytes, trace: bytes) -> bytes:
    """The body with what tells of the trace it was posted in; as it is when `trace` is empty."""
    return b"\0" + trace + body if trace else body


def trace_of(body: bytes) -> bytes:
    """What a body as it is stored tells of the trace it was posted in; empty when nothing."""
    return body[1 : 1 + TRACE_BYTES] if body[0] == TRACED else b""


def untraced(body: bytes) -> bytes:
    """The body without that."""
    return body[1 + TRACE_BYTES :] if body[0] == TRACED else body


def packed(value: Raw | bytes) -> Raw:
    """The body that is this MessagePack value."""
    return Raw(b"\x03" + value)


def of_bytes(data: bytes) -> Raw:
    """The body that is these bytes."""
    return packed(_encode_msgpack(data))


def as_json(body: bytes) -> bytes:
    """A body as JSON text: JSON as it was sent, MessagePack transcribed.

    JSON has less than MessagePack. Bytes become `{"$base64": "…"}`; NaN and the infinities null; a timestamp
    its RFC 3339 text; a key that is no text becomes one: bytes in base64, anything else its JSON.
    """
    if body[0] != PACKED:
        return body
    value = _decode_msgpack(memoryview(body)[1:])
    if not any(first in body for first in _BIN):
        try:
            return _encode_json(value)
        except TypeError:  # keys that are neither texts nor numbers
            pass
    return _encode_json(_for_json(value))


def _for_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {BASE64: base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {_key(key): _for_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_for_json(item) for item in value]
    return value


def _key(key: Any) -> Any:
    """A key that the encoder writes as text."""
    if isinstance(key, tuple):
        return _encode_json(_for_json(key)).decode()
    if isinstance(key, bool) or key is None:
        return _KEYS[key]
    return key


def as_msgpack(body: bytes) -> bytes:
    """A body as a MessagePack value: MessagePack as it was sent, JSON transcribed.

    JSON that MessagePack's readers could not take is given as its text, a `str`: nested deeper than documents
    may be, or with a number beyond any float.
    """
    if body[0] == PACKED:
        return body[1:]
    try:
        value = _decode_json(body)
        if not too_deep(value, json_openings(body)):
            return _encode_msgpack(value)
    except (msgspec.DecodeError, RecursionError, OverflowError):
        pass
    return _encode_msgpack(body.decode())
