"""JSON, MessagePack and bytes over HTTP: one API in three media."""

import base64
from typing import Any

import msgspec
import pytest
from asgi_caller import CLIENT, PATCH, Reply, Web, chunked, endless

MSGPACK = "application/x-msgpack"
OCTETS = "application/octet-stream"
POST = "POST /v2/queues/q/messages"
LIST = "GET /v2/queues/q/messages?echo=true"
DATA = bytes(range(256))

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


async def packed(web: Web, line: str, document: Any = None, **headers: str) -> Reply:
    """Ask and be answered in MessagePack."""
    headers = {"accept": MSGPACK} | ({} if document is None else {"content_type": MSGPACK}) | headers
    return await web.ask(line, None if document is None else pack(document), **headers)


def read(reply: Reply) -> Any:
    assert reply.headers["content-type"] == MSGPACK
    return unpack(reply.body)


# --- answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        LIST,
        f"{LIST}&include_claimed=true&limit=1",
        "GET /v2/queues/q/messages?ids={first},{second}",
        "GET /v2/queues/q/messages/{first}",
        "GET /v2/queues/q/claims/{claim}",
        "GET /v2/queues/q/stats",
        "GET /v2/queues/q",
        "GET /v2/queues?detailed=true&with_count=true",
        "GET /v2/",
        "GET /",
        # errors, of every layer
        "GET /v2/nowhere",
        "GET /v2/queues/q/messages/unknown",
        "GET /v2/queues/q/messages?limit=x",
        "GET /v2/queues/q/messages?limit=0",
        "PUT /v2/queues/bad*name",
        "DELETE /v2/queues",
        "GET /v2/health?",
    ],
)
async def test_answer_says_the_same_in_both_media(line: str) -> None:
    web = Web()
    await web.ask("PUT /v2/queues/q", {"team": {"name": "blue", "size": 2.5, "of": [None, True]}})
    links = await web.post("q", {"a": [1, 2.5, "é"]}, None, "last")
    claimed = await web.ask("POST /v2/queues/q/claims?limit=1", {})
    names = {
        "first": links[0].rpartition("/")[2],
        "second": links[1].rpartition("/")[2],
        "claim": claimed.headers["location"].rpartition("/")[2],
    }
    for name, value in names.items():
        line = line.replace(f"{{{name}}}", value)
    as_json, as_packed = await web.ask(line), await packed(web, line)
    assert as_packed.status == as_json.status
    assert read(as_packed) == as_json.document
    del as_json.headers["content-type"], as_json.headers["x-openstack-request-id"]
    del as_json.headers["content-length"]
    for name, value in as_json.headers.items():
        assert as_packed.headers[name] == value


async def test_health_is_given_in_messagepack() -> None:
    reply = await packed(Web(admin_mode=True), "GET /v2/health", x_roles="admin")
    assert read(reply)["storage_reachable"] is True


async def test_cacheable_answers_and_errors_vary_with_what_is_accepted(web: Web) -> None:
    for line in ("GET /v2/", "GET /v2/nowhere", "GET /v2/queues/q/messages?limit=0"):
        for accept in ("application/json", MSGPACK):
            assert (await web.ask(line, accept=accept)).headers["vary"] == "Accept"


async def test_refusal_of_all_media_is_json(web: Web) -> None:
    for accept in ("text/html", f"{MSGPACK};q=0"):
        reply = await web.ask("GET /v2/queues", accept=accept)
        assert (reply.fault, reply.headers["content-type"]) == (
            (406, "406 Not Acceptable"),
            "application/json",
        )
        assert MSGPACK in reply.document["description"]


async def test_answers_without_a_body_name_the_medium_asked_for(web: Web) -> None:
    for line in ("GET /v2/ping", "POST /v2/queues/q/claims", "DELETE /v2/queues/q"):
        reply = await packed(web, line)
        assert (reply.status, reply.body, reply.headers["content-type"]) == (204, b"", MSGPACK)


async def test_a_page_asked_for_in_turn_is_kept_for_each_medium(web: Web) -> None:
    await web.post("q", {"a": 1})
    for _ in range(3):
        assert (await web.ask(LIST)).document == read(await packed(web, LIST))


