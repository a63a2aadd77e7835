"""The numbers the API enforces: bounds, and texts that name them."""

from collections.abc import Callable

import pytest

from sukkal.errors import Invalid
from sukkal.limits import Limits, is_name

CHECKS: list[tuple[Callable[[Limits, int], None], int, int, str]] = [
    (
        Limits.check_message_ttl,
        60,
        1209600,
        "The TTL for a message may not exceed 1209600 seconds, and must be at least 60 seconds long.",
    ),
    (
        Limits.check_message_delay,
        0,
        900,
        "The Delay TTL for a message may not exceed 900 seconds,and must be at least 0 seconds long.",
    ),
    (
        Limits.check_claim_ttl,
        60,
        43200,
        "The TTL for a claim may not exceed 43200 seconds, and must be at least 60 seconds long.",
    ),
    (
        Limits.check_claim_grace,
        60,
        43200,
        "The grace for a claim may not exceed 43200 seconds, and must be at least 60 seconds long.",
    ),
    (Limits.check_queue_limit, 1, 20, "Limit must be at least 1 and no greater than 20."),
    (Limits.check_message_limit, 1, 20, "Limit must be at least 1 and may not be greater than 20."),
    (Limits.check_claim_limit, 1, 20, "Limit must be at least 1 and may not be greater than 20."),
    (Limits.check_pop, 1, 20, "Pop value must be at least 1 and may not be greater than 20."),
    (
        Limits.check_deleted_ids,
        1,
        20,
        "ids parameter should have at least 1 and not greater than 20 values.",
    ),
]


@pytest.mark.parametrize("check, low, high, text", CHECKS, ids=[check[0].__name__ for check in CHECKS])
def test_bounds_are_inclusive_and_the_text_names_them(
    check: Callable[[Limits, int], None], low: int, high: int, text: str
) -> None:
    limits = Limits()
    check(limits, low)
    check(limits, high)
    for value in (low - 1, high + 1, -(2**63), 2**63, 10**100):
        with pytest.raises(Invalid) as fault:
            check(limits, value)
        assert (fault.value.title, fault.value.message) == ("Invalid API request", text)


@pytest.mark.parametrize(
    "check, setting",
    [
        (Limits.check_message_ttl, "max_message_ttl"),
        (Limits.check_message_delay, "max_message_delay"),
        (Limits.check_claim_ttl, "max_claim_ttl"),
        (Limits.check_claim_grace, "max_claim_grace"),
        (Limits.check_queue_limit, "max_queues_per_page"),
        (Limits.check_message_limit, "max_messages_per_page"),
        (Limits.check_claim_limit, "max_messages_per_claim_or_pop"),
        (Limits.check_pop, "max_messages_per_claim_or_pop"),
        (Limits.check_deleted_ids, "max_messages_per_page"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_limit_is_the_operators_and_the_text_shows_it(
    check: Callable[[Limits, int], None], setting: str
) -> None:
    limits = Limits(**{setting: 77})
    check(limits, 77)
    with pytest.raises(Invalid, match="77"):
        check(limits, 78)


@pytest.mark.parametrize("name", ["a", "A-b_c.9", ".", "..", "-", "x" * 64])
def test_queue_name_is_possible(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "é", "a\n", "\n", "a%20b", "{}", "a~", "٣"])
def test_queue_name_is_not_possible(name: str) -> None:
    assert not is_name(name)
