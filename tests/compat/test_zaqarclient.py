"""python-zaqarclient drives the service unchanged. Quirks are those of clients.md."""

import uuid
from typing import Any

import pytest
from http_caller import Caller
from server_process import ServerPool, ServerProcess
from zaqarclient.queues import client as zaqar
from zaqarclient.queues.v2.client import Client
from zaqarclient.transport import errors

DEFAULTS = {
    "_max_messages_post_size": 262144,
    "_default_message_ttl": 3600,
    "_default_message_delay": 0,
    "_dead_letter_queue": None,
    "_dead_letter_queue_messages_ttl": None,
    "_max_claim_count": None,
    "_enable_encrypt_messages": False,
}


def numbered(count: int, ttl: int = 300) -> list[dict[str, Any]]:
    return [{"body": n, "ttl": ttl} for n in range(count)]


# --- queues ------------------------------------------------------------------------------------------------


def test_a_queue_is_created_seen_and_deleted(zaqar_client: Client) -> None:
    """Quirk 5: every request says it is JSON, also those without a body."""
    queue = zaqar_client.queue("orders", force_create=True)
    queues, _ = zaqar_client.queues()
    assert [each.name for each in queues] == ["orders"]

    queue.delete()
    queues, _ = zaqar_client.queues()
    assert list(queues) == []


def test_exists_says_yes(zaqar_client: Client) -> None:
    """Quirk 10: HEAD gets 405, which the client reads as yes; 404 would be no."""
    assert zaqar_client.queue("orders", force_create=True).exists() is True


def test_metadata_of_a_new_queue_are_the_defaults(zaqar_client: Client) -> None:
    assert zaqar_client.queue("orders", force_create=True).metadata() == DEFAULTS


def test_metadata_are_set_changed_and_cleared(zaqar_client: Client) -> None:
    """Quirk 11: every other key the client saw is removed, filled-in defaults included.

    (The client adds and then removes a key that it saw as null, so such a key cannot be set this way.)
    """
    queue = zaqar_client.queue("orders", force_create=True)

    queue.metadata(new_meta={"team": "blue", "_default_message_ttl": 120, "_default_message_delay": 5})
    assert queue.metadata(force_reload=True) == DEFAULTS | {
        "team": "blue",
        "_default_message_ttl": 120,
        "_default_message_delay": 5,
    }

    queue.metadata(new_meta={"team": "red", "size": 5})
    assert queue.metadata(force_reload=True) == DEFAULTS | {"team": "red", "size": 5}

    queue.metadata(new_meta={})
    assert queue.metadata(force_reload=True) == DEFAULTS


def test_metadata_of_a_missing_queue_cannot_be_set(zaqar_client: Client) -> None:
    with pytest.raises(errors.ResourceNotFound, match="orders"):
        zaqar_client.queue("orders").metadata(new_meta={"team": "blue"})


def test_bad_metadata_are_refused_with_a_text(zaqar_client: Client) -> None:
    queue = zaqar_client.queue("orders", force_create=True)

    with pytest.raises(errors.MalformedRequest, match="1209600"):
        queue.metadata(new_meta={"_default_message_ttl": 1})

    assert queue.metadata(force_reload=True) == DEFAULTS


@pytest.mark.parametrize("params", [{}, {"limit": 4}, {"limit": 20}, {"limit": 5, "detailed": True}])
def test_queues_are_streamed_to_the_end(zaqar_client: Client, params: dict[str, Any]) -> None:
    """Quirks 3, 4, 6 and 28: next links are relative, hold no braces, and lead to an empty page."""
    names = [f"queue-{n:02}" for n in range(23)]
    for name in names:
        zaqar_client.queue(name, force_create=True)

    queues, _ = zaqar_client.queues(**params)

    assert [queue.name for queue in queues.stream()] == names


def test_queues_are_counted_and_filtered(zaqar_client: Client) -> None:
    for name in ("orders-eu", "orders-us", "returns"):
        zaqar_client.queue(name, force_create=True)

    _, count = zaqar_client.queues(with_count=True, limit=1)
    assert count == 3
    queues, count = zaqar_client.queues(with_count=True, name="orders")
    assert ([queue.name for queue in queues], count) == (["orders-eu", "orders-us"], 2)
    queues, count = zaqar_client.queues(detailed=True, marker="orders-us")
    assert [(queue.name, queue.metadata()) for queue in queues] == [("returns", DEFAULTS)]
    assert count is None


def test_names_with_v_and_2_survive_the_way_the_client_follows_links(zaqar_client: Client) -> None:
    """Quirk 3: the client strips leading characters of the set "/v2" from hrefs."""
    for name in ("2v", "v2", "v"):
        queue = zaqar_client.queue(name, force_create=True)
        queue.post(numbered(3))
    queues, _ = zaqar_client.queues(limit=1)
    assert [queue.name for queue in queues.stream()] == ["2v", "v", "v2"]
    assert len(list(zaqar_client.queue("v2").messages(echo=True, limit=1).stream())) == 3


