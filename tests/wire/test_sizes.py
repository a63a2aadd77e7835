"""Bodies at, just above and far above their limits; what is too large is refused, not read."""

import itertools
import json
from collections.abc import Iterator

import pytest
from http_caller import PATCH_TYPE, Caller
from raw_socket import Wire, request
from server_process import ServerPool, ServerProcess

MESSAGES = 262144
METADATA = 65536

# What takes a body: method, path, further headers
TAKERS = [
    pytest.param("POST", "/v2/queues/q/messages", [], id="messages"),
    pytest.param("PUT", "/v2/queues/q", [], id="queue"),
    pytest.param("PATCH", "/v2/queues/q", [f"Content-Type: {PATCH_TYPE}"], id="patch"),
    pytest.param("POST", "/v2/queues/q/claims", [], id="claim"),
    pytest.param("PATCH", "/v2/queues/q/claims/c", [], id="renewal"),
    pytest.param("POST", "/v2/queues/q/purge", [], id="purge"),
]


def post_of(size: int) -> bytes:
    empty = json.dumps({"messages": [{"body": ""}]})
    return json.dumps({"messages": [{"body": "x" * (size - len(empty))}]}).encode()


def metadata_of(size: int) -> bytes:
    return json.dumps({"k": "x" * (size - len('{"k": ""}'))}).encode()


def in_chunks(body: bytes, size: int = 5000) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def test_a_post_of_exactly_the_maximum_passes(caller: Caller) -> None:
    body = post_of(MESSAGES)
    assert len(body) == MESSAGES

    assert caller("POST", "/v2/queues/q/messages", body).status == 201

    stored = caller("GET", "/v2/queues/q/messages?echo=true").json["messages"][0]["body"]
    assert stored == json.loads(body)["messages"][0]["body"]


@pytest.mark.parametrize("body", [post_of(MESSAGES + 1), post_of(MESSAGES) + b" ", b" " * (MESSAGES + 1)])
def test_a_post_above_the_maximum_is_refused(caller: Caller, body: bytes) -> None:
    answer = caller("POST", "/v2/queues/q/messages", body)

    assert answer.status == 400
    assert answer.json["title"] == "Invalid API request"
    assert "262144" in answer.json["description"]
    assert caller("GET", "/v2/queues").json["queues"] == []


def test_metadata_of_exactly_the_maximum_passes(caller: Caller) -> None:
    body = metadata_of(METADATA)
    assert len(body) == METADATA

    assert caller("PUT", "/v2/queues/q", body).status == 201

    assert caller("GET", "/v2/queues/q").json["k"] == json.loads(body)["k"]


@pytest.mark.parametrize(
    "body", [metadata_of(METADATA + 1), metadata_of(METADATA) + b" ", b" " * METADATA + b"{}"]
)
def test_metadata_above_the_maximum_is_refused(caller: Caller, body: bytes) -> None:
    answer = caller("PUT", "/v2/queues/q", body)

    assert answer.status == 400
    assert answer.json["title"] == "Invalid API request"
    assert "too large" in answer.json["description"]
    assert "65536" in answer.json["description"]
    assert caller("GET", "/v2/queues").json["queues"] == []


def test_a_patch_above_the_maximum_is_refused(caller: Caller) -> None:
    caller("PUT", "/v2/queues/q", {"a": 1})
    patch = [{"op": "add", "path": "/metadata/k", "value": "x" * METADATA}]

    answer = caller("PATCH", "/v2/queues/q", patch, headers={"Content-Type": PATCH_TYPE})

    assert answer.status == 400
    assert answer.json["title"] == "Invalid request body"
    assert "65536" in answer.json["description"]
    assert "k" not in caller("GET", "/v2/queues/q").json


def test_size_is_told_before_form(caller: Caller) -> None:
    answer = caller("POST", "/v2/queues/q/messages", b"{" * (MESSAGES + 1))
    assert answer.json["title"] == "Invalid API request"
    answer = caller("PUT", "/v2/queues/q", b"{" * (METADATA + 1))
    assert answer.json["title"] == "Invalid API request"


def test_a_chunked_post_is_read_up_to_the_maximum(caller: Caller) -> None:
    assert caller("POST", "/v2/queues/q/messages", in_chunks(post_of(1000), 7)).status == 201
    assert caller("POST", "/v2/queues/q/messages", in_chunks(post_of(MESSAGES))).status == 201

    sizes = [len(m["body"]) for m in caller("GET", "/v2/queues/q/messages?echo=true").json["messages"]]
    assert sizes == [len(json.loads(post_of(size))["messages"][0]["body"]) for size in (1000, MESSAGES)]


def test_a_chunked_post_above_the_maximum_is_refused(
    server: ServerProcess, caller: Caller, project: str
) -> None:
    body = post_of(MESSAGES + 1)
    with Wire(server.host, server.port) as wire:
        wire.send(request("POST", "/v2/queues/q/messages", project, "Transfer-Encoding: chunked"))
        wire.send_while_it_listens(
            [*(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in in_chunks(body)), b"0\r\n\r\n"]
        )
        assert wire.status() == 400
    assert caller("GET", "/v2/queues").json["queues"] == []


