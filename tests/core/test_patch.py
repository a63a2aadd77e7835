"""Changing metadata by JSON patch: which operations are well-formed, and what they do."""

from typing import Any

import pytest

from sukkal.errors import Conflict, InvalidBody, NotFound
from sukkal.limits import Limits

from .world import World

POINTER_TOO_LONG = "Invalid JSON pointer for this resource: '/metadata/a/b, e.g /metadata/key'"


def add(path: Any, value: Any = 1) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


@pytest.mark.parametrize(
    "change, text",
    [
        (None, "Operations must be JSON objects."),
        ("add", "Operations must be JSON objects."),
        ([], "Operations must be JSON objects."),
        ({}, "Unable to find `op` in JSON Schema change."),
        ({"path": "/metadata/a"}, "It must be one of the following: add, remove, replace."),
        ({"op": "move", "path": "/metadata/a"}, "Invalid operation: `move`."),
        ({"op": "ADD"}, "Invalid operation: `ADD`."),
        ({"op": None}, "Invalid operation"),
        ({"op": ["add"]}, "Invalid operation"),
        ({"op": "add"}, "Unable to find 'path' in JSON Schema change"),
        (add("a/b"), 'Pointer `a/b` does not start with "/".'),
        (add(""), 'does not start with "/".'),
        (add("/a//b"), 'Pointer `/a//b` contains adjacent "/".'),
        (add("/a/ /b"), 'contains adjacent "/".'),
        (add("/a/"), 'Pointer `/a/` end with "/".'),
        (add("//"), 'Pointer `//` end with "/".'),
        (add("/a~b"), "not part of a recognized escape sequence."),
        (add("/metadata/a~"), "not part of a recognized escape sequence."),
        (add("/metadata/a~2"), "not part of a recognized escape sequence."),
        (add("/"), "Invalid JSON pointer for this resource"),
        (add("/metadata"), "Invalid JSON pointer for this resource"),
        (add("/metadata/a/b"), POINTER_TOO_LONG),
        ({"op": "add", "path": "/metadata/a"}, 'Operation "add" requires a member named "value".'),
        ({"op": "replace", "path": "/metadata/a"}, 'Operation "replace" requires a member named "value".'),
        ({"op": "replace", "path": "/other/a"}, 'requires a member named "value".'),
        (add("/other/a"), "The root of path must be metadata, e.g /metadata/key."),
        (add(None), "path"),
        (add(7), "path"),
        (add(["/metadata/a"]), "path"),
        ({"op": "remove", "path": "//a"}, "adjacent"),
    ],
    ids=str,
)
async def test_malformed_operation_is_refused_and_nothing_changes(
    world: World, change: Any, text: str
) -> None:
    await world.create("orders", a=0)
    with pytest.raises(InvalidBody) as fault:
        await world.patch("orders", add("/metadata/good"), change)
    assert text in fault.value.message
    assert fault.value.title == "Invalid request body"
    assert (await world.call("queues.get", queue="orders")).stored == {"a": 0}


async def test_malformed_operation_wins_over_a_missing_queue(world: World) -> None:
    with pytest.raises(InvalidBody):
        await world.patch("orders", None)
    with pytest.raises(NotFound, match="Queue orders does not exist for project acme"):
        await world.patch("orders")
    with pytest.raises(NotFound):
        await world.patch("orders", {"op": "remove", "path": "/metadata/absent"})


ABSENT_OR_SET = [
    # operation, before, after; None for a conflict
    ("add", {"k": "old"}, {"k": "new"}),
    ("add", {}, {"k": "new"}),
    ("replace", {"k": "old"}, {"k": "new"}),
    ("replace", {}, None),
    ("remove", {"k": "old"}, {}),
    ("remove", {}, None),
]


@pytest.mark.parametrize("operation, before, after", ABSENT_OR_SET)
async def test_operation_on_an_ordinary_key(
    world: World, operation: str, before: dict[str, Any], after: dict[str, Any] | None
) -> None:
    await world.create("orders", **before)
    change = {"op": operation, "path": "/metadata/k", "value": "new"}
    if after is None:
        with pytest.raises(Conflict, match=f"Can't {operation} non-existent object key.") as fault:
            await world.patch("orders", change)
        assert fault.value.title == "Resource conflict"
        after = before
    else:
        assert await world.patch("orders", change) == after
    assert (await world.call("queues.get", queue="orders")).stored == after


