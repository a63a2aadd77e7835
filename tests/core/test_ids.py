"""Ids: unique, growing, and of the form of a UUID version 7."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from sukkal.core.ids import Mint, is_id, number_of, numbered

from .world import NOW, World


def test_ids_made_in_one_moment_are_unique_and_grow() -> None:
    mint = Mint()
    made = [mint(NOW) for _ in range(10_000)]
    assert len(set(made)) == len(made)
    assert made == sorted(made)


@given(st.lists(st.floats(min_value=0, max_value=2**37), max_size=50))
def test_ids_grow_whatever_the_clock_does(times: list[float]) -> None:
    mint = Mint()
    made = [mint(now) for now in times]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_id_is_a_uuid_of_version_7_that_holds_the_time() -> None:
    id = Mint()(NOW + 0.123)
    read = uuid.UUID(id)
    assert read.version == 7
    assert read.variant == uuid.RFC_4122
    assert read.int >> 80 == int((NOW + 0.123) * 1000)
    assert (len(id), id) == (32, id.lower())


def test_id_keeps_its_form_while_counting_within_a_moment() -> None:
    mint = Mint()
    for _ in range(1000):
        read = uuid.UUID(mint(NOW))
        assert (read.version, read.variant) == (7, uuid.RFC_4122)


def test_two_mints_do_not_meet() -> None:
    first, second = Mint(), Mint()
    assert not {first(NOW) for _ in range(1000)} & {second(NOW) for _ in range(1000)}


def test_own_ids_are_told_from_other_text() -> None:
    assert is_id(Mint()(NOW))
    for text in ("", "1", "0" * 31, "0" * 33, "é" * 32, "-" * 32, "sfhlsfdjh2048", "12345"):
        assert not is_id(text)
        assert number_of(text) is None


def test_id_and_its_number_stand_for_each_other() -> None:
    for id in (Mint()(NOW), Mint()(0), "0" * 32, "f" * 32):
        number = number_of(id)
        assert number is not None
        assert numbered(number) == id
    assert number_of("z" * 32) is None


async def test_service_takes_its_ids_from_whom_it_is_told() -> None:
    numbers = iter(range(100))
    world = World(new_id=lambda now: f"{int(now)}-{next(numbers)}")
    assert await world.post("orders", 1, 2) == [f"{int(NOW)}-0", f"{int(NOW)}-1"]
