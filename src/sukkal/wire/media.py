"""Documents in and out, in JSON and in MessagePack, with the API's own words for what is wrong with them."""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from sukkal.errors import Invalid, InvalidBody
from sukkal.requests import NewMessage
from sukkal.wire import json_notation, msgpack_notation
from sukkal.wire.fields import checked

UNREADABLE = json_notation.UNREADABLE  # what decoders raise

_WRONG_KIND = "Document type not supported."


class Notation(Protocol):
    """What the modules `json_notation` and `msgpack_notation` have."""

    VERBATIM_ABOVE: int

    @property
    def encode(self) -> Callable[[Any], bytes]: ...
    @property
    def decode(self) -> Callable[[Raw], Any]: ...
    @property
    def decode_members(self) -> Callable[[bytes | Raw], dict[str, Raw]]: ...
    @property
    def decode_items(self) -> Callable[[bytes | Raw], list[Raw]]: ...
    def decoder(self, kind: Any, /) -> Any: ...
    def parse(self, raw: bytes, /) -> dict[Any, Any] | list[Any]: ...
    def check_document(self, value: Any, raw: bytes, /) -> None: ...
    def quick_messages(self, raw: bytes, /) -> list[NewMessage] | None: ...
    def quick_list(self, raw: bytes, /) -> list[NewMessage] | None: ...
    def body(self, raw: Raw, /) -> Raw: ...
    def show(self, body: bytes, /) -> Raw: ...


class Medium:
    """A way to write documents down, the same for every transport.

    `encode(document)` writes one; a body stands in it as `show(body)` gives it. Bodies whose first byte is
    greater than `verbatim_above` need not be asked for: they stand there as they are kept.
    """

    def __init__(self, name: str, notation: Notation) -> None:
        self.name = name
        self.encode = notation.encode
        self.show = notation.show
        self.verbatim_above = notation.VERBATIM_ABOVE
        self._notation = notation

    def __repr__(self) -> str:
        return f"Medium({self.name})"

    def decoder(self, kind: Any) -> Callable[[bytes], Any]:
        """A function that reads values of a type; it raises UNREADABLE, and InvalidBody for an extension.

        What is read as `Raw` is stepped over: it has yet to be read by `object` or `messages`.
        """
        decode: Callable[[bytes], Any] = self._notation.decoder(kind).decode
        return decode

    def document(self, raw: bytes) -> dict[str, Any] | list[Any]:
        """An object or array that can be kept and shown in every medium; InvalidBody for anything else."""
        value = self._notation.parse(raw)
        self._notation.check_document(value, raw)
        return value

    def object(self, raw: bytes) -> dict[str, Any]:
        value = self.document(raw)
        if not isinstance(value, dict):
            raise InvalidBody(_WRONG_KIND)
        return value

    def messages(self, raw: bytes) -> list[NewMessage]:
        """The messages of a post: of the object that holds them under that name.

        Their bodies stay as they were sent, and are known to be readable in every medium.
        """
        found = self._notation.quick_messages(raw)
        return self._diagnosed_messages(raw) if found is None else found

    def message_list(self, raw: bytes) -> list[NewMessage]:
        """The same of the array of messages alone."""
        found = self._notation.quick_list(raw)
        if found is None:
            found = self._diagnosed_list(raw, self._notation.parse(raw))
        return found

    def _diagnosed_messages(self, raw: bytes) -> list[NewMessage]:
        """The same, a step at a time, to say what is wrong; or to accept what only looked suspect."""
        value = self._notation.parse(raw)
        if not isinstance(value, dict) or "messages" not in value:
            raise Invalid("No messages were found in the request body.")
        return self._diagnosed_list(self._members(raw)["messages"], value["messages"])

    def _diagnosed_list(self, raw: bytes | Raw, value: Any) -> list[NewMessage]:
        if not isinstance(value, list):
            raise InvalidBody(_WRONG_KIND)
        return [self._message(item) for item in self._notation.decode_items(raw)]

    def _message(self, raw: Raw) -> NewMessage:
        if not isinstance(self._notation.decode(raw), dict):
            raise InvalidBody(_WRONG_KIND)
        members = self._members(raw)
        if "body" not in members:
            raise InvalidBody('Missing "body" field.')
        times = {
            name: checked(self._notation.decode(members[name]), int, name)
            for name in ("ttl", "delay")
            if name in members
        }
        return NewMessage(body=self._notation.body(members["body"]), **times)

    def _members(self, raw: bytes | Raw) -> dict[str, Raw]:
        try:
            return self._notation.decode_members(raw)
        except msgspec.ValidationError as exc:
            raise InvalidBody("Keys around message bodies must be texts.") from exc


JSON = Medium("application/json", json_notation)
MSGPACK = Medium("application/x-msgpack", msgpack_notation)
