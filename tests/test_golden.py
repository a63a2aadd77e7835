"""The golden cases' own rules: what counts as a difference, and what is captured."""

from typing import Any

import pytest
from golden import Captures, differences


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"a": 1}, {"a": 1}),
        ({"a": "<int>", "b": "<any>", "c": "<id>"}, {"a": 5, "b": None, "c": "x-1"}),
        ({"at": "<time>"}, {"at": "2024-05-02T10:11:12Z"}),
        ({"href": "/v2/queues?limit=1&marker={m}"}, {"href": "/v2/queues?marker=orders&limit=1"}),
        ([1.0, True, None], [1.0, True, None]),
    ],
)
def test_what_is_as_expected_has_no_differences(expected: Any, actual: Any) -> None:
    assert differences(expected, actual, Captures(), exact=True) == []


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1}, {}),
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": None}, {"a": 0}),
        ({"a": "<int>"}, {"a": True}),
        ({"a": "<time>"}, {"a": "yesterday"}),
        ({"a": "<id>"}, {"a": "b@d"}),
        ([1], [1, 2]),
        ([1], {"0": 1}),
        ({"href": "/v2/queues?limit=1"}, {"href": "/v2/queues?limit=1&limit=1"}),
        ({"name": "a?b=1&c=2"}, {"name": "a?c=2&b=1"}),
    ],
)
def test_what_is_not_as_expected_is_told(expected: Any, actual: Any) -> None:
    assert differences(expected, actual, Captures(), exact=True) != []


def test_keys_may_be_left_open() -> None:
    assert differences({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": 3}, Captures(), exact=False) == []
    assert differences([{}], [{"a": 1}, {}], Captures(), exact=False) != []


def test_captured_text_stands_for_itself_from_then_on() -> None:
    captures = Captures()

    assert captures.match("/messages/{m}?claim_id={c}", "/messages/m-1?claim_id=c.2")
    assert captures == {"m": "m-1", "c": "c.2"}
    assert captures.fill("{c}/{m}") == "c.2/m-1"
    assert captures.match("{c}", "c.2")
    assert not captures.match("{c}", "cx2")
    assert not captures.match("{new}/{new}", "a/b")
