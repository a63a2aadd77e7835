"""What a subscription may be: its subscriber, its options, its ttl; as a caller gives them, unchecked."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from msgspec import UNSET, Struct, UnsetType

from sukkal.core.attributes import DEAD_LETTER_QUEUE, RETRY_POLICY, check_retry_policy
from sukkal.core.context import Credentials
from sukkal.core.subscribing import hidden
from sukkal.core.subscribing.signing_keys import own_keys
from sukkal.errors import Invalid
from sukkal.limits import MAX_SUBSCRIBER, Limits, is_name
from sukkal.model import QueueKey, Subscription

INSIDE = ("queue",)  # schemes that lead nowhere but into the same project, and need no leave
ORDERED = "ordered"  # options
BATCH = "batch"
FILTER = "filter"
TRUST = hidden.TRUST
MOST_BATCHED = 100  # notifications in one delivery

# Which readers of URIs drop, or take for something else than the next one does; and what is no text.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

Check = Callable[[str], None]  # raises Invalid, saying what is wrong with a subscriber's URI
CheckFilter = Callable[[Any], object]  # raises Invalid, saying what is wrong with a filter


class Entrust(Protocol):
    """Has the service let to deliver in a subscriber's name, where its scheme wants that."""

    async def __call__(
        self, options: dict[str, Any], credentials: Credentials | None, project: str, *, until: float
    ) -> dict[str, Any]:
        """A subscription's options with what deliveries need until that time (s since epoch).

        Options that have it already are answered as they are. Raises Invalid when the caller shows no
        credentials, Forbidden when they do not suffice, Unavailable when nobody can tell now.
        """
        ...


def is_inside(subscriber: str) -> bool:
    """Whether a subscriber leads nowhere but into the same project."""
    return subscriber.partition(":")[0].lower() in INSIDE


def wants_order(subscription: Subscription) -> bool:
    """Whether messages are to be delivered to it in the order in which they were posted."""
    return subscription.options.get(ORDERED) is True


def wants_series(subscription: Subscription) -> bool:
    """Whether deliveries to it are made one after the other."""
    return wants_order(subscription) or parcel_size(subscription) > 1


def parcel_size(subscription: Subscription) -> int:
    """How many messages may be brought to it at once."""
    size = subscription.options.get(BATCH)
    return min(max(size, 1), MOST_BATCHED) if isinstance(size, int) else 1


class Changes(Struct, frozen=True, kw_only=True):
    """What is to be different in a subscription."""

    subscriber: str | UnsetType = UNSET
    ttl: int | UnsetType = UNSET
    options: dict[str, Any] | UnsetType = UNSET


class Rules:
    def __init__(
        self,
        limits: Limits,
        *,
        schemes: Collection[str],
        checks: Mapping[str, Check],
        check_filter: CheckFilter | None = None,
    ) -> None:
        """`schemes` that outside subscribers may have; `checks` of URIs, by scheme."""
        self._limits = limits
        self._schemes = list(schemes)
        self._checks = checks
        self._check_filter = check_filter

    def check_subscriber(self, subscriber: Any, key: QueueKey) -> str:
        """The URI of somebody who can be subscribed to that queue."""
        if not isinstance(subscriber, str):
            raise Invalid("Subscriber must be a URI.")
        if len(subscriber.encode("utf-8", "surrogatepass")) > MAX_SUBSCRIBER:
            raise Invalid(f"The subscriber may have at most {MAX_SUBSCRIBER} bytes.")
        if subscriber != subscriber.strip() or _CONTROL.search(subscriber):
            raise Invalid("The subscriber may hold no control characters, and no blanks at its ends.")
        try:
            scheme = urlsplit(subscriber).scheme
        except ValueError:
            scheme = ""
        if scheme not in self._schemes and not (scheme in INSIDE and scheme in self._checks):
            raise Invalid(
                f"The subscriber type of subscription must be supported in the list {self._schemes}."
            )
        hidden.check_subscriber(subscriber)
        if scheme in self._checks:
            self._checks[scheme](subscriber)
        if scheme in INSIDE and subscriber.partition(":")[2] == key.name:
            raise Invalid("A queue cannot be told of its own messages: name another queue.")
        return subscriber

    def check_options(self, options: Any) -> dict[str, Any]:
        """The options of a subscription."""
        if not isinstance(options, dict):
            raise Invalid("Options must be a dict.")
        if options.get(RETRY_POLICY):
            check_retry_policy(options[RETRY_POLICY])
        target = options.get(DEAD_LETTER_QUEUE)
        if target is not None and not (isinstance(target, str) and is_name(target)):
            raise Invalid(f"{DEAD_LETTER_QUEUE} must be the name of a queue, or null.")
        if not isinstance(options.get(ORDERED) or False, bool):
            raise Invalid(f"{ORDERED} must be boolean.")
        batch = options.get(BATCH)
        if batch is not None and not (type(batch) is int and 1 <= batch <= MOST_BATCHED):
            raise Invalid(f"{BATCH} must be an integer of at least 1 and no greater than {MOST_BATCHED}.")
        if self._check_filter is not None and options.get(FILTER) is not None:
            self._check_filter(options[FILTER])
        hidden.check_options(options)
        own_keys(options)
        return options

    def check_ttl(self, ttl: Any, now: float) -> int:
        """The ttl, in seconds."""
        if not isinstance(ttl, int):
            raise Invalid("TTL must be an integer.")
        self._limits.check_subscription_ttl(ttl, now)
        return int(ttl)

    def changes(self, document: Any, key: QueueKey, now: float) -> Changes:
        """Those that a request asks for, of a subscription to that queue.

        Null asks for none, as does what is not there.
        """
        if isinstance(document, list):
            raise Invalid("Subscriptions must be a dict.")
        if not document:
            raise Invalid("The body changes nothing: give at least one of subscriber, ttl and options.")
        asked = {name: document[name] for name in Changes.__struct_fields__ if document.get(name) is not None}
        if "subscriber" in asked:
            self.check_subscriber(asked["subscriber"], key)
        if "options" in asked:
            self.check_options(asked["options"])
        if "ttl" in asked:
            self.check_ttl(asked["ttl"], now)
        return Changes(**asked)
