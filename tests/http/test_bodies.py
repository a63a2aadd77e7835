"""Bodies as they come: in chunks, too long, too short, from callers that hang up."""

from typing import Any

import msgspec
import pytest
from asgi_caller import PATCH, Web, chunked, endless, hanging_up, whole

from sukkal.core.service import Service
from sukkal.limits import Limits
from sukkal.stores.memory import MemoryBackend

POST = "POST /v2/queues/q/messages"


def small() -> Web:
    """An application that takes 64 bytes of metadata and 100 of messages."""
    limits = Limits(max_queue_metadata=64, max_messages_post_size=100)
    return Web(service=Service(MemoryBackend(), limits=limits))


def padded(document: Any, length: int) -> bytes:
    """A document in exactly so many bytes."""
    encoded = msgspec.json.encode(document)
    return encoded + b" " * (length - len(encoded))


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_chunks_make_one_body(web: Web, size: int) -> None:
    body = msgspec.json.encode({"messages": [{"body": "é" * 20}, {"body": None}]})
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    assert (await web.ask(POST, sender=chunked(*chunks))).status == 201
    listed = (await web.ask("GET /v2/queues/q/messages?echo=true")).document["messages"]
    assert [message["body"] for message in listed] == ["é" * 20, None]


async def test_empty_chunks_count_for_nothing(web: Web) -> None:
    body = b'{"messages": [{"body": 1}]}'
    assert (await web.ask(POST, sender=chunked(b"", body[:5], b"", body[5:], b""))).status == 201


async def test_chunked_body_of_exactly_the_limit_passes() -> None:
    body = padded({"messages": [{"body": 1}]}, 100)
    assert (await small().ask(POST, sender=chunked(body[:99], body[99:]))).status == 201
    assert (await small().ask(POST, sender=chunked(body[:99], body[99:], b""))).status == 201


async def test_chunked_body_over_the_limit_is_refused(web: Web) -> None:
    web = small()
    body = padded({"messages": [{"body": 1}]}, 101)
    for sender in (chunked(body), chunked(body[:100], body[100:]), chunked(*[b" "] * 101)):
        reply = await web.ask(POST, sender=sender)
        assert reply.fault == (400, "Invalid API request")
        assert reply.document["description"] == "Message collection size is too large. Max size 100"
    assert await web.queues() == []


async def test_endless_body_is_refused_after_the_limit_has_been_read() -> None:
    sender = endless(b" " * 10)
    reply = await small().ask(POST, sender=sender)
    assert reply.fault == (400, "Invalid API request")
    assert sender.asked == 11


@pytest.mark.parametrize(
    "line, limit, title, text",
    [
        (POST, 100, "Invalid API request", "Message collection size is too large. Max size 100"),
        ("PUT /v2/queues/q", 64, "Invalid API request", "Queue metadata is too large. Max size: 64"),
        ("PATCH /v2/queues/q", 64, "Invalid request body", "Queue metadata is too large. Max size: 64"),
    ],
)
async def test_declared_length_over_the_limit_is_refused_before_anything_is_read(
    line: str, limit: int, title: str, text: str
) -> None:
    for length, closes in ((limit + 1, False), (limit + 2_000_000, True), (10**15, True)):
        web, sender = small(), endless(b" ")
        reply = await web.ask(line, sender=sender, content_length=str(length))
        assert reply.fault == (400, title)
        assert reply.document["description"] == text
        assert sender.asked == 0
        assert (reply.headers.get("connection") == "close") == closes
        assert await web.queues() == []


async def test_metadata_of_exactly_the_limit_passes() -> None:
    web = small()
    assert (await web.ask("PUT /v2/queues/q", padded({"a": 1}, 64))).status == 201
    assert (await web.ask("PUT /v2/queues/p", padded({"a": 1}, 65))).status == 400


async def test_queues_own_size_bounds_posts_to_it(web: Web) -> None:
    await web.ask("PUT /v2/queues/q", {"_max_messages_post_size": 50})
    body = {"messages": [{"body": 1}]}
    assert (await web.ask(POST, padded(body, 50))).status == 201
    reply = await web.ask(POST, padded(body, 51))
    assert reply.fault == (400, "Invalid API request")
    assert reply.document["description"] == (
        "Message collection size is too large. The max size for current queue is 50. It is calculated by "
        "max size = min(max_messages_post_size_config: 262144, max_messages_post_size_queue: 50)."
    )
    assert (await web.ask("POST /v2/queues/other/messages", padded(body, 51))).status == 201


@pytest.mark.parametrize(
    "line, chunks",
    [
        ("PUT /v2/queues/q", []),
        ("PUT /v2/queues/q", [b'{"_default_message_ttl": 99']),
        ("PUT /v2/queues/q", [b'{"team": "blue"}']),
        ("POST /v2/queues/full/claims", []),
        ("POST /v2/queues/full/claims", [b'{"ttl": 60}']),
        ("POST /v2/queues/full/purge", []),
        ("POST /v2/queues/q/messages", [b'{"messages": [{"body": 1}]}']),
    ],
)
async def test_caller_that_hangs_up_while_sending_changes_nothing(
    web: Web, line: str, chunks: list[bytes]
) -> None:
    await web.post("full", 1)
    await web.ask(line, sender=hanging_up(*chunks), content_length="100")
    assert await web.queues() == ["full"]
    stats = (await web.ask("GET /v2/queues/full/stats")).document["messages"]
    assert (stats["free"], stats["claimed"]) == (1, 0)


