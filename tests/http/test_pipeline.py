"""Every request passes the same steps in the same order; the first fault is the one reported."""

import logging
import re
import uuid
from typing import Any

import pytest
from asgi_caller import CLIENT, IDENTITY, Reply, Web, whole

FAULTS = [
    # what is wrong, in the order of the specification; each row keeps the faults of those after it
    ("path", (404, "404 Not Found")),
    ("content type", (400, "Invalid Content-Type")),
    ("accept", (406, "406 Not Acceptable")),
    ("client", (400, "Missing header value")),
    ("project", (400, "Project-Id Missing")),
    ("queue", (400, "Invalid queue identification")),
    ("method", (405, "405 Method Not Allowed")),
]


@pytest.mark.parametrize("first", range(len(FAULTS)), ids=[name for name, _ in FAULTS])
async def test_request_with_many_faults_reports_the_first(web: Web, first: int) -> None:
    wrong = {name for name, _ in FAULTS[first:]}
    queue = "a b" if "queue" in wrong else "q"
    path = f"/v2/queues/{queue}/messages" + ("/" * 2 if "path" in wrong else "")
    headers: dict[str, Any] = (
        {"content_type": "application/x-www-form-urlencoded"} if "content type" in wrong else {}
    )
    if "accept" in wrong:
        headers["accept"] = "text/html"
    identity = {
        name: value
        for name, value in IDENTITY.items()
        if not (name == "client-id" and "client" in wrong)
        and not (name == "x-project-id" and "project" in wrong)
    }
    method = "PUT" if "method" in wrong else "POST"
    reply = await web.ask(f"{method} {path}?limit=x", b"{", identity=identity, **headers)
    assert reply.fault == FAULTS[first][1]
    assert await web.queues() == []


async def test_policy_comes_before_query_and_body() -> None:
    web = Web(admin_mode=True)
    reply = await web.ask("GET /v2/health?limit=x")
    assert reply.fault == (403, "Not authorized")
    assert (await web.ask("GET /v2/health", x_roles="member, Admin")).status == 200


async def test_query_comes_before_body(web: Web) -> None:
    reply = await web.ask("POST /v2/queues/q/claims?limit=x", b"{")
    assert reply.fault == (400, "Invalid parameter")


async def test_size_comes_before_media_type_and_parsing(web: Web) -> None:
    reply = await web.ask("PATCH /v2/queues/q", b"{" * 70_000)
    assert reply.fault == (400, "Invalid request body")
    assert "too large" in reply.document["description"]


async def test_admin_routes_do_not_exist_outside_admin_mode(web: Web) -> None:
    assert (await web.ask("GET /v2/health", x_roles="admin")).fault == (404, "404 Not Found")
    assert (await web.ask("GET /v2/health", identity={})).fault == (404, "404 Not Found")


async def test_versions_need_no_headers(web: Web) -> None:
    reply = await web.ask("GET /", identity={}, accept="text/html")
    assert reply.status == 300
    assert [version["id"] for version in reply.document["versions"]] == ["2"]
    assert (await web.ask("POST /", identity={})).fault == (405, "405 Method Not Allowed")


async def test_ping_and_home_need_client_and_project(web: Web) -> None:
    for path in ("/v2/ping", "/v2/"):
        assert (await web.ask(f"GET {path}", identity={})).fault == (400, "Missing header value")
        assert (await web.ask(f"GET {path}", identity={"client-id": CLIENT})).fault == (
            400,
            "Project-Id Missing",
        )


@pytest.mark.parametrize("path", ["/", "/v2/", "/v2/ping", "/v2/queues", "/v2/queues/q/messages/x"])
async def test_options_answer_empty_without_headers(web: Web, path: str) -> None:
    reply = await web.ask(f"OPTIONS {path}", identity={})
    assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize(
    "path, allow",
    [
        ("/v2/queues", "GET, OPTIONS"),
        ("/v2/queues/q", "DELETE, GET, PATCH, PUT, OPTIONS"),
        ("/v2/queues/q/messages", "DELETE, GET, POST, OPTIONS"),
        ("/v2/queues/q/claims", "POST, OPTIONS"),
        ("/v2/queues/q/claims/c", "DELETE, GET, PATCH, OPTIONS"),
        ("/v2/", "GET, OPTIONS"),
    ],
)
async def test_other_methods_are_refused_with_those_allowed(web: Web, path: str, allow: str) -> None:
    for method in ("TRACE", "HEAD"):
        reply = await web.ask(f"{method} {path}")
        assert (reply.status, reply.document) == (405, {"title": "405 Method Not Allowed"})
        assert reply.headers["allow"] == allow


async def test_head_of_ping_is_answered(web: Web) -> None:
    assert (await web.ask("HEAD /v2/ping")).status == 204


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/queues/q/",
        "/v2//queues",
        "/v1/queues",
        "/v2/queues/q/nothing",
        "",
    ],
)
async def test_unknown_path_is_not_found_and_asks_for_no_headers(web: Web, path: str) -> None:
    reply = await web.ask(f"GET {path}", identity={})
    assert (reply.status, reply.document) == (404, {"title": "404 Not Found"})


