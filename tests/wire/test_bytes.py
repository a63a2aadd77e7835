"""Bodies that are no JSON, through real servers and their stores: encrypted, compressed, and both."""

import base64
import http.client
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from http_caller import Caller
from server_process import ServerProcess, running

MSGPACK = {"Accept": "application/x-msgpack"}
OCTETS = {"Content-Type": "application/octet-stream"}
KEY = {"message_encryption_key": "correct horse battery staple"}

WORDS = b"These words would be easy to find in the store. " * 4000
BODIES = {"words": WORDS, "noise": os.urandom(200_000), "nothing": b"", "all bytes": bytes(range(256)) * 100}


def ask(server: ServerProcess, project: str) -> Caller:
    return Caller(server.host, server.port, project=project)


def post_bytes(caller: Caller, queue: str, body: bytes) -> str:
    answer = caller("POST", f"/v2/queues/{queue}/messages?ttl=600", body, headers=OCTETS)
    assert answer.status == 201, answer.body
    (href,) = answer.json["resources"]
    return str(href)


def packed(caller: Caller, path: str) -> Any:
    answer = caller("GET", path, headers=MSGPACK)
    assert (answer.status, answer.headers["Content-Type"]) == (200, MSGPACK["Accept"])
    return msgspec.msgpack.decode(answer.body)


def stored(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((directory / "data").glob("sukkal.db*")))


@pytest.mark.parametrize("encrypt", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("above", ["0", "4096"], ids=["as it is", "compressed"])
def test_bytes_come_back_unchanged_also_after_a_restart(tmp_path: Path, encrypt: bool, above: str) -> None:
    project = f"project-{uuid.uuid4().hex}"
    with running(tmp_path, settings=KEY | {"compress_above": above}) as server:
        caller = ask(server, project)
        caller("PUT", "/v2/queues/q", {"_enable_encrypt_messages": encrypt})
        places = {name: post_bytes(caller, "q", body) for name, body in BODIES.items()}
        check(caller, places)
        caller.close()
    kept = stored(tmp_path)
    assert (b"easy to find" in kept) == (not encrypt)
    # Of one text repeated nothing much is left; noise takes its room in any case.
    assert (len(kept) > len(WORDS) + len(BODIES["noise"])) == (above == "0")
    with running(tmp_path, settings=KEY | {"compress_above": "0"}) as server:
        caller = ask(server, project)
        check(caller, places)
        popped = caller("DELETE", "/v2/queues/q/messages?pop=4", headers=MSGPACK).body
        assert [m["body"] for m in msgspec.msgpack.decode(popped)["messages"]] == list(BODIES.values())
        caller.close()


def check(caller: Caller, places: dict[str, str]) -> None:
    for name, place in places.items():
        message = packed(caller, place)
        assert (message["body"], message["ttl"]) == (BODIES[name], 600)
        shown = caller("GET", place).json["body"]
        assert shown == {"$base64": base64.b64encode(BODIES[name]).decode()}
    listed = packed(caller, "/v2/queues/q/messages?echo=true")["messages"]
    assert [message["body"] for message in listed] == list(BODIES.values())


def test_store_from_before_compression_is_read(tmp_path: Path) -> None:
    body = {"text": "x" * 10_000}
    for above, count in (("0", 1), ("4096", 2), ("0", 3)):
        with running(tmp_path, settings={"compress_above": above}) as server:
            caller = ask(server, "p")
            answer = caller("POST", "/v2/queues/q/messages", {"messages": [{"body": body, "ttl": 600}]})
            assert answer.status == 201
            listed = caller("GET", "/v2/queues/q/messages?echo=true").json["messages"]
            assert [message["body"] for message in listed] == [body] * count
            caller.close()


def in_chunks(body: bytes, size: int = 7000) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def test_bytes_in_chunks_up_to_the_limit(caller: Caller) -> None:
    body = os.urandom(262_144)
    path = "/v2/queues/q/messages"
    answer = caller("POST", path, in_chunks(body), headers=OCTETS)
    assert answer.status == 201
    assert packed(caller, answer.json["resources"][0])["body"] == body
    for longer in (body + b"\x00", in_chunks(body + b"\x00")):
        answer = caller("POST", path, longer, headers=OCTETS)
        assert (answer.status, answer.json["title"]) == (400, "Invalid API request")
        assert "262144" in answer.json["description"]


def test_compressed_message_survives_the_move_to_a_dead_letter_queue(tmp_path: Path) -> None:
    with running(tmp_path, settings=KEY) as server:
        caller = ask(server, "p")
        limits = {"_max_claim_count": 1, "_dead_letter_queue": "dead", "_enable_encrypt_messages": True}
        caller("PUT", "/v2/queues/q", limits)
        post_bytes(caller, "q", WORDS)
        for status in (201, 204):
            answer = caller("POST", "/v2/queues/q/claims", {})
            assert answer.status == status
            if status == 201:
                caller("DELETE", answer.headers["Location"])
        (message,) = packed(caller, "/v2/queues/dead/messages?echo=true")["messages"]
        assert message["body"] == WORDS
        caller.close()


def test_ordinary_tools_can_post_a_file(server: ServerProcess, project: str) -> None:
    # What curl sends for --data-binary @file, and what http.client does for a file.
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    identity = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": project}
    connection.request("POST", "/v2/queues/q/messages", b"\x89PNG\r\n\x1a\n", identity | OCTETS)
    response = connection.getresponse()
    (href,) = json.loads(response.read())["resources"]
    connection.request("GET", href, headers=identity | {"Accept": "*/*"})
    assert json.loads(connection.getresponse().read())["body"] == {"$base64": "iVBORw0KGgo="}
    connection.close()
