"""Whatever a frame holds, it is answered, never with a 5xx, and the connection goes on."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from server_process import ServerProcess
from ws_caller import Socket

from sukkal.ws.actions import vocabulary

ACTIONS = sorted(vocabulary())
OFFERED = {501}  # of all 5xx the only one: the action is known, and this server does not have it
ONE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
names = st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)
)
keys = st.sampled_from(
    [
        "queue_name",
        "message_id",
        "message_ids",
        "messages",
        "claim_id",
        "claim_ids",
        "ttl",
        "grace",
        "limit",
        "marker",
        "detailed",
        "metadata",
        "echo",
        "include_claimed",
        "include_delayed",
        "pop",
        "resource_types",
        "name",
        "body",
    ]
)
likely = st.sampled_from(["q", "", 5, 60, 0, -1, 2**64, True, None, [], {}, ["a"], [{}], [{"body": 1}], "é"])
fitting = st.dictionaries(keys, likely | values, max_size=6).map(lambda body: {"queue_name": "q"} | body)
bodies = values.filter(lambda body: body is not None) | fitting
parts = st.fixed_dictionaries({}, optional={"action": values, "headers": values, "body": values})


@pytest.fixture
def socket(server: ServerProcess, project: str) -> Iterator[Socket]:
    with Socket(server.host, server.port, project=project) as socket:
        yield socket


def answered(socket: Socket, frame: str | bytes, *, text: bool | None = None) -> Any:
    """The reply to a frame; the connection must be there afterwards."""
    socket.wire.send(frame, text=text)
    reply = socket.receive()
    while "request" not in reply.document:  # the connection may have subscribed itself
        reply = socket.receive()
    document = reply.document
    assert document.keys() == {"request", "body", "headers"}
    assert document["request"].keys() == {"action", "body", "headers", "api"}
    assert reply.status < 500 or reply.status in OFFERED, document
    if reply.status >= 400 and reply.status != 409 and "messages" not in document["body"]:
        assert "error" in document["body"]
    return document


def encodable(document: Any) -> bytes:
    """As MessagePack, which has no integers beyond 64 bits."""
    try:
        return msgspec.msgpack.encode(document)
    except (OverflowError, msgspec.EncodeError):
        return msgspec.msgpack.encode(json.loads(json.dumps(document), parse_int=float))


@ONE
@given(frame=st.binary(max_size=200))
@example(frame=b"")
@example(frame=b"\xc1")
@example(frame=b"\x91" * 5000)
@example(frame=b"\x81\xc4\x06action\xc0")
@example(frame=b"\xdf\xff\xff\xff\xff")
def test_random_bytes_are_answered_in_both_kinds_of_frames(socket: Socket, frame: bytes) -> None:
    for text in (False, True):
        assert answered(socket, frame, text=text)["headers"]["status"] == 400


@ONE
@given(text=st.text(alphabet='{}[]",:0e-.tn\\u d8actionqueue_l', max_size=60))
@example(text="[" * 100_000)
@example(text='{"action":' * 5000)
@example(text='{"action": "\\ud800"}')
@example(text='{"action": 1e400}')
@example(text='{"headers": {"Client-ID": ' + "9" * 4000 + "}}")
def test_text_that_is_nearly_json_is_answered(socket: Socket, text: str) -> None:
    answered(socket, text)


@ONE
@given(document=values | parts)
def test_random_documents_are_answered(socket: Socket, document: Any) -> None:
    answered(socket, json.dumps(document))
    answered(socket, encodable(document))


@ONE
@given(action=st.sampled_from(ACTIONS), body=bodies)
def test_random_bodies_of_every_action_are_answered_and_repeated(
    socket: Socket, action: str, body: Any
) -> None:
    request = socket.request(action, body)
    document = answered(socket, json.dumps(request))
    if action != "authenticate":
        assert document["request"] == json.loads(json.dumps(request)) | {"api": "v2"}
    answered(socket, encodable(request))


@ONE
@given(data=st.data())
def test_damaged_messagepack_is_answered(socket: Socket, data: st.DataObject) -> None:
    request = socket.request(
        "message_post", {"queue_name": "q", "messages": [{"body": b"\xff", "ttl": 60}] * 2}
    )
    whole = bytearray(msgspec.msgpack.encode(request))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    frame = bytes(whole)
    try:
        msgspec.msgpack.decode(frame)
    except (UnicodeDecodeError, msgspec.DecodeError):
        assert answered(socket, frame)["headers"]["status"] in (201, 400)
    else:
        answered(socket, frame)


def test_frame_somewhat_larger_than_a_post_may_be_gets_a_reply(socket: Socket) -> None:
    for size in (262_144, 300_000, 500_000):
        reply = socket("message_post", {"queue_name": "q", "messages": [{"body": "x" * size}]})
        assert reply.status == 400
        assert reply.body["exception"] == "Message collection size is too large. Max size 262144"
    assert socket("queue_list").body == {"queues": []}


def test_post_of_just_the_largest_size_is_taken(socket: Socket) -> None:
    messages = [{"body": ""}]
    messages[0]["body"] = "x" * (262_144 - len(json.dumps(messages)))
    assert socket("message_post", {"queue_name": "q", "messages": messages}).status == 201
    messages[0]["body"] += "x"
    assert socket("message_post", {"queue_name": "q", "messages": messages}).status == 400


def test_queues_own_limit_counts(socket: Socket) -> None:
    metadata = {"_max_messages_post_size": 100}
    assert socket("queue_create", {"queue_name": "q", "metadata": metadata}).status == 201
    reply = socket("message_post", {"queue_name": "q", "messages": [{"body": "x" * 100}]})
    assert reply.status == 400
    assert "The max size for current queue is 100." in reply.body["exception"]


def test_long_project_is_refused(server: ServerProcess) -> None:
    for length, status in ((256, 200), (257, 400)):
        project = uuid.uuid4().hex + "p" * (length - 32)
        with Socket(server.host, server.port, project=project) as socket:
            assert socket("queue_list").status == status