# --- requests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [MSGPACK, "application/msgpack", "application/vnd.msgpack", "Application/X-MsgPack; v=5", f" {MSGPACK} "],
)
async def test_whole_life_of_a_message_in_messagepack(web: Web, content_type: str) -> None:
    reply = await packed(web, "PUT /v2/queues/q", {"team": "blue"}, content_type=content_type)
    assert reply.status == 201
    news = {"messages": [{"body": {"n": 1, "data": DATA}, "ttl": 60}, {"body": DATA, "delay": 0}]}
    resources = read(await packed(web, POST, news, content_type=content_type))["resources"]
    assert [m["body"] for m in read(await packed(web, LIST))["messages"]] == [{"n": 1, "data": DATA}, DATA]
    reply = await packed(web, "POST /v2/queues/q/claims", {"ttl": 90}, content_type=content_type)
    assert reply.status == 201
    messages = read(reply)["messages"]
    assert [m["body"] for m in messages] == [{"n": 1, "data": DATA}, DATA]
    assert [m["ttl"] for m in messages] == [150, 3600]
    claim = reply.headers["location"]
    assert (await packed(web, f"PATCH {claim}", {"ttl": 70}, content_type=content_type)).status == 204
    claim_read = read(await packed(web, f"GET {claim}"))
    assert (claim_read["ttl"], claim_read["messages"][1]["body"]) == (70, DATA)
    assert read(await packed(web, f"GET {resources[1]}"))["body"] == DATA
    assert (await packed(web, f"DELETE {claim}")).status == 204
    popped = read(await packed(web, "DELETE /v2/queues/q/messages?pop=2"))["messages"]
    assert [m["body"] for m in popped] == [{"n": 1, "data": DATA}, DATA]
    purge = {"resource_types": ["messages"]}
    reply = await packed(web, "POST /v2/queues/q/purge", purge, content_type=content_type)
    assert reply.status == 204


async def test_bodies_cross_from_one_medium_to_the_other(web: Web) -> None:
    await web.post("q", {"a": [1, 2.5, "é", None, True]})
    await packed(web, POST, {"messages": [{"body": {"a": DATA, 7: [float("nan")]}}]})
    text, transcribed = (message["body"] for message in (await web.ask(LIST)).document["messages"])
    assert text == {"a": [1, 2.5, "é", None, True]}
    assert transcribed == {"a": {"$base64": base64.b64encode(DATA).decode()}, "7": [None]}
    text, binary = (message["body"] for message in read(await packed(web, LIST))["messages"])
    assert text == {"a": [1, 2.5, "é", None, True]}
    assert binary["a"] == DATA
    assert list(binary) == ["a", 7]


async def test_json_that_messagepack_cannot_hold_is_readable_as_text(web: Web) -> None:
    deep = b"[" * 300 + b"]" * 300
    for body in (deep, b"1e400"):
        await web.ask(POST, b'{"messages":[{"body":%b}]}' % body)
    assert [m["body"] for m in read(await packed(web, LIST))["messages"]] == [deep.decode(), "1e400"]


async def test_json_body_looks_the_same_after_messagepack_was_there(web: Web) -> None:
    text = b'{ "spaced" :\t[1.0, 1e2, "\\u00e9"] }'
    await web.ask(POST, b'{"messages":[{"body":%b}]}' % text)
    await packed(web, POST, {"messages": [{"body": 1}]})
    assert text in (await web.ask(LIST)).body


async def test_checksums_do_not_depend_on_the_medium() -> None:
    web = Web(checksums=True)
    body = {"k": "v"}
    await web.post("q", body)
    await packed(web, POST, {"messages": [{"body": body}, {"body": DATA}, {"body": None}]})
    await web.post("q", {"$base64": base64.b64encode(DATA).decode()})
    shown = (await web.ask(LIST)).document["messages"]
    assert [m.get("checksum") for m in read(await packed(web, LIST))["messages"]] == [
        m.get("checksum") for m in shown
    ]
    first, second, data, null, twin = (message.get("checksum") for message in shown)
    assert first == second == "MD5:180e4758e293f0a9970762a970fb0dfb"
    assert data == twin
    assert null is None


async def test_queue_is_patched_in_messagepack(web: Web) -> None:
    await web.ask("PUT /v2/queues/q", {"a": 1})
    patch = [{"op": "replace", "path": "/metadata/a", "value": {"b": [1.5]}}]
    reply = await packed(web, "PATCH /v2/queues/q", patch)
    assert (reply.status, read(reply)["a"]) == (200, {"b": [1.5]})
    reply = await packed(web, "PATCH /v2/queues/q", patch, content_type=PATCH)
    assert reply.status == 400  # that type is JSON
    for value in (b"x", {1: 2}, float("inf")):
        patch[0]["value"] = value
        reply = await packed(web, "PATCH /v2/queues/q", patch)
        assert (reply.status, read(reply)["title"]) == (400, "Invalid request body")
    reply = await packed(web, "PATCH /v2/queues/q", {"op": "add"})
    assert read(reply)["description"] == "Request body must be a JSON array of operation objects."


