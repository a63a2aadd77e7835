"""When a delivery that failed is tried again. Source: Messaging API v2, notifications, retry.

A policy has phases, in this order: tries without delay, with the minimum delay, with delays that grow by the
function chosen, and with the maximum delay. Waits and phases are bounded whatever the policy says.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from sukkal.core.attributes import SMALLEST_SPAN

MOST_TRIES = 100  # of each phase with equal waits
MOST_GROWING = 500  # of the phase with growing ones; with 5 seconds more each, 322 take up the longest life
LONGEST_WAIT = 12 * 3600.0  # seconds
LONGEST_LIFE = (
    3 * 86400.0
)  # seconds from when a delivery was recorded until it is given up, whatever it waits for
SPREAD = 0.1  # of a wait that chance may add, so that what failed together does not come together again


class Policy(Struct, frozen=True, kw_only=True):
    """A retry policy with nothing left out. Delays are seconds."""

    retries_with_no_delay: int = 3
    minimum_delay_retries: int = 3
    minimum_delay: int = 5
    maximum_delay: int = 30
    maximum_delay_retries: int = 3
    retry_backoff_function: str = "linear"

    def wait(self, failures: int) -> int | None:
        """Seconds to wait after so many attempts, all of which failed; None when it is time to give up."""
        number = failures - 1  # of the retry
        # The API refuses no negative delays; as written, each would be a phase of its own without a wait.
        minimum = min(max(self.minimum_delay, 0), int(LONGEST_WAIT))
        maximum = max(min(self.maximum_delay, int(LONGEST_WAIT)), minimum + SMALLEST_SPAN)
        for amount, delay in ((self.retries_with_no_delay, 0), (self.minimum_delay_retries, minimum)):
            tries = min(max(amount, 0), MOST_TRIES)
            if number < tries:
                return _bounded(delay)
            number -= tries
        count, element = backoff(self.retry_backoff_function, minimum, maximum)
        count = min(count, MOST_GROWING)
        if number < count:
            return _bounded(element(number + 1))
        if number - count < min(self.maximum_delay_retries, MOST_TRIES):
            return _bounded(maximum)
        return None


def _bounded(wait: int) -> int:
    return min(wait, int(LONGEST_WAIT))


def backoff(function: str, minimum: int, maximum: int) -> tuple[int, Callable[[int], int]]:
    """How many waits of growing length there are, and the one with number 1, 2 …

    Neither is negative, and `maximum` is greater than `minimum` by SMALLEST_SPAN at least.
    """
    span = maximum - minimum
    count = span // 5
    match function:
        case "geometric" | "exponential" if minimum > 0:
            ratio = math.log10(maximum / minimum) / (count - 1)
            if function == "geometric":
                return count, lambda number: int(minimum * 10 ** (ratio * (number - 1)))
            base = minimum / 10**ratio
            return count, lambda number: int(base * 10 ** (ratio * number))
        case "arithmetic":
            step = 2 * span / (count * (count - 1))
            return count, lambda number: int(minimum + (number - 1) * number * step / 2)
        case _:
            return -(-span // 5), lambda number: minimum + 5 * (number - 1)


def chosen(subscription: Any, queue: Any) -> Policy:
    """The policy in force, of what a subscription and its queue say; either may be absent."""
    own = subscription if isinstance(subscription, Mapping) else {}
    general = queue if isinstance(queue, Mapping) else {}
    if own.get("ignore_subscription_override") or general.get("ignore_subscription_override") or not own:
        own = general
    given = {name: own[name] for name in Policy.__struct_fields__ if own.get(name) is not None}
    return Policy(**given)
