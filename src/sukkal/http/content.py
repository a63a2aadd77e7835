"""What a request carries in its body → fields, by its media type and what the operation takes."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sukkal.errors import InvalidBody
from sukkal.http.answer import Refused
from sukkal.http.query import QueryReader
from sukkal.http.routes import Endpoint
from sukkal.operations import PATCH_MEDIA_TYPE, Body, Operation
from sukkal.requests import NewMessage
from sukkal.wire import bodies
from sukkal.wire.fields import fields as members
from sukkal.wire.media import JSON, MSGPACK, Medium

OCTETS = "application/octet-stream"  # in a post: one message, whose body is the request's

# MessagePack was used long before its type was registered, under several names.
MSGPACK_NAMES = (MSGPACK.name, "application/msgpack", "application/vnd.msgpack")

_TIMES = QueryReader({"ttl": int, "delay": int})


@lru_cache(256)
def media_type(content_type: bytes) -> str:
    """The type in lower case, without parameters. MessagePack always has the name of its medium."""
    name = content_type.decode("latin-1").partition(";")[0].strip().lower()
    return MSGPACK.name if name in MSGPACK_NAMES else name


def octets_times(query: bytes) -> Mapping[str, Any]:
    """What the query says of a message that is posted as bytes."""
    return _TIMES.fields(query)


def octets_fields(raw: bytes, times: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a post of one message, which is bytes; it may be empty."""
    return {"messages": [NewMessage(body=bodies.of_bytes(raw), **times)]}


def body_fields(endpoint: Endpoint, raw: bytes, sent: str, *, announced: bool) -> dict[str, Any]:
    """The fields of the request that its body fills.

    What is not said to be MessagePack is taken for JSON, whatever else it is `sent` as. `announced`: the body
    has a length, if only 0.
    """
    form = endpoint.operation.body
    medium = MSGPACK if sent == MSGPACK.name else JSON
    if form is Body.MESSAGES:
        if not raw:
            raise _no_body(announced)
        return {"messages": medium.messages(raw)}
    if form is Body.CHANGES:
        if sent not in (PATCH_MEDIA_TYPE, MSGPACK.name):
            raise Refused(
                415,
                "415 Unsupported Media Type",
                f"Accepted media type for PATCH: {{'Accept-Patch': '{PATCH_MEDIA_TYPE}'}}.",
            )
        if not raw:
            raise InvalidBody("PATCH body could not be empty for update.")
        changes = medium.document(raw)
        if not isinstance(changes, list):
            raise InvalidBody("Request body must be a JSON array of operation objects.")
        return {"changes": changes}
    if form is Body.DOCUMENT:
        return {"document": _document(medium, raw, endpoint.operation) if raw else None}
    if not raw:
        if form is Body.REQUIRED:
            raise _no_body(announced)
        return {}
    document = medium.object(raw)
    if form is Body.UNCHECKED:
        return {name: document[name] for name in endpoint.body_types if name in document}
    if form is Body.METADATA:
        return {"metadata": document}
    return members(document, endpoint.body_types, endpoint.operation.required)


def _document(medium: Medium, raw: bytes, operation: Operation) -> Any:
    try:
        return medium.document(raw)
    except InvalidBody as exc:
        if operation.pooling:  # the operators' routes have a text of their own
            raise InvalidBody("JSON could not be parsed.") from exc
        raise


def _no_body(announced: bool) -> InvalidBody:
    """An empty body is an unparsable document; none at all is missing."""
    if announced:
        return InvalidBody("Request body could not be parsed.")
    return InvalidBody("Request body can not be empty")