@pytest.mark.parametrize(
    "line",
    [
        "PUT /v2/queues/new",
        POST,
        "POST /v2/queues/q/claims",
        "PATCH /v2/queues/q/claims/x",
        "PATCH /v2/queues/q",
    ],
)
@pytest.mark.parametrize(
    "raw",
    [
        b"\xc1",
        b"\xa5abc",
        b"\xdd\xff\xff\xff\xff",
        b"\x81\xa3ttl\xd4\x05a",
        b"\x91" * 60_000,
        b"\x81\xa1\xff\x01",
    ],
    ids=lambda raw: repr(raw[:10]),
)
async def test_hostile_messagepack_is_refused_and_changes_nothing(web: Web, line: str, raw: bytes) -> None:
    for body in (raw, b"\x81\xa8messages\x91\x81\xa4body" + raw):
        reply = await web.ask(line, body, content_type=MSGPACK, accept=MSGPACK)
        assert reply.status == 400
        assert read(reply)["title"] in ("Invalid request body", "Invalid API request")
    assert await web.queues() == []


async def test_sizes_are_bounded_in_every_medium(web: Web) -> None:
    await web.ask("PUT /v2/queues/q", {"_max_messages_post_size": 300})
    for content_type in (MSGPACK, OCTETS):
        whole = bytes(300) if content_type == OCTETS else pack({"messages": [{"body": bytes(280)}]})
        assert len(whole) == 300
        assert (await web.ask(POST, whole, content_type=content_type)).status == 201
        assert (await web.ask(POST, whole + b"\x00", content_type=content_type)).status == 400
        sender = endless(bytes(100))
        assert (await web.ask(POST, sender=sender, content_type=content_type)).status == 400
        assert sender.asked == 4


# --- bytes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", DATA, b"null", b'{"a": 1}', b"\x01\x02\x03", b"\x00" * 70_000])
async def test_bytes_are_posted_and_read_unchanged(web: Web, data: bytes) -> None:
    reply = await web.ask(f"{POST}?ttl=77&delay=0", data, content_type=OCTETS)
    assert reply.status == 201
    (href,) = reply.document["resources"]
    message = read(await packed(web, f"GET {href}"))
    assert (message["body"], message["ttl"]) == (data, 77)
    assert (await web.ask(f"GET {href}")).document["body"] == {"$base64": base64.b64encode(data).decode()}


async def test_bytes_may_come_in_chunks_and_with_parameters(web: Web) -> None:
    for content_type in (f"{OCTETS}; x=y", "Application/Octet-Stream"):
        reply = await web.ask(POST, sender=chunked(b"\x00", b"", b"\xff"), content_type=content_type)
        assert reply.status == 201
    assert [m["body"] for m in read(await packed(web, LIST))["messages"]] == [b"\x00\xff"] * 2


async def test_bytes_may_be_delayed(web: Web) -> None:
    await web.ask(f"{POST}?delay=30", b"later", content_type=OCTETS)
    assert (await web.ask("POST /v2/queues/q/claims")).status == 204
    web.now += 31
    assert (await web.ask("POST /v2/queues/q/claims")).status == 201


@pytest.mark.parametrize(
    "query, title, text",
    [
        ("ttl=59", "Invalid API request", "The TTL for a message may not exceed 1209600 seconds"),
        ("ttl=1209601", "Invalid API request", "The TTL for a message may not exceed 1209600 seconds"),
        ("delay=-1", "Invalid API request", "The Delay TTL for a message may not exceed 900 seconds"),
        ("delay=901", "Invalid API request", "The Delay TTL for a message may not exceed 900 seconds"),
        ("ttl=x", "Invalid parameter", 'The "ttl" parameter is invalid. The value must be an integer.'),
        ("ttl=60&delay=1.5", "Invalid parameter", 'The "delay" parameter is invalid.'),
    ],
)
async def test_times_of_bytes_have_the_same_limits(web: Web, query: str, title: str, text: str) -> None:
    reply = await web.ask(f"{POST}?{query}", b"data", content_type=OCTETS)
    assert reply.fault == (400, title)
    assert text in reply.document["description"]
    assert await web.queues() == []
    # Where messages say their own times, the query has no part in it.
    assert (await web.ask(f"{POST}?{query}", {"messages": [{"body": 1}]})).status == 201


async def test_bytes_are_the_body_of_a_post_only(web: Web) -> None:
    for line in ("PUT /v2/queues/q", "POST /v2/queues/q/claims"):
        assert (await web.ask(line, b"\xff", content_type=OCTETS)).status == 400
        assert (await web.ask(line, b"{}", content_type=OCTETS)).status in (201, 204)


async def test_bytes_are_not_listed_to_who_posted_them(web: Web) -> None:
    await web.ask(POST, b"mine", content_type=OCTETS)
    assert (await web.ask("GET /v2/queues/q/messages")).document["messages"] == []
    other = {"client-id": CLIENT[:-1] + "d", "x-project-id": "acme"}
    assert len((await web.ask("GET /v2/queues/q/messages", identity=other)).document["messages"]) == 1