def test_a_chunked_post_keeps_to_the_limit_of_its_queue(caller: Caller) -> None:
    caller("PUT", "/v2/queues/small", {"_max_messages_post_size": 50})

    assert caller("POST", "/v2/queues/small/messages", in_chunks(post_of(50), 20)).status == 201
    answer = caller("POST", "/v2/queues/small/messages", in_chunks(post_of(51), 20))

    assert answer.status == 400
    assert "50" in answer.json["description"]
    assert caller("GET", "/v2/queues/small/stats").json["messages"]["total"] == 1


def test_chunked_metadata_is_read_up_to_the_maximum(caller: Caller) -> None:
    assert caller("PUT", "/v2/queues/q", in_chunks(metadata_of(METADATA))).status == 201
    assert len(caller("GET", "/v2/queues/q").json["k"]) == METADATA - len('{"k": ""}')


@pytest.mark.parametrize("body", [b"", b"{}", b'{"messages": [{"body": 1}]}'])
def test_a_body_in_chunks_counts_like_one_of_known_length(caller: Caller, body: bytes) -> None:
    plain = caller("POST", "/v2/queues/q/messages", body)
    chunked = caller("POST", "/v2/queues/q/messages", iter([body] if body else []))

    assert chunked.status == plain.status


@pytest.mark.parametrize(("method", "path", "headers"), TAKERS)
def test_a_huge_body_is_refused_before_it_is_sent(
    server: ServerProcess, caller: Caller, project: str, method: str, path: str, headers: list[str]
) -> None:
    with Wire(server.host, server.port) as wire:
        wire.send(request(method, path, project, *headers, f"Content-Length: {10 * 2**30}"))
        assert wire.status() == 400
    assert caller("GET", "/v2/ping").status == 204


@pytest.mark.parametrize(("method", "path", "headers"), TAKERS)
def test_an_endless_body_is_refused_at_its_limit(
    server: ServerProcess, caller: Caller, project: str, method: str, path: str, headers: list[str]
) -> None:
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    patience = 64 * 2**20  # bytes: the limit, and what the network holds on the way

    with Wire(server.host, server.port) as wire:
        wire.send(request(method, path, project, *headers, "Transfer-Encoding: chunked"))
        sent = wire.send_while_it_listens(itertools.repeat(piece, patience // len(piece)))
        assert sent < patience, "the server kept reading"
        assert wire.status() in (400, 0)
    assert caller("GET", "/v2/ping").status == 204


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_body_that_nobody_asked_for_is_not_read(
    server: ServerProcess, caller: Caller, project: str, method: str
) -> None:
    with Wire(server.host, server.port) as wire:
        wire.send(request(method, "/v2/queues/q", project, f"Content-Length: {10 * 2**30}"))
        assert wire.status() in (200, 204, 400)
    assert caller("GET", "/v2/ping").status == 204


def test_a_client_that_asks_first_is_not_told_to_send_what_will_be_refused(
    server: ServerProcess, project: str
) -> None:
    asks = ("POST", "/v2/queues/q/messages", project, "Expect: 100-continue")
    with Wire(server.host, server.port) as wire:
        wire.send(request(*asks, f"Content-Length: {MESSAGES + 1}"))
        assert wire.status() == 400
    with Wire(server.host, server.port) as wire:
        wire.send(request(*asks, "Content-Length: 1000", "Connection: close"))
        assert wire.status() == 100
        wire.send(post_of(1000))
        assert wire.status() == 201


def test_the_rest_of_a_refused_body_is_no_request(
    server: ServerProcess, caller: Caller, project: str
) -> None:
    caller("PUT", "/v2/queues/kept")
    hidden = request("DELETE", "/v2/queues/kept", project)
    body = hidden * (2 * MESSAGES // len(hidden))

    with Wire(server.host, server.port) as wire:
        wire.send(request("POST", "/v2/queues/q/messages", project, f"Content-Length: {len(body)}"))
        assert wire.status() == 400
        wire.send_while_it_listens([body])
        wire.end()
        assert b"HTTP/1.1 204" not in wire.rest()
    assert [queue["name"] for queue in caller("GET", "/v2/queues").json["queues"]] == ["kept"]


def test_limits_are_settings(servers: ServerPool, project: str) -> None:
    server = servers.get("--store", "memory:", max_messages_post_size="1000000", max_queue_metadata="200000")
    caller = Caller(server.host, server.port, project=project)

    assert caller("POST", "/v2/queues/q/messages", post_of(1000000)).status == 201
    assert "1000000" in caller("POST", "/v2/queues/q/messages", post_of(1000001)).json["description"]
    assert caller("PUT", "/v2/queues/r", metadata_of(200000)).status == 201
    assert "200000" in caller("PUT", "/v2/queues/s", metadata_of(200001)).json["description"]
