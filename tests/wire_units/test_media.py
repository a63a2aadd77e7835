"""JSON in: what is taken, what is refused, and in which words."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from sukkal.errors import Invalid, InvalidBody
from sukkal.wire import media
from sukkal.wire.fields import fields, plain_type

UNPARSABLE = "Request body could not be parsed."
TOO_LARGE = "JSON contains integer that is too large."
WRONG_TYPE = "Document type not supported."

# Text that is no JSON value, though some readers of JSON take it for one.
NO_VALUES = """
    01 - 1. .5 +1 1e --1 nul tru NaN Infinity -Infinity 'a' [1,] {"a":1,} {"a"} {1:2} {"a":01} [-]
    ["\\q"] "\\u12" ] } . {"a":} {'a':1} {}x "a
"""
BROKEN: list[bytes] = [
    *(text.encode() for text in NO_VALUES.split()),
    b"",
    b" ",
    b"[1 2]",
    b"1 2",
    b'"a\nb"',
    b'"a\x00b"',
    b'"\xff"',
    b'"\xc3"',
    b'{"\xff": 1}',
    b"\xef\xbb\xbf1",
]
DEEP = [b"[" * 500_000, b'{"a":' * 200_000, b"[" * 500_000 + b"]" * 500_000]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


def said(raw: bytes, read: Any) -> tuple[str, str]:
    """Title and description of the refusal."""
    with pytest.raises(Invalid) as fault:
        read(raw)
    return fault.value.title, fault.value.message


def posted(body: bytes, rest: bytes = b"") -> bytes:
    return b'{"messages": [{"body": ' + body + rest + b"}]}"


# --- documents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        *BROKEN,
        *DEEP,
        *(b'{"a":' + value + b"}" for value in BROKEN),
        b'{"a":1e400}',
        *(b"1", b'"text"', b"null", b"true"),
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_is_no_object_or_array_is_refused(raw: bytes) -> None:
    assert said(raw, media.JSON.document) == ("Invalid request body", UNPARSABLE)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**30, 10**300])
@pytest.mark.parametrize("form", ['{"a": %d}', "[[[%d]]]", '{"a": {"b": [1, %d]}}', "[%d]"])
def test_integer_beyond_64_bits_is_refused_wherever_it_is(number: int, form: str) -> None:
    assert said((form % number).encode(), media.JSON.document) == ("Invalid request body", TOO_LARGE)
    assert said(posted((form % number).encode()), media.JSON.messages) == ("Invalid request body", TOO_LARGE)


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 10**18])
def test_integer_of_64_bits_is_taken(number: int) -> None:
    raw = b"[%d]" % number
    assert media.JSON.document(raw) == [number]
    assert bytes(media.JSON.messages(posted(raw))[0].body) == raw


@pytest.mark.parametrize(
    "body", [b"1e300", b"0.12345678901234567890123", b'"9999999999999999999999"', b"1E+100"]
)
def test_what_only_looks_like_a_large_integer_is_taken(body: bytes) -> None:
    assert bytes(media.JSON.messages(posted(body))[0].body) == body
    assert media.JSON.document(b"[" + body + b"]") == [json.loads(body)]


@given(json_values)
def test_any_json_is_read_as_it_is(value: Any) -> None:
    assert media.JSON.document(msgspec.json.encode([value])) == [value]
    assert media.JSON.object(msgspec.json.encode({"a": value})) == {"a": value}


def test_array_is_no_object() -> None:
    assert said(b"[]", media.JSON.object) == ("Invalid request body", WRONG_TYPE)


def test_last_of_equal_keys_counts() -> None:
    assert media.JSON.object(b'{"a": 1, "a": 2}') == {"a": 2}


# --- messages ------------------------------------------------------------------------------------------


@given(json_values)
def test_body_stays_as_it_was_sent(value: Any) -> None:
    for raw in (json.dumps(value).encode(), msgspec.json.encode(value), json.dumps(value, indent=2).encode()):
        (message,) = media.JSON.messages(posted(raw))
        assert bytes(message.body) == raw
        assert (message.ttl, message.delay) == (UNSET, UNSET)


@pytest.mark.parametrize("body", [*BROKEN, *DEEP], ids=lambda body: repr(body[:20]))
def test_body_that_is_no_json_is_refused(body: bytes) -> None:
    # The decoder that keeps bodies raw must not let pass what a reader of the message could not parse.
    assert said(posted(body), media.JSON.messages) == ("Invalid request body", UNPARSABLE)


@given(st.binary(max_size=12))
def test_whatever_is_taken_as_a_body_can_be_parsed(body: bytes) -> None:
    try:
        messages = media.JSON.messages(posted(body))
    except Invalid:
        return
    for message in messages:
        json.loads(bytes(message.body).decode(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "raw, title, text",
    [
        (b"{}", "Invalid API request", "No messages were found in the request body."),
        (b"[]", "Invalid API request", "No messages were found in the request body."),
        (b'[{"body": 1}]', "Invalid API request", "No messages were found in the request body."),
        (b'{"message": []}', "Invalid API request", "No messages were found in the request body."),
        (b'{"messages": {}}', "Invalid request body", WRONG_TYPE),
        (b'{"messages": null}', "Invalid request body", WRONG_TYPE),
        (b'{"messages": "text"}', "Invalid request body", WRONG_TYPE),
        (b'{"messages": [1]}', "Invalid request body", WRONG_TYPE),
        (b'{"messages": [null]}', "Invalid request body", WRONG_TYPE),
        (b'{"messages": [[]]}', "Invalid request body", WRONG_TYPE),
        (b'{"messages": [{}]}', "Invalid request body", 'Missing "body" field.'),
        (b'{"messages": [{"ttl": "x"}]}', "Invalid request body", 'Missing "body" field.'),
        (b'{"messages": [{"body": 1}, {}]}', "Invalid request body", 'Missing "body" field.'),
        (b"1", "Invalid request body", UNPARSABLE),
        (b"[", "Invalid request body", UNPARSABLE),
        (b"", "Invalid request body", UNPARSABLE),
        (b'{"messages": [{"body": 1}]} x', "Invalid request body", UNPARSABLE),
        (b'{"x": 01, "messages": [{"body": 1}]}', "Invalid request body", UNPARSABLE),
        (b'{"x": %d, "messages": [{"body": 1}]}' % 2**64, "Invalid request body", TOO_LARGE),
    ],
)
def test_faulty_post_is_refused_in_the_words_of_the_api(raw: bytes, title: str, text: str) -> None:
    assert said(raw, media.JSON.messages) == (title, text)


@pytest.mark.parametrize("field", ["ttl", "delay"])
@pytest.mark.parametrize("value", ["null", '"60"', "60.0", "1e2", "[]", "{}", '""'])
def test_time_that_is_no_integer_is_refused(field: str, value: str) -> None:
    raw = posted(b"1", f', "{field}": {value}'.encode())
    assert said(raw, media.JSON.messages) == (
        "Invalid request body",
        f'The value of the "{field}" field must be a int.',
    )


def test_times_are_read_and_true_passes_for_one() -> None:
    (message,) = media.JSON.messages(posted(b"1", b', "ttl": 60, "delay": -5'))
    assert (message.ttl, message.delay) == (60, -5)
    (message,) = media.JSON.messages(posted(b"1", b', "ttl": true, "delay": false'))
    assert (message.ttl, message.delay) == (1, 0)
    assert [type(message.ttl), type(message.delay)] == [int, int]


def test_unknown_fields_and_keys_are_ignored() -> None:
    (message,) = media.JSON.messages(
        b'{"x": [1], "messages": [{"body": 1, "id": "mine", "ttl": 60}], "y": {}}'
    )
    assert (bytes(message.body), message.ttl) == (b"1", 60)


def test_both_ways_of_reading_agree() -> None:
    # A large number in digits makes the slow way necessary; nothing else may differ.
    plain = b'{"messages": [{"body": {"a": [1, "x"]}, "ttl": 60}, {"delay": 3, "body": null}]}'
    suspect = plain[:-1] + b', "x": "%s"}' % (b"9" * 30)
    for first, second in zip(media.JSON.messages(plain), media.JSON.messages(suspect), strict=True):
        assert (bytes(first.body), first.ttl, first.delay) == (bytes(second.body), second.ttl, second.delay)


def test_depth_of_a_body_does_not_depend_on_the_way_of_reading() -> None:
    deep = b"[" * 300 + b"]" * 300
    assert bytes(media.JSON.messages(posted(deep))[0].body) == deep
    assert bytes(media.JSON.messages(posted(deep, b', "x": "%s"' % (b"9" * 30)))[0].body) == deep


def test_empty_list_of_messages_is_not_a_matter_of_form() -> None:
    assert media.JSON.messages(b'{"messages": []}') == []


# --- fields --------------------------------------------------------------------------------------------

TYPES = {"ttl": int | None, "flag": bool, "name": str, "kinds": list[Any]}


@pytest.mark.parametrize(
    "given, read",
    [
        ({}, {}),
        ({"ttl": 5, "other": 1}, {"ttl": 5}),
        ({"ttl": None}, {}),
        ({"ttl": True}, {"ttl": 1}),
        ({"flag": True, "name": "", "kinds": []}, {"flag": True, "name": "", "kinds": []}),
    ],
)
def test_wanted_fields_are_read(given: dict[str, Any], read: dict[str, Any]) -> None:
    assert fields(given, TYPES) == read


@pytest.mark.parametrize(
    "given, wanted",
    [
        ({"ttl": "5"}, "int"),
        ({"ttl": 5.0}, "int"),
        ({"ttl": []}, "int"),
        ({"flag": 1}, "bool"),
        ({"flag": None}, "bool"),
        ({"name": 5}, "str"),
        ({"name": True}, "str"),
        ({"name": None}, "str"),
        ({"kinds": {}}, "list"),
        ({"kinds": "messages"}, "list"),
        ({"kinds": None}, "list"),
    ],
)
def test_field_of_another_type_is_refused(given: dict[str, Any], wanted: str) -> None:
    (name,) = given
    with pytest.raises(InvalidBody) as fault:
        fields(given, TYPES)
    assert fault.value.message == f'The value of the "{name}" field must be a {wanted}.'


def test_missing_field_is_refused() -> None:
    with pytest.raises(InvalidBody, match='Missing "name" field'):
        fields({"ttl": "wrong too"}, TYPES, ("name",))
    assert fields({"name": "x"}, TYPES, ("name",)) == {"name": "x"}


@pytest.mark.parametrize(
    "annotation, plain",
    [
        (int, int),
        (int | None, int),
        (list[str], list),
        (list[str] | None, list),
        (dict[str, Any], dict),
        (str | None, str),
    ],
    ids=str,
)
def test_annotation_comes_down_to_a_type(annotation: Any, plain: type) -> None:
    assert plain_type(annotation) is plain
