"""What outside subscribers are told of a message, as JSON. Source: Messaging API v2, notifications."""

import msgspec
from msgspec import Raw, Struct

from sukkal.model import Notice
from sukkal.wire.bodies import as_json

KIND = "Notification"

_encode = msgspec.json.Encoder().encode


class _Notification(Struct):
    ttl: int
    body: Raw
    kind: str = msgspec.field(name="Message_Type")
    queue: str = msgspec.field(name="queue_name")


class _Delayed(_Notification):
    delay: int


def render(notice: Notice) -> bytes:
    """The JSON object. A JSON body stands in it as it was sent, unread; others as JSON shows them."""
    body = Raw(as_json(notice.body))
    if notice.delay:
        return _encode(_Delayed(notice.ttl, body, KIND, notice.queue, notice.delay))
    return _encode(_Notification(notice.ttl, body, KIND, notice.queue))
