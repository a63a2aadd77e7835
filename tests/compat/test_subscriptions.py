"""Upstream clients subscribe, and use and give out pre-signed URLs."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from http_caller import Caller
from openstack import exceptions
from openstack.connection import Connection
from server_process import ServerPool, ServerProcess
from ws_caller import Socket
from zaqarclient.queues import client as zaqar
from zaqarclient.queues.v2.client import Client
from zaqarclient.transport import errors

KEY = "f0e1d2c3b4a5968778695a4b3c2d1e0f"
HOOK = "http://hooks.example/in"


# --- python-zaqarclient ------------------------------------------------------------------------------


def test_zaqarclient_subscribes_changes_lists_and_ends_it(zaqar_client: Client) -> None:
    made = zaqar_client.subscription("orders", subscriber=HOOK, ttl=600, options={"a": [1]})
    assert (made.subscriber, made.ttl, made.options, made.confirmed) == (HOOK, 600, {"a": [1]}, False)
    same = zaqar_client.subscription("orders", subscriber=HOOK)
    assert (same.id, same.ttl) == (made.id, 600)
    others = [zaqar_client.subscription("orders", subscriber=f"{HOOK}/{n}") for n in range(4)]

    made.update({"ttl": 900, "options": {}, "subscriber": None})
    assert zaqar_client.subscription("orders", id=made.id).ttl == 900
    listed = zaqar_client.subscriptions("orders", limit=2).stream()
    assert [each.id for each in listed] == [made.id, *(other.id for other in others)]
    of_queue = zaqar_client.queue("orders", auto_create=False).subscriptions()
    assert {each.subscriber for each in of_queue} == {HOOK, *(f"{HOOK}/{n}" for n in range(4))}

    made.delete()
    with pytest.raises(errors.ResourceNotFound):
        zaqar_client.subscription("orders", id=made.id)


def test_zaqarclient_is_told_of_conflicts_and_faults(zaqar_client: Client, caller_of: Caller) -> None:
    made = zaqar_client.subscription("orders", subscriber=HOOK)
    other = zaqar_client.subscription("orders", subscriber=f"{HOOK}/2")
    with pytest.raises(errors.ConflictError):
        other.update({"subscriber": HOOK})
    assert (
        caller_of("PUT", f"/v2/queues/orders/subscriptions/{made.id}/confirm", {"confirmed": True}).status
        == 204
    )
    with pytest.raises(errors.ConflictError, match="Such subscription already exists"):
        zaqar_client.subscription("orders", subscriber=HOOK)
    with pytest.raises(errors.MalformedRequest, match="must be supported in the list"):
        zaqar_client.subscription("orders", subscriber="gopher://a")
    zaqar_client.queue("orders", auto_create=False).purge(resource_types=["subscriptions"])
    assert list(zaqar_client.subscriptions("orders")) == []


@pytest.fixture
def caller_of(durable_server: ServerProcess, project: str) -> Iterator[Caller]:
    caller = Caller(durable_server.host, durable_server.port, project=project)
    yield caller
    caller.close()


# --- pre-signed URLs ---------------------------------------------------------------------------------


@pytest.fixture
def signing_server(servers: ServerPool) -> Iterator[ServerProcess]:
    server = servers.get(signed_url_secret_key=KEY)
    yield server
    server.check()


@pytest.fixture
def owner(signing_server: ServerProcess, project: str) -> Client:
    options = {"auth_opts": {"backend": "noauth", "options": {"os_project_id": project}}}
    return zaqar.Client(signing_server.url, version=2, conf=options)


def guest(server: ServerProcess, shared: dict[str, Any], **changed: Any) -> Client:
    """A client that has a signature and nothing else."""
    options = {name: shared[name] for name in ("expires", "methods", "paths", "signature")}
    options |= {"os_project_id": shared["project"]} | changed
    return zaqar.Client(
        server.url, version=2, conf={"auth_opts": {"backend": "signed-url", "options": options}}
    )


def test_zaqarclient_gives_leave_and_another_uses_it(
    signing_server: ServerProcess, owner: Client, project: str
) -> None:
    queue = owner.queue("orders")
    shared = queue.signed_url(["messages"], ttl_seconds=600, methods=["GET", "POST", "DELETE"])
    assert shared["paths"] == ["/v2/queues/orders/messages"]
    assert shared["project"] == project

    outside = guest(signing_server, shared).queue("orders", auto_create=False)
    outside.post([{"body": {"by": "guest"}, "ttl": 60}])
    (message,) = queue.messages(echo=True)
    assert message.body == {"by": "guest"}
    (seen,) = outside.messages(echo=True)
    seen.delete()
    assert list(queue.messages(echo=True)) == []


def test_leave_ends_where_it_was_drawn(signing_server: ServerProcess, owner: Client) -> None:
    shared = owner.queue("orders").signed_url()  # to read messages
    outside = guest(signing_server, shared)
    queue = outside.queue("orders", auto_create=False)
    assert list(queue.messages(echo=True)) == []
    other = outside.queue("returns", auto_create=False)
    refused: list[Callable[[], Any]] = [
        lambda: queue.post([{"body": 1, "ttl": 60}]),
        lambda: queue.stats,
        queue.delete,
        lambda: list(other.messages(echo=True)),
        queue.signed_url,
        outside.queues,
        lambda: (
            guest(signing_server, shared, methods=["GET", "POST"])
            .queue("orders", auto_create=False)
            .post([{"body": 1, "ttl": 60}])
        ),
        lambda: list(
            guest(signing_server, shared, os_project_id="umbrella")
            .queue("orders", auto_create=False)
            .messages(echo=True)
        ),
    ]
    for attempt in refused:
        with pytest.raises(errors.ResourceNotFound):
            attempt()


def test_leave_holds_over_websockets_too(signing_server: ServerProcess, owner: Client) -> None:
    shared = owner.queue("orders").signed_url(["messages"], methods=["GET", "POST"])
    headers = {
        "Client-ID": str(uuid.uuid4()),
        "X-Project-ID": shared["project"],
        "URL-Signature": shared["signature"],
        "URL-Expires": shared["expires"],
        "URL-Methods": shared["methods"],
        "URL-Paths": shared["paths"],
    }
    with Socket(signing_server.host, signing_server.port, project=shared["project"]) as socket:
        message = {"body": "by guest", "ttl": 60}
        posted = socket("message_post", {"queue_name": "orders", "messages": [message]}, headers=headers)
        assert posted.status == 201
        (listed,) = owner.queue("orders").messages(echo=True)
        assert listed.body == "by guest"


# --- openstacksdk ------------------------------------------------------------------------------------


def test_sdk_subscribes_lists_and_ends_it(sdk: Connection) -> None:
    made = sdk.message.create_subscription("orders", subscriber=HOOK, ttl=600, options={"a": 1})
    got = sdk.message.get_subscription("orders", made.id)
    assert (got.subscriber, got.ttl, got.options, got.source) == (HOOK, 600, {"a": 1}, "orders")
    for number in range(3):
        sdk.message.create_subscription("orders", subscriber=f"{HOOK}/{number}")
    assert len(list(sdk.message.subscriptions("orders"))) == 4
    assert len(list(sdk.message.subscriptions("orders", limit=2))) == 4
    sdk.message.delete_subscription("orders", made.id)
    with pytest.raises(exceptions.NotFoundException):
        sdk.message.get_subscription("orders", made.id)
    with pytest.raises(exceptions.BadRequestException):
        sdk.message.create_subscription("orders", subscriber="fake")