async def test_empty_id_is_an_unknown_message_not_an_unknown_path(web: Web) -> None:
    assert (await web.ask("GET /v2/queues/q/messages/")).fault == (404, "Not found")


@pytest.mark.parametrize("name", ["", "{}", "{queue_name}", "a b", "é", "x" * 65, "a%20b", "\x00", "*"])
async def test_impossible_queue_name_is_refused_on_every_route_that_has_one(web: Web, name: str) -> None:
    for rest in ("", "/stats", "/messages", "/messages/x", "/claims/x"):
        reply = await web.ask(f"GET /v2/queues/{name}{rest}")
        assert reply.fault == (400, "Invalid queue identification"), rest


@pytest.mark.parametrize("id", ["{}", "{message_id}", "é", "x" * 5000, "..", "\x00"])
async def test_strange_ids_are_merely_unknown(web: Web, id: str) -> None:
    await web.post("q", 1)
    assert (await web.ask(f"GET /v2/queues/q/messages/{id}")).fault == (404, "Not found")
    assert (await web.ask(f"DELETE /v2/queues/q/messages/{id}")).status == 204
    assert (await web.ask(f"GET /v2/queues/q/claims/{id}")).fault == (404, "Not found")
    assert (await web.ask(f"DELETE /v2/queues/q/claims/{id}")).status == 204


async def test_project_may_be_long_only_where_no_queue_is_named(web: Web) -> None:
    for project, status in (("x" * 256, 200), ("x" * 257, 400)):
        identity = {**IDENTITY, "x-project-id": project}
        assert (await web.ask("GET /v2/queues/q", identity=identity)).status == status
        assert (await web.ask("GET /v2/queues", identity=identity)).status == 200


async def test_repeated_header_counts_as_joined(web: Web) -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v2/queues",
        "query_string": b"",
        "headers": [
            (b"client-id", CLIENT.encode()),
            (b"x-project-id", b"acme"),
            (b"accept", b"text/html"),
            (b"accept", b"application/json"),
            (b"client-id", CLIENT.encode()),
        ],
    }
    reply = Reply()
    await web.app(scope, whole(b"").receive, reply.send)
    assert reply.fault == (400, "Wrong UUID value")


# --- answers -------------------------------------------------------------------------------------------


async def test_every_answer_bears_a_request_id_of_its_own(web: Web) -> None:
    given = set()
    for line in ("GET /", "GET /nowhere", "GET /v2/queues", "OPTIONS /v2/queues", "POST /v2/queues/q/claims"):
        for _ in range(2000):
            given.add((await web.ask(line)).headers["x-openstack-request-id"])
    assert len(given) == 10_000
    for id in given:
        assert re.fullmatch(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", id)
        read = uuid.UUID(id[4:])
        assert (read.version, read.variant) == (4, uuid.RFC_4122)


async def test_callers_request_id_is_ignored(web: Web) -> None:
    reply = await web.ask("GET /", x_openstack_request_id="req-mine", x_request_id="req-mine")
    assert reply.headers["x-openstack-request-id"] != "req-mine"


async def test_errors_vary_by_accept_and_declare_their_length(web: Web) -> None:
    for line in ("GET /nowhere", "TRACE /v2/queues", "GET /v2/queues/q/messages/x"):
        reply = await web.ask(line)
        assert reply.headers["vary"] == "Accept"
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["content-length"] == str(len(reply.body))
        assert set(reply.document) <= {"title", "description"}


async def test_answer_without_content_has_a_media_type_and_no_length(web: Web) -> None:
    reply = await web.ask("DELETE /v2/queues/q")
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["content-type"] == "application/json"
    assert "content-length" not in reply.headers


async def test_fault_of_ours_is_logged_and_not_echoed(
    web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def bug(*_args: Any) -> None:
        raise RuntimeError("password is swordfish")

    monkeypatch.setattr(web.service, "call", bug)
    with caplog.at_level(logging.ERROR):
        reply = await web.ask("GET /v2/queues")
    assert reply.fault == (500, "Internal server error")
    assert b"swordfish" not in reply.body
    assert reply.headers["x-openstack-request-id"] in reply.document["description"]
    (record,) = [record for record in caplog.records if record.name == "sukkal.http.app"]
    assert record.exc_info is not None
    assert record.__dict__["request_id"] == reply.headers["x-openstack-request-id"]


async def test_clock_is_asked_once_for_each_request(web: Web) -> None:
    times = iter([100.0, 163.9])
    web.app = type(web.app)(web.service, clock=lambda: next(times))
    await web.post("q", 1)
    listed = await web.ask("GET /v2/queues/q/messages?echo=1")
    assert listed.document["messages"][0]["age"] == 63


async def test_two_spellings_of_a_client_are_one_client(web: Web) -> None:
    await web.post("q", 1)
    for spelling in (CLIENT.upper(), CLIENT.replace("-", ""), f"{{{CLIENT}}}", f"urn:uuid:{CLIENT}"):
        identity = {**IDENTITY, "client-id": spelling}
        assert (await web.ask("GET /v2/queues/q/messages", identity=identity)).document["messages"] == []
