"""MessagePack in, and bodies between the two media: what survives, what is shown, what is refused."""

import base64
import json
import struct
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from sukkal.errors import Invalid, InvalidBody
from sukkal.wire import bodies
from sukkal.wire.media import JSON, MSGPACK

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode

UNPARSABLE = "Request body could not be parsed."
TOO_LARGE = "JSON contains integer that is too large."
WRONG_TYPE = "Document type not supported."

NO_INTEGER = 'The value of the "{}" field must be a int.'

DEEP = 150_000
HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "unused byte": b"\xc1",
    "cut text": b"\xa5abc",
    "no UTF-8": b"\xa2\xff\xfe",
    "half a surrogate pair": b"\xa3\xed\xa0\x80",
    "no UTF-8 in a key": b"\x81\xa1\xff\x01",
    "endless text": b"\xdb\xff\xff\xff\xff",
    "endless bytes": b"\xc6\xff\xff\xff\xffabc",
    "endless array": b"\xdd\xff\xff\xff\xff",
    "endless map": b"\xdf\xff\xff\xff\xff",
    "large arrays in arrays": b"\xdd\x00\x03\xd0\x90" * 900 + b"\xc0" * 250_000,
    "deep arrays": b"\x91" * DEEP,
    "deep arrays that end": b"\x91" * DEEP + b"\xc0",
    "deep maps": b"\x81\xa1a" * DEEP + b"\xc0",
    "deep keys": b"\x81" + b"\x91" * DEEP + b"\xc0\xc0",
    "map as key": b"\x81\x80\x01",
    "extension": b"\xd4\x05a",
    "extension of no length": b"\xc7\x00\x05",
    "timestamp out of range": b"\xc7\x0c\xff" + struct.pack(">Iq", 0, 2**62),
    "timestamp of odd length": b"\xd4\xff\x00",
    "timestamp with too many nanoseconds": b"\xd7\xff" + b"\xff" * 8,
    "integer beyond 64 bits": b"\xcf" + b"\xff" * 8,
}

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | texts
    | st.floats(allow_nan=False, width=64)
)
json_values = st.recursive(
    scalars.filter(lambda value: value not in (float("inf"), -float("inf"))),
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)
packed_values = st.recursive(
    scalars | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(scalars | st.binary(), inner),
    max_leaves=20,
)


def posted(*values: bytes) -> bytes:
    """A post with a message for each MessagePack value."""
    return b"\x81\xa8messages" + bytes([0x90 + len(values)]) + b"".join(b"\x81\xa4body" + v for v in values)


def kept(value: bytes) -> bytes:
    """The body of a message whose body was this MessagePack value, as it goes to the store."""
    (message,) = MSGPACK.messages(posted(value))
    return bytes(message.body)


def shown(body: bytes) -> Any:
    return json.loads(bytes(JSON.show(body)))


def said(raw: bytes, read: Any) -> tuple[str, str]:
    with pytest.raises(Invalid) as fault:
        read(raw)
    return fault.value.title, fault.value.message


# --- bodies --------------------------------------------------------------------------------------------


@given(packed_values)
def test_whatever_was_packed_comes_back_to_the_byte_and_can_be_shown_in_json(value: Any) -> None:
    raw = pack(value)
    body = kept(raw)
    assert bytes(MSGPACK.show(body)) == raw
    json.loads(bytes(JSON.show(body)), parse_constant=pytest.fail)


@given(json_values)
def test_value_that_both_media_have_is_the_same_in_both(value: Any) -> None:
    assert shown(kept(pack(value))) == value
    (message,) = JSON.messages(b'{"messages":[{"body":' + msgspec.json.encode(value) + b"}]}")
    assert unpack(bytes(MSGPACK.show(bytes(message.body)))) == value


@given(st.binary())
def test_bytes_are_bytes_in_messagepack_and_base64_in_json(data: bytes) -> None:
    body = bytes(bodies.of_bytes(data))
    assert unpack(bytes(MSGPACK.show(body))) == data
    assert body == kept(pack(data))
    assert base64.b64decode(shown(body)["$base64"]) == data


