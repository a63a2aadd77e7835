"""What leave for one queue comes to, where its subscriptions are concerned.

A subscription leads further than the queue it is of: to other queues, into which it writes, and to services
that trust who made it. Whoever was given a pre-signed URL was given none of that, nor what others have told
this service in confidence.
"""

from msgspec.structs import replace

from sukkal.core.attributes import DEAD_LETTER_QUEUE
from sukkal.core.context import Context
from sukkal.core.subscribing.hidden import SECRETS, without_secrets, without_userinfo
from sukkal.core.subscribing.rules import TRUST, is_inside
from sukkal.errors import Forbidden
from sukkal.model import Subscription


def shown(ctx: Context, subscription: Subscription) -> Subscription:
    """The subscription as this caller may see it."""
    if not ctx.signed:
        return subscription
    return replace(
        subscription,
        subscriber=without_userinfo(subscription.subscriber),
        options=without_secrets(subscription.options),
    )


def check(ctx: Context, subscription: Subscription) -> None:
    """Raise Forbidden when the subscription leads further than this caller's leave."""
    if not ctx.signed:
        return
    if is_inside(subscription.subscriber):
        raise _forbidden("have another queue told of messages")
    if subscription.options.get(DEAD_LETTER_QUEUE) is not None:
        raise _forbidden(f"choose where dead letters go, as options.{DEAD_LETTER_QUEUE} does")
    if subscription.options.get(TRUST) is not None:
        raise _forbidden(f"use a trust, as options.{TRUST} does")


def check_change(ctx: Context, before: Subscription, after: Subscription) -> None:
    """The same of a change: neither what was there may lead further, nor what comes of it.

    A new ttl is no matter. Secrets stay with the subscriber they were meant for.
    """
    moved = before.subscriber != after.subscriber
    if not ctx.signed or (not moved and before.options == after.options):
        return
    check(ctx, before)
    check(ctx, after)
    kept = [name for name in SECRETS if name in after.options and after.options is before.options]
    if moved and kept:
        raise _forbidden(f"send another subscriber the options.{kept[0]} of this one: give new options too")


def check_enabling(ctx: Context) -> None:
    """Raise Forbidden when this caller may not have a receiver told again that said it was gone.

    All that the subscription said is replaced then, by what has less leave than who made it.
    """
    if ctx.signed:
        raise _forbidden("subscribe anew who was disabled")


def _forbidden(what: str) -> Forbidden:
    return Forbidden(
        f"A pre-signed URL gives leave for one queue, and none to {what}. Ask who signed it to do so."
    )
