"""Webhooks with tokens, against an endpoint shaped like Keystone."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from http_caller import Caller
from server_process import ServerProcess
from ws_caller import Socket

from sukkal.core.context import Credentials
from sukkal.errors import Forbidden, Invalid, ServiceError, Unavailable
from sukkal.notify.addresses import Addresses
from sukkal.notify.deliverer import Outcome, Result
from sukkal.notify.sender import Sender
from sukkal.notify.target import Ports, Targets
from sukkal.notify.trust import Distrusted, Keystone, Trust, Unreachable
from sukkal.notify.webhook import Webhook

from .parcels import NOTICE, NOW, parcel
from .receiver import Receiver, answer, receiving


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return self.time


def written(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def token(text: str, *, expires: float = NOW + 3600, project: str | None = "acme") -> bytes:
    """The answer to a password. A token from a trust tells of its project, an unscoped one of none."""
    said: dict[str, Any] = {"expires_at": written(expires), "user": {"id": "trustee-id"}}
    if project is not None:
        said["project"] = {"id": project, "name": "its name", "domain": {"id": "default", "name": "Default"}}
    return answer(201, f"X-Subject-Token: {text}", body=msgspec.json.encode({"token": said}))


OWN = token("own", project=None)


def trust_for(project: str | None) -> bytes:
    """The answer to who asks for a trust."""
    said = {
        "id": "trust-1",
        "project_id": project,
        "trustor_user_id": "user-1",
        "trustee_user_id": "trustee-id",
        "impersonation": True,
        "expires_at": written(NOW + 3600),
        "roles": [{"id": "role-1", "name": "member"}],
    }
    return answer(200, body=msgspec.json.encode({"trust": said}))


def identity(receiver: Receiver, **options: Any) -> Keystone:
    url = f"http://127.0.0.1:{receiver.port}/v3/"
    return Keystone(url, user="sukkal", password="secret", domain="Services", **options)


@asynccontextmanager
async def trusting(keystone: Keystone, clock: Clock) -> AsyncIterator[Trust]:
    addresses = Addresses(["127.0.0.0/8"])
    webhook = Webhook(Sender(addresses), Targets(addresses, Ports()), [], clock.now)
    trust = Trust(webhook, keystone, clock.now)
    try:
        yield trust
    finally:
        await trust.close()
        await webhook.close()


def document(receiver: Receiver, number: int) -> Any:
    return msgspec.json.decode(receiver.received[number].body)


async def test_notice_is_posted_with_a_token_made_from_the_trust() -> None:
    async with (
        receiving(token("t-1")) as keystone,
        receiving() as receiver,
        trusting(identity(keystone), Clock()) as trust,
    ):
        headers = {"X-Auth-Token": "forged", "Content-Type": "text/plain", "X-Mine": "1"}
        sent = parcel("trust+" + receiver.url, trust_id="trust-1", post_headers=headers)
        assert await trust.deliver(sent) == Outcome(Result.DELIVERED)
    assert keystone.received[0].line == "POST /v3/auth/tokens HTTP/1.1"
    user = {"name": "sukkal", "domain": {"name": "Services"}, "password": "secret"}
    assert document(keystone, 0) == {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"OS-TRUST:trust": {"id": "trust-1"}},
        }
    }
    (received,) = receiver.received
    assert received.body == NOTICE
    assert received.header("x-auth-token") == "t-1"
    assert received.header("content-type") == "application/json"
    assert received.header("x-mine") == "1"


@pytest.mark.parametrize("its", ["globex", None])
async def test_token_for_another_project_is_sent_to_nobody(its: str | None) -> None:
    async with (
        receiving(token("t-1", project=its)) as keystone,
        receiving() as receiver,
        trusting(identity(keystone), Clock()) as trust,
    ):
        sent = parcel("trust+" + receiver.url, trust_id="a")
        for _ in range(2):
            outcome = await trust.deliver(sent)
            assert (outcome.result, "not for this project" in outcome.reason) == (Result.FAILED, True)
    assert len(keystone.received) == 1, "nor when it is known already"
    assert not receiver.received


async def test_token_is_used_until_shortly_before_its_end_and_by_its_trust_only() -> None:
    clock = Clock()
    answers = (token("t-1"), token("t-2"), token("t-3", expires=NOW + 9999))
    async with (
        receiving(*answers) as keystone,
        receiving() as receiver,
        trusting(identity(keystone), clock) as trust,
    ):
        for name in ("a", "a", "b", "a"):
            await trust.deliver(parcel("trust+" + receiver.url, trust_id=name))
        clock.time += 3590
        await trust.deliver(parcel("trust+" + receiver.url, trust_id="a"))
    tokens = [received.header("x-auth-token") for received in receiver.received]
    assert tokens == ["t-1", "t-1", "t-2", "t-1", "t-3"]


async def test_token_that_was_revoked_is_replaced_at_the_next_attempt() -> None:
    answers = (answer(200), answer(401), answer(200), answer(401))
    async with (
        receiving(token("t-1"), token("t-2"), token("t-3")) as keystone,
        receiving(*answers) as receiver,
        trusting(identity(keystone), Clock()) as trust,
    ):
        sent = parcel("trust+" + receiver.url, trust_id="a")
        results = [(await trust.deliver(sent)).result for _ in range(3)]
        fresh = parcel("trust+" + receiver.url, trust_id="b")
        assert (await trust.deliver(fresh)).result is Result.FAILED, "a new token does not help"
    assert results == [Result.DELIVERED, Result.RETRY, Result.DELIVERED]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
async def test_trust_that_the_identity_service_refuses_fails(status: int) -> None:
    async with (
        receiving(answer(status), OWN) as keystone,
        receiving() as receiver,
        trusting(identity(keystone), Clock()) as trust,
    ):
        outcome = await trust.deliver(parcel("trust+" + receiver.url, trust_id="a"))
    assert outcome == Outcome(Result.FAILED, f"the identity service answered {status}")
    assert document(keystone, 1)["auth"]["scope"] == "unscoped"
    assert not receiver.received


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_nothing_fails_for_good_while_this_service_is_not_let_in_itself(status: int) -> None:
    refused = answer(status)  # as with a password that was changed, or another address
    async with (
        receiving(refused, refused, token("t-1")) as keystone,
        receiving() as receiver,
        trusting(identity(keystone), Clock()) as trust,
    ):
        sent = parcel("trust+" + receiver.url, trust_id="a")
        outcome = await trust.deliver(sent)
        assert (outcome.result, "does not let this service in" in outcome.reason) == (Result.RETRY, True)
        assert await trust.deliver(sent) == Outcome(Result.DELIVERED)


@pytest.mark.parametrize(
    ("said", "result"),
    [
        (answer(408), Result.RETRY),
        (answer(429), Result.RETRY),
        (answer(500), Result.RETRY),
        (answer(302, "Location: http://127.0.0.1:1/"), Result.RETRY),
        (answer(201, body=b"{}"), Result.RETRY),
        (answer(201, "X-Subject-Token: t", body=b"[]"), Result.RETRY),
        (answer(201, "X-Subject-Token: t", body=b"no json"), Result.RETRY),
        (answer(201, "X-Subject-Token: t", body=b'{"token":{"expires_at":"soon"}}'), Result.RETRY),
        (b"no HTTP\r\n\r\n", Result.RETRY),
    ],
)
async def test_identity_service_that_gives_no_token_keeps_the_notice_from_being_sent(
    said: bytes, result: Result
) -> None:
    async with (
        receiving(said) as keystone,
        receiving() as receiver,
        trusting(identity(keystone), Clock()) as trust,
    ):
        outcome = await trust.deliver(parcel("trust+" + receiver.url, trust_id="a"))
    assert outcome.result is result
    assert "identity service" in outcome.reason
    assert not receiver.received


async def test_subscription_without_a_trust_fails() -> None:
    async with receiving() as keystone, trusting(identity(keystone), Clock()) as trust:
        for options in ({}, {"trust_id": 5}, {"trust_id": ""}):
            assert (
                await trust.deliver(parcel("trust+http://127.0.0.1:1024/", **options))
            ).result is Result.FAILED
    assert not keystone.received


async def test_uris_are_those_of_webhooks() -> None:
    async with receiving() as keystone, trusting(identity(keystone), Clock()) as trust:
        trust.check("trust+https://example.org/x")
        assert trust.host("trust+https://example.org/x") == "example.org:443"
        for uri in ("trust+http://10.0.0.1/", "trust+ftp://example.org/", "trust+http://example.org:25/"):
            with pytest.raises(Invalid):
                trust.check(uri)


async def test_trust_is_created_in_the_name_of_the_subscriber() -> None:
    created = answer(201, body=b'{"trust":{"id":"trust-9"}}')
    async with receiving(OWN, created, created) as keystone:
        service = identity(keystone)
        for _ in range(2):
            assert (
                await service.create_trust("theirs", "user-1", "acme", ["member", "reader"], NOW) == "trust-9"
            )
        await service.close()
    assert document(keystone, 0)["auth"]["scope"] == "unscoped"
    request = keystone.received[1]
    assert request.line == "POST /v3/OS-TRUST/trusts HTTP/1.1"
    assert request.header("x-auth-token") == "theirs"
    assert document(keystone, 1) == {
        "trust": {
            "trustor_user_id": "user-1",
            "trustee_user_id": "trustee-id",
            "project_id": "acme",
            "roles": [{"name": "member"}, {"name": "reader"}],
            "expires_at": written(NOW),
            "impersonation": True,
        }
    }
    assert len(keystone.received) == 3, "its own id is asked for once"


@pytest.mark.parametrize(("status", "fault"), [(403, Distrusted), (409, Distrusted), (503, Unreachable)])
async def test_trust_that_is_not_created_is_told(status: int, fault: type[Exception]) -> None:
    async with receiving(OWN, answer(status)) as keystone:
        service = identity(keystone)
        with pytest.raises(fault):
            await service.create_trust("theirs", "user-1", "acme", [], NOW)
        await service.close()


CREATED = answer(201, body=b'{"trust":{"id":"trust-9"}}')
CALLER = Credentials(token="theirs", user="user-1", roles=("Member", "reader"))


async def test_options_get_the_trust_that_was_made_of_them() -> None:
    async with receiving(OWN, CREATED) as keystone, trusting(identity(keystone), Clock()) as trust:
        given = {"batch": 2, "trust_id": None}
        made = await trust.entrust(given, CALLER, "acme", until=NOW + 600)
        assert made == {"batch": 2, "trust_id": "trust-9"}
    assert len(keystone.received) == 2


async def test_trust_that_is_given_is_looked_at() -> None:
    async with (
        receiving(OWN, trust_for("acme")) as keystone,
        trusting(identity(keystone), Clock()) as trust,
    ):
        given = {"trust_id": "trust-1"}
        assert await trust.entrust(given, None, "acme", until=NOW) == given
    assert document(keystone, 0)["auth"]["scope"] == "unscoped"
    request = keystone.received[1]
    assert request.line == "GET /v3/OS-TRUST/trusts/trust-1 HTTP/1.1"
    assert request.header("x-auth-token") == "own"
    assert request.body == b""


@pytest.mark.parametrize(
    ("said", "fault", "words"),
    [
        ([OWN, trust_for("globex")], Forbidden, "not for this project"),
        ([OWN, trust_for(None)], Forbidden, "not for this project"),
        ([OWN, answer(404)], Forbidden, "answered 404"),
        ([OWN, answer(403)], Forbidden, "answered 403"),
        ([OWN, answer(400)], Forbidden, "answered 400"),
        ([OWN, answer(500)], Unavailable, "answered 500"),
        ([OWN, answer(200, body=b'{"trust":[]}')], Unavailable, "not understood"),
        ([OWN, answer(200, body=b'{"trust":{"id":"t","project_id":"acme"}}')], Unavailable, "not understood"),
        ([answer(401)], Unavailable, "does not let this service in"),
        ([b"no HTTP\r\n\r\n"], Unavailable, "cannot be reached"),
    ],
)
async def test_trust_of_another_project_or_of_nobody_is_refused(
    said: list[bytes], fault: type[ServiceError], words: str
) -> None:
    async with receiving(*said) as keystone, trusting(identity(keystone), Clock()) as trust:
        with pytest.raises(fault, match=words):
            await trust.entrust({"trust_id": "trust-1"}, CALLER, "acme", until=NOW)


@pytest.mark.parametrize(
    ("said", "fault", "words"),
    [
        ([OWN, answer(401)], Forbidden, "X-Auth-Token"),
        ([OWN, answer(403)], Forbidden, "answered 403"),
        ([OWN, answer(500)], Unavailable, "answered 500"),
        ([OWN, answer(201, body=b"{}")], Unavailable, "not understood"),
        ([answer(401)], Unavailable, "does not let this service in"),
        ([b"no HTTP\r\n\r\n"], Unavailable, "cannot be reached"),
    ],
)
async def test_trust_that_cannot_be_made_is_told_to_who_can_do_something(
    said: list[bytes], fault: type[ServiceError], words: str
) -> None:
    async with receiving(*said) as keystone, trusting(identity(keystone), Clock()) as trust:
        with pytest.raises(fault, match=words):
            await trust.entrust({}, CALLER, "acme", until=NOW + 600)


async def test_trust_needs_an_id_or_somebody_who_trusts() -> None:
    async with receiving() as keystone, trusting(identity(keystone), Clock()) as trust:
        with pytest.raises(Invalid, match="X-Auth-Token"):
            await trust.entrust({}, None, "acme", until=NOW)
        for given in (5, "", ["a"], "..", "a/b", "a?b", "a b", "ä", "a" * 256):
            with pytest.raises(Invalid, match="trust_id"):
                await trust.entrust({"trust_id": given}, CALLER, "acme", until=NOW)
    assert not keystone.received


async def test_trust_may_be_named_by_who_trusts_and_by_no_other_user() -> None:
    said = (OWN, trust_for("acme"), OWN, trust_for("acme"))
    async with receiving(*said) as keystone, trusting(identity(keystone), Clock()) as trust:
        given = {"trust_id": "trust-1"}
        assert await trust.entrust(given, CALLER, "acme", until=NOW) == given
        other = Credentials(token="other's", user="user-2", roles=("Member",))
        with pytest.raises(Forbidden, match="another user than X-User-Id"):
            await trust.entrust(given, other, "acme", until=NOW)
    assert all(received.header("x-auth-token") in (None, "own") for received in keystone.received)


async def test_live_server_sends_a_users_tokens_where_no_other_user_wants_them(
    start_server: Callable[..., ServerProcess], project: str
) -> None:
    async with receiving(OWN, CREATED, OWN, trust_for(project)) as keystone:
        server = start_server(
            "--store",
            "memory:",
            identity_url=f"http://127.0.0.1:{keystone.port}/v3",
            trustee_password="secret",
        )
        caller = Caller(server.host, server.port, project=project)
        body = {"subscriber": "trust+https://hooks.example/", "ttl": 600, "options": {}}
        made = await asyncio.to_thread(caller, "POST", "/v2/queues/q/subscriptions", body, headers=SHOWN)
        id_ = made.json["subscription_id"]
        keystone.answers = [OWN, trust_for(project), OWN, trust_for(project)]
        other = SHOWN | {"X-User-Id": "user-2"}
        moved = {"subscriber": "trust+https://mine.example/"}

        def move(shown: dict[str, str]) -> Any:
            return caller("PATCH", f"/v2/queues/q/subscriptions/{id_}", moved, headers=shown)

        answered = await asyncio.to_thread(move, other)
        assert (answered.status, "X-User-Id" in answered.body.decode()) == (403, True)
        assert (await asyncio.to_thread(move, SHOWN)).status == 204
        caller.close()
        server.stop()


SHOWN = {"X-Auth-Token": "theirs", "X-User-Id": "user-1", "X-Roles": "Member, reader,Member"}


@pytest.mark.parametrize("by", ["http", "websocket"])
async def test_live_server_makes_a_trust_and_delivers_with_its_token(
    start_server: Callable[..., ServerProcess], project: str, by: str
) -> None:
    said = (OWN, CREATED, token("t-9", expires=time.time() + 3600, project=project))
    async with receiving(*said) as keystone, receiving() as receiver:
        server = start_server(
            "--store",
            "memory:",
            webhook_allow="127.0.0.0/8",
            identity_url=f"http://127.0.0.1:{keystone.port}/v3",
            trustee_password="secret",
        )
        caller = Caller(server.host, server.port, project=project)

        def subscribe(shown: dict[str, str]) -> tuple[int, str]:
            body = {"subscriber": f"trust+{receiver.url}", "ttl": 600, "options": {}}
            if by == "http":
                made = caller("POST", "/v2/queues/q/subscriptions", body, headers=shown)
                return made.status, made.body.decode()
            with Socket(server.host, server.port, project=project) as socket:
                reply = socket(
                    "subscription_create", {"queue_name": "q", **body}, headers=socket.identity | shown
                )
                return reply.status, str(reply.body)

        def post_and_list() -> Any:
            one = {"messages": [{"body": 1, "ttl": 300}]}
            assert caller("POST", "/v2/queues/q/messages", one).status == 201
            return caller("GET", "/v2/queues/q/subscriptions").json["subscriptions"]

        status, text = await asyncio.to_thread(subscribe, {})
        assert (status, "X-Auth-Token" in text) == (400, True), text
        before = time.time()
        status, text = await asyncio.to_thread(subscribe, SHOWN)
        assert status == 201, text
        (listed,) = await asyncio.to_thread(post_and_list)
        assert listed["options"] == {"trust_id": "trust-9"}
        await receiver.until(lambda it: len(it.received) == 1)
        caller.close()
        server.stop()
    assert receiver.received[0].header("x-auth-token") == "t-9"
    assert keystone.received[1].header("x-auth-token") == "theirs"
    asked = document(keystone, 1)["trust"]
    until = datetime.strptime(asked.pop("expires_at"), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert before + 595 <= until.timestamp() <= time.time() + 600
    assert asked == {
        "trustor_user_id": "user-1",
        "trustee_user_id": "trustee-id",
        "project_id": project,
        "roles": [{"name": "Member"}, {"name": "reader"}],
        "impersonation": True,
    }
    assert document(keystone, 2)["auth"]["scope"] == {"OS-TRUST:trust": {"id": "trust-9"}}


async def test_live_server_refuses_the_trust_of_another_project(
    start_server: Callable[..., ServerProcess], project: str
) -> None:
    async with receiving(OWN, trust_for("of-alice")) as keystone:
        server = start_server(
            "--store",
            "memory:",
            identity_url=f"http://127.0.0.1:{keystone.port}/v3",
            trustee_password="secret",
        )
        caller = Caller(server.host, server.port, project=project)
        options = {"trust_id": "trust-1"}
        body = {"subscriber": "trust+https://hooks.example/", "ttl": 600, "options": options}
        made = await asyncio.to_thread(caller, "POST", "/v2/queues/q/subscriptions", body)
        assert (made.status, "not for this project" in made.body.decode()) == (403, True)
        caller.close()
        server.stop()


async def test_live_server_without_its_identity_service_answers_503(
    start_server: Callable[..., ServerProcess], project: str
) -> None:
    server = start_server(
        "--store", "memory:", identity_url="http://127.0.0.1:1/v3", trustee_password="secret"
    )
    caller = Caller(server.host, server.port, project=project)
    body = {"subscriber": "trust+https://hooks.example/", "ttl": 600}
    made = await asyncio.to_thread(caller, "POST", "/v2/queues/q/subscriptions", body, headers=SHOWN)
    assert (made.status, "identity service cannot be reached" in made.body.decode()) == (503, True)
    caller.close()
