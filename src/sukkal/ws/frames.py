"""Frames: what a request looks like as it travels, and what is sent back.

A request is an object of `action`, `headers` and `body`. Each stays the raw slice that came, since the reply
repeats it: nothing is taken apart that the action does not need.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import UNSET, Raw, Struct, UnsetType, msgpack

from sukkal.errors import InvalidBody
from sukkal.model import Notice
from sukkal.wire.media import JSON, MSGPACK, UNREADABLE, Medium

_MSGPACK_ARRAYS = bytes([*range(0x90, 0xA0), 0xDC, 0xDD])  # their first bytes
_MSGPACK_MAPS = bytes([*range(0x80, 0x90), 0xDE, 0xDF])
_UNDECODABLE = (*UNREADABLE, InvalidBody, TypeError, ValueError)


class Undecodable(Exception):
    """A frame that holds no request; the text says why."""


class Request(Struct, frozen=True):
    """A request as it came; what was absent is an empty slice."""

    action: Raw = Raw()
    headers: Raw = Raw()
    body: Raw = Raw()


NOTHING = Request()


class _Echo(Struct):
    action: Raw
    body: Raw
    headers: Raw
    api: str = "v2"


class _Status(Struct):
    status: int


class _Reply(Struct):
    request: _Echo
    body: Any
    headers: _Status


class _Notification(Struct):
    ttl: int
    body: Raw
    queue_name: str
    Message_Type: str = "Notification"
    delay: int | UnsetType = UNSET


class Kind:
    """One of the two kinds of frames, and the medium it carries."""

    def __init__(self, name: str, medium: Medium) -> None:
        self.medium = medium
        self.binary = medium is MSGPACK
        self._name = name
        self._read: Callable[[bytes], Request] = medium.decoder(Request)
        self._read_any = medium.decoder(Any)
        self._arrays = _MSGPACK_ARRAYS if self.binary else b"["
        self._objects = _MSGPACK_MAPS if self.binary else b"{"
        self._null = Raw(medium.encode(None))
        self._empty = Raw(medium.encode({}))

    def request(self, data: bytes) -> Request:
        """The request in a frame; Undecodable when there is none."""
        try:
            if not self.binary and not data.isascii():
                data.decode()  # raw slices are not looked into
            return self._read(data)
        except _UNDECODABLE:
            return self._diagnosed(data)

    def _diagnosed(self, data: bytes) -> Request:
        try:
            value = self._read_any(data)
        except _UNDECODABLE as exc:
            kind = type(exc).__name__
            raise Undecodable(f"Can't decode {self._name} request. {kind}: {exc}") from exc
        if not isinstance(value, dict):
            raise Undecodable("Unexpected body type. Expected dict or dict like.")
        # An object all the same, with keys that are no texts and none of ours.
        encode = self.medium.encode
        return Request(**{name: Raw(encode(value[name])) for name in ECHOED if name in value})

    def is_array(self, raw: Raw) -> bool:
        """Whether a value that was stepped over is an array."""
        return memoryview(raw)[0] in self._arrays

    def is_object(self, raw: Raw) -> bool:
        return memoryview(raw)[0] in self._objects

    def notification(self, notice: Notice) -> bytes:
        """The frame that tells of a message; what has no `request` is no reply."""
        told = _Notification(notice.ttl, self.medium.show(notice.body), notice.queue)
        if notice.delay:
            told.delay = notice.delay
        return self.medium.encode(told)

    def reply(self, request: Request, status: int, body: Any) -> bytes:
        """The frame that answers a request."""
        if status >= 400 and self.binary and not _readable(request):
            request = NOTHING  # repeated, it would make the reply as unreadable as it is
        echo = _Echo(
            request.action or self._null, request.body or self._empty, request.headers or self._empty
        )
        return self.medium.encode(_Reply(echo, body, _Status(status)))


def _readable(request: Request) -> bool:
    """Whether what a binary frame holds is what it says, also where it was stepped over."""
    try:
        for part in (request.action, request.headers, request.body):
            if part:
                msgpack.decode(part)
    except _UNDECODABLE:
        return False
    return True


ECHOED = Request.__struct_fields__

TEXT = Kind("text (JSON)", JSON)
BINARY = Kind("binary (MessagePack)", MSGPACK)
KINDS = (TEXT, BINARY)


class Frame(NamedTuple):
    """One message of a connection, put together when it came in fragments."""

    kind: Kind
    data: bytes
