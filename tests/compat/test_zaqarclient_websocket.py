"""python-zaqarclient's WebSocket transport, for all that it offers, against a server as it comes."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from server_process import ServerProcess, running
from zaqarclient.transport import errors, get_transport_for
from zaqarclient.transport.request import Request

pytest.importorskip("websocket", reason="websocket-client is what the transport needs")

Ask = Callable[..., Any]


def transport(project: str) -> dict[str, Any]:
    options = {"os_auth_token": uuid.uuid4().hex, "os_project_id": project}
    return {"auth_opts": {"backend": "keystone", "options": options}}


@pytest.fixture
def endpoint(durable_server: ServerProcess) -> str:
    return durable_server.url.replace("http://", "ws://")


@pytest.fixture
def ask(endpoint: str, project: str) -> Iterator[Ask]:
    """Ask for an operation; the reply's body."""
    with get_transport_for(endpoint, options=transport(project)) as sender:

        def call(operation: str, **content: Any) -> Any:
            request = Request(endpoint, operation, content=json.dumps(content) if content else None)
            return json.loads(sender.send(request).content)

        yield call


def test_queue_lives_and_dies(ask: Ask) -> None:
    assert ask("queue_create", queue_name="orders", metadata={"team": "blue"}) == "Queue orders created."
    assert ask("queue_create", queue_name="orders") == "Queue orders created."
    assert ask("queue_list") == {"queues": [{"name": "orders"}]}
    assert ask("queue_list", detailed=True)["queues"][0]["metadata"] == {"team": "blue"}
    assert ask("queue_get", queue_name="orders") == {"team": "blue"}
    assert ask("queue_get_stats", queue_name="orders")["messages"] == {"claimed": 0, "free": 0, "total": 0}
    assert ask("queue_purge", queue_name="orders") == {}
    assert ask("queue_delete", queue_name="orders") == "Queue orders removed."
    assert ask("queue_list") == {"queues": []}


def test_message_is_posted_listed_claimed_and_deleted(ask: Ask) -> None:
    messages = [{"body": {"event": n, "deep": [None, 1.5, "é"]}, "ttl": 300} for n in range(3)]
    posted = ask("message_post", queue_name="q", messages=messages)["message_ids"]
    assert len(posted) == 3
    listed = ask("message_list", queue_name="q", echo=True)["messages"]
    assert [message["body"] for message in listed] == [message["body"] for message in messages]
    assert ask("message_get", queue_name="q", message_id=posted[1])["messages"]["id"] == posted[1]
    assert len(ask("message_get_many", queue_name="q", message_ids=posted[:2])["messages"]) == 2
    claim = ask("claim_create", queue_name="q", ttl=300, grace=60, limit=2)
    assert [message["claim_id"] for message in claim["messages"]] == [claim["claim_id"]] * 2
    assert ask("claim_get", queue_name="q", claim_id=claim["claim_id"])["ttl"] == 300
    assert ask("claim_update", queue_name="q", claim_id=claim["claim_id"], ttl=400, grace=60)
    for message in claim["messages"]:
        ask("message_delete", queue_name="q", message_id=message["id"], claim_id=claim["claim_id"])
    assert ask("claim_delete", queue_name="q", claim_id=claim["claim_id"])
    assert [
        message["body"]["event"] for message in ask("message_delete_many", queue_name="q", pop=5)["messages"]
    ] == [2]


MISSING = {"queue_name": "q", "message_id": "x", "claim_id": "x"}


@pytest.mark.parametrize(
    "operation, content, error, description",
    [
        ("message_get", MISSING, errors.ResourceNotFound, "Queue q does not exist"),
        ("claim_get", MISSING, errors.ResourceNotFound, "Claim x does not exist."),
        ("queue_create", {}, errors.MalformedRequest, "Schema validation failed."),
        ("no_such_thing", {}, errors.MalformedRequest, "no_such_thing is not a valid action"),
    ],
)
def test_faults_are_raised_with_their_description(
    ask: Ask, operation: str, content: dict[str, str], error: type[Exception], description: str
) -> None:
    with pytest.raises(error, match=f"Description: {description}"):
        ask(operation, **content)
    assert ask("queue_list") == {"queues": []}, "the connection is as good as before"


def test_client_connects_again_after_a_restart_and_finds_what_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for life in range(3):
        with running(tmp_path) as server:
            endpoint = server.url.replace("http://", "ws://")
            with get_transport_for(endpoint, options=transport("p")) as sender:
                for number in range(5):
                    content = {"queue_name": "q", "messages": [{"body": f"{life}-{number}"}]}
                    reply = sender.send(Request(endpoint, "message_post", content=json.dumps(content)))
                    acknowledged += json.loads(reply.content)["message_ids"]
                listing = json.dumps({"queue_name": "q", "echo": True, "limit": 20})
                reply = sender.send(Request(endpoint, "message_list", content=listing))
                listed = [message["id"] for message in json.loads(reply.content)["messages"]]
                assert listed == acknowledged
                server.stop()
                with pytest.raises(Exception, match=r"(?i)clos|pipe|reset"):
                    sender.send(Request(endpoint, "queue_list"))
    assert len(acknowledged) == 15


def test_outside_subscriber_is_subscribed_and_unsubscribed(ask: Ask) -> None:
    hook = "http://hooks.example/in"
    made = ask("subscription_create", queue_name="q", subscriber=hook, ttl=600, options={"a": 1})
    assert made["message"] == "Subscription q created."
    (listed,) = ask("subscription_list", queue_name="q")["subscriptions"]
    assert listed["id"] == made["subscription_id"]
    assert ask("subscription_get", queue_name="q", subscription_id=listed["id"])["options"] == {"a": 1}
    with pytest.raises(errors.ConflictError):
        ask("subscription_create", queue_name="q", subscriber=hook)
    assert ask("subscription_delete", queue_name="q", subscription_id=listed["id"]) == (
        f"Subscription {listed['id']} removed."
    )
