"""When a delivery is tried again: the vectors of the specification, and what bounds them."""

from typing import Any

import pytest

from sukkal.core.attributes import BACKOFF_FUNCTIONS, check_retry_policy
from sukkal.notify.retry import LONGEST_WAIT, MOST_GROWING, MOST_TRIES, Policy, backoff, chosen


def waits(policy: Policy) -> list[int]:
    """What a delivery that always fails waits before each attempt but the first."""
    found: list[int] = []
    while (wait := policy.wait(len(found) + 1)) is not None:
        found.append(wait)
    return found


@pytest.mark.parametrize(
    "function, minimum, maximum, expected",
    [
        ("linear", 5, 30, "5 10 15 20 25"),
        ("linear", 5, 17, "5 10 15"),
        ("exponential", 10, 60, "10 12 14 18 22 27 33 40 49 60"),
        ("geometric", 20, 80, "20 22 25 29 33 37 42 48 54 62 70 80"),
        ("arithmetic", 30, 100, "30 30 32 34 37 41 46 51 57 64 72 80 90 100"),
    ],
)
def test_waits_grow_as_specified(function: str, minimum: int, maximum: int, expected: str) -> None:
    count, element = backoff(function, minimum, maximum)
    assert [element(number) for number in range(1, count + 1)] == [int(wait) for wait in expected.split()]


def test_default_policy_has_all_phases() -> None:
    assert waits(Policy()) == [0, 0, 0, 5, 5, 5, 5, 10, 15, 20, 25, 30, 30, 30]


@pytest.mark.parametrize(
    ("policy", "attempts", "hours"),
    [
        ({}, 15, 0.05),
        ({"retry_backoff_function": "exponential", "maximum_delay": 600}, 129, 4.6),
        ({"retry_backoff_function": "exponential", "maximum_delay": 1800}, 369, 32.0),
        ({"minimum_delay": 590, "maximum_delay": 600, "maximum_delay_retries": 36}, 45, 6.8),
    ],
)
def test_policies_of_the_documentation_go_on_for_as_long_as_it_says(
    policy: dict[str, Any], attempts: int, hours: float
) -> None:
    check_retry_policy(policy)
    found = waits(Policy(**policy))
    assert len(found) + 1 == attempts
    assert sum(found) / 3600 == pytest.approx(hours, abs=0.06)


def test_policy_of_no_retries_gives_up_after_the_growing_ones() -> None:
    policy = Policy(retries_with_no_delay=0, minimum_delay_retries=0, maximum_delay_retries=0)
    assert waits(policy) == [5, 10, 15, 20, 25]


def test_policy_without_sense_still_ends_and_waits_no_longer_than_allowed() -> None:
    policy = Policy(
        retries_with_no_delay=10**9,
        minimum_delay_retries=-5,
        minimum_delay=0,
        maximum_delay=10**9,
        maximum_delay_retries=10**9,
        retry_backoff_function="geometric",
    )
    assert len(waits(policy)) == MOST_TRIES + MOST_GROWING + MOST_TRIES
    assert set(waits(policy)[:MOST_TRIES]) == {0}
    assert waits(policy)[-1] == LONGEST_WAIT


@pytest.mark.parametrize("function", BACKOFF_FUNCTIONS)
@pytest.mark.parametrize(
    ("minimum", "maximum", "as_if"), [(-1_000_000, 10, (0, 10)), (-100, -50, (0, 10)), (-5, 30, (0, 30))]
)
def test_negative_delays_count_as_none(
    function: str, minimum: int, maximum: int, as_if: tuple[int, int]
) -> None:
    policy = Policy(minimum_delay=minimum, maximum_delay=maximum, retry_backoff_function=function)
    least, most = as_if
    count, element = backoff(function, least, most)
    growing = [element(number) for number in range(1, count + 1)]
    assert waits(policy) == [0, 0, 0, *[least] * 3, *growing, *[most] * 3]


OWN = {"retries_with_no_delay": 1}
GENERAL = {"retries_with_no_delay": 2, "maximum_delay_retries": None}


@pytest.mark.parametrize(
    "subscription, queue, expected",
    [
        (None, None, 3),
        (None, GENERAL, 2),
        (OWN, None, 1),
        (OWN, GENERAL, 1),
        ({}, GENERAL, 2),
        (OWN, GENERAL | {"ignore_subscription_override": True}, 2),
        (OWN | {"ignore_subscription_override": True}, GENERAL, 2),
        (OWN | {"ignore_subscription_override": True}, None, 3),
    ],
)
def test_policy_is_the_subscriptions_unless_that_is_overruled(
    subscription: Any, queue: Any, expected: int
) -> None:
    policy = chosen(subscription, queue)
    assert policy == Policy(retries_with_no_delay=expected)


@pytest.mark.parametrize("function", BACKOFF_FUNCTIONS)
def test_delays_beyond_all_numbers_are_the_longest_wait(function: str) -> None:
    for minimum in (1, 10**400):
        policy = Policy(minimum_delay=minimum, maximum_delay=10**400, retry_backoff_function=function)
        found = waits(policy)
        assert found[-1] == max(found) == LONGEST_WAIT
