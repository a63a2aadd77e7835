"""openstacksdk's message proxy drives the service unchanged. Quirks are those of clients.md."""

from collections.abc import Iterator

import openstack
import pytest
from http_caller import Caller
from openstack import exceptions
from openstack.connection import Connection
from openstack.message.v2.claim import Claim
from server_process import ServerProcess


@pytest.fixture
def plain(durable_server: ServerProcess, project: str) -> Iterator[Caller]:
    """The same project seen without the SDK."""
    caller = Caller(durable_server.host, durable_server.port, project=project)
    yield caller
    caller.close()


def take_claim(sdk: Connection, queue: str, **attributes: int) -> Claim:
    """Claim without the proxy's `create_claim`, which fails after the answer, whatever it is.

    The SDK (4.22) overwrites the Location header of a resource that knows its connection with the caller's
    region and project, and then looks for the claim's id in it.
    """
    return Claim.new(queue_name=queue, **attributes).create(sdk.message)


def ids_of(resources: list[str]) -> list[str]:
    return [href.rpartition("/")[2] for href in resources]


def test_the_endpoint_is_found_from_the_versions_document(
    sdk: Connection, durable_server: ServerProcess
) -> None:
    assert sdk.message.get_endpoint().rstrip("/") == f"{durable_server.url}/v2"


def test_connecting_takes_an_endpoint_and_nothing_else(durable_server: ServerProcess, project: str) -> None:
    with openstack.connect(
        load_yaml_config=False, load_envvars=False, auth_type="none", endpoint=durable_server.url
    ) as connection:
        connection.message.create_queue(name="orders", project_id=project)
        assert [queue.name for queue in connection.message.queues(project_id=project)] == ["orders"]


def test_a_queue_is_created_read_listed_and_deleted(sdk: Connection) -> None:
    created = sdk.message.create_queue(name="orders", default_message_ttl=120, description="shop")
    assert created.name == "orders"

    queue = sdk.message.get_queue("orders")
    assert (queue.default_message_ttl, queue.max_messages_post_size) == (120, 262144)
    assert queue.description == "shop"

    assert [queue.name for queue in sdk.message.queues()] == ["orders"]
    sdk.message.delete_queue("orders")
    assert list(sdk.message.queues()) == []


def test_the_name_that_the_sdk_puts_into_a_body_is_stored(sdk: Connection, plain: Caller) -> None:
    """Quirk 20."""
    sdk.message.create_queue(name="orders")

    assert plain("GET", "/v2/queues/orders").json["name"] == "orders"


def test_a_queue_that_does_not_exist_reads_as_a_queue(sdk: Connection) -> None:
    queue = sdk.message.get_queue("nothing")

    assert (queue.default_message_ttl, queue.max_messages_post_size) == (3600, 262144)
    sdk.message.delete_queue("nothing", ignore_missing=False)


@pytest.mark.parametrize("query", [{}, {"limit": 2}, {"limit": 20}])
def test_queues_are_paged_by_the_last_name(sdk: Connection, query: dict[str, int]) -> None:
    """Quirk 21."""
    names = [f"queue-{n:02}" for n in range(23)]
    for name in names:
        sdk.message.create_queue(name=name)

    assert [queue.name for queue in sdk.message.queues(**query)] == names


def test_messages_are_posted_read_and_deleted(sdk: Connection) -> None:
    body = {"order": 7, "items": ["a", None], "note": "é"}
    (message_id,) = ids_of(sdk.message.post_message("orders", [{"body": body, "ttl": 300}]))

    message = sdk.message.get_message("orders", message_id)
    assert (message.body, message.ttl, message.id) == (body, 300, message_id)
    assert message.age >= 0
    assert message.href == f"/v2/queues/orders/messages/{message_id}"

    sdk.message.delete_message("orders", message_id, ignore_missing=False)
    with pytest.raises(exceptions.NotFoundException):
        sdk.message.get_message("orders", message_id)
    sdk.message.delete_message("orders", message_id, ignore_missing=False)