@pytest.mark.parametrize(
    "value, text",
    [
        (b"", {"$base64": ""}),
        ({"a": [b"\xff", {"b": b"x"}]}, {"a": [{"$base64": "/w=="}, {"b": {"$base64": "eA=="}}]}),
        ([float("nan"), float("inf"), -float("inf")], [None, None, None]),
        ({1: "a", None: "b", False: "c", 1.5: "d"}, {"1": "a", "null": "b", "false": "c", "1.5": "d"}),
        ({True: b"x"}, {"true": {"$base64": "eA=="}}),
        ({b"\xff": 1}, {"/w==": 1}),
        ({(1, "x", (b"",)): 1}, {'[1,"x",[{"$base64":""}]]': 1}),
        (datetime.fromtimestamp(1, UTC), "1970-01-01T00:00:01Z"),
        ({2**63: 1}, {"9223372036854775808": 1}),
    ],
    ids=repr,
)
def test_what_json_lacks_is_shown_as_documented(value: Any, text: Any) -> None:
    assert shown(kept(pack(value))) == text


@pytest.mark.parametrize("depth", [200, 201, 900, 5000])
def test_json_nested_deeper_than_documents_may_be_is_its_text_in_messagepack(depth: int) -> None:
    body = b"[" * depth + b"]" * depth
    value = unpack(bytes(MSGPACK.show(body)))
    assert (value == body.decode()) == (depth > 200)


@pytest.mark.parametrize("body", [b"1e400", b"-1e999", b'{"a": 1e400}', b"9" * 30])
def test_number_that_messagepack_cannot_hold_makes_a_text(body: bytes) -> None:
    assert unpack(bytes(MSGPACK.show(body))) == body.decode()


# --- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_value_is_refused_wherever_it_stands(name: str) -> None:
    raw = HOSTILE[name]
    for hostile, read in (
        (raw, MSGPACK.document),
        (b"\x81\xa1a" + raw, MSGPACK.object),
        (posted(raw), MSGPACK.messages),
        (posted(b"\x91" + raw), MSGPACK.messages),
        (posted(b"\x01", raw), MSGPACK.messages),
        (b"\x91\x81\xa4body" + raw, MSGPACK.message_list),
        (b"\x82\xa1x" + raw + posted(b"\x01")[1:], MSGPACK.messages),
        (b"\x81\xa8messages\x91\x83\xa4body\x01\xa3ttl" + raw + b"\xa5delay\x01", MSGPACK.messages),
    ):
        said(hostile, read)


@given(st.binary(max_size=40))
def test_no_bytes_are_more_than_refused(raw: bytes) -> None:
    for read in (MSGPACK.messages, MSGPACK.message_list, MSGPACK.document):
        for given_ in (raw, posted(raw), b"\x91\x81\xa4body" + raw):
            try:
                found = read(given_)
            except Invalid:
                continue
            if read != MSGPACK.document:
                for message in found:
                    json.loads(bytes(JSON.show(bytes(message.body))), parse_constant=pytest.fail)


def test_depth_of_a_packed_body_is_bounded() -> None:
    assert shown(kept(b"\x91" * 200 + b"\x01"))
    assert shown(kept(b"\x81\x01" * 200 + b"\x01"))
    title, text = said(posted(b"\x91" * 201 + b"\x01"), MSGPACK.messages)
    assert (title, text) == (
        "Invalid request body",
        "Request body is nested too deeply; 200 levels are allowed.",
    )
    assert shown(kept(pack("\u0450" * 1000)))  # looks deep, and is not


def test_packed_integers_have_64_bits_and_a_sign() -> None:
    assert shown(kept(pack(2**63 - 1))) == 2**63 - 1
    assert said(posted(pack([2**63])), MSGPACK.messages) == ("Invalid request body", TOO_LARGE)
    assert said(pack({"a": 2**63}), MSGPACK.object) == ("Invalid request body", TOO_LARGE)
    assert shown(kept(pack("\u03cf")))  # looks like one


def test_of_equal_keys_the_last_counts() -> None:
    (message,) = MSGPACK.messages(b"\x81\xa8messages\x91\x82\xa4body\x01\xa4body\x02")
    assert bytes(MSGPACK.show(bytes(message.body))) == b"\x02"
    assert MSGPACK.object(b"\x82\xa1a\x01\xa1a\x02") == {"a": 2}
    assert shown(kept(b"\x82\xa1a\x01\xa1a\x02")) == {"a": 2}


# --- documents -----------------------------------------------------------------------------------------


@given(st.dictionaries(texts, json_values))
def test_any_document_of_json_can_come_in_messagepack(value: dict[str, Any]) -> None:
    assert MSGPACK.object(pack(value)) == value
    assert unpack(MSGPACK.encode(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        {"a": b""},
        {"a": [{"b": b"x"}]},
        {1: 2},
        {"a": {None: 1}},
        {"a": {b"b": 1}},
        {"a": float("nan")},
        {"a": [float("inf")]},
        {"a": datetime.fromtimestamp(1, UTC)},
    ],
    ids=repr,
)
def test_document_that_json_could_not_say_is_refused(value: Any) -> None:
    assert said(pack(value), MSGPACK.object)[0] == "Invalid request body"