@pytest.mark.parametrize(
    "key, value",
    [
        ("_max_messages_post_size", 100),
        ("_default_message_ttl", 100),
        ("_default_message_delay", 100),
        ("_dead_letter_queue", "dead"),
        ("_dead_letter_queue_messages_ttl", 100),
        ("_max_claim_count", 100),
        ("_enable_encrypt_messages", False),
    ],
)
async def test_operation_on_a_reserved_attribute_that_is_not_set(
    world: World, key: str, value: object
) -> None:
    await world.create("orders")
    path = f"/metadata/{key}"
    assert await world.patch("orders", {"op": "remove", "path": path}) == {}
    assert await world.patch("orders", {"op": "replace", "path": path, "value": value}) == {key: value}
    assert await world.patch("orders", {"op": "remove", "path": path}) == {}
    assert await world.patch("orders", add(path, value)) == {key: value}


@pytest.mark.parametrize("key", ["_flavor", "_retry_policy", "_ttl"])
async def test_other_keys_with_an_underscore_are_ordinary(world: World, key: str) -> None:
    await world.create("orders")
    for operation in ("replace", "remove"):
        with pytest.raises(Conflict):
            await world.patch("orders", {"op": operation, "path": f"/metadata/{key}", "value": {}})


async def test_operations_apply_in_order(world: World) -> None:
    await world.create("orders", a=0)
    stored = await world.patch(
        "orders",
        {"op": "remove", "path": "/metadata/a"},
        add("/metadata/a", 1),
        {"op": "replace", "path": "/metadata/a", "value": 2},
        add("/metadata/b", 3),
        {"op": "remove", "path": "/metadata/b"},
    )
    assert stored == {"a": 2}


async def test_conflict_in_the_middle_changes_nothing(world: World) -> None:
    await world.create("orders", a=0)
    with pytest.raises(Conflict):
        await world.patch(
            "orders", add("/metadata/a", 1), {"op": "remove", "path": "/metadata/x"}, add("/metadata/b")
        )
    assert (await world.call("queues.get", queue="orders")).stored == {"a": 0}


@pytest.mark.parametrize(
    "path, key",
    [
        ("/metadata/a~1b", "a/b"),
        ("/metadata/a~0b", "a~b"),
        ("/metadata/a~01b", "a~1b"),
        ("/METADATA/a", "a"),
        ("/ metadata / a ", "a"),
        ("/metadata/é", "é"),
    ],
)
async def test_path_names_a_key(world: World, path: str, key: str) -> None:
    await world.create("orders")
    assert await world.patch("orders", add(path, 1)) == {key: 1}


async def test_remove_does_not_look_at_the_root(world: World) -> None:
    await world.create("orders", a=0)
    assert await world.patch("orders", {"op": "remove", "path": "/anything/a"}) == {}


async def test_empty_patch_is_valid(world: World) -> None:
    await world.create("orders", a=0)
    assert await world.patch("orders") == {"a": 0}


@pytest.mark.parametrize("value", [None, [], {}, "text", 1.5, {"deep": [{"er": None}]}])
async def test_any_value_can_be_stored(world: World, value: Any) -> None:
    await world.create("orders")
    assert await world.patch("orders", add("/metadata/a", value)) == {"a": value}


async def test_result_is_checked_like_a_new_queues_metadata(world: World) -> None:
    await world.create("orders", a=0)
    with pytest.raises(InvalidBody, match="_default_message_ttl can not exceed 1209600 seconds"):
        await world.patch("orders", add("/metadata/a", 1), add("/metadata/_default_message_ttl", 59))
    assert (await world.call("queues.get", queue="orders")).stored == {"a": 0}


async def test_bad_value_may_pass_through_if_the_result_is_good(world: World) -> None:
    await world.create("orders")
    stored = await world.patch(
        "orders",
        add("/metadata/_default_message_ttl", 1),
        {"op": "remove", "path": "/metadata/_default_message_ttl"},
    )
    assert stored == {}


async def test_result_over_the_size_of_metadata_is_refused() -> None:
    world = World(limits=Limits(max_queue_metadata=64))
    await world.create("orders", a="x" * 40)
    with pytest.raises(InvalidBody, match=r"Queue metadata is too large\. Max size: 64"):
        await world.patch("orders", add("/metadata/b", "x" * 40))
    assert await world.patch("orders", add("/metadata/b", 1)) == {"a": "x" * 40, "b": 1}


async def test_answer_shows_what_a_read_shows(world: World) -> None:
    await world.create("orders")
    change = add("/metadata/_default_message_ttl", 90)
    answer = await world.call("queues.update", queue="orders", changes=[change])
    assert answer.shown == (await world.call("queues.get", queue="orders")).shown
    assert answer.shown["_default_message_ttl"] == 90
