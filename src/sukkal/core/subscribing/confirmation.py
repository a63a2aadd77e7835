"""Asking subscribers whether they want to be told: nothing else is sent to them before they say yes.

Who is asked gets signed leave to say so, and to say no later. Source: Messaging API v2, confirmation.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import msgspec
from msgspec import Struct

from sukkal.core.signing import Signer, written
from sukkal.core.subscribing.rules import is_inside
from sukkal.model import QueueKey, Subscription
from sukkal.wire import links

log = logging.getLogger(__name__)

KIND = "confirmation"  # of a delivery
METHOD = "PUT"

MOST_SENT = 20  # from one project to one mailbox or one path of a host
SENT_WITHIN = 60.0  # seconds
MOST_REMEMBERED = 10_000  # of those

_PORTS = {"http": 80, "https": 443}

# Given to what is to be sent: to whom, as what, when. Returns when it is recorded.
Send = Callable[[QueueKey, Subscription, bytes, str, float], Awaitable[None]]


class Wording(Struct, frozen=True):
    """A mail. In its body {0} stands for the queue, {1} for the project, {2} for the link."""

    topic: str
    body: str
    sender: str

    def mail(self, queue: str, project: str, link: str) -> "Mail":
        body = self.body
        for place, text in (("{0}", queue), ("{1}", project), ("{2}", link)):
            body = body.replace(place, text)
        return Mail(self.topic, self.sender, body)


class Terms(Struct, frozen=True, kw_only=True):
    """How an operator wants subscribers to be asked."""

    required: bool = False
    page: str | None = None  # URL of a page of the operator's, which a mail leads to
    endpoint: str | None = None  # public URL of this service
    websocket_endpoint: str | None = None  # the same for WebSockets
    subscribed: Wording | None = None  # None: nobody is asked by mail
    unsubscribed: Wording | None = None


class Mail(Struct):
    """What is to be mailed instead of a notification."""

    Subject: str
    From: str
    Body: str


class Confirmation:
    def __init__(self, terms: Terms, signer: Signer, send: Send, *, default_ttl: int) -> None:
        """`default_ttl`: seconds for which who unsubscribed may subscribe again."""
        self._terms = terms
        self._signer = signer
        self._send = send
        self._default_ttl = default_ttl
        # Since when how many were sent from which project to whom, in this process, by a digest of both; the
        # last one last.
        self._sent_to: dict[bytes, tuple[float, int]] = {}

    def awaited(self, subscription: Subscription) -> bool:
        """Whether nothing may be sent to the subscriber before it confirms."""
        return not subscription.confirmed and self._concerns(subscription)

    def _concerns(self, subscription: Subscription) -> bool:
        """Whether the subscriber is somebody to ask; a queue is its own project's."""
        outside = not subscription.connection and not is_inside(subscription.subscriber)
        return self._terms.required and outside

    async def ask(self, key: QueueKey, subscription: Subscription, now: float) -> None:
        """Ask a new subscriber whether it wants to be told."""
        await self._tell(
            key,
            subscription,
            "SubscriptionConfirmation",
            f"You have chosen to subscribe to the {key.kind}: {key.title}",
            self._terms.subscribed,
            subscription.expires,
            now,
        )

    async def part(self, key: QueueKey, subscription: Subscription, now: float) -> None:
        """Tell a subscriber that it has unsubscribed, and how to subscribe again."""
        await self._tell(
            key,
            subscription,
            "UnsubscribeConfirmation",
            f"You have unsubscribed successfully to the {key.kind}: {key.title}, "
            "you can resubscribe it by using confirmed=True.",
            self._terms.unsubscribed,
            now + self._default_ttl,
            now,
        )

    def _may_send(self, key: QueueKey, subscriber: str, now: float) -> bool:
        """Whether one more may be sent; who has not agreed to anything is not to be flooded."""
        whom = hashlib.blake2b(f"{key.project}\n{_reached(subscriber)}".encode(), digest_size=16).digest()
        since, count = self._sent_to.pop(whom, (now, 0))
        if not since <= now < since + SENT_WITHIN:
            since, count = now, 0
        if len(self._sent_to) >= MOST_REMEMBERED:
            del self._sent_to[next(iter(self._sent_to))]
        self._sent_to[whom] = since, count + 1
        if count == MOST_SENT:
            log.warning("a subscriber to %s is not asked or told more often for a while", key.name)
        return count < MOST_SENT

    async def _tell(
        self,
        key: QueueKey,
        subscription: Subscription,
        kind: str,
        text: str,
        wording: Wording | None,
        until: float,
        now: float,
    ) -> None:
        if not self._concerns(subscription) or not self._may_send(key, subscription.subscriber, now):
            return
        if not self._signer.ready:
            log.error("nobody is asked for confirmation: there is no signed_url_secret_key to sign with")
            return
        path = links.confirmation(key.name, subscription.id)
        expires = written(min(until, self._signer.latest(now)))
        signature = self._signer.sign([path], [METHOD], key.project, expires)
        if _is_mail(subscription.subscriber):
            if wording is None or self._terms.page is None:
                log.error("nobody is asked for confirmation by mail: there is no external_confirmation_url")
                return
            query = {
                "Signature": signature,
                "Methods": METHOD,
                "Paths": path,
                "Project": key.project,
                "Expires": expires,
                "Url": self._url(self._terms.endpoint, path) or "",
                "Queue": key.title,
            }
            link = f"{self._terms.page}?{urlencode(query, quote_via=quote, safe='')}"
            document: Any = wording.mail(key.title, key.project, link)
        else:
            document = {
                "Message_Type": kind,
                "Message": text,
                "URL-Signature": signature,
                "URL-Methods": METHOD,
                "URL-Paths": path,
                "X-Project-ID": key.project,
                "URL-Expires": expires,
                "SubscribeBody": {"confirmed": True},
                "UnsubscribeBody": {"confirmed": False},
                "queue_name": key.title,
            }
            for name, endpoint in (
                ("WSGISubscribeURL", self._terms.endpoint),
                ("WebSocketSubscribeURL", self._terms.websocket_endpoint),
            ):
                if endpoint is not None:
                    document[name] = self._url(endpoint, path)
        await self._send(key, subscription, msgspec.json.encode(document), KIND, now)

    @staticmethod
    def _url(endpoint: str | None, path: str) -> str | None:
        return None if endpoint is None else endpoint.rstrip("/") + path


def _reached(subscriber: str) -> str:
    """Whom a URI leads to, however it is spelled: to a mailbox, or to a path of a host."""
    try:
        parts = urlsplit(subscriber)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return subscriber
    path = unquote(parts.path)
    if _is_mail(subscriber):
        user, _, domain = path.lower().rpartition("@")
        return f"mailto:{user.partition('+')[0]}@{domain}"
    scheme = parts.scheme.removeprefix("trust+")
    return f"{scheme}://{host}:{port or _PORTS.get(scheme, '')}{path or '/'}"


def _is_mail(subscriber: str) -> bool:
    return subscriber.lower().startswith("mailto:")
