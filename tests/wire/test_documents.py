"""The documents the service tells about itself with: versions, home, health, request ids."""

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from golden import UUID
from http_caller import Caller
from server_process import ServerPool, ServerProcess

# relation → template, methods, variables. Source: http-api-v2 §6.2, without the parts that come later.
RELATIONS: dict[str, tuple[str, set[str], dict[str, str]]] = {
    "queues": (
        "/v2/queues{?marker,limit,detailed}",
        {"GET"},
        {"marker": "param/marker", "limit": "param/queue_limit", "detailed": "param/detailed"},
    ),
    "queue": (
        "/v2/queues/{queue_name}",
        {"GET", "PUT", "DELETE", "PATCH"},
        {"queue_name": "param/queue_name"},
    ),
    "queue_stats": ("/v2/queues/{queue_name}/stats", {"GET"}, {"queue_name": "param/queue_name"}),
    "queue_purge": ("/v2/queues/{queue_name}/purge", {"POST"}, {"queue_name": "param/queue_name"}),
    "messages": (
        "/v2/queues/{queue_name}/messages{?marker,limit,echo,include_claimed}",
        {"GET"},
        {
            "queue_name": "param/queue_name",
            "marker": "param/marker",
            "limit": "param/messages_limit",
            "echo": "param/echo",
            "include_claimed": "param/include_claimed",
        },
    ),
    "post_messages": ("/v2/queues/{queue_name}/messages", {"POST"}, {"queue_name": "param/queue_name"}),
    "messages_delete": (
        "/v2/queues/{queue_name}/messages{?ids,pop}",
        {"DELETE"},
        {"queue_name": "param/queue_name", "ids": "param/ids", "pop": "param/pop"},
    ),
    "message_delete": (
        "/v2/queues/{queue_name}/messages/{message_id}{?claim}",
        {"DELETE"},
        {"queue_name": "param/queue_name", "message_id": "param/message_id", "claim": "param/claim_id"},
    ),
    "message_get": (
        "/v2/queues/{queue_name}/messages/{message_id}",
        {"GET"},
        {"queue_name": "param/queue_name", "message_id": "param/message_id"},
    ),
    "claim": (
        "/v2/queues/{queue_name}/claims/{claim_id}",
        {"GET"},
        {"queue_name": "param/queue_name", "claim_id": "param/claim_id"},
    ),
    "post_claim": (
        "/v2/queues/{queue_name}/claims{?limit}",
        {"POST"},
        {"queue_name": "param/queue_name", "limit": "param/claim_limit"},
    ),
    "patch_claim": (
        "/v2/queues/{queue_name}/claims/{claim_id}",
        {"PATCH"},
        {"queue_name": "param/queue_name", "claim_id": "param/claim_id"},
    ),
    "delete_claim": (
        "/v2/queues/{queue_name}/claims/{claim_id}",
        {"DELETE"},
        {"queue_name": "param/queue_name", "claim_id": "param/claim_id"},
    ),
    "ping": ("/v2/ping", {"GET"}, {}),
}
ACCEPT_POST = {"queue_purge", "post_messages", "post_claim", "patch_claim"}


def test_versions_need_no_headers(caller: Caller) -> None:
    answer = caller("GET", "/", anonymous=True)

    assert answer.status == 300
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json == {
        "versions": [
            {
                "id": "2",
                "status": "CURRENT",
                "updated": "2014-9-24T04:06:47Z",
                "media-types": [
                    {"base": "application/json", "type": "application/vnd.openstack.messaging-v2+json"}
                ],
                "links": [{"href": "/v2/", "rel": "self"}],
            }
        ]
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "text/html"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Client-ID": "not a client id", "X-Project-ID": ""},
    ],
    ids=["another Accept", "a form", "malformed identity"],
)
def test_versions_do_not_look_at_headers(caller: Caller, headers: dict[str, str]) -> None:
    assert caller("GET", "/", headers=headers, anonymous=True).status == 300


def test_home_is_a_cacheable_json_home_document(caller: Caller) -> None:
    answer = caller("GET", "/v2/")

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json-home")
    assert answer.headers["Cache-Control"] == "max-age=86400"
    assert list(answer.json) == ["resources"]


