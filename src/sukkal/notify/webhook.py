"""Webhooks: notifications posted to http and https URIs. Source: Messaging API v2, notifications."""

from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from sukkal.core.subscribing.signing_keys import own_keys
from sukkal.errors import Invalid
from sukkal.model import Subscription
from sukkal.notify.deliverer import Outcome, Parcel, Result
from sukkal.notify.sender import USER_AGENT, Answer, NotReached, Refused, Sender, permitted_headers
from sukkal.notify.signature import signature
from sukkal.notify.target import Targets

PLACEHOLDER = '"$zaqar_message$"'  # quotes included
MOST_REPEATED = 4 * 1024 * 1024  # bytes that a notification may take up beside its first place in a template
LONGEST_WAIT = 24 * 3600.0  # seconds a receiver may ask for

# Refusals that are over some time: request timeout, too early, too many requests.
_FOR_NOW = (408, 425, 429)


class Webhook:
    """A Deliverer of webhooks, signed where there are keys."""

    def __init__(
        self, sender: Sender, targets: Targets, signing_keys: Sequence[bytes], now: Callable[[], float]
    ) -> None:
        """`signing_keys` sign for subscriptions that have none of their own."""
        self._sender = sender
        self._targets = targets
        self._signing_keys = signing_keys
        self._now = now

    def check(self, subscriber: str) -> None:
        self._targets.read(subscriber)

    def host(self, subscriber: str) -> str:
        try:
            return self._targets.read(subscriber).host
        except Invalid:  # no longer allowed; it fails when it is delivered
            return ""

    def size(self, subscription: Subscription, told: int) -> int:
        template = subscription.options.get("post_data")
        if not isinstance(template, str) or not template:
            return told
        places = template.count(PLACEHOLDER)
        return told + len(template) + (places * told if _fits(places, told) else 0)

    async def deliver(self, parcel: Parcel) -> Outcome:
        return await self.post(parcel, parcel.subscription.subscriber, {})

    async def post(self, parcel: Parcel, uri: str, more: Mapping[str, str]) -> Outcome:
        """Deliver to this URI with `more` headers, which win over the subscription's."""
        options = parcel.subscription.options
        now = self._now()
        try:
            target = self._targets.read(uri)
            keys = own_keys(options) or self._signing_keys
            body = content(parcel.notices, options)
        except Invalid as exc:
            return Outcome(Result.FAILED, exc.message)
        ours = {"webhook-id": parcel.delivery, "webhook-timestamp": str(int(now)), **more}
        if parcel.traceparent:
            ours["traceparent"] = parcel.traceparent
        if keys:
            ours["webhook-signature"] = signature(keys, parcel.delivery, int(now), body)
        headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
        if target.authorization is not None:
            headers["Authorization"] = target.authorization
        theirs = options.get("post_headers")
        if isinstance(theirs, dict):
            headers = _overlaid(headers, permitted_headers(theirs))
        try:
            answer = await self._sender.post(target, _overlaid(headers, ours), body)
        except NotReached as exc:
            return Outcome(Result.RETRY, str(exc))
        except Refused as exc:
            return Outcome(Result.FAILED, str(exc))
        return outcome(answer, now)

    async def close(self) -> None:
        await self._sender.close()


def content(notices: Sequence[bytes], options: Mapping[str, Any]) -> bytes:
    """The body of a request: one notice, or an array of several, in the template of the options if any."""
    told = notices[0] if len(notices) == 1 else b"[" + b",".join(notices) + b"]"
    template = options.get("post_data")
    if not isinstance(template, str) or not template:
        return told
    # A template of some kilobytes has room for thousands of them: more than this process has memory for.
    if not _fits(template.count(PLACEHOLDER), len(told)):
        raise Invalid("options.post_data repeats the notification too often.")
    try:
        return template.encode().replace(PLACEHOLDER.encode(), told)
    except UnicodeEncodeError as exc:
        raise Invalid("options.post_data is not text.") from exc


def _fits(places: int, told: int) -> bool:
    """Whether a template with so many places may be filled in with so many bytes."""
    return (places - 1) * told <= MOST_REPEATED


def outcome(answer: Answer, now: float) -> Outcome:
    """What a status means for the delivery."""
    status = answer.status
    if 200 <= status < 300:
        return _DELIVERED
    reason = f"it answered {status}"
    if status == 410:
        return Outcome(Result.GONE, reason)
    if 300 <= status < 400:
        return Outcome(Result.FAILED, f"{reason}; redirects are not followed")
    if 400 <= status < 500 and status not in _FOR_NOW:
        return Outcome(Result.FAILED, reason)
    return Outcome(Result.RETRY, reason, _seconds(answer.retry_after, now))


_DELIVERED = Outcome(Result.DELIVERED)


def _seconds(retry_after: str | None, now: float) -> float | None:
    """What the header Retry-After asks for; nothing when it cannot be read."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_WAIT)
    try:
        when = parsedate_to_datetime(text)
        return min(max(when.timestamp() - now, 0.0), LONGEST_WAIT)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _overlaid(headers: Mapping[str, str], over: Mapping[str, str]) -> dict[str, str]:
    """Both together; names are the same in any case, and `over` wins."""
    if not over:
        return dict(headers)
    taken = {name.lower() for name in over}
    return {name: value for name, value in headers.items() if name.lower() not in taken} | dict(over)
