"""Room in memory and how it is shared out."""

from hypothesis import given
from hypothesis import strategies as st

from sukkal.notify.room import Room


def taken(room: Room, project: str, size: int = 0) -> int:
    """How many more of them the project gets."""
    count = 0
    while room.take(project, size):
        count += 1
    return count


def test_project_gets_as_much_as_is_left() -> None:
    room = Room(count=120, size=1)
    assert [taken(room, project) for project in "abcd"] == [60, 30, 15, 8]


def test_bytes_are_shared_out_as_well() -> None:
    room = Room(count=1000, size=1200)
    assert taken(room, "a", 100) == 6
    assert taken(room, "b", 300) == 1
    assert taken(room, "c", 10) == 15


def test_first_one_with_a_size_has_room_whatever_that_is_unless_there_is_none() -> None:
    room = Room(count=10, size=10)
    assert room.take("a", 0)
    assert taken(room, "a", 1000) == 1
    assert not room.take("b", 1)
    room.leave("a", 1000)
    assert taken(room, "b", 1000) == 1


def test_what_was_given_back_can_be_taken_again() -> None:
    room = Room(count=4, size=400)
    assert taken(room, "a", 100) == 2
    room.leave("a", 100)
    assert taken(room, "a", 100) == 1
    room.leave("a", 100)
    room.leave("a", 100)
    assert taken(room, "b", 50) == 2
    assert list(room._used) == ["b"], "projects without anything are not remembered"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.booleans()), max_size=60))
def test_there_is_always_some_left_but_for_what_is_first(steps: list[tuple[str, int, bool]]) -> None:
    room = Room(count=10, size=100)
    held: list[tuple[str, int]] = []
    for project, size, more in steps:
        if more:
            if room.take(project, size):
                held.append((project, size))
        elif held:
            room.leave(*held.pop(0))
    assert len(held) <= 10
    assert sum(size for _, size in held) < 150, "at most one more than there is"
    for project, size in held:
        room.leave(project, size)
    assert (room._count, room._size, room._used) == (10, 100, {})
