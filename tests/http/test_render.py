"""Answers as they travel: keys, links, ages, checksums."""

from typing import Any

import pytest
from asgi_caller import Web

from sukkal.wire.checksum import checksum

MESSAGE_KEYS = ["id", "href", "ttl", "age", "body"]


@pytest.mark.parametrize(
    "body, md5",
    [
        (b'{"k": "v"}', "180e4758e293f0a9970762a970fb0dfb"),
        (b'{"k":"v"}', "180e4758e293f0a9970762a970fb0dfb"),
        (b'{ "k"\n:\t"v" }', "180e4758e293f0a9970762a970fb0dfb"),
        ('"é"'.encode(), "d1aad59345f1f37ecc833dabc76ec5ef"),
        (b'"\\u00e9"', "d1aad59345f1f37ecc833dabc76ec5ef"),
        (b"1", "c4ca4238a0b923820dcc509a6f75849b"),
    ],
)
def test_checksum_is_of_the_canonical_text(body: bytes, md5: str) -> None:
    assert checksum(body) == f"MD5:{md5}"


def test_checksum_follows_the_order_of_keys_and_tells_numbers_apart() -> None:
    assert checksum(b'{"a": 1, "b": 2}') != checksum(b'{"b": 2, "a": 1}')
    assert checksum(b"1") != checksum(b"1.0")


@pytest.mark.parametrize("enabled", [True, False])
async def test_checksums_are_shown_everywhere_when_enabled_and_never_for_null(enabled: bool) -> None:
    web = Web(checksums=enabled)
    path = "/v2/queues/q/messages"
    full, null = await web.post("q", {"k": "v"}, None)
    id = full.rpartition("/")[2]
    claimed = await web.ask("POST /v2/queues/q/claims", {})
    shown = [
        *(await web.ask(f"GET {path}?echo=1&include_claimed=1")).document["messages"],
        *(await web.ask(f"GET {path}?ids={id}")).document["messages"],
        (await web.ask(f"GET {full}")).document,
        (await web.ask(f"GET {null}")).document,
        *claimed.document["messages"],
        *(await web.ask(f"GET {claimed.headers['location']}")).document["messages"],
    ]
    await web.ask(f"DELETE {claimed.headers['location']}")
    shown += (await web.ask(f"DELETE {path}?pop=2")).document["messages"]
    assert len(shown) == 11
    for message in shown:
        if enabled and message["body"] is not None:
            assert message["checksum"] == "MD5:180e4758e293f0a9970762a970fb0dfb"
        else:
            assert "checksum" not in message


async def test_message_has_no_other_keys(web: Web) -> None:
    (href,) = await web.post("q", {"n": 7})
    web.now += 12.9
    message = (await web.ask(f"GET {href}")).document
    assert list(message) == MESSAGE_KEYS
    assert message == {
        "id": href.rpartition("/")[2],
        "href": href,
        "ttl": 3600,
        "age": 12,
        "body": {"n": 7},
    }


async def test_claim_is_named_last_and_alone_in_a_messages_link(web: Web) -> None:
    await web.post("q", 1)
    claimed = await web.ask("POST /v2/queues/q/claims", {})
    assert claimed.status == 201
    claim = claimed.headers["location"].rpartition("/")[2]
    assert claimed.headers["location"] == f"/v2/queues/q/claims/{claim}"
    (message,) = claimed.document["messages"]
    assert message["href"] == f"/v2/queues/q/messages/{message['id']}?claim_id={claim}"
    assert list(message) == MESSAGE_KEYS
    assert list(claimed.document) == ["messages"]
    assert (await web.ask(f"GET {message['href']}")).document == message


async def test_claim_that_finds_nothing_has_no_location_and_no_body(web: Web) -> None:
    reply = await web.ask("POST /v2/queues/q/claims")
    assert (reply.status, reply.body) == (204, b"")
    assert "location" not in reply.headers


