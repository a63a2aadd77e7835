"""The life of a server process: start, refusal to start, drain, restart."""

import json
import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import redis_servers
from http_caller import Caller
from raw_socket import Wire
from server_process import ServerProcess, running

HEAD = (
    f"POST /v2/queues/orders/messages HTTP/1.1\r\nHost: x\r\nClient-ID: {uuid.uuid4()}\r\n"
    "X-Project-Id: acme\r\nContent-Type: application/json\r\n"
).encode()
GET = f"GET /v2/ping HTTP/1.1\r\nHost: x\r\nClient-ID: {uuid.uuid4()}\r\nX-Project-Id: acme\r\n\r\n".encode()
POST = b'{"messages": [{"body": "kept"}]}'


def start(*flags: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start a server that is expected not to start."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SUKKAL_")}
    environment |= {f"SUKKAL_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "sukkal.cli", "serve", "--port", "0", *flags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )


def until_refused(server: ServerProcess) -> tuple[int, bytes]:
    """Ask until the server refuses, which it does once the signal has reached it."""
    while True:
        with socket.create_connection((server.host, server.port), timeout=30) as asked:
            asked.sendall(GET)
            answer = asked.recv(65536)
        status = int(answer.split(b" ", 2)[1])
        if status != 204:
            return status, answer


def test_request_in_flight_is_answered_while_new_ones_are_refused(tmp_path: Path) -> None:
    with running(tmp_path) as server, Wire(server.host, server.port) as slow:
        slow.send(HEAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(POST))
        assert slow.status() == 100, "its body is being waited for"
        os.kill(server.pid, 15)
        status, answer = until_refused(server)
        assert status == 503
        assert b"retry-after:" in answer.lower()
        assert b"x-openstack-request-id: req-" in answer
        slow.send(POST)
        assert slow.status() == 201
        server.stop()
    with running(tmp_path) as server:
        caller = Caller(server.host, server.port, project="acme")
        listed = caller("GET", "/v2/queues/orders/messages?echo=true")
        assert [message["body"] for message in listed.json["messages"]] == ["kept"]


def test_request_that_never_ends_does_not_keep_the_server_from_stopping(tmp_path: Path) -> None:
    with (
        running(tmp_path, settings={"drain_timeout": "0.2"}) as server,
        Wire(server.host, server.port) as slow,
    ):
        slow.send(HEAD + b"Content-Length: 99\r\nExpect: 100-continue\r\n\r\n")
        assert slow.status() == 100
        server.stop()


def test_restart_loses_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        caller = Caller(server.host, server.port, project="acme")
        caller("PUT", "/v2/queues/orders", {"team": "blue"})
        for number in range(5):
            caller("POST", "/v2/queues/orders/messages", {"messages": [{"body": number}]})
        claimed = caller("POST", "/v2/queues/orders/claims?limit=2", {"ttl": 600})
        claim = claimed.headers["location"]
    with running(tmp_path) as server:
        caller = Caller(server.host, server.port, project="acme")
        assert caller("GET", "/v2/queues/orders").json["team"] == "blue"
        assert len(caller("GET", claim).json["messages"]) == 2
        rest = caller("POST", "/v2/queues/orders/claims").json["messages"]
        assert [message["body"] for message in rest] == [2, 3, 4]


def test_second_process_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        refused = start("--data-dir", str(tmp_path / "data"))
        assert refused.returncode == 1
        assert f"in use by process {server.pid}" in refused.stderr
        assert "another data directory" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        refused = start("--data-dir", str(tmp_path), "--port", port)
    assert refused.returncode == 1
    assert f"127.0.0.1:{port}" in refused.stderr
    assert "--port" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_store_that_no_driver_serves_is_refused(tmp_path: Path) -> None:
    refused = start("--data-dir", str(tmp_path), "--store", "carrier-pigeon://loft")
    assert refused.returncode == 2
    assert "carrier-pigeon" in refused.stderr
    assert "sqlite:" in refused.stderr


def test_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    refused = start("--data-dir", str(tmp_path / "file" / "data"))
    assert refused.returncode == 1
    assert str(tmp_path / "file" / "data") in refused.stderr
    assert "Traceback" not in refused.stderr


def test_file_that_is_no_store_is_left_alone_and_named(tmp_path: Path) -> None:
    other = tmp_path / "sukkal.db"
    other.write_bytes(b"something else entirely " * 100)
    refused = start("--data-dir", str(tmp_path))
    assert refused.returncode == 1
    assert str(other) in refused.stderr
    assert other.read_bytes() == b"something else entirely " * 100


def test_wrong_encryption_key_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, settings={"message_encryption_key": "first key of all"}):
        pass
    for settings in ({"message_encryption_key": "another key"}, {}):
        refused = start("--data-dir", str(tmp_path / "data"), **settings)
        assert refused.returncode == 2
        assert "message_encryption_key" in refused.stderr


