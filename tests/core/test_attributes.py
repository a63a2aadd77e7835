"""Reserved attributes: what may be stored, in PUT and PATCH alike, and the words for what may not."""

from typing import Any

import pytest

from sukkal.core.attributes import check, check_retry_policy, effective
from sukkal.errors import Invalid, InvalidBody
from sukkal.limits import Limits

from .world import World

TTL = "_default_message_ttl can not exceed 1209600 seconds, and must be at least 60 seconds long."
SIZE = "_max_messages_post_size can not exceed 262144,  and must be at least greater than 0."
DEAD_TTL = "The TTL for a message may not exceed 1209600 seconds, and must be at least 60 seconds long."
DELAY = "The TTL can not exceed 900 seconds, and must be at least 0 seconds long."

# What is not an integer, not a boolean, not a dict.
NO_INTEGERS: list[Any] = ["100", 100.5, [100], {"a": 1}, "", [], {}]
NO_BOOLEANS: list[Any] = [1, "true", "", [], {}]
NO_POLICIES: list[Any] = ["linear", [1], 7, True]
NO_QUEUES: list[Any] = ["", "a b", "é", "x" * 65, 7, ["dead"], False]
NOTHING: list[Any] = [{}, "", 0, [], False]

INTEGERS = {
    "_default_message_ttl": (60, 1209600, TTL),
    "_max_messages_post_size": (1, 262144, SIZE),
    "_dead_letter_queue_messages_ttl": (60, 1209600, DEAD_TTL),
    "_default_message_delay": (0, 900, DELAY),
}
RESERVED = [*INTEGERS, "_max_claim_count", "_enable_encrypt_messages", "_retry_policy", "_dead_letter_queue"]

REFUSED: list[tuple[str, Any, str]] = [
    *((key, low - 1, text) for key, (low, _, text) in INTEGERS.items()),
    *((key, high + 1, text) for key, (_, high, text) in INTEGERS.items()),
    *((key, -(2**63), text) for key, (_, _, text) in INTEGERS.items()),
    *(
        (key, value, f"{key} must be integer.")
        for key in [*INTEGERS, "_max_claim_count"]
        for value in NO_INTEGERS
    ),
    ("_default_message_ttl", 0, TTL),
    ("_default_message_ttl", False, TTL),
    ("_max_messages_post_size", False, SIZE),
    ("_dead_letter_queue_messages_ttl", 0, DEAD_TTL),
    *(
        ("_enable_encrypt_messages", value, "_enable_encrypt_messages must be boolean.")
        for value in NO_BOOLEANS
    ),
    *(("_retry_policy", value, "retry_policy must be a dict.") for value in NO_POLICIES),
    *(
        ("_dead_letter_queue", value, "_dead_letter_queue must be the name of a queue, or null.")
        for value in NO_QUEUES
    ),
]

TAKEN: list[tuple[str, Any]] = [
    *((key, None) for key in RESERVED),
    *((key, low) for key, (low, _, _) in INTEGERS.items()),
    *((key, high) for key, (_, high, _) in INTEGERS.items()),
    ("_default_message_delay", False),
    ("_max_claim_count", 0),
    ("_max_claim_count", False),
    ("_max_claim_count", -1),
    ("_max_claim_count", 2**62),
    ("_enable_encrypt_messages", False),
    ("_enable_encrypt_messages", 0),
    *(("_retry_policy", value) for value in NOTHING),
    ("_dead_letter_queue", "x" * 64),
    ("_dead_letter_queue", "A-b_c.9"),
    ("_flavor", 7),
]


@pytest.mark.parametrize("key, value, text", REFUSED)
async def test_value_is_refused_by_put_and_patch(world: World, key: str, value: Any, text: str) -> None:
    with pytest.raises(Invalid) as fault:
        await world.create("orders", **{key: value})
    assert (fault.value.title, fault.value.message) == ("Invalid API request", text)
    assert await world.queues() == []
    await world.create("orders")
    with pytest.raises(InvalidBody) as fault:
        await world.set("orders", **{key: value})
    assert (fault.value.title, fault.value.message) == ("Invalid request body", text)
    assert (await world.call("queues.get", queue="orders")).stored == {}


@pytest.mark.parametrize("key, value", TAKEN)
async def test_value_is_taken_by_put_and_patch_and_the_queue_works(
    world: World, key: str, value: Any
) -> None:
    await world.create("orders", **{key: value})
    assert (await world.call("queues.get", queue="orders")).stored == {key: value}
    await world.create("patched")
    await world.set("patched", **{key: value})
    for queue in ("orders", "patched"):
        await world.post(queue, 1, ttl=3600, delay=0)
        for _ in range(3):
            assert len((await world.call("claims.create", queue=queue, ttl=60)).messages) == 1
            world.now += 60