async def test_claim_shows_its_age_since_it_was_last_renewed(web: Web) -> None:
    await web.post("q", 1)
    location = (await web.ask("POST /v2/queues/q/claims", {"ttl": 100})).headers["location"]
    web.now += 19.5
    document = (await web.ask(f"GET {location}")).document
    assert list(document) == ["age", "ttl", "messages", "href"]
    assert (document["age"], document["ttl"], document["href"]) == (19, 100, location)
    await web.ask(f"PATCH {location}", {"ttl": 60})
    document = (await web.ask(f"GET {location}")).document
    assert (document["age"], document["ttl"]) == (0, 60)


async def test_age_is_never_negative(web: Web) -> None:
    (href,) = await web.post("q", 1)
    web.now -= 100
    assert (await web.ask(f"GET {href}")).document["age"] == 0


async def test_post_answers_links_in_the_order_of_the_request(web: Web) -> None:
    reply = await web.ask("POST /v2/queues/q/messages", {"messages": [{"body": 1}, {"body": 2}]})
    resources = reply.document["resources"]
    assert list(reply.document) == ["resources"]
    ids = [href.removeprefix("/v2/queues/q/messages/") for href in resources]
    assert reply.headers["location"] == f"/v2/queues/q/messages?ids={','.join(ids)}"
    found = (await web.ask(f"GET {reply.headers['location']}")).document
    assert list(found) == ["messages"]
    assert [message["body"] for message in found["messages"]] == [1, 2]


async def test_popped_message_has_its_own_keys(web: Web) -> None:
    await web.post("q", 1)
    (message,) = (await web.ask("DELETE /v2/queues/q/messages?pop=1")).document["messages"]
    assert list(message) == ["id", "age", "ttl", "body", "claim_id", "claim_count"]
    assert (message["claim_id"], message["claim_count"]) == (None, 0)
    assert (await web.ask("DELETE /v2/queues/q/messages?pop=1")).document == {"messages": []}


async def test_stats_show_the_ends_only_when_there_are_any(web: Web) -> None:
    empty = {"messages": {"claimed": 0, "free": 0, "total": 0}}
    assert (await web.ask("GET /v2/queues/q/stats")).document == empty
    first, second = await web.post("q", 1, 2)
    web.now += 88.5
    await web.ask("POST /v2/queues/q/claims?limit=1")
    assert (await web.ask("GET /v2/queues/q/stats")).document == {
        "messages": {
            "claimed": 1,
            "free": 1,
            "total": 2,
            "oldest": {"href": first, "age": 88, "created": "2027-01-15T08:00:00Z"},
            "newest": {"href": second, "age": 88, "created": "2027-01-15T08:00:00Z"},
        }
    }


async def test_creating_a_queue_answers_its_place_and_no_body(web: Web) -> None:
    for status in (201, 204):
        reply = await web.ask("PUT /v2/queues/q", {"a": 1})
        assert (reply.status, reply.body) == (status, b"")
        assert reply.headers["location"] == "/v2/queues/q"


async def test_detailed_listing_shows_what_a_read_shows(web: Web) -> None:
    await web.ask("PUT /v2/queues/q", {"a": 1, "_default_message_ttl": 99})
    page = (await web.ask("GET /v2/queues?detailed=true&with_count=true")).document
    read = (await web.ask("GET /v2/queues/q")).document
    assert page["queues"] == [{"name": "q", "href": "/v2/queues/q", "metadata": read}]
    assert page["count"] == 1
    plain = (await web.ask("GET /v2/queues")).document
    assert plain["queues"] == [{"name": "q", "href": "/v2/queues/q"}]
    assert "count" not in plain


@pytest.mark.parametrize("body", [None, False, 0, "", [], {}, 1.5, "é\x00\u2028", {"b": 1, "a": [None]}])
async def test_body_comes_back_as_it_was_posted(web: Web, body: Any) -> None:
    (href,) = await web.post("q", body)
    read = (await web.ask(f"GET {href}")).document["body"]
    assert read == body
    assert type(read) is type(body)


async def test_health_document_has_the_apis_form() -> None:
    web = Web(admin_mode=True)
    document = (await web.ask("GET /v2/health", x_roles="admin")).document
    assert {"storage_reachable", "operation_status", "message_volume"} <= set(document)
    assert document["message_volume"] == {"free": 0, "claimed": 0, "total": 0}
    for outcome in document["operation_status"].values():
        assert list(outcome) == ["succeeded", "seconds", "ref"]
