"""Reserved queue attributes: their bounds, their defaults, and what they come to.

They are stored in a queue's metadata under keys that start with an underscore. Every other key is the
user's own. Source: Messaging API v2, reserved attributes.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from sukkal.errors import Invalid
from sukkal.limits import MIN_TTL, Limits, is_name

MAX_POST_SIZE = "_max_messages_post_size"
DEFAULT_TTL = "_default_message_ttl"
DEFAULT_DELAY = "_default_message_delay"
DEAD_LETTER_QUEUE = "_dead_letter_queue"
DEAD_LETTER_TTL = "_dead_letter_queue_messages_ttl"
MAX_CLAIMS = "_max_claim_count"
ENCRYPT = "_enable_encrypt_messages"
RETRY_POLICY = "_retry_policy"
FLAVOR = "_flavor"

SMALLEST_SPAN = 10  # seconds from the minimum to the maximum delay of a retry policy
BACKOFF_FUNCTIONS = ("linear", "arithmetic", "exponential", "geometric")


class Attributes(Struct, frozen=True, kw_only=True):
    """What a queue's metadata and the service's limits come to together."""

    max_post_size: int | None  # bytes; None when the queue sets none of its own
    post_limit: int  # bytes that a post may have
    default_ttl: int
    default_delay: int
    dead_letter_queue: str | None  # None unless dead-lettering is on: see `max_claims`
    dead_letter_ttl: int | None  # None: moved messages keep theirs
    max_claims: int
    encrypt: bool


def defaults(limits: Limits) -> dict[str, Any]:
    """What a read shows for each reserved attribute that is unset; the keys are those reserved for PATCH."""
    return {
        MAX_POST_SIZE: limits.max_messages_post_size,
        DEFAULT_TTL: limits.default_message_ttl,
        DEFAULT_DELAY: limits.default_message_delay,
        DEAD_LETTER_QUEUE: None,
        DEAD_LETTER_TTL: None,
        MAX_CLAIMS: None,
        ENCRYPT: False,
    }


def topic_defaults(limits: Limits) -> dict[str, Any]:
    """The same for a topic, of which fewer are shown."""
    shown = defaults(limits)
    return {name: shown[name] for name in (MAX_POST_SIZE, DEFAULT_TTL, DEFAULT_DELAY)}


RESERVED = frozenset(defaults(Limits()))


def effective(name: str, metadata: Mapping[str, Any], limits: Limits) -> Attributes:
    """The attributes in force for queue `name`.

    Dead-lettering is on when both its queue and a positive maximum are set. A queue that names itself has
    it off: a message moved to where it already is would be lost.
    """
    own = metadata.get(MAX_POST_SIZE) or None
    target, max_claims = metadata.get(DEAD_LETTER_QUEUE), metadata.get(MAX_CLAIMS) or 0
    dead_letters = bool(target) and target != name and max_claims > 0
    return Attributes(
        max_post_size=own,
        post_limit=min(own or limits.max_messages_post_size, limits.max_messages_post_size),
        default_ttl=metadata.get(DEFAULT_TTL) or limits.default_message_ttl,
        default_delay=metadata.get(DEFAULT_DELAY) or 0,  # the service's default is only shown
        dead_letter_queue=target if dead_letters else None,
        dead_letter_ttl=metadata.get(DEAD_LETTER_TTL),
        max_claims=max_claims,
        encrypt=bool(metadata.get(ENCRYPT)),
    )


def check(
    metadata: Mapping[str, Any], limits: Limits, *, may_encrypt: bool, fault: type[Invalid] = Invalid
) -> None:
    """Raise `fault` for the first reserved attribute that is not allowed. `null` always is."""
    _check_integer(
        metadata,
        DEFAULT_TTL,
        (MIN_TTL, limits.max_message_ttl),
        f"{DEFAULT_TTL} can not exceed {limits.max_message_ttl} seconds, "
        f"and must be at least {MIN_TTL} seconds long.",
        fault,
    )
    _check_integer(
        metadata,
        MAX_POST_SIZE,
        (1, limits.max_messages_post_size),
        f"{MAX_POST_SIZE} can not exceed {limits.max_messages_post_size},  "
        "and must be at least greater than 0.",
        fault,
    )
    _check_integer(metadata, MAX_CLAIMS, None, "", fault)
    _check_integer(
        metadata,
        DEAD_LETTER_TTL,
        (MIN_TTL, limits.max_message_ttl),
        f"The TTL for a message may not exceed {limits.max_message_ttl} seconds, "
        f"and must be at least {MIN_TTL} seconds long.",
        fault,
    )
    _check_integer(
        metadata,
        DEFAULT_DELAY,
        (0, limits.max_message_delay),
        f"The TTL can not exceed {limits.max_message_delay} seconds, and must be at least 0 seconds long.",
        fault,
    )
    encrypt = metadata.get(ENCRYPT)
    if encrypt is not None and not isinstance(encrypt, bool) and encrypt != 0:
        raise fault(f"{ENCRYPT} must be boolean.")
    if encrypt and not may_encrypt:
        raise fault(f"{ENCRYPT} cannot be set: the operator has configured no message_encryption_key.")
    if metadata.get(RETRY_POLICY):
        check_retry_policy(metadata[RETRY_POLICY], fault)
    target = metadata.get(DEAD_LETTER_QUEUE)
    if target is not None and not (isinstance(target, str) and is_name(target)):
        raise fault(f"{DEAD_LETTER_QUEUE} must be the name of a queue, or null.")


def _check_integer(
    metadata: Mapping[str, Any],
    key: str,
    bounds: tuple[int, int] | None,
    range_text: str,
    fault: type[Invalid],
) -> None:
    value = metadata.get(key)
    if value is None:
        return
    if not isinstance(value, int):
        raise fault(f"{key} must be integer.")
    if bounds is not None and not bounds[0] <= value <= bounds[1]:
        raise fault(range_text)


def check_retry_policy(policy: Any, fault: type[Invalid] = Invalid) -> None:
    """Raise `fault` unless `policy` is a usable retry policy. Null members count as absent."""
    if not isinstance(policy, dict):
        raise fault("retry_policy must be a dict.")
    given = {key: value for key, value in policy.items() if value is not None}
    for key in (
        "retries_with_no_delay",
        "minimum_delay_retries",
        "minimum_delay",
        "maximum_delay",
        "maximum_delay_retries",
    ):
        if not isinstance(given.get(key, 0), int):
            raise fault(f"Retry policy: {key} must be a integer.")
    function = given.get("retry_backoff_function", "linear")
    if not isinstance(function, str):
        raise fault("retry_backoff_function must be a string.")
    if function not in BACKOFF_FUNCTIONS:
        raise fault("invalid retry_backoff_function.")
    if not isinstance(given.get("ignore_subscription_override", False), bool):
        raise fault("ignore_subscription_override must be a boolean.")
    minimum, maximum = given.get("minimum_delay", 5), given.get("maximum_delay", 30)
    if maximum < minimum:
        raise fault("minimum_delay must less than maximum_delay.")
    if maximum - minimum < SMALLEST_SPAN:
        raise fault(
            "invalid minimum_delay and maximum_delay: the maximum must be greater than the minimum by "
            f"{SMALLEST_SPAN} seconds at least. Unless given they are 5 and 30."
        )