async def test_first_fault_in_the_order_of_the_specification_is_reported(world: World) -> None:
    faulty: dict[str, Any] = {
        "_default_message_ttl": "x",
        "_max_messages_post_size": "x",
        "_max_claim_count": "x",
        "_dead_letter_queue_messages_ttl": "x",
        "_default_message_delay": "x",
        "_enable_encrypt_messages": "x",
        "_retry_policy": "x",
        "_dead_letter_queue": "?",
    }
    names = list(faulty)
    reported = []
    for name in names:
        with pytest.raises(Invalid) as fault:
            # Given the other way round: the order of the keys does not matter.
            await world.create("orders", **dict(reversed(faulty.items())))
        reported.append(fault.value.message.split(" ")[0])
        del faulty[name]
    assert reported == [name.replace("_retry_policy", "retry_policy") for name in names]


def test_bounds_are_the_services() -> None:
    limits = Limits(max_message_ttl=100, max_messages_post_size=50, max_message_delay=5)
    for key, value, text in (
        ("_default_message_ttl", 101, "can not exceed 100 seconds"),
        ("_max_messages_post_size", 51, "can not exceed 50,"),
        ("_default_message_delay", 6, "can not exceed 5 seconds"),
        ("_dead_letter_queue_messages_ttl", 101, "may not exceed 100 seconds"),
    ):
        check({key: value - 1}, limits, may_encrypt=False)
        with pytest.raises(Invalid, match=text):
            check({key: value}, limits, may_encrypt=False)


# --- retry policy --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"unknown": object},
        {"retries_with_no_delay": 0, "minimum_delay_retries": 0, "maximum_delay_retries": 0},
        {"minimum_delay": 5, "maximum_delay": 15},
        {"minimum_delay": 20},
        {"maximum_delay": 15},
        {"minimum_delay": None, "maximum_delay": None, "retry_backoff_function": None},
        {"ignore_subscription_override": None},
        {"ignore_subscription_override": True},
        *({"retry_backoff_function": f} for f in ("linear", "arithmetic", "exponential", "geometric")),
    ],
    ids=str,
)
def test_retry_policy_is_taken(policy: dict[str, Any]) -> None:
    check_retry_policy(policy)


@pytest.mark.parametrize(
    "policy, text",
    [
        *(
            ({key: value}, f"Retry policy: {key} must be a integer.")
            for key in (
                "retries_with_no_delay",
                "minimum_delay_retries",
                "minimum_delay",
                "maximum_delay",
                "maximum_delay_retries",
            )
            for value in NO_INTEGERS
        ),
        ({"retry_backoff_function": 7}, "retry_backoff_function must be a string."),
        ({"retry_backoff_function": "cubic"}, "invalid retry_backoff_function."),
        ({"retry_backoff_function": ""}, "invalid retry_backoff_function."),
        ({"ignore_subscription_override": "yes"}, "ignore_subscription_override must be a boolean."),
        ({"ignore_subscription_override": 1}, "ignore_subscription_override must be a boolean."),
        ({"minimum_delay": 20, "maximum_delay": 10}, "minimum_delay must less than maximum_delay."),
        ({"minimum_delay": 31}, "minimum_delay must less than maximum_delay."),
        ({"maximum_delay": 4}, "minimum_delay must less than maximum_delay."),
        (
            {"minimum_delay": 10, "maximum_delay": 19},
            "invalid minimum_delay and maximum_delay: the maximum must be greater",
        ),
        ({"minimum_delay": 21}, "invalid minimum_delay and maximum_delay: the maximum must be greater"),
        (
            {"minimum_delay": None, "maximum_delay": 14},
            "invalid minimum_delay and maximum_delay: the maximum must be greater",
        ),
        ({"minimum_delay": "x", "retry_backoff_function": 7}, "Retry policy: minimum_delay must be"),
    ],
    ids=str,
)
def test_retry_policy_is_refused(policy: dict[str, Any], text: str) -> None:
    with pytest.raises(Invalid) as fault:
        check_retry_policy(policy)
    assert fault.value.message.startswith(text)


async def test_retry_policy_is_checked_in_metadata(world: World) -> None:
    with pytest.raises(Invalid, match="invalid retry_backoff_function"):
        await world.create("orders", _retry_policy={"retry_backoff_function": "cubic"})
    await world.create("orders", _retry_policy={"minimum_delay": 7})


# --- what they come to ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata, target",
    [
        ({"_max_claim_count": 2, "_dead_letter_queue": "dead"}, "dead"),
        ({"_max_claim_count": 2}, None),
        ({"_dead_letter_queue": "dead"}, None),
        ({"_max_claim_count": 2, "_dead_letter_queue": "orders"}, None),
        ({"_max_claim_count": 0, "_dead_letter_queue": "dead"}, None),
    ],
    ids=str,
)
def test_dead_lettering_is_on_when_both_attributes_make_sense(
    metadata: dict[str, Any], target: str | None
) -> None:
    assert effective("orders", metadata, Limits()).dead_letter_queue == target
