"""Every number the API enforces, with its check. Defaults as in the Messaging API v2."""

import re

from msgspec import Struct

from sukkal.errors import Invalid

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

DEFAULT_PAGE = 10  # items of a listing, messages of a claim, when the caller names no limit
MIN_TTL = 60  # seconds; messages, claims, grace
MAX_NAME = 64  # characters of a queue's name
MAX_BODY = 65536  # bytes of a request that carries neither messages nor metadata
MAX_PROJECT = 256  # characters of a project's id
MAX_WEIGHT = 2**32 - 1  # of a pool
MAX_SUBSCRIBER = 4096  # bytes of a subscriber's URI
MAX_HOST = 253  # characters of a host's name, as DNS has it
MAX_POOL_TEXT = 255  # characters of a pool's URI, and of its flavor's name
MAX_WAIT = 20  # seconds a listing or a claim may wait for messages
MAX_SIGNED_TTL = 315_360_000  # seconds, ten years: of a pre-signed URL, unless the operator says otherwise
LAST_SECOND = 253402300799.0  # of the year 9999; calendars end there

_NAME = re.compile(rf"[a-zA-Z0-9_.\-]{{1,{MAX_NAME}}}")


def is_name(text: str) -> bool:
    """Whether a queue or topic may have this name."""
    return _NAME.fullmatch(text) is not None


class Limits(Struct, frozen=True, kw_only=True):
    """The limits an operator can set. Seconds, bytes or counts."""

    default_message_ttl: int = 3600
    default_message_delay: int = 0
    default_subscription_ttl: int = 3600
    default_claim_ttl: int = 300
    default_claim_grace: int = 60
    max_queues_per_page: int = 20
    max_messages_per_page: int = 20
    max_subscriptions_per_page: int = 20
    max_pools_per_page: int = 20
    max_flavors_per_page: int = 20
    max_messages_per_claim_or_pop: int = 20
    max_queue_metadata: int = 65536
    max_messages_post_size: int = 262144
    max_message_ttl: int = 1209600
    max_message_delay: int = 900
    max_claim_ttl: int = 43200
    max_claim_grace: int = 43200

    def check_message_ttl(self, ttl: int) -> None:
        if not MIN_TTL <= ttl <= self.max_message_ttl:
            raise Invalid(
                f"The TTL for a message may not exceed {self.max_message_ttl} seconds, "
                f"and must be at least {MIN_TTL} seconds long."
            )

    def check_message_delay(self, delay: int) -> None:
        if not 0 <= delay <= self.max_message_delay:
            raise Invalid(
                f"The Delay TTL for a message may not exceed {self.max_message_delay} seconds,"
                "and must be at least 0 seconds long."
            )

    def check_claim_ttl(self, ttl: int) -> None:
        if not MIN_TTL <= ttl <= self.max_claim_ttl:
            raise Invalid(
                f"The TTL for a claim may not exceed {self.max_claim_ttl} seconds, "
                f"and must be at least {MIN_TTL} seconds long."
            )

    def check_claim_grace(self, grace: int) -> None:
        if not MIN_TTL <= grace <= self.max_claim_grace:
            raise Invalid(
                f"The grace for a claim may not exceed {self.max_claim_grace} seconds, "
                f"and must be at least {MIN_TTL} seconds long."
            )

    def check_queue_limit(self, limit: int) -> None:
        self._check_names(limit, self.max_queues_per_page)

    def check_pool_limit(self, limit: int) -> None:
        self._check_names(limit, self.max_pools_per_page)

    def check_flavor_limit(self, limit: int) -> None:
        self._check_names(limit, self.max_flavors_per_page)

    def check_message_limit(self, limit: int) -> None:
        self._check_count("Limit", limit, self.max_messages_per_page)

    def check_claim_limit(self, limit: int) -> None:
        self._check_count("Limit", limit, self.max_messages_per_claim_or_pop)

    def check_subscription_limit(self, limit: int) -> None:
        self._check_count("Limit", limit, self.max_subscriptions_per_page)

    @staticmethod
    def check_subscription_ttl(ttl: int, now: float) -> None:
        if ttl < MIN_TTL:
            raise Invalid(f"The TTL for a subscription must be at least {MIN_TTL} seconds long.")
        if ttl > LAST_SECOND - now:  # not the sum: there are integers larger than any float
            raise Invalid(
                "The TTL seconds for a subscription plus current time must be less than "
                "9999-12-31 23:59:59.999999."
            )

    def check_pop(self, limit: int) -> None:
        self._check_count("Pop value", limit, self.max_messages_per_claim_or_pop)

    def check_deleted_ids(self, count: int) -> None:
        if not 1 <= count <= self.max_messages_per_page:
            raise Invalid(
                "ids parameter should have at least 1 and not greater than "
                f"{self.max_messages_per_page} values."
            )

    def check_wait(self, wait: int) -> None:
        if not 0 <= wait <= MAX_WAIT:
            raise Invalid(f"Wait must be at least 0 and may not be greater than {MAX_WAIT} seconds.")

    @staticmethod
    def _check_names(limit: int, maximum: int) -> None:
        if not 1 <= limit <= maximum:
            raise Invalid(f"Limit must be at least 1 and no greater than {maximum}.")

    @staticmethod
    def _check_count(what: str, value: int, maximum: int) -> None:
        if not 1 <= value <= maximum:
            raise Invalid(f"{what} must be at least 1 and may not be greater than {maximum}.")