@pytest.mark.parametrize("level", ["full", "relaxed"])
def test_durability_in_force_is_announced_and_in_the_health_document(tmp_path: Path, level: str) -> None:
    with running(tmp_path, "--durability", level, settings={"admin_mode": "true"}) as server:
        assert f"durability  {level}" in server.log
        caller = Caller(server.host, server.port, project="acme")
        health = caller("GET", "/v2/health", headers={"X-Roles": "admin"}).json
        assert health["durable"] is (level == "full")


def test_confirmation_that_nobody_can_be_asked_for_is_told_at_the_start(tmp_path: Path) -> None:
    told = "require_confirmation is on without signed_url_secret_key"
    with running(tmp_path, settings={"require_confirmation": "true"}) as server:
        assert told in server.log
    key = {"signed_url_secret_key": "f0e1d2c3b4a5968778695a4b3c2d1e0f"}
    with running(tmp_path, settings={"require_confirmation": "true", **key}) as server:
        assert told not in server.log


def test_log_lines_can_be_json(tmp_path: Path) -> None:
    with running(tmp_path, "--log-format", "json") as server:
        server.stop()
        lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    assert any("stopping" in line["event"] for line in lines)


def test_browser_page_of_an_allowed_origin_may_call(tmp_path: Path) -> None:
    with running(tmp_path, settings={"allowed_origin": "https://console.example"}) as server:
        caller = Caller(server.host, server.port, project="acme")
        allowed = caller("GET", "/v2/queues", headers={"Origin": "https://console.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://console.example"
        assert "X-OpenStack-Request-ID" in allowed.headers["access-control-expose-headers"]
        preflight = caller(
            "OPTIONS",
            "/v2/queues",
            headers={"Origin": "https://console.example", "Access-Control-Request-Method": "PUT"},
        )
        assert preflight.status == 200
        assert "PATCH" in preflight.headers["access-control-allow-methods"]
        assert "Client-id" in preflight.headers["access-control-allow-headers"]
        other = caller("GET", "/v2/queues", headers={"Origin": "https://elsewhere.example"})
        assert "access-control-allow-origin" not in other.headers


def test_store_on_redis_serves_and_tells_no_password(tmp_path: Path) -> None:
    with redis_servers.started("--requirepass", "secret") as redis:
        uri = f"redis://:secret@127.0.0.1:{redis.port}"
        with running(tmp_path, "--store", uri) as server:
            caller = Caller(server.host, server.port, project="acme")
            posted = {"messages": [{"body": "kept", "ttl": 60}]}
            assert caller("POST", "/v2/queues/orders/messages", posted).status == 201
            listed = caller("GET", "/v2/queues/orders/messages?echo=true").json["messages"]
            assert [message["body"] for message in listed] == ["kept"]
            caller.close()
        assert "redis://127.0.0.1" in server.log
        assert "relaxed" in server.log
        assert "secret" not in server.log
        failed = start("--store", uri.replace("secret", "secret2"))
    assert failed.returncode == 1
    assert "secret" not in failed.stderr + failed.stdout


def test_store_uri_that_cannot_be_used_is_refused_in_a_sentence() -> None:
    for uri, why in [("redis://:secret@h/x", "database"), ("nosql://:secret@h", "rediss:")]:
        failed = start("--store", uri)
        assert failed.returncode == 2
        assert why in failed.stderr
        assert "secret" not in failed.stderr
