"""Paths → operations, as the table has them."""

import pytest

from sukkal.http.routes import Match, Router
from sukkal.model import topic
from sukkal.operations import TABLE, Operation


@pytest.fixture
def router() -> Router:
    return Router(TABLE)


def matched(router: Router, path: str) -> Match:
    found = router.match(path)
    assert found is not None
    return found


@pytest.mark.parametrize("operation", TABLE, ids=lambda operation: operation.name)
def test_every_operation_is_found_at_its_route(router: Router, operation: Operation) -> None:
    method, template = operation.http
    names = {"message_id": "m", "claim_id": "c", "subscription_id": "s", "pool_name": "p", "flavor_name": "f"}
    path = template.format(queue_name="q", topic_name="q", **names)
    query = f"{operation.selected_by}=x".encode() if operation.selected_by else b""
    found = matched(router, path)
    assert found.resource.endpoint(method, query).operation is operation
    values = {
        "{queue_name}": ("queue", "q"),
        "{topic_name}": ("queue", topic("q")),
        "{message_id}": ("id", "m"),
        "{claim_id}": ("claim_id", "c"),
        "{subscription_id}": ("subscription_id", "s"),
        "{pool_name}": ("pool", "p"),
        "{flavor_name}": ("flavor", "f"),
    }
    assert dict(found.fields) == dict(values[part] for part in template.split("/") if part in values)


@pytest.mark.parametrize(
    "query, name",
    [
        (b"", "messages.list"),
        (b"limit=3", "messages.list"),
        (b"ids=", "messages.list"),
        (b"ids=a", "messages.get_many"),
        (b"limit=3&ids=a", "messages.get_many"),
        (b"IDS=a", "messages.list"),
        (b"x=ids", "messages.list"),
        (b"%69ds=a", "messages.get_many"),
    ],
)
def test_a_parameter_selects_another_operation_on_the_same_route(
    router: Router, query: bytes, name: str
) -> None:
    resource = matched(router, "/v2/queues/q/messages").resource
    assert resource.endpoint("GET", query).operation.name == name
    assert resource.endpoint("DELETE", query).operation.name == "messages.delete_many"


@pytest.mark.parametrize(
    "path", ["", "/", "v2/queues", "/v2", "/v2/queues/q/", "/v2/queues/q/x", "/V2/queues"]
)
def test_nothing_else_is_found(router: Router, path: str) -> None:
    assert router.match(path) is None


@pytest.mark.parametrize("path", ["/v2/topics/t/claims", "/v2/topics/t/share", "/v2/topics/t/claims/c"])
def test_topics_offer_no_claims_and_no_leave(router: Router, path: str) -> None:
    assert router.match(path) is None


@pytest.mark.parametrize("name", ["topic:t", "a:b", "", "a b"])
def test_no_queue_can_be_named_like_a_topic(router: Router, name: str) -> None:
    assert not matched(router, f"/v2/queues/{name}").well_named
    assert not matched(router, f"/v2/topics/{name}").well_named


def test_text_of_a_template_is_no_template(router: Router) -> None:
    assert dict(matched(router, "/v2/queues/{}").fields) == {"queue": "{}"}
    assert dict(matched(router, "/v2/queues/{queue_name}").fields) == {"queue": "{queue_name}"}
    assert dict(matched(router, "/v2/queues/q/messages/{}").fields) == {"queue": "q", "id": "{}"}


def test_operations_left_out_are_not_found() -> None:
    router = Router(operation for operation in TABLE if not operation.admin)
    assert router.match("/v2/health") is None
    assert router.match("/v2/ping") is not None


def test_very_long_paths_are_found_too(router: Router) -> None:
    id = "x" * 10_000
    assert matched(router, f"/v2/queues/q/messages/{id}").fields["id"] == id


def test_one_answer_does_not_change_the_next(router: Router) -> None:
    first = dict(matched(router, "/v2/queues/a").fields)
    matched(router, "/v2/queues/b")
    assert dict(matched(router, "/v2/queues/a").fields) == first == {"queue": "a"}
