"""Log lines about requests: whom they tell of, and which there are."""

import json
import uuid
from pathlib import Path
from typing import Any

from http_caller import Caller
from server_process import ServerProcess, running
from ws_caller import Socket

GLOBAL = f"req-{uuid.uuid4()}"


def lines(server: ServerProcess, logger: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [line for line in found if line["logger"] == logger]


def test_access_log_tells_of_each_request_when_told_to(tmp_path: Path) -> None:
    with running(tmp_path, "--log-format", "json", settings={"access_log_sample": "1"}) as server:
        caller = Caller(server.host, server.port, project="acme")
        ours = {"X-OpenStack-Request-ID": GLOBAL}
        answer = caller("POST", "/v2/queues/q/messages", {"messages": [{"body": 1}]}, headers=ours)
        caller(
            "GET", "/v2/queues/q/messages/none?token=secret", headers={"X-OpenStack-Request-ID": "req-1; x"}
        )
        caller("GET", "/nowhere")
        with Socket(server.host, server.port, project="sockets") as socket:
            socket("queue_create", {"queue_name": "q"})
        caller.close()
        server.stop()
        post, get, nowhere, create = lines(server, "sukkal.access")
    assert post["request_id"] == answer.headers["x-openstack-request-id"] != GLOBAL
    assert post["global_request_id"] == GLOBAL
    assert (post["operation"], post["project"], post["status"]) == ("messages.post", "acme", 201)
    assert (post["method"], post["path"], post["peer"]) == ("POST", "/v2/queues/q/messages", "127.0.0.1")
    assert 0 < post["ms"] < 30_000
    assert (get["status"], get["operation"]) == (404, "messages.get")
    assert "global_request_id" not in get, "what is no request id is not repeated"
    assert "secret" not in json.dumps(get)
    assert nowhere["status"] == 404
    assert "operation" not in nowhere
    assert (create["operation"], create["project"], create["status"]) == ("queues.create", "sockets", 201)


def test_slow_request_is_told_of_with_where_the_time_went(tmp_path: Path) -> None:
    with running(tmp_path, "--log-format", "json", settings={"slow_request": "0.000001"}) as server:
        caller = Caller(server.host, server.port, project="acme")
        caller("POST", "/v2/queues/q/messages", {"messages": [{"body": 1}]})
        caller("POST", "/v2/queues/empty/claims?wait=1")
        caller.close()
        server.stop()
        (told,) = lines(server, "sukkal.slow")
    assert told["operation"] == "messages.post"
    assert told["store_calls"] >= 1
    assert 0 < told["store_ms"] <= told["service_ms"] <= told["ms"]


def test_request_refused_unread_is_not_told_of_with_the_times_of_the_one_before(tmp_path: Path) -> None:
    with running(tmp_path, "--log-format", "json", settings={"slow_request": "0.000001"}) as server:
        caller = Caller(server.host, server.port, project="acme")
        caller("POST", "/v2/queues/q/messages", {"messages": [{"body": 1}]})
        caller("GET", "/v2/nowhere")
        caller.close()
        server.stop()
        post, nowhere = lines(server, "sukkal.slow")
    assert "store_ms" in post
    assert nowhere["status"] == 404
    assert "store_ms" not in nowhere


def test_nothing_is_told_of_requests_by_default(tmp_path: Path) -> None:
    with running(tmp_path, "--log-format", "json") as server:
        caller = Caller(server.host, server.port, project="acme")
        caller("POST", "/v2/queues/q/messages", {"messages": [{"body": 1}]})
        caller.close()
        server.stop()
        assert [*lines(server, "sukkal.access"), *lines(server, "sukkal.slow")] == []