def test_everything_home_names_is_below_v2(caller: Caller) -> None:
    for name, resource in caller("GET", "/v2/").json["resources"].items():
        assert name.startswith("rel/")
        assert resource.get("href-template", resource.get("href", "")).startswith("/v2"), name
        assert resource["hints"]["allow"], name
        assert resource["hints"]["formats"] == {"application/json": {}}, name


@pytest.mark.parametrize("name", RELATIONS)
def test_home_has_the_relation(caller: Caller, name: str) -> None:
    template, methods, variables = RELATIONS[name]

    resource: dict[str, Any] = caller("GET", "/v2/").json["resources"][f"rel/{name}"]

    assert resource["href-template"] == template
    assert set(resource["hints"]["allow"]) == methods
    assert resource.get("href-vars", {}) == variables
    assert resource["hints"].get("accept-post") == (["application/json"] if name in ACCEPT_POST else None)


def test_home_names_health_in_admin_mode_only(caller: Caller, servers: ServerPool, project: str) -> None:
    admin = servers.get("--store", "memory:", admin_mode="true")

    assert "rel/health" not in caller("GET", "/v2/").json["resources"]
    resources = Caller(admin.host, admin.port, project=project)("GET", "/v2/").json["resources"]
    assert resources["rel/health"]["href"] == "/v2/health"
    assert "href-template" not in resources["rel/health"]


def test_ping_answers_without_a_body(caller: Caller) -> None:
    for method in ("GET", "HEAD"):
        answer = caller(method, "/v2/ping")
        assert (answer.status, answer.body) == (204, b"")


@pytest.mark.parametrize("store", ["memory:", None], ids=["memory", "embedded"])
def test_health_tries_every_operation(servers: ServerPool, project: str, store: str | None) -> None:
    server = servers.get(*(["--store", store] if store else []), admin_mode="true")
    caller = Caller(server.host, server.port, project=project)
    caller("POST", "/v2/queues/q/messages", {"messages": [{"body": n} for n in range(4)]})
    caller("POST", "/v2/queues/q/claims?limit=3")

    answer = caller("GET", "/v2/health", headers={"X-Roles": "admin"})

    assert answer.status == 200
    assert answer.json["storage_reachable"] is True
    volume = answer.json["message_volume"]
    assert volume["claimed"] >= 3
    assert volume["free"] >= 1
    assert volume["total"] == volume["free"] + volume["claimed"]
    status = answer.json["operation_status"]
    assert list(status) == [
        "create_queue",
        "post_messages",
        "claim_messages",
        "list_messages",
        "delete_messages",
        "delete_claim",
        "bulk_delete_messages",
        "delete_queue",
    ]
    for name, operation in status.items():
        assert operation["succeeded"] is True, name
        assert operation["ref"] is None, name
        assert isinstance(operation["seconds"], float), name
        assert operation["seconds"] >= 0, name


def test_health_leaves_nothing_behind(start_server: Callable[..., ServerProcess], project: str) -> None:
    server = start_server("--store", "memory:", admin_mode="true")
    caller = Caller(server.host, server.port, project=project)

    first = caller("GET", "/v2/health", headers={"X-Roles": "admin"}).json["message_volume"]
    second = caller("GET", "/v2/health", headers={"X-Roles": "admin"}).json["message_volume"]

    assert first == second == {"free": 0, "claimed": 0, "total": 0}
    assert caller("GET", "/v2/queues?with_count=true").json == {"queues": [], "links": [], "count": 0}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v2/"),
        ("GET", "/v2/queues"),
        ("OPTIONS", "/v2/queues"),
        ("HEAD", "/v2/queues"),
        ("GET", "/unknown"),
        ("PUT", "/v2/queues/b@d"),
        ("DELETE", "/v2/queues"),
    ],
)
def test_every_answer_has_a_request_id_of_its_own(caller: Caller, method: str, path: str) -> None:
    given = f"req-{uuid.uuid4()}"

    ids = [
        caller(method, path, headers={"X-Request-ID": given, "X-OpenStack-Request-ID": given}).headers[
            "x-openstack-request-id"
        ]
        for _ in range(2)
    ]

    assert all(re.fullmatch(f"req-{UUID}", each) for each in ids)
    assert len({given, *ids}) == 3


def test_request_ids_are_there_once(caller: Caller) -> None:
    for path in ("/v2/ping", "/unknown", "/v2/queues?limit=x"):
        assert len(caller("GET", path).headers.get_all("x-openstack-request-id", [])) == 1
