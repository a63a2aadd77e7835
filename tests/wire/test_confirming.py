"""A webhook is asked whether it wants to be told, says so, and says no more: over real sockets."""

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from http_caller import Caller
from server_process import ServerPool, ServerProcess

KEY = "f0e1d2c3b4a5968778695a4b3c2d1e0f"
PATIENCE = 30.0


class Hook:
    """A receiver of webhooks, and what it was sent."""

    def __init__(self) -> None:
        self._sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
        sent = self._sent

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sent.put((dict(self.headers.items()), json.loads(body)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def next(self) -> Any:
        """The body of the next request."""
        return self._sent.get(timeout=PATIENCE)[1]


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    thread = threading.Thread(target=hook.server.serve_forever, daemon=True)
    thread.start()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()
    thread.join()


@pytest.fixture(params=["memory:", "sqlite:"])
def asking_server(request: pytest.FixtureRequest, servers: ServerPool) -> Iterator[ServerProcess]:
    server = servers.get(
        "--store",
        request.param,
        signed_url_secret_key=KEY,
        require_confirmation="true",
        webhook_allow="127.0.0.0/8",
        public_endpoint="https://mq.example",
    )
    yield server
    server.check()


@pytest.fixture
def owner(asking_server: ServerProcess, project: str) -> Iterator[Caller]:
    caller = Caller(asking_server.host, asking_server.port, project=project)
    yield caller
    caller.close()


def answer(server: ServerProcess, asked: dict[str, Any], body: str) -> int:
    """What a subscriber does: ask what it was told to, with what it was given, and no other proof."""
    caller = Caller(server.host, server.port, project=asked["X-Project-ID"])
    headers = {name: asked[name] for name in ("URL-Signature", "URL-Methods", "URL-Paths", "URL-Expires")}
    path = asked["WSGISubscribeURL"].removeprefix("https://mq.example")
    status = caller("PUT", path, asked[body], headers=headers).status
    caller.close()
    return status


@pytest.mark.parametrize("container", ["/v2/queues/orders", "/v2/topics/orders"])
def test_webhook_confirms_is_told_and_unsubscribes(
    asking_server: ServerProcess, owner: Caller, hook: Hook, container: str
) -> None:
    def post(body: Any) -> None:
        assert owner("POST", f"{container}/messages", {"messages": [{"body": body}]}).status == 201

    def told(body: Any) -> dict[str, Any]:
        """The notification; one of a message posted before may come first, if it was taken up so late."""
        while (notice := hook.next())["body"] in ("before", "after"):
            assert notice["Message_Type"] == "Notification"
        assert notice["body"] == body
        return notice

    made = owner("POST", f"{container}/subscriptions", {"subscriber": hook.url})
    assert made.status == 201
    asked = hook.next()
    assert asked["Message_Type"] == "SubscriptionConfirmation"
    assert asked["URL-Paths"] == f"{container}/subscriptions/{made.json['subscription_id']}/confirm"

    post("before")  # told to nobody yet
    assert owner("POST", f"{container}/subscriptions", {"subscriber": hook.url}).json == made.json
    assert hook.next() == asked  # asked once more, with the same leave

    assert answer(asking_server, asked, "SubscribeBody") == 204
    post("told")
    assert told("told") == {
        "Message_Type": "Notification",
        "queue_name": "orders",
        "ttl": 3600,
        "body": "told",
    }

    assert answer(asking_server, asked, "UnsubscribeBody") == 204
    parted = hook.next()
    assert parted["Message_Type"] == "UnsubscribeConfirmation"
    post("after")  # told to nobody yet
    assert answer(asking_server, parted, "SubscribeBody") == 204
    post("again")
    told("again")


def test_leave_to_confirm_one_confirms_no_other(
    asking_server: ServerProcess, owner: Caller, hook: Hook
) -> None:
    for number in range(2):
        owner("POST", "/v2/queues/orders/subscriptions", {"subscriber": f"{hook.url}/{number}"})
    one, other = hook.next(), hook.next()
    crossed = one | {"URL-Paths": other["URL-Paths"], "WSGISubscribeURL": other["WSGISubscribeURL"]}
    assert answer(asking_server, crossed, "SubscribeBody") == 404
    for asked in (one, other):
        assert answer(asking_server, asked, "SubscribeBody") == 204
