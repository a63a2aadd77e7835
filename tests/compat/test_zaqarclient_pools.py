"""python-zaqarclient adds pools and flavors, and places a queue, unchanged."""

from collections.abc import Iterator
from typing import Any

import pytest
from server_process import ServerPool
from zaqarclient.queues import client as zaqar
from zaqarclient.queues.v2.client import Client
from zaqarclient.transport import errors


@pytest.fixture
def operator(servers: ServerPool, project: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client whose token would say that it is an operator's."""
    server = servers.get("--store", "memory:", admin_mode="true", pooling="true")
    options = {"auth_opts": {"backend": "noauth", "options": {"os_project_id": project}}}
    client = zaqar.Client(server.url, version=2, conf=options)
    prepared = client._request_and_transport

    def as_operator() -> Any:
        request, transport = prepared()
        request.headers["X-Roles"] = "admin"
        return request, transport

    monkeypatch.setattr(client, "_request_and_transport", as_operator)
    yield client
    for flavor in list(client.flavors()):
        flavor.delete()
    for pool in list(client.pools()):
        pool.delete()
    server.check()


def test_pools_are_made_listed_changed_and_removed(operator: Client) -> None:
    pool = operator.pool("one", uri="memory:///one", weight=10, options={"a": "b"})
    operator.pool("two", uri="memory:///two", weight=20, flavor="gold")
    assert [(each.name, each.weight) for each in operator.pools()] == [("one", 10), ("two", 20)]
    assert [each.options for each in operator.pools(detailed=True)] == [{"a": "b"}, {}]
    pool.update({"weight": 11})
    assert pool.get()["weight"] == 11
    assert operator.pool("two", auto_create=False).get()["flavor"] == "gold"
    pool.delete()
    with pytest.raises(errors.ResourceNotFound):
        pool.get()


def test_two_pools_do_not_share_a_store(operator: Client) -> None:
    operator.pool("one", uri="memory:///one", weight=10)
    with pytest.raises(errors.ConflictError):
        operator.pool("two", uri="memory:///one", weight=10)


def test_flavors_are_made_listed_changed_and_used(operator: Client) -> None:
    operator.pool("one", uri="memory:///one", weight=10)
    operator.pool("two", uri="memory:///two", weight=10)
    flavor = operator.flavor("gold", pool_list=["one"])
    assert [each.name for each in operator.flavors(detailed=False)] == ["gold"]
    assert [each.capabilities for each in operator.flavors(detailed=True)] == [["FIFO", "CLAIMS", "AOD"]]
    flavor.update({"pool_list": ["one", "two"]})
    assert flavor.get()["pool_list"] == ["one", "two"]

    operator.pool("plain", uri="memory:///plain", weight=10)
    queue = operator.queue("orders", force_create=True)
    queue.metadata(new_meta={"_flavor": "gold"})
    queue.post([{"body": 1, "ttl": 300}])
    assert [message.body for message in queue.messages(echo=True)] == [1]
    queue.delete()
