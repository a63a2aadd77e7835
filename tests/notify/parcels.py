"""Parcels to deliver, as the dispatcher makes them."""

from typing import Any

from sukkal.model import Subscription
from sukkal.notify.deliverer import Parcel

NOW = 1_800_000_000.0
NOTICE = b'{"ttl":300,"body":{"event":"done"},"Message_Type":"Notification","queue_name":"orders"}'


def parcel(
    subscriber: str, *notices: bytes, attempt: int = 0, id: str = "parcel-1", **options: Any
) -> Parcel:
    subscription = Subscription(
        id="subscription-1", source="orders", subscriber=subscriber, ttl=3600, created=NOW, options=options
    )
    return Parcel(
        id=id,
        project="acme",
        subscription=subscription,
        notices=list(notices) or [NOTICE],
        created=NOW,
        attempt=attempt,
    )
