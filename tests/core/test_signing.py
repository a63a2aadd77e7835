"""Pre-signed URLs: what is signed, and who is let in by it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hand_clock import NOW
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sukkal.core.signing import Grant, Signer, moment, written
from sukkal.errors import Forbidden, Invalid, InvalidBody, ServiceError
from sukkal.requests import ShareQueue
from sukkal.wire.keys import KNOWN_KEYS, is_known

from .world import World

KEY = "a key that is long enough, and known to nobody"
PATH = "/v2/queues/orders/messages"


@pytest.fixture
def world() -> World:
    return World(signer=Signer(KEY))


def granted(signer: Signer, **parts: Any) -> Grant:
    """A grant of GET and POST on the messages of `orders` for an hour, or what is said instead."""
    paths = parts.get("paths", (PATH,))
    methods = parts.get("methods", ("GET", "POST"))
    expires = parts.get("expires", written(NOW + 3600))
    return Grant(signer.sign(paths, methods, parts.get("project", "acme"), expires), paths, methods, expires)


def allowed(
    signer: Signer, grant: Grant, method: str = "GET", path: str = PATH, project: str = "acme"
) -> bool:
    return signer.allows(grant, method, path, project, NOW)


# --- the specification's own vectors -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "paths", "methods", "project", "signature"),
    [
        (
            "test_key",
            ["/v2/queues/sh/messages", "/v2/queues/sh/claims"],
            ["POST", "GET"],
            "p1",
            "b24d8b94aa5269f7012a4ee7be0582caeccb62c371d2cd80d9cd635c400c3285",
        ),
        (
            "s3cret",
            [PATH],
            ["GET"],
            "acme",
            "89b5c7dae52bc254499d03ae8a70164670b709ea734e3ef032a4e72337047677",
        ),
    ],
)
def test_vectors(key: str, paths: list[str], methods: list[str], project: str, signature: str) -> None:
    signer, expires = Signer(key), "2030-01-01T00:00:00"
    assert signer.sign(paths, methods, project, expires) == signature
    shown = Grant(signature, tuple(paths), tuple(methods), expires)
    now = datetime(2029, 12, 31, tzinfo=UTC).timestamp()
    assert signer.allows(shown, "GET", paths[0], project, now)


# --- verifying ---------------------------------------------------------------------------------------


def test_signature_lets_in_whoever_holds_it() -> None:
    signer = Signer(KEY)
    assert allowed(signer, granted(signer))
    assert allowed(Signer(KEY), granted(signer), "POST", f"{PATH}/50b68a50")


def test_order_of_paths_and_methods_is_free() -> None:
    signer = Signer(KEY)
    grant = granted(signer, paths=(PATH, "/v2/queues/orders/claims"))
    turned = replace(grant, paths=grant.paths[::-1], methods=grant.methods[::-1])
    assert allowed(signer, turned)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/queues/orders",
        "/v2/queues/orders/messages2",
        "/v2/queues/orders/message",
        "/v2/queues/orders/claims",
        "/x/v2/queues/orders/messages",
        "/v2/queues/ORDERS/messages",
        "/",
    ],
)
def test_other_paths_are_closed(path: str) -> None:
    signer = Signer(KEY)
    assert not allowed(signer, granted(signer), path=path)


@pytest.mark.parametrize("method", ["DELETE", "get", "PUT", "", "GET,POST"])
def test_other_methods_are_closed(method: str) -> None:
    signer = Signer(KEY)
    assert not allowed(signer, granted(signer), method)


def test_other_project_is_closed() -> None:
    signer = Signer(KEY)
    assert not allowed(signer, granted(signer), project="umbrella")


@pytest.mark.parametrize(
    "changed",
    [
        {"paths": ("/v2/queues",)},
        {"methods": ("GET", "POST", "DELETE")},
        {"expires": "2037-01-01T00:00:00"},
        {"signature": ""},
        {"signature": "0" * 64},
        {"signature": "\udcff" * 64},
        {"signature": "é" * 64},
    ],
    ids=str,
)
def test_what_was_changed_after_signing_lets_nobody_in(changed: dict[str, Any]) -> None:
    signer = Signer(KEY)
    grant = replace(granted(signer), **changed)
    assert not allowed(signer, grant, "DELETE" if "DELETE" in grant.methods else "GET")


def test_upper_case_is_another_signature() -> None:
    signer = Signer(KEY)
    grant = granted(signer)
    assert not allowed(signer, replace(grant, signature=grant.signature.upper()))


def test_other_key_lets_nobody_in() -> None:
    assert not allowed(Signer(KEY + "!"), granted(Signer(KEY)))


def test_without_a_key_nobody_is_let_in() -> None:
    assert not allowed(Signer(None), granted(Signer("")))
    assert not allowed(Signer(None), granted(Signer(None)))


def test_time_ends_it() -> None:
    signer = Signer(KEY)
    grant = granted(signer, expires=written(NOW + 10))
    until = moment(grant.expires)
    assert until is not None
    assert signer.allows(grant, "GET", PATH, "acme", until - 0.001)
    assert not signer.allows(grant, "GET", PATH, "acme", until)


@pytest.mark.parametrize(
    "expires",
    [
        "",
        "never",
        "99999999999",
        "2037-01-01",
        "2037-01-01 00:00:00",
        "2037-01-01T00:00:00Z",
        "2037-01-01T00:00:00+00:00",
        "2037-01-01T00:00:00.5",
        "2037-13-01T00:00:00",
        "\uff12037-01-01T00:00:00",
    ],
)
def test_time_must_be_written_in_the_one_way(expires: str) -> None:
    signer = Signer(KEY, max_ttl=2**31 - 1)
    assert not allowed(signer, granted(signer, expires=expires))


def test_time_may_not_be_too_far_away() -> None:
    signer = Signer(KEY, max_ttl=3600)
    assert allowed(signer, granted(signer, expires=written(NOW + 3600)))
    assert not allowed(signer, granted(signer, expires=written(NOW + 3602)))


def test_empty_path_opens_nothing() -> None:
    signer = Signer(KEY)
    assert not allowed(signer, granted(signer, paths=("",)))
    assert not allowed(signer, granted(signer, paths=(PATH, "")))


def test_text_that_could_be_read_in_two_ways_lets_nobody_in() -> None:
    """A tenant who may choose methods must not be able to sign for other paths."""
    signer = Signer(KEY)
    grant = granted(signer, methods=(r"A,/v2/queues/secret/messages\nGET",))
    reread = replace(grant, paths=(PATH + r"\nA", "/v2/queues/secret/messages"), methods=("GET",))
    assert not allowed(signer, reread, path="/v2/queues/secret/messages")


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\,"), min_size=1, max_size=8)
parts = st.lists(plain, min_size=1, max_size=3).map(tuple)


@given(parts, parts, parts, parts, st.text(max_size=8), st.text(max_size=8))
def test_nobody_is_let_in_by_what_was_signed_for_something_else(
    paths: tuple[str, ...],
    methods: tuple[str, ...],
    other_paths: tuple[str, ...],
    other_methods: tuple[str, ...],
    project: str,
    other_project: str,
) -> None:
    signer, expires = Signer(KEY), written(NOW + 60)
    signature = signer.sign(paths, methods, project, expires)
    shown = Grant(signature, other_paths, other_methods, expires)
    let_in = signer.allows(shown, other_methods[0], other_paths[0], other_project, NOW)
    same = sorted(paths) == sorted(other_paths) and sorted(methods) == sorted(other_methods)
    assert let_in == (same and project == other_project)


# --- sharing -----------------------------------------------------------------------------------------


async def share(world: World, **document: Any) -> Any:
    return await world.call("queues.share", queue="orders", document=document)


async def test_shared_queue_can_be_used(world: World) -> None:
    shared = await share(world, paths=["messages", "claims"], methods=["POST", "GET"])
    assert shared.paths == ["/v2/queues/orders/claims", "/v2/queues/orders/messages"]
    assert shared.methods == ["GET", "POST"]
    assert shared.project == "acme"
    grant = Grant(shared.signature, tuple(shared.paths), tuple(shared.methods), shared.expires)
    assert world.service.signer.allows(grant, "POST", PATH, "acme", world.now)


async def test_messages_can_be_read_for_a_day_unless_said_otherwise(world: World) -> None:
    for document in ({}, {"paths": None, "methods": None, "expires": None}, {"paths": [], "methods": []}):
        shared = await share(world, **document)
        assert (shared.paths, shared.methods) == ([PATH], ["GET"])
        assert moment(shared.expires) == int(world.now) + 86400


@pytest.mark.parametrize(
    ("asked", "signed"),
    [
        ("2030-01-01T00:00:00", "2030-01-01T00:00:00"),
        ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00"),
        ("2030-01-01T02:00:00.999+02:00", "2030-01-01T00:00:00"),
        ("2030-01-01", "2030-01-01T00:00:00"),
    ],
)
async def test_time_is_signed_in_utc_to_the_second(world: World, asked: str, signed: str) -> None:
    assert (await share(world, expires=asked)).expires == signed


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"foo": 1}, "Unknown keys: {'foo'}"),
        ({"paths": ["messages", "foo"]}, "Invalid paths: {'foo'}"),
        ({"paths": [["messages"]]}, "Invalid paths: {['messages']}"),
        ({"paths": "messages"}, "`paths` should be a list"),
        ({"methods": "GET"}, "`methods` should be a list"),
        ({"methods": ["GET", 1]}, "`methods` should be a list"),
        ({"methods": ["GET,POST"]}, "Invalid methods: {'GET,POST'}"),
        ({"methods": [r"GET\nevil"]}, r"Invalid methods: {'GET\\nevil'}"),
        (
            {"expires": 3600},
            "`expires` should be date format, for example 2016-01-01T00:00:00, not integer value: 3600",
        ),
        (
            {"expires": "3600"},
            "`expires` should be date format, for example 2016-01-01T00:00:00, not integer value: 3600",
        ),
        ({"expires": "garbage"}, "Unable to parse date string 'garbage'"),
        ({"expires": ""}, "Unable to parse date string ''"),
        ({"expires": ["2030"]}, "Unable to parse date string '['2030']'"),
        ({"expires": "0001-01-01T00:00:00+14:00"}, "`expires` is lower than the current time"),
        ({"expires": "2001-01-01T00:00:00"}, "`expires` is lower than the current time"),
        (
            {"expires": "9999-12-31T23:59:59"},
            "`expires` may not be more than 315360000 seconds from now",
        ),
        ({"expires": "2" * 5000}, None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_cannot_be_shared_is_told(
    world: World, document: dict[str, Any], text: str | None
) -> None:
    with pytest.raises(Invalid) as fault:
        await share(world, **document)
    assert fault.value.title == "Invalid API request"
    if text is not None:
        assert fault.value.message == text


@pytest.mark.parametrize("document", [None, [], [1]])
async def test_no_object_is_no_request(world: World, document: Any) -> None:
    with pytest.raises(InvalidBody):
        await world.call("queues.share", queue="orders", document=document)


async def test_nothing_is_shared_without_a_key() -> None:
    with pytest.raises(Invalid, match=r"The `key` can't be None: .* signed_url_secret_key"):
        await share(World())


async def test_who_is_let_in_by_a_signature_gives_none_out(world: World) -> None:
    with pytest.raises(Forbidden):
        await world.service.signer.share(
            replace(world.ctx(), signed=True), ShareQueue(queue="orders", document={})
        )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("paths", "methods", "expires", "x"), json_values)))
async def test_any_document_is_signed_or_refused(document: dict[str, Any]) -> None:
    world = World(signer=Signer(KEY))
    try:
        shared = await share(world, **document)
    except ServiceError:
        return
    grant = Grant(shared.signature, tuple(shared.paths), tuple(shared.methods), shared.expires)
    assert world.service.signer.allows(grant, shared.methods[0], shared.paths[0], "acme", world.now)


# --- keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["x" * 40, "ab" * 20, *(known * 40 for known in KNOWN_KEYS), "SECRET" * 6])
def test_key_that_everybody_knows_is_known(key: str) -> None:
    assert is_known(key)


def test_random_key_is_not_known() -> None:
    assert not is_known("5f0d7b0c6f0a7d1e0c9b8a7f6e5d4c3b2a190f8e7d6c5b4a")
    assert not is_known(KEY)
