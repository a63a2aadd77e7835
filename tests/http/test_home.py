"""The home document: derived from the table, in the form the API gives it."""

from typing import Any

import msgspec
import pytest
from asgi_caller import Web

from sukkal.http.routes import Router
from sukkal.operations import TABLE, Operation
from sukkal.wire.home import home_document

Q = "/v2/queues/{queue_name}"
QUEUE = {"queue_name": "param/queue_name"}
MESSAGE = QUEUE | {"message_id": "param/message_id"}
SUBSCRIPTION = QUEUE | {"subscriptions_id": "param/subscriptions_id"}
CLAIM = QUEUE | {"claim_id": "param/claim_id"}

# Relation: template, methods, variables, whether it takes a body
RELATIONS: dict[str, tuple[str, list[str], dict[str, str], bool]] = {
    "queues": (
        "/v2/queues{?marker,limit,detailed}",
        ["GET"],
        {"marker": "param/marker", "limit": "param/queue_limit", "detailed": "param/detailed"},
        False,
    ),
    "queue": (Q, ["GET", "PUT", "DELETE", "PATCH"], QUEUE, False),
    "queue_stats": (f"{Q}/stats", ["GET"], QUEUE, False),
    "queue_purge": (f"{Q}/purge", ["POST"], QUEUE, True),
    "messages": (
        f"{Q}/messages{{?marker,limit,echo,include_claimed}}",
        ["GET"],
        QUEUE
        | {
            "marker": "param/marker",
            "limit": "param/messages_limit",
            "echo": "param/echo",
            "include_claimed": "param/include_claimed",
        },
        False,
    ),
    "post_messages": (f"{Q}/messages", ["POST"], QUEUE, True),
    "messages_delete": (
        f"{Q}/messages{{?ids,pop}}",
        ["DELETE"],
        QUEUE | {"ids": "param/ids", "pop": "param/pop"},
        False,
    ),
    "message_delete": (
        f"{Q}/messages/{{message_id}}{{?claim}}",
        ["DELETE"],
        MESSAGE | {"claim": "param/claim_id"},
        False,
    ),
    "message_get": (f"{Q}/messages/{{message_id}}", ["GET"], MESSAGE, False),
    "claim": (f"{Q}/claims/{{claim_id}}", ["GET"], CLAIM, False),
    "post_claim": (f"{Q}/claims{{?limit}}", ["POST"], QUEUE | {"limit": "param/claim_limit"}, True),
    "patch_claim": (f"{Q}/claims/{{claim_id}}", ["PATCH"], CLAIM, True),
    "delete_claim": (f"{Q}/claims/{{claim_id}}", ["DELETE"], CLAIM, False),
    "queue_share": (f"{Q}/share", ["POST"], QUEUE, True),
    "subscriptions_get": (
        f"{Q}/subscriptions{{?marker,limit}}",
        ["GET"],
        QUEUE | {"marker": "param/marker", "limit": "param/subscription_limit"},
        False,
    ),
    "subscriptions_post": (
        f"{Q}/subscriptions",
        ["POST"],
        QUEUE | {"limit": "param/subscription_limit"},
        True,
    ),
    "subscription": (f"{Q}/subscriptions/{{subscriptions_id}}", ["GET", "DELETE"], SUBSCRIPTION, False),
    "subscription_patch": (f"{Q}/subscriptions/{{subscriptions_id}}", ["PATCH"], SUBSCRIPTION, True),
    "subscription_confirm": (
        f"{Q}/subscriptions/{{subscriptions_id}}/confirm",
        ["PUT"],
        SUBSCRIPTION,
        False,
    ),
    "ping": ("/v2/ping", ["GET"], {}, False),
}


# The same of those that are listed in admin mode only, and only where messages lie in pools.
POOLED: dict[str, tuple[str, list[str], dict[str, str], bool]] = {
    f"{kind}{s}": (
        f"/v2/{kind}s{{?detailed,limit,marker}}" if s else f"/v2/{kind}s/{{{kind}_name}}",
        ["GET"] if s else ["GET", "PUT", "DELETE", "PATCH"],
        {"detailed": "param/detailed", "limit": f"param/{kind}_limit", "marker": "param/marker"}
        if s
        else {f"{kind}_name": f"param/{kind}_name"},
        False,
    )
    for kind in ("pool", "flavor")
    for s in ("s", "")
}


def resources(*, admin_mode: bool = False, pooling: bool = False) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(home_document(admin_mode=admin_mode, pooling=pooling))
    assert list(document) == ["resources"]
    found: dict[str, Any] = document["resources"]
    return found


@pytest.mark.parametrize("name", [*RELATIONS, *POOLED])
def test_relation_is_as_the_api_has_it(name: str) -> None:
    template, allow, variables, takes_body = (RELATIONS | POOLED)[name]
    resource = resources(admin_mode=name in POOLED, pooling=name in POOLED)[f"rel/{name}"]
    assert resource["href-template"] == template
    assert resource["hints"]["allow"] == allow
    assert resource["hints"]["formats"] == {"application/json": {}}
    assert resource.get("href-vars", {}) == variables
    assert resource["hints"].get("accept-post") == (["application/json"] if takes_body else None)


@pytest.mark.parametrize("operation", TABLE, ids=lambda operation: operation.name)
def test_every_relation_of_the_table_is_listed_with_the_operations_method(operation: Operation) -> None:
    if operation.relation is None:
        return
    resource = resources(admin_mode=True, pooling=True)[f"rel/{operation.relation}"]
    assert operation.http[0] in resource["hints"]["allow"]


def test_nothing_is_listed_that_the_table_does_not_have() -> None:
    listed = {name.removeprefix("rel/") for name in resources(admin_mode=True, pooling=True)}
    assert listed == {operation.relation for operation in TABLE if operation.relation}


def test_pools_are_listed_only_in_admin_mode_and_where_there_are_some() -> None:
    for shown in (resources(), resources(admin_mode=True), resources(pooling=True)):
        assert not {f"rel/{name}" for name in POOLED} & set(shown)


def test_every_template_leads_somewhere() -> None:
    router = Router(TABLE)
    for name, resource in resources(admin_mode=True, pooling=True).items():
        href = resource.get("href-template") or resource["href"]
        assert href.startswith("/v2")
        found = router.match(href.partition("{?")[0])
        assert found is not None, name
        assert set(resource["hints"]["allow"]) <= set(found.resource.endpoints)


def test_health_is_listed_in_admin_mode_only_and_without_a_template() -> None:
    assert "rel/health" not in resources()
    health = resources(admin_mode=True)["rel/health"]
    assert health["href"] == "/v2/health"
    assert "href-template" not in health


async def test_home_is_served_as_json_home_and_may_be_cached(web: Web) -> None:
    reply = await web.ask("GET /v2/")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json-home"
    assert reply.headers["cache-control"] == "max-age=86400"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert reply.body == home_document(admin_mode=False)
    admin = await Web(admin_mode=True).ask("GET /v2/")
    assert admin.body == home_document(admin_mode=True)