# --- absent and empty ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, absent, empty, blank",
    [
        ("PUT /v2/queues/{}", 201, 201, 400),
        ("POST /v2/queues/{}/claims", 204, 204, 400),
        ("POST /v2/queues/{}/purge", 204, 204, 400),
        ("POST /v2/queues/{}/messages", 400, 400, 400),
        ("PATCH /v2/queues/{}", 400, 400, 400),
        ("PATCH /v2/queues/{}/claims/x", 400, 400, 400),
    ],
)
async def test_body_that_is_not_there(web: Web, line: str, absent: int, empty: int, blank: int) -> None:
    async def status(queue: str, body: bytes | None) -> int:
        return (await web.ask(line.format(queue), body, content_type=PATCH)).status

    assert (await status("a", None), await status("b", b""), await status("c", b"  ")) == (
        absent,
        empty,
        blank,
    )


async def test_missing_body_and_empty_body_are_told_apart(web: Web) -> None:
    for line in (POST, "PATCH /v2/queues/q/claims/x"):
        assert (await web.ask(line)).document["description"] == "Request body can not be empty"
        assert (await web.ask(line, b"")).document["description"] == "Request body could not be parsed."


@pytest.mark.parametrize("line", ["PUT /v2/queues/q", "POST /v2/queues/q/claims", POST])
@pytest.mark.parametrize("body", [b"[]", b"[1]"])
async def test_array_where_an_object_is_wanted(web: Web, line: str, body: bytes) -> None:
    reply = await web.ask(line, body)
    title = "Invalid API request" if line == POST else "Invalid request body"
    assert reply.fault == (400, title)
    assert await web.queues() == []


async def test_object_where_a_patch_is_wanted(web: Web) -> None:
    reply = await web.ask("PATCH /v2/queues/q", {"op": "add"}, content_type=PATCH)
    assert reply.fault == (400, "Invalid request body")
    assert reply.document["description"] == "Request body must be a JSON array of operation objects."


@pytest.mark.parametrize("media_type", [PATCH, f"{PATCH}; charset=utf-8", f" {PATCH} "])
async def test_patch_of_its_media_type_is_read(web: Web, media_type: str) -> None:
    await web.ask("PUT /v2/queues/q")
    assert (await web.ask("PATCH /v2/queues/q", [], content_type=media_type)).status == 200


@pytest.mark.parametrize("media_type", [None, "application/json", "application/json-patch+json", ""])
async def test_patch_of_another_media_type_is_refused_before_it_is_read(
    web: Web, media_type: str | None
) -> None:
    headers: dict[str, Any] = {} if media_type is None else {"content_type": media_type}
    reply = await web.ask("PATCH /v2/queues/q", b"{", **headers)
    assert reply.fault == (415, "415 Unsupported Media Type")
    assert PATCH in reply.document["description"]


# --- depth ---------------------------------------------------------------------------------------------


async def test_megabyte_of_brackets_is_refused_quickly(web: Web) -> None:
    for body in (b"[" * 200_000, b'{"messages":[{"body":' + b"[" * 200_000, b'{"a":' * 40_000):
        for line in (POST, "PUT /v2/queues/q"):
            reply = await web.ask(line, sender=whole(body))
            assert reply.status == 400
    assert await web.queues() == []


async def test_deepest_body_that_is_taken_can_be_read_with_its_checksum() -> None:
    web = Web(checksums=True)
    depth = 2000
    while depth:
        body = b'{"messages":[{"body":' + b"[" * depth + b"]" * depth + b"}]}"
        if (await web.ask(POST, body)).status == 201:
            break
        depth -= 1
    for line in ("GET /v2/queues/q/messages?echo=true", "DELETE /v2/queues/q/messages?pop=1"):
        assert (await web.ask(line)).status == 200, line
    assert depth > 100


async def test_metadata_of_any_depth_is_refused_or_can_be_read_ever_after() -> None:
    for depth in range(900, 1010):
        web = Web()
        nested = b'{"a":' * depth + b"1" + b"}" * depth
        reply = await web.ask("PUT /v2/queues/q", nested)
        assert reply.status in (201, 400), depth
        taken = reply.status == 201
        await web.ask("PUT /v2/queues/p")
        patch = b'[{"op":"add","path":"/metadata/b","value":' + nested + b"}]"
        reply = await web.ask("PATCH /v2/queues/p", patch, content_type=PATCH)
        assert reply.status in (200, 400), depth
        for queue in ("q", "p"):
            assert (await web.ask(f"GET /v2/queues/{queue}")).status == 200, (depth, queue)
            assert (await web.ask(f"GET /v2/queues/{queue}/stats")).status == 200, (depth, queue)
        for query in ("detailed=true", "detailed=true&a=1", "with_count=true&a=1"):
            assert (await web.ask(f"GET /v2/queues?{query}")).status == 200, (depth, query)
        assert len(await web.queues()) == 1 + taken