def test_document_of_200_levels_is_taken_and_no_more() -> None:
    assert MSGPACK.document(b"\x91" * 200 + b"\x01")
    assert "nested too deeply" in said(b"\x91" * 201 + b"\x01", MSGPACK.document)[1]


def test_scalar_is_no_document() -> None:
    for raw in (b"\x01", b"\xa1a", b"\xc0", b"\xc4\x01a"):
        assert said(raw, MSGPACK.document) == ("Invalid request body", UNPARSABLE)
    assert said(b"\x90", MSGPACK.object) == ("Invalid request body", WRONG_TYPE)


# --- messages ------------------------------------------------------------------------------------------

FAULTS: list[tuple[Any, str, str]] = [
    ({}, "Invalid API request", "No messages were found in the request body."),
    ([], "Invalid API request", "No messages were found in the request body."),
    ({"messages": {}}, "Invalid request body", WRONG_TYPE),
    ({"messages": None}, "Invalid request body", WRONG_TYPE),
    ({"messages": [1]}, "Invalid request body", WRONG_TYPE),
    ({"messages": [{}]}, "Invalid request body", 'Missing "body" field.'),
    ({"messages": [{"body": 1}, {"ttl": "x"}]}, "Invalid request body", 'Missing "body" field.'),
    ({"messages": [{"body": 1, "ttl": "60"}]}, "Invalid request body", NO_INTEGER.format("ttl")),
    ({"messages": [{"body": 1, "ttl": 60.0}]}, "Invalid request body", NO_INTEGER.format("ttl")),
    ({"messages": [{"body": 1, "delay": None}]}, "Invalid request body", NO_INTEGER.format("delay")),
    ({"messages": [{"body": 1}], "x": 2**63}, "Invalid request body", TOO_LARGE),
    (1, "Invalid request body", UNPARSABLE),
]  # fmt: skip


@pytest.mark.parametrize("document, title, text", FAULTS, ids=repr)
@pytest.mark.parametrize("medium", [JSON, MSGPACK], ids=repr)
def test_faulty_post_is_refused_in_the_same_words_in_both_media(
    medium: Any, document: Any, title: str, text: str
) -> None:
    assert said(medium.encode(document), medium.messages) == (title, text)


@pytest.mark.parametrize("medium", [JSON, MSGPACK], ids=repr)
def test_array_of_messages_alone_is_read_like_the_whole(medium: Any) -> None:
    news = [{"body": {"a": [1, "x"]}, "ttl": 60}, {"delay": True, "body": None, "id": "mine"}, {"body": "é"}]
    whole = medium.messages(medium.encode({"queue_name": "q", "messages": news}))
    assert whole == medium.message_list(medium.encode(news)) != []
    assert [(m.ttl, m.delay) for m in whole] == [(60, UNSET), (UNSET, 1), (UNSET, UNSET)]
    assert [shown(bytes(m.body)) for m in whole] == [{"a": [1, "x"]}, None, "é"]
    for document, *fault in FAULTS:
        if isinstance(document, dict) and len(document) == 1:
            assert said(medium.encode(document["messages"]), medium.message_list)[1] in (fault[1], UNPARSABLE)


def test_keys_around_bodies_are_texts() -> None:
    for raw in (b"\x82\x01\x02" + posted(b"\x01")[1:], b"\x81\xa8messages\x91\x82\x01\x02\xa4body\x01"):
        assert said(raw, MSGPACK.messages) == (
            "Invalid request body",
            "Keys around message bodies must be texts.",
        )


@pytest.mark.parametrize("medium", [JSON, MSGPACK], ids=repr)
def test_typed_value_is_read_with_its_raw_parts(medium: Any) -> None:
    class Frame(msgspec.Struct):
        action: str
        body: Raw

    read = medium.decoder(Frame)
    frame = read(medium.encode({"action": "message_post", "body": {"messages": [{"body": 7}]}}))
    (message,) = medium.messages(bytes(frame.body))
    assert shown(bytes(message.body)) == 7


def test_typed_value_has_no_extensions() -> None:
    with pytest.raises(InvalidBody, match="Extension type 5"):
        MSGPACK.decoder(dict[str, Any])(b"\x81\xa1a\xd4\x05a")
