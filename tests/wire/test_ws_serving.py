"""WebSockets as they are served: on the common port, on one of their own, to pages, and to many at once."""

import itertools
import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from http_caller import Caller
from server_process import ServerPool, ServerProcess, running
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from ws_caller import Socket

WORKERS = 8
MESSAGES = 200


def websocket_port(server: ServerProcess) -> int:
    found = re.search(r"ws://127\.0\.0\.1:(\d+)", server.log)
    assert found is not None, server.log
    return int(found[1])


def test_common_port_serves_both_and_is_announced(server: ServerProcess, project: str) -> None:
    assert websocket_port(server) == server.port
    caller = Caller(server.host, server.port, project=project)
    assert caller("PUT", "/v2/queues/q").status == 201
    with Socket(server.host, server.port, project=project) as socket:
        assert socket("queue_list").body == {"queues": [{"name": "q"}]}
    caller.close()


def test_port_of_their_own_serves_websockets_only(tmp_path: Path) -> None:
    with running(tmp_path, "--store", "memory:", "--websocket-port", "0") as server:
        port = websocket_port(server)
        assert port != server.port
        for each in (port, server.port):
            with Socket(server.host, each, project="p") as socket:
                assert socket("queue_create", {"queue_name": f"q{each}"}).status == 201
        plain = Caller(server.host, port, project="p")
        answer = plain("GET", "/v2/queues")
        assert answer.status == 426
        assert answer.headers["Upgrade"] == "websocket"
        assert answer.json["title"] == "426 Upgrade Required"
        assert answer.headers["x-openstack-request-id"].startswith("req-")
        common = Caller(server.host, server.port, project="p")
        assert len(common("GET", "/v2/queues").json["queues"]) == 2
        plain.close()
        common.close()
        with Socket(server.host, port, project="p") as socket:
            subscribed = socket("subscription_create", {"queue_name": "q"})
            found = socket("subscription_get", {"queue_name": "q", **subscribed.body})
            assert re.fullmatch(rf"http://127\.0\.0\.1:{port}/[0-9a-f-]{{36}}", found.body["subscriber"])
        server.check()


def test_port_that_is_taken_is_named_with_its_flag(server: ServerProcess) -> None:
    flags = ["--store", "memory:", "--port", "0", "--websocket-port", str(server.port)]
    ended = subprocess.run(
        [sys.executable, "-m", "sukkal.cli", "serve", *flags],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    assert f":{server.port}: " in ended.stderr
    assert "--websocket-port" in ended.stderr


def test_allowed_pages_may_connect_beside_cross_origin_requests(servers: ServerPool, project: str) -> None:
    server = servers.get("--store", "memory:", allowed_origin="https://a.example")
    with connect(f"ws://127.0.0.1:{server.port}/", origin="https://a.example", compression=None) as socket:
        socket.send("{}")
        assert json.loads(socket.recv(10))["headers"]["status"] == 400
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(f"ws://127.0.0.1:{server.port}/", origin="https://b.example"),
    ):
        pass
    caller = Caller(server.host, server.port, project=project)
    answer = caller("GET", "/v2/queues", headers={"Origin": "https://a.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
    caller.close()
    server.check()


@pytest.mark.parametrize("store", [("--store", "memory:"), ()], ids=["memory", "embedded"])
def test_concurrent_claims_share_the_messages_and_take_each_once(
    store: tuple[str, ...], servers: ServerPool, project: str
) -> None:
    server = servers.get(*store)
    with Socket(server.host, server.port, project=project) as producer:
        for first in range(0, MESSAGES, 20):
            messages = [{"body": number} for number in range(first, first + 20)]
            producer.send(producer.request("message_post", {"queue_name": "q", "messages": messages}))
        assert all(producer.receive().status == 201 for _ in range(MESSAGES // 20))
    start = threading.Barrier(WORKERS)

    def work(number: int) -> list[int]:
        done: list[int] = []
        with Socket(server.host, server.port, project=project, binary=number % 2 == 0) as worker:
            start.wait()
            while (claim := worker("claim_create", {"queue_name": "q", "limit": 3})).status == 201:
                held = claim.body["claim_id"]
                for message in claim.body["messages"]:
                    body = {"queue_name": "q", "message_id": message["id"], "claim_id": held}
                    worker.send(worker.request("message_delete", body))
                    done.append(message["body"])
                assert all(worker.receive().status == 204 for _ in claim.body["messages"])
        return done

    with ThreadPoolExecutor(WORKERS) as pool:
        done = list(pool.map(work, range(WORKERS)))

    assert all(each == sorted(each) for each in done)
    assert sorted(itertools.chain(*done)) == list(range(MESSAGES))
    server.check()