def test_stats_follow_posts_and_claims(zaqar_client: Client) -> None:
    queue = zaqar_client.queue("orders")
    assert queue.stats == {"messages": {"claimed": 0, "free": 0, "total": 0}}
    queue.post(numbered(3))
    queue.claim(limit=1, ttl=60, grace=60)

    stats = queue.stats["messages"]

    assert (stats["claimed"], stats["free"], stats["total"]) == (1, 2, 3)
    assert set(stats["oldest"]) == set(stats["newest"]) == {"href", "age", "created"}


@pytest.mark.parametrize("types", [None, ["messages"], ["messages", "subscriptions"]])
def test_a_purge_empties_the_queue(zaqar_client: Client, types: list[str] | None) -> None:
    queue = zaqar_client.queue("orders")
    queue.post(numbered(3))
    queue.claim(limit=1)

    queue.purge(resource_types=types)

    assert queue.stats["messages"]["total"] == 0


def test_a_purge_of_subscriptions_keeps_messages(zaqar_client: Client) -> None:
    queue = zaqar_client.queue("orders")
    queue.post(numbered(3))
    queue.purge(resource_types=["subscriptions"])
    assert queue.stats["messages"]["total"] == 3


# --- messages ----------------------------------------------------------------------------------------------


def test_messages_are_posted_and_read(zaqar_client: Client) -> None:
    queue = zaqar_client.queue("orders")
    body = {"order": 7, "note": "é", "nothing": None}

    (href,) = queue.post({"body": body, "ttl": 300})["resources"]

    message = queue.message(href.rpartition("/")[2])
    assert (message.body, message.ttl, message.href) == (body, 300, href)
    assert message.age >= 0
    assert message.claim_id is None


def test_own_messages_are_listed_with_echo_only(zaqar_client: Client, other_zaqar_client: Client) -> None:
    """Quirks 6 (True and False) and 8 (a client id without dashes)."""
    queue = zaqar_client.queue("orders")
    queue.post(numbered(2))

    assert list(queue.messages()) == []
    assert list(queue.messages(echo=False)) == []
    assert [message.body for message in queue.messages(echo=True)] == [0, 1]
    assert [message.body for message in other_zaqar_client.queue("orders").messages()] == [0, 1]


@pytest.mark.parametrize("params", [{"limit": 3}, {"limit": 20}, {"limit": 5, "include_claimed": True}, {}])
def test_messages_are_streamed_to_the_end(zaqar_client: Client, params: dict[str, Any]) -> None:
    """Quirks 2 (no unknown keys), 3, 4 and 28."""
    queue = zaqar_client.queue("orders")
    queue.post(numbered(25))

    assert [m.body for m in queue.messages(echo=True, **params).stream()] == list(range(25))


def test_claimed_messages_name_their_claim_in_a_listing(zaqar_client: Client) -> None:
    """Quirk 1: the claim id is what follows the last "="."""
    queue = zaqar_client.queue("orders")
    queue.post(numbered(3))
    claim = queue.claim(ttl=300, grace=60, limit=2)

    listed = list(queue.messages(echo=True, include_claimed=True))

    assert [message.claim_id for message in listed] == [claim.id, claim.id, None]
    assert [message.body for message in queue.messages(echo=True)] == [2]


def test_messages_are_read_by_ids(zaqar_client: Client) -> None:
    """Quirk 7: ids are repeated parameters."""
    queue = zaqar_client.queue("orders")
    ids = [href.rpartition("/")[2] for href in queue.post(numbered(4))["resources"]]

    assert [message.body for message in queue.messages(ids[2], ids[0], "unknown")] == [2, 0]
    with pytest.raises(errors.ResourceNotFound, match="unknown"):
        queue.messages("unknown")


def test_messages_are_deleted_one_by_one_and_by_ids(zaqar_client: Client) -> None:
    queue = zaqar_client.queue("orders")
    ids = [href.rpartition("/")[2] for href in queue.post(numbered(4))["resources"]]

    queue.message(ids[0]).delete()
    queue.delete_messages(ids[1], ids[2])

    assert [message.body for message in queue.messages(echo=True)] == [3]
    with pytest.raises(errors.ResourceNotFound):
        queue.message(ids[0])


def test_pop_takes_messages_away(zaqar_client: Client) -> None:
    """Quirk 2: popped messages hold claim_id and claim_count, and no href."""
    queue = zaqar_client.queue("orders")
    queue.post(numbered(5))

    assert [message.body for message in queue.pop()] == [0]
    popped = list(queue.pop(count=3))
    assert [(message.body, message.ttl, message.href) for message in popped] == [
        (n, 300, None) for n in (1, 2, 3)
    ]
    assert [message.body for message in queue.pop(count=20)] == [4]
    assert list(queue.pop(count=20)) == []


def test_bad_messages_are_refused_with_a_text(zaqar_client: Client) -> None:
    queue = zaqar_client.queue("orders")
    for bad, fact in (
        ({"body": 1, "ttl": 59}, "1209600"),
        ({"ttl": 60}, "body"),
        ({"body": 1, "ttl": "x"}, "ttl"),
        ({"body": "x" * 262144}, "262144"),
    ):
        with pytest.raises(errors.MalformedRequest, match=fact):
            queue.post(bad)
    assert queue.stats["messages"]["total"] == 0