@pytest.mark.parametrize("query", [{}, {"limit": 3}, {"limit": 20}, {"limit": 5, "echo": True}])
def test_messages_are_paged_by_the_last_id(sdk: Connection, query: dict[str, int]) -> None:
    """Quirk 21, and 24: a new client id with each request, so own messages show without echo."""
    for start in range(0, 25, 5):
        sdk.message.post_message("orders", [{"body": start + n, "ttl": 300} for n in range(5)])

    assert [message.body for message in sdk.message.messages("orders", **query)] == list(range(25))


def test_a_missing_queue_has_no_messages(sdk: Connection) -> None:
    assert list(sdk.message.messages("nothing")) == []


def test_claimed_messages_are_left_out_unless_asked_for(sdk: Connection) -> None:
    sdk.message.post_message("orders", [{"body": n, "ttl": 300} for n in range(3)])
    take_claim(sdk, "orders", ttl=300, grace=60, limit=2)

    assert len(list(sdk.message.messages("orders"))) <= 1
    assert [m.body for m in sdk.message.messages("orders", include_claimed=True)] == [0, 1, 2]


def test_a_claim_is_taken_read_renewed_and_released(sdk: Connection) -> None:
    """Quirks 22 (a limit in the body), 23 (the id comes from Location) and 24 (client ids change)."""
    sdk.message.post_message("orders", [{"body": n, "ttl": 3600} for n in range(2)])

    claim = take_claim(sdk, "orders", ttl=300, grace=60, limit=10)
    assert claim.id
    assert [message["body"] for message in claim.messages] == [0, 1]

    read = sdk.message.get_claim("orders", claim.id)
    assert (read.ttl, len(read.messages)) == (300, 2)

    sdk.message.update_claim("orders", claim.id, ttl=700)
    assert sdk.message.get_claim("orders", claim.id).ttl == 700

    sdk.message.delete_claim("orders", claim.id, ignore_missing=False)
    with pytest.raises(exceptions.NotFoundException):
        sdk.message.get_claim("orders", claim.id)
    assert [message.body for message in sdk.message.messages("orders")] == [0, 1]


def test_a_claim_without_arguments_takes_defaults(sdk: Connection) -> None:
    sdk.message.post_message("orders", [{"body": 1, "ttl": 300}])

    claim = take_claim(sdk, "orders")

    assert sdk.message.get_claim("orders", claim.id).ttl == 300


def test_a_claim_of_an_empty_queue_has_no_id(sdk: Connection) -> None:
    claim = take_claim(sdk, "orders", ttl=60, grace=60)

    assert claim.id is None
    assert claim.messages is None


def test_a_claimed_message_is_deleted_with_its_claim(sdk: Connection) -> None:
    sdk.message.post_message("orders", [{"body": n, "ttl": 300} for n in range(2)])
    claim = take_claim(sdk, "orders", ttl=300, grace=60)
    first, second = (message["id"] for message in claim.messages)

    with pytest.raises(exceptions.ForbiddenException):
        sdk.message.delete_message("orders", first, ignore_missing=False)
    with pytest.raises(exceptions.BadRequestException):
        sdk.message.delete_message("orders", first, claim="unknown", ignore_missing=False)
    sdk.message.delete_message("orders", first, claim=claim.id, ignore_missing=False)
    sdk.message.delete_message("orders", second, claim=claim, ignore_missing=False)

    assert list(sdk.message.messages("orders", include_claimed=True)) == []


def test_faults_reach_the_caller_with_their_text(sdk: Connection) -> None:
    with pytest.raises(exceptions.BadRequestException) as raised:
        sdk.message.create_queue(name="orders", default_message_ttl=1)
    assert "1209600" in raised.value.response.json()["description"]
    with pytest.raises(exceptions.BadRequestException) as raised:
        take_claim(sdk, "orders", ttl=1)
    assert "43200" in raised.value.response.json()["description"]


def test_a_client_id_can_be_given(sdk: Connection) -> None:
    mine = "3381af92-2b9e-11e3-b191-71861300734c"
    sdk.message.create_queue(name="orders", client_id=mine)
    sdk.message.post_message("orders", [{"body": 1, "ttl": 300}])

    assert [message.body for message in sdk.message.messages("orders", client_id=mine)] == [1]
