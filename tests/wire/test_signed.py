"""Pre-signed requests over HTTP and WebSockets, from callers who mean no good."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_caller import Caller
from server_process import ServerPool, ServerProcess, running
from test_serving import start
from ws_caller import Socket

from sukkal.core.signing import Signer, written

KEY = "f0e1d2c3b4a5968778695a4b3c2d1e0f"
MESSAGES = "/v2/queues/orders/messages"
ALL = ["GET", "POST", "DELETE", "PUT", "PATCH"]


@pytest.fixture
def signing_server(servers: ServerPool) -> Iterator[ServerProcess]:
    server = servers.get("--store", "memory:", signed_url_secret_key=KEY, admin_mode="true")
    yield server
    server.check()


@pytest.fixture
def owner(signing_server: ServerProcess, project: str) -> Iterator[Caller]:
    caller = Caller(signing_server.host, signing_server.port, project=project)
    yield caller
    caller.close()


@pytest.fixture(params=[False, True], ids=["text", "binary"])
def socket(request: pytest.FixtureRequest, signing_server: ServerProcess, project: str) -> Iterator[Socket]:
    with Socket(signing_server.host, signing_server.port, project=project, binary=request.param) as socket:
        yield socket


def leave(
    project: str, paths: list[str] | None = None, methods: list[str] | None = None, **changed: Any
) -> dict[str, Any]:
    """Headers of a request that is let in."""
    paths, methods, expires = paths or [MESSAGES], methods or ALL, written(time.time() + 600)
    return {
        "URL-Signature": Signer(KEY).sign(paths, methods, project, expires),
        "URL-Paths": ",".join(paths),
        "URL-Methods": ",".join(methods),
        "URL-Expires": expires,
    } | changed


# --- over HTTP ---------------------------------------------------------------------------------------


def test_roles_of_a_pre_signed_request_count_for_nothing(owner: Caller, project: str) -> None:
    headers = leave(project, ["/v2/health"]) | {"X-Roles": "admin"}
    assert owner("GET", "/v2/health", headers={"X-Roles": "admin"}).status == 200
    assert owner("GET", "/v2/health", headers=headers).status == 403


def test_leave_begets_no_leave(owner: Caller, project: str) -> None:
    headers = leave(project, ["/v2/queues/orders"])
    assert owner("GET", "/v2/queues/orders", headers=headers).status == 200
    assert owner("POST", "/v2/queues/orders/share", {}, headers=headers).status == 403


def test_leave_for_a_topic_is_for_a_topic(owner: Caller, project: str) -> None:
    headers = leave(project, ["/v2/topics/orders/messages"])
    posted = {"messages": [{"body": 1}]}
    assert owner("POST", "/v2/topics/orders/messages", posted, headers=headers).status == 201
    assert owner("POST", MESSAGES, posted, headers=headers).status == 404


def test_leave_to_subscribe_reaches_no_other_queue(owner: Caller, project: str) -> None:
    path = "/v2/queues/orders/subscriptions"
    headers = leave(project, [path])
    answer = owner("POST", path, {"subscriber": "queue:secret"}, headers=headers)
    assert (answer.status, answer.json["title"]) == (403, "Not authorized")
    made = owner("POST", path, {"subscriber": "https://a.example/"}, headers=headers)
    assert made.status == 201
    one = f"{path}/{made.json['subscription_id']}"
    assert owner("PATCH", one, {"options": {"_dead_letter_queue": "secret"}}, headers=headers).status == 403
    assert owner("POST", f"{one}/replay", headers=headers).status == 403
    assert owner("PATCH", one, {"options": {"_dead_letter_queue": "dead"}}).status == 204


@pytest.mark.parametrize(
    "target",
    [
        "/v2/queues/orders/messages/../claims",
        "/v2/queues/orders/messages%2F..%2F..%2Fstats",
        "/v2/queues/orders/messages/",
        "/v2/queues/orders/messages/x/y",
        "/v2/queues//orders/messages",
        "/v2/queues/orders/messages;x",
        "/v2/queues/Orders/messages",
        "//v2/queues/orders/messages",
        "/v2/queues/orders?x=/v2/queues/orders/messages",
        "/v2/queues?/v2/queues/orders/messages",
        "/v2/",
    ],
)
def test_no_spelling_of_a_path_leads_out_of_what_was_signed(owner: Caller, project: str, target: str) -> None:
    owner("POST", MESSAGES, {"messages": [{"body": "inside"}]})
    answer = owner("GET", target, headers=leave(project))
    assert answer.status in (400, 404), answer
    assert b"claimed" not in answer.body


@pytest.mark.parametrize(
    "changed",
    [
        {"URL-Signature": ""},
        {"URL-Signature": "é" * 64},
        {"URL-Signature": "0" * 100_0},
        {"URL-Paths": ""},
        {"URL-Paths": "/"},
        {"URL-Paths": ","},
        {"URL-Paths": f"{MESSAGES},"},
        {"URL-Methods": ""},
        {"URL-Methods": "*"},
        {"URL-Expires": ""},
        {"URL-Expires": "9" * 1000},
        {"URL-Expires": "2999-01-01T00:00:00"},
        {"X-Project-ID": ""},
        {"X-Project-ID": "umbrella"},
    ],
    ids=lambda changed: str(changed)[:40],
)
def test_what_was_tampered_with_is_not_found(owner: Caller, project: str, changed: dict[str, str]) -> None:
    assert owner("GET", MESSAGES, headers=leave(project)).status == 200
    headers = [(name, value.encode()) for name, value in (leave(project) | changed).items()]
    answer = owner("GET", MESSAGES, headers=headers)
    assert (answer.status, answer.json) == (404, {"title": "404 Not Found"})


def test_header_given_twice_opens_no_more(owner: Caller, project: str) -> None:
    headers = [*leave(project).items(), ("URL-Paths", "/v2/queues"), ("X-Project-ID", project)]
    assert owner("GET", "/v2/queues", headers=headers).status == 404


def test_stream_is_not_opened_for_a_project_that_only_the_query_names(owner: Caller, project: str) -> None:
    headers = leave("None") | {"Accept": "text/event-stream"}
    answer = owner("GET", f"{MESSAGES}?project_id={project}", headers=headers, anonymous=True)
    assert answer.status == 404


def test_waiting_reader_may_be_let_in(owner: Caller, project: str) -> None:
    owner("POST", MESSAGES, {"messages": [{"body": 1}]})
    answer = owner("GET", f"{MESSAGES}?echo=true&wait=1", headers=leave(project))
    assert [message["body"] for message in answer.json["messages"]] == [1]


# --- over a WebSocket --------------------------------------------------------------------------------


ACTIONS = [
    ("message_list", {}, "GET", 200),
    ("message_get", {"message_id": "x"}, "GET", 404),
    ("message_get_many", {"message_ids": ["x"]}, "GET", 200),
    ("message_post", {"messages": [{"body": 1}]}, "POST", 201),
    ("message_delete", {"message_id": "x"}, "DELETE", 204),
    ("message_delete_many", {"message_ids": ["x"]}, "DELETE", 204),
]


@pytest.mark.parametrize(("action", "body", "method", "status"), ACTIONS)
def test_actions_on_messages_need_their_method(
    socket: Socket, project: str, action: str, body: dict[str, Any], method: str, status: int
) -> None:
    body = {"queue_name": "orders"} | body
    granted = socket.identity | leave(project, methods=[method])
    assert socket(action, body, headers=granted).status == status
    others = socket.identity | leave(project, methods=[each for each in ALL if each != method])
    reply = socket(action, body, headers=others)
    assert (reply.status, reply.body) == (403, {"error": "Not authentified."})
    reply = socket(action, {**body, "queue_name": "returns"}, headers=granted)
    assert (reply.status, reply.body) == (403, {"error": "Not authentified."})


def test_lists_may_be_lists(socket: Socket, project: str) -> None:
    headers = leave(project, [MESSAGES, "/v2/queues/orders/claims"])
    for name in ("URL-Paths", "URL-Methods"):
        headers[name] = headers[name].split(",")
    assert socket("message_list", {"queue_name": "orders"}, headers=socket.identity | headers).status == 200


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("queue_list", {}),
        ("queue_delete", {"queue_name": "orders"}),
        ("claim_create", {"queue_name": "orders"}),
        ("subscription_create", {"queue_name": "orders"}),
        ("check_node_health", {}),
    ],
)
def test_other_actions_are_closed(socket: Socket, project: str, action: str, body: dict[str, Any]) -> None:
    headers = socket.identity | leave(project, ["/v2/queues", MESSAGES, "/v2"]) | {"X-Roles": "admin"}
    reply = socket(action, body, headers=headers)
    assert (reply.status, reply.body) == (403, {"error": "Not authentified."})


@pytest.mark.parametrize(
    "changed",
    [
        {"URL-Signature": None},
        {"URL-Signature": 5},
        {"URL-Signature": {}},
        {"URL-Signature": ""},
        {"URL-Paths": None},
        {"URL-Paths": [MESSAGES, 5]},
        {"URL-Paths": {MESSAGES: 1}},
        {"URL-Paths": [[MESSAGES]]},
        {"URL-Paths": []},
        {"URL-Methods": None},
        {"URL-Methods": 7},
        {"URL-Expires": 5},
        {"URL-Expires": None},
        {"X-Project-ID": "umbrella"},
    ],
    ids=str,
)
def test_nonsense_lets_nobody_in_and_ends_nothing(
    socket: Socket, project: str, changed: dict[str, Any]
) -> None:
    headers = socket.identity | leave(project) | changed
    reply = socket("message_list", {"queue_name": "orders"}, headers=headers)
    assert (reply.status, reply.body) == (403, {"error": "Not authentified."})
    assert socket("message_list", {"queue_name": "orders"}).status == 200


def test_name_of_a_queue_cannot_lead_elsewhere(socket: Socket, project: str) -> None:
    for name in ("orders/messages/../../returns", "topic:orders", "orders/messages"):
        reply = socket("message_list", {"queue_name": name}, headers=socket.identity | leave(project))
        assert reply.status == 400


# --- the key -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["short", "x" * 64, "change_me" * 8])
def test_server_does_not_start_with_a_poor_key_and_does_not_repeat_it(key: str) -> None:
    ended = start("--store", "memory:", signed_url_secret_key=key)
    assert ended.returncode == 2
    assert "signed_url_secret_key" in ended.stderr
    assert key not in ended.stderr + ended.stdout


def test_key_is_never_shown_nor_logged(tmp_path: Path) -> None:
    settings = {"signed_url_secret_key": KEY, "log_level": "debug", "access_log_sample": "1"}
    with running(tmp_path, "--store", "memory:", settings=settings) as server:
        caller = Caller(server.host, server.port, project="acme")
        shared = caller("POST", "/v2/queues/orders/share", {})
        headers = {"URL-Signature": shared.json["signature"], "URL-Expires": "x"}
        assert caller("GET", MESSAGES, headers=headers).status == 404
        caller.close()
    assert "queues.share" in server.log
    assert KEY not in server.log
    assert shared.json["signature"] not in server.log
    assert KEY.encode() not in shared.body