# --- claims ------------------------------------------------------------------------------------------------


def test_a_claim_is_taken_iterated_renewed_and_released(zaqar_client: Client) -> None:
    queue = zaqar_client.queue("orders")
    queue.post(numbered(3, ttl=3600))

    claim = queue.claim(ttl=300, grace=60, limit=2)
    messages = list(claim)
    assert [message.body for message in messages] == [0, 1]
    assert {message.claim_id for message in messages} == {claim.id}
    assert claim.age >= 0

    claim.update(ttl=500, grace=70)
    found = queue.claim(id=claim.id)
    assert (found.ttl, [message.body for message in found]) == (500, [0, 1])
    claim.update()
    assert queue.claim(id=claim.id).ttl == 300

    claim.delete()
    with pytest.raises(errors.ResourceNotFound):
        claim.update(ttl=100)
    assert [message.body for message in queue.messages(echo=True)] == [0, 1, 2]


def test_a_claim_without_arguments_takes_defaults(zaqar_client: Client) -> None:
    """Quirk 9: the client posts nulls."""
    queue = zaqar_client.queue("orders")
    queue.post(numbered(1))

    claim = queue.claim()

    assert queue.claim(id=claim.id).ttl == 300


def test_a_claim_of_an_empty_queue_is_empty(zaqar_client: Client) -> None:
    claim = zaqar_client.queue("orders").claim(ttl=60, grace=60)

    assert claim.id is None
    assert list(claim) == []


def test_a_message_of_a_claim_is_deleted_with_it(zaqar_client: Client) -> None:
    queue = zaqar_client.queue("orders")
    (href,) = queue.post(numbered(1))["resources"]
    seen_before = queue.message(href.rpartition("/")[2])
    (message,) = queue.claim(ttl=300, grace=60)

    with pytest.raises(errors.ForbiddenError, match="claim"):
        seen_before.delete()
    message.delete()

    assert queue.stats["messages"]["total"] == 0


def test_claims_do_not_belong_to_a_client(zaqar_client: Client, other_zaqar_client: Client) -> None:
    """Quirk 24."""
    queue = zaqar_client.queue("orders")
    queue.post(numbered(1))
    claim = queue.claim(ttl=300, grace=60)

    theirs = other_zaqar_client.queue("orders").claim(id=claim.id)
    theirs.update(ttl=400)
    for message in theirs:
        message.delete()

    assert queue.stats["messages"]["total"] == 0


# --- the service itself ------------------------------------------------------------------------------------


def test_ping_says_yes(zaqar_client: Client) -> None:
    assert zaqar_client.ping() is True


def test_home_is_read(zaqar_client: Client) -> None:
    assert "rel/queues" in zaqar_client.homedoc()["resources"]


def test_health_of_a_node_without_admin_mode_is_not_there(zaqar_client: Client) -> None:
    with pytest.raises(errors.ResourceNotFound):
        zaqar_client.health()


def test_health_is_for_admins(servers: ServerPool, project: str) -> None:
    server = servers.get(admin_mode="true")
    options = {"auth_opts": {"backend": "noauth", "options": {"os_project_id": project}}}
    with pytest.raises(errors.ForbiddenError):
        zaqar.Client(server.url, version=2, conf=options).health()


def test_a_client_without_a_project_gets_one(durable_server: ServerProcess) -> None:
    client = zaqar.Client(durable_server.url, version=2, conf={"auth_opts": {"backend": "noauth"}})
    queue = client.queue(f"queue-{uuid.uuid4().hex}", force_create=True)
    queue.post(numbered(1))
    assert [message.body for message in queue.pop()] == [0]
    queue.delete()


# --- what other software sends -----------------------------------------------------------------------------


def test_tempest_cuts_locations_at_v2(durable_server: ServerProcess, project: str) -> None:
    """Quirk 25: no Content-Type, no Accept, and Location is cut at its first "/v2"."""
    caller = Caller(durable_server.host, durable_server.port, project=project)
    created = caller("PUT", "/v2/queues/v2", "{}")
    assert created.headers["Location"].split("/v2")[0] == ""
    posted = caller("POST", "/v2/queues/v2/messages", '{"messages": [{"body": 1}]}')
    assert caller("GET", posted.headers["Location"]).json["messages"][0]["body"] == 1


def test_curl_is_told_to_name_the_content_type(durable_server: ServerProcess, project: str) -> None:
    """Quirk 27: `curl -d` sends a form."""
    caller = Caller(durable_server.host, durable_server.port, project=project)
    form = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "*/*", "User-Agent": "curl/8.5.0"}

    answer = caller("POST", "/v2/queues/q/messages", '{"messages": [{"body": 1}]}', headers=form)

    assert answer.status == 400
    assert answer.json["title"] == "Invalid Content-Type"
    assert "Content-Type" in answer.json["description"]
