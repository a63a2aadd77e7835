"""Hostile input gets the error document of the API, never a 500, changes nothing, and harms nobody else."""

import json
import re
import string
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from golden import UUID
from http_caller import PATCH_TYPE, Answer, Caller
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_socket import Wire, request
from server_process import ServerPool, ServerProcess

PATCH_HEADERS = {"Content-Type": PATCH_TYPE}

# Where a body is read: method, path, further headers.
TAKERS = [
    pytest.param("POST", "/v2/queues/q/messages", {}, id="messages"),
    pytest.param("PUT", "/v2/queues/new", {}, id="queue"),
    pytest.param("PATCH", "/v2/queues/q", PATCH_HEADERS, id="patch"),
    pytest.param("POST", "/v2/queues/q/claims", {}, id="claim"),
    pytest.param("PATCH", "/v2/queues/q/claims/c", {}, id="renewal"),
    pytest.param("POST", "/v2/queues/q/purge", {}, id="purge"),
    pytest.param("POST", "/v2/queues/q/share", {}, id="share"),
    pytest.param("POST", "/v2/queues/q/subscriptions", {}, id="subscription"),
    pytest.param("PATCH", "/v2/queues/q/subscriptions/s", {}, id="change"),
    pytest.param("PUT", "/v2/queues/q/subscriptions/s/confirm", {}, id="confirmation"),
    pytest.param("PUT", "/v2/topics/new", {}, id="topic"),
    pytest.param("PATCH", "/v2/topics/new", PATCH_HEADERS, id="topic patch"),
    pytest.param("POST", "/v2/topics/t/messages", {}, id="topic messages"),
    pytest.param("POST", "/v2/topics/t/subscriptions", {}, id="topic subscription"),
]


@pytest.fixture
def roomy_server(servers: ServerPool) -> Iterator[ServerProcess]:
    """A server that lets large bodies through to its parser."""
    server = servers.get("--store", "memory:", max_messages_post_size="4000000", max_queue_metadata="4000000")
    yield server
    server.check()


@pytest.fixture
def filled(caller: Caller) -> Caller:
    """A caller with one queue that holds one message."""
    assert caller("PUT", "/v2/queues/q", {"team": "blue"}).status == 201
    assert caller("POST", "/v2/queues/q/messages", {"messages": [{"body": "kept"}]}).status == 201
    return caller


def state(caller: Caller) -> Any:
    """Everything a caller can see, but for ages."""
    queues = caller("GET", "/v2/queues?detailed=true&with_count=true").json
    messages = caller("GET", "/v2/queues/q/messages?echo=true&include_claimed=true&include_delayed=true").json
    stats = caller("GET", "/v2/queues/q/stats").json["messages"]
    for message in messages["messages"]:
        del message["age"]
    return queues, messages, {name: stats[name] for name in ("claimed", "free", "total")}


def assert_well_formed(answer: Answer, *, method: str = "GET") -> None:
    """An answer of the service itself: no 500, a request id, errors told in their document."""
    assert answer.status < 500, answer
    assert re.fullmatch(f"req-{UUID}", answer.headers["x-openstack-request-id"])
    if answer.status >= 400 and method != "HEAD":
        document = answer.json
        assert isinstance(document["title"], str)
        if document not in ({"title": "404 Not Found"}, {"title": "405 Method Not Allowed"}):
            assert isinstance(document["description"], str)
            assert document["description"]
        assert "Traceback" not in answer.body.decode()


def assert_refused_without_effect(
    caller: Caller, method: str, path: str, body: Any, headers: Any = ()
) -> None:
    before = state(caller)
    answer = caller(method, path, body, headers=headers)
    assert answer.status == 400, answer
    assert_well_formed(answer)
    assert state(caller) == before


# --- bodies ----------------------------------------------------------------------------------------------

NOT_JSON = {
    "half an object": b'{"messages": [',
    "single quotes": b"{'messages': []}",
    "a comment": b'{"messages": [] /* none */}',
    "a trailing comma": b'{"messages": [],}',
    "two documents": b"{}{}",
    "a NUL": b"\x00",
    "NULs around": b'\x00{"messages": []}\x00',
    "bad UTF-8": b'{"messages": [{"body": "\xff\xfe"}]}',
    "cut UTF-8": b'{"messages": [{"body": "\xe2\x82"}]}',
    "overlong UTF-8": b'{"messages": [{"body": "\xc0\xaf"}]}',
    "a surrogate in UTF-8": b'{"messages": [{"body": "\xed\xa0\x80"}]}',
    "bad UTF-8 in a key": b'{"\xff": 1}',
    "UTF-16": '{"messages": [{"body": 1}]}'.encode("utf-16"),
    "UTF-32": '{"messages": [{"body": 1}]}'.encode("utf-32"),
    "NaN": b'{"messages": [{"body": NaN}], "a": NaN}',
    "Infinity": b'{"messages": [{"body": Infinity}], "a": Infinity}',
    "minus Infinity": b'{"messages": [{"body": -Infinity}], "a": -Infinity}',
    "a bare NaN": b"NaN",
    "a raw line feed in a string": b'{"messages": [{"body": "a\nb"}]}',
    "a bad escape": b'{"messages": [{"body": "\\x41"}]}',
    "a cut escape": b'{"messages": [{"body": "\\u12"}]}',
    "a leading zero": b'{"messages": [{"body": 007}]}',
    "hexadecimal": b'{"messages": [{"body": 0x10}]}',
    "a lonely point": b'{"messages": [{"body": 1.}]}',
    "a plus sign": b'{"messages": [{"body": +1}]}',
    "a form": b"messages=1&ttl=60",
    "XML": b"<messages/>",
    "unclosed nesting": b"[" * 10_000,
    "unclosed nested objects": b'{"a":' * 5_000,
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
@pytest.mark.parametrize(("method", "path", "headers"), TAKERS)
def test_what_is_no_json_is_refused(
    filled: Caller, method: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    assert_refused_without_effect(filled, method, path, body, headers)


@pytest.mark.parametrize(
    "number",
    [2**63, -(2**63) - 1, 2**64, 10**400, -(10**400)],
    ids=lambda n: f"{str(n)[:22]} of {len(str(n))}",
)
@pytest.mark.parametrize(
    ("method", "path", "template", "headers"),
    [
        ("POST", "/v2/queues/q/messages", '{"messages": [{"body": %d}]}', {}),
        ("POST", "/v2/queues/q/messages", '{"messages": [{"body": {"a": [[{"b": %d}]]}}]}', {}),
        ("POST", "/v2/queues/q/messages", '{"messages": [{"body": 1, "ttl": %d}]}', {}),
        ("POST", "/v2/queues/q/messages", '{"messages": [{"body": 1, "delay": %d}]}', {}),
        ("POST", "/v2/queues/q/messages", '{"messages": [{"body": 1, "unknown": %d}]}', {}),
        ("POST", "/v2/queues/q/messages", '{"messages": [{"body": 1}], "unknown": [%d]}', {}),
        ("POST", "/v2/queues/q/messages", "%d", {}),
        ("PUT", "/v2/queues/new", '{"a": %d}', {}),
        ("PUT", "/v2/queues/new", '{"_max_claim_count": %d}', {}),
        ("PUT", "/v2/queues/new", '{"_default_message_ttl": %d}', {}),
        ("PATCH", "/v2/queues/q", '[{"op": "add", "path": "/metadata/a", "value": %d}]', PATCH_HEADERS),
        ("POST", "/v2/queues/q/claims", '{"ttl": %d}', {}),
        ("POST", "/v2/queues/q/claims", '{"grace": %d}', {}),
        ("POST", "/v2/queues/q/claims", '{"unknown": %d}', {}),
        ("PATCH", "/v2/queues/q/claims/c", '{"ttl": %d}', {}),
        ("POST", "/v2/queues/q/purge", '{"resource_types": [%d]}', {}),
    ],
)
def test_an_integer_beyond_64_bits_is_refused_anywhere(
    filled: Caller, method: str, path: str, template: str, headers: dict[str, str], number: int
) -> None:
    assert_refused_without_effect(filled, method, path, template.replace("%d", str(number)), headers)


def test_huge_floats_do_not_hurt(caller: Caller) -> None:
    answer = caller("POST", "/v2/queues/q/messages", '{"messages": [{"body": 1e400}, {"body": -1e999999}]}')

    assert answer.status in (201, 400)
    json.loads(caller("GET", "/v2/queues/q/messages?echo=true").body, parse_constant=pytest.fail)


@pytest.mark.parametrize("field", ["ttl", "delay"])
@pytest.mark.parametrize("value", ["1e400", "1e3", "-1e400", "60.5", '"\\ud800"', "[[[]]]", '{"ttl": 60}'])
def test_a_number_of_seconds_is_an_integer(filled: Caller, field: str, value: str) -> None:
    body = f'{{"messages": [{{"body": 1, "{field}": {value}}}]}}'
    assert_refused_without_effect(filled, "POST", "/v2/queues/q/messages", body)


@pytest.mark.parametrize(
    "deep",
    [
        b"[" * 200_000,
        b"[" * 1_000_000,
        b"[" * 200_000 + b"]" * 200_000,
        b"[" * 500_000 + b"]" * 500_000,
        b'{"a":' * 200_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"messages":' * 50_000,
        b'{"messages":[{"body":' + b"[" * 200_000,
        b'{"messages":[{"body":' + b"[" * 1_000_000,
        b'{"messages":[{"body":1,"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}]}",
        b'[{"op":"add","path":"/metadata/a","value":' + b"[" * 200_000,
        b'{"resource_types":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
    ids=lambda body: f"{body[:24].decode()}… {len(body)}",
)
@pytest.mark.parametrize(("method", "path", "headers"), TAKERS)
def test_deep_nesting_does_not_hurt(
    roomy_server: ServerProcess, project: str, method: str, path: str, headers: dict[str, str], deep: bytes
) -> None:
    caller = Caller(roomy_server.host, roomy_server.port, project=project)

    answer = caller(method, path, deep, headers=headers)

    assert answer.status < 500
    assert_well_formed(answer)
    assert caller("GET", "/v2/queues?detailed=true").status == 200
    assert caller("GET", "/v2/queues/q/messages?echo=true").status == 200


@pytest.mark.parametrize("depth", [50, 500, 5_000, 100_000, 1_000_000])
def test_a_deeply_nested_body_is_kept_whole_or_refused(
    roomy_server: ServerProcess, project: str, depth: int
) -> None:
    caller = Caller(roomy_server.host, roomy_server.port, project=project)
    nested = b"[" * depth + b"]" * depth

    answer = caller("POST", "/v2/queues/q/messages", b'{"messages": [{"body": ' + nested + b"}]}")

    assert answer.status in (201, 400)
    assert answer.status == 201 or depth > 50
    for path in ("/v2/queues/q/messages?echo=true", "/v2/queues/q/stats"):
        assert caller("GET", path).status == 200
    if answer.status == 201:
        for listing in (
            caller("GET", "/v2/queues/q/messages?echo=true"),
            caller("POST", "/v2/queues/q/claims"),
        ):
            assert nested in listing.body.replace(b" ", b"")


def test_nested_metadata_is_kept_whole_or_refused(roomy_server: ServerProcess, project: str) -> None:
    caller = Caller(roomy_server.host, roomy_server.port, project=project)
    for depth in (50, 500, 5_000, 100_000):
        nested = b"[" * depth + b"]" * depth
        answer = caller("PUT", f"/v2/queues/deep-{depth}", b'{"a": ' + nested + b"}")

        assert answer.status == 201 if depth == 50 else answer.status in (201, 400)
        shown = caller("GET", f"/v2/queues/deep-{depth}")
        assert shown.status == 200
        assert answer.status == 400 or nested in shown.body.replace(b" ", b"")
        assert caller("GET", "/v2/queues?detailed=true").status == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": [{"body": "\\ud800"}]}',
        b'{"messages": [{"body": "\\udc00\\ud800"}]}',
        b'{"messages": [{"body": {"\\ud83d": 1}}]}',
        b'{"messages": [{"body": "a\\ud800b\\u0000"}], "\\ud800": 1}',
    ],
)
def test_lone_surrogates_are_kept_or_refused(caller: Caller, body: bytes) -> None:
    answer = caller("POST", "/v2/queues/q/messages", body)

    assert_well_formed(answer)
    assert answer.status in (201, 400)
    messages = caller("GET", "/v2/queues/q/messages?echo=true").json["messages"]
    assert [m["body"] for m in messages] == (
        [m["body"] for m in json.loads(body)["messages"]] if answer.status == 201 else []
    )
    assert caller("POST", "/v2/queues/q/claims").status in (201, 204)


@pytest.mark.parametrize(
    "metadata", [b'{"a": "\\ud800"}', b'{"\\ud800": 1}', b'{"_dead_letter_queue": "\\ud800"}']
)
def test_lone_surrogates_in_metadata_do_not_hurt(caller: Caller, metadata: bytes) -> None:
    answer = caller("PUT", "/v2/queues/q", metadata)

    assert_well_formed(answer)
    assert answer.status in (201, 400)
    assert caller("GET", "/v2/queues/q").status == 200
    assert caller("GET", "/v2/queues?detailed=true").status == 200


def test_a_byte_order_mark_is_accepted_or_refused_cleanly(caller: Caller) -> None:
    answer = caller("POST", "/v2/queues/q/messages", b'\xef\xbb\xbf{"messages": [{"body": 1}]}')

    assert_well_formed(answer)
    assert answer.status in (201, 400)
    assert len(caller("GET", "/v2/queues/q/messages?echo=true").json["messages"]) == (answer.status == 201)


@pytest.mark.parametrize(
    "body",
    [
        '{"messages": [{"body": 1, "body": 2}]}',
        '{"messages": [{"body": 1, "ttl": 60, "ttl": 90}]}',
        '{"messages": [{"body": {"a": 1, "a": 2}}]}',
        '{"messages": [{"body": 0}], "messages": [{"body": 1}]}',
    ],
)
def test_duplicate_keys_store_one_message_or_none(caller: Caller, body: str) -> None:
    answer = caller("POST", "/v2/queues/q/messages", body)

    assert_well_formed(answer)
    assert answer.status in (201, 400)
    assert len(caller("GET", "/v2/queues/q/messages?echo=true").json["messages"]) == (answer.status == 201)


def test_a_bad_value_hides_behind_no_duplicate_key(filled: Caller) -> None:
    for body in (
        '{"messages": [{"body": 1, "ttl": 60, "ttl": 1}]}',
        '{"messages": [{"body": 1}], "messages": [{"body": 1, "ttl": 1}]}',
    ):
        assert_refused_without_effect(filled, "POST", "/v2/queues/q/messages", body)


def test_many_keys_and_many_messages_do_not_hurt(caller: Caller) -> None:
    many = {"messages": [{"body": n} for n in range(1_000)]}
    assert caller("POST", "/v2/queues/q/messages", many).status == 201
    assert caller("GET", "/v2/queues/q/stats").json["messages"]["total"] == 1_000
    assert caller("PUT", "/v2/queues/r", {f"k{n}": n for n in range(4_000)}).status == 201
    patch = [{"op": "add", "path": f"/metadata/p{n}", "value": n} for n in range(1_000)]
    assert caller("PATCH", "/v2/queues/r", patch, headers=PATCH_HEADERS).status == 200


@pytest.mark.parametrize(
    "patch",
    [
        [
            {"op": "add", "path": "/metadata/a", "value": 1, "op2": "x"},
            {"op": "test", "path": "/metadata/a", "value": 1},
        ],
        [{"op": "copy", "from": "/metadata/team", "path": "/metadata/a"}],
        [{"op": {}, "path": "/metadata/a", "value": 1}],
        [{"op": "add", "path": {"metadata": "a"}, "value": 1}],
        [{"op": "add", "path": True, "value": 1}],
        [{"op": "add", "path": "/" * 5000, "value": 1}],
        [{"op": "add", "path": "/metadata/" + "~" * 5000, "value": 1}],
        [{"op": "remove", "path": "/metadata/_default_message_ttl/x"}],
        [{"op": "add", "path": "/metadata/_retry_policy", "value": {"minimum_delay": "x"}}],
        [{"op": "add", "path": "/metadata/_default_message_ttl", "value": {}}, 7],
        [{"Op": "add", "path": "/metadata/a", "value": 1}],
        [[{"op": "add", "path": "/metadata/a", "value": 1}]],
        {"op": "add", "path": "/metadata/a", "value": 1},
    ],
)
def test_a_malformed_patch_changes_nothing(filled: Caller, patch: Any) -> None:
    assert_refused_without_effect(filled, "PATCH", "/v2/queues/q", patch, PATCH_HEADERS)


@pytest.mark.parametrize(
    "key", ["__proto__", "", " ", "\u0000", "é", "a" * 5000, "{0}", "%s", "'; --", "_" * 100]
)
def test_odd_metadata_keys_are_kept(caller: Caller, key: str) -> None:
    assert caller("PUT", "/v2/queues/q", {key: "value"}).status == 201
    assert caller("GET", "/v2/queues/q").json[key] == "value"
    assert caller("GET", f"/v2/queues?{quote(key)}=value" if key.strip() else "/v2/queues").status == 200


# --- paths and queries -----------------------------------------------------------------------------------

ODD_NAMES = [
    "a" * 65,
    "a" * 10_000,
    "%20",
    "%00",
    "%0D%0AX-Injected:%201",
    "%C3%A9",
    "%FF",
    "%ED%A0%80",
    "%F0%9F%98%80",
    "%E2%80%8B",
    "%EF%BC%A1",
    "%25",
    "%2525",
    "%",
    "%zz",
    "a%",
    "{queue_name}",
    "a;b",
    "a,b",
    "a:b",
    "a+b",
    "a*b",
    "'",
    "%22",
    "~",
    "a%5Cb",
    "$ne",
    "%D9%A1%D9%A2",
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: name[:24])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v2/queues/{}"),
        ("GET", "/v2/queues/{}"),
        ("POST", "/v2/queues/{}/messages"),
        ("GET", "/v2/queues/{}/messages/m"),
        ("POST", "/v2/queues/{}/claims"),
        ("DELETE", "/v2/queues/{}/claims/c"),
    ],
)
def test_an_odd_queue_name_is_refused(filled: Caller, method: str, path: str, name: str) -> None:
    before = state(filled)

    answer = filled(
        method, path.replace("{}", name), {"messages": [{"body": 1}]} if method == "POST" else None
    )

    assert answer.status == 400
    assert answer.json["title"] == "Invalid queue identification"
    assert_well_formed(answer)
    assert state(filled) == before


@pytest.mark.parametrize(
    "name", ["a%2Fb", "a%3Fb", "a%23b", "..%2F..", "%2E%2E", "%2e", "../q", ".", "..", "//q"]
)
def test_names_that_look_like_paths_go_nowhere_else(filled: Caller, name: str) -> None:
    before = state(filled)

    answer = filled("DELETE", f"/v2/queues/{name}")

    assert answer.status in (204, 400, 404)
    assert_well_formed(answer)
    assert state(filled) == before


@pytest.mark.parametrize(
    "id_", [*ODD_NAMES, "-1", "0", "None", "null", "00000000-0000-0000-0000-000000000000"]
)
def test_an_odd_message_or_claim_id_is_one_that_does_not_exist(filled: Caller, id_: str) -> None:
    before = state(filled)

    assert filled("GET", f"/v2/queues/q/messages/{id_}").status == 404
    assert filled("DELETE", f"/v2/queues/q/messages/{id_}").status == 204
    assert filled("GET", f"/v2/queues/q/claims/{id_}").status == 404
    assert filled("PATCH", f"/v2/queues/q/claims/{id_}", {}).status == 404
    assert filled("DELETE", f"/v2/queues/q/claims/{id_}").status == 204
    assert filled("DELETE", f"/v2/queues/q/messages?ids={id_}").status == 204
    assert filled("GET", f"/v2/queues/q/messages?marker={id_}&echo=true").status == 200
    assert filled("GET", f"/v2/queues?marker={id_}").status == 200
    assert state(filled) == before


@pytest.mark.parametrize(
    "limit", ["0", "-1", "21", "1000000", str(2**63), str(2**64 + 1), "9" * 5000, "-" + "9" * 5000]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/queues?limit={}"),
        ("GET", "/v2/queues/q/messages?limit={}"),
        ("POST", "/v2/queues/q/claims?limit={}"),
        ("DELETE", "/v2/queues/q/messages?pop={}"),
    ],
)
def test_limits_out_of_range_are_refused(filled: Caller, method: str, path: str, limit: str) -> None:
    assert_refused_without_effect(filled, method, path.replace("{}", limit), None)


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "1.0",
        "1e1",
        "0x5",
        "1_0",
        "%D9%A5",
        "%EF%BC%95",
        "--5",
        "5%00",
        "%FF",
        "1,2",
        "NaN",
        "True",
        "None",
        "{}",
        "5%205",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/queues?limit={}"),
        ("GET", "/v2/queues/q/messages?limit={}"),
        ("POST", "/v2/queues/q/claims?limit={}"),
        ("DELETE", "/v2/queues/q/messages?pop={}"),
        ("GET", "/v2/queues?detailed=q{}"),
        ("GET", "/v2/queues/q/messages?echo=q{}"),
        ("GET", "/v2/queues/q/messages?include_claimed=q{}"),
    ],
)
def test_query_values_of_the_wrong_kind_are_refused(
    filled: Caller, method: str, path: str, value: str
) -> None:
    assert_refused_without_effect(filled, method, path.replace("{}", value), None)


@pytest.mark.parametrize(
    "query",
    [
        "?",
        "?&&&",
        "?=",
        "?=1",
        "?%00=%00",
        "?%FF=%FF",
        "?a=%ED%A0%80",
        "?a=%",
        "?a=%zz",
        "?a=b=c=d",
        "?a[]=1&a[$ne]=2",
        "?" + "a=1&" * 2000,
        "?" + "&".join(f"k{n}=v" for n in range(2000)),
        "?x=" + "y" * 30_000,
        "?name=" + "y" * 5_000,
        "?a=' OR 1=1 --".replace(" ", "%20"),
        "?name=%25%5C_",
        "?a=" + "9" * 5000,
        "?a=99999999999999999999",
    ],
    ids=lambda query: query[:24],
)
def test_odd_queries_do_not_hurt(filled: Caller, query: str) -> None:
    before = state(filled)
    for path in ("/v2/queues", "/v2/queues/q", "/v2/queues/q/messages", "/v2/queues/q/stats", "/v2/ping"):
        answer = filled("GET", path + query)
        assert_well_formed(answer)
        assert answer.status in (200, 204, 400)
    assert state(filled) == before


# --- headers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        b"3381af92-2b9e-11e3-b191-7186130073_c",
        b"+381af92-2b9e-11e3-b191-71861300734c",
        b"0x81af92-2b9e-11e3-b191-71861300734c",
        b"3381af92 2b9e 11e3 b191 71861300734c",
        b"\xff\xfe",
        "é".encode() * 16,
        "\uff13\uff1381af92-2b9e-11e3-b191-71861300734c".encode(),
        b" ",
        b"{}",
        b"a" * 20_000,
    ],
    ids=lambda value: repr(value[:12]),
)
def test_an_odd_client_id_is_malformed(caller: Caller, value: bytes) -> None:
    answer = caller("GET", "/v2/queues", headers=[("Client-ID", value), ("X-Project-ID", caller.project)])

    assert answer.status == 400
    assert answer.json["title"] == "Wrong UUID value"
    assert_well_formed(answer)


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xfe",
        "проект".encode(),
        "😀".encode(),
        b"%00",
        b"'; DROP TABLE queues; --",
        b"../..",
        b"{}",
        b"a" * 256,
    ],
    ids=lambda value: repr(value[:12]),
)
def test_an_odd_project_is_a_project_like_any_other(caller: Caller, value: bytes) -> None:
    value = (caller.project.encode() + value)[-256:]  # not seen before
    mine = [("Client-ID", caller.client), ("X-Project-ID", value)]

    assert caller("PUT", "/v2/queues/q", headers=mine).status == 201
    assert [q["name"] for q in caller("GET", "/v2/queues", headers=mine).json["queues"]] == ["q"]
    assert caller("GET", "/v2/queues").json["queues"] == []
    assert caller("DELETE", "/v2/queues/q", headers=mine).status == 204


def test_a_project_of_more_than_256_characters_is_refused_where_a_queue_is_named(caller: Caller) -> None:
    for size, expected in ((256, 201), (257, 400), (10_000, 400)):
        long = [("X-Project-ID", caller.project.ljust(size, "x"))]
        answer = caller("PUT", "/v2/queues/q", headers=long)
        assert answer.status == expected
        assert expected == 201 or answer.json["title"] == "Invalid queue identification"
        assert caller("GET", "/v2/queues", headers=long).status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Accept", b"\xff"),
        ("Accept", b";;;,,,q=q"),
        ("Accept", b"application/json;q=x"),
        ("Accept", b"*/*;" * 5000),
        ("Accept", b""),
        ("Content-Type", b"\xff/\xfe"),
        ("Content-Type", b""),
        ("Content-Type", b"; charset"),
        ("X-Roles", b"\xff,admin,,,"),
        ("EXTRA-SPEC", b"::::"),
        ("EXTRA-SPEC", b"unknown"),
        ("URL-Signature", b"\xff"),
        ("X-Auth-Token", b"x" * 20_000),
        ("X-Forwarded-For", b"\xff"),
        ("Expect", b"200-ok"),
        ("Range", b"bytes=0-0"),
        ("If-None-Match", b"*"),
        ("X-Trace-Info", b"x"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_odd_headers_do_not_hurt(filled: Caller, name: str, value: bytes) -> None:
    before = state(filled)
    for path in ("/v2/queues", "/v2/ping", "/"):
        answer = filled("GET", path, headers=[(name, value)])
        assert_well_formed(answer)
    assert state(filled) == before


@pytest.mark.parametrize(
    "name", ["Client-ID", "X-Project-ID", "Accept", "Content-Type", "X-Roles", "X-Tenant-ID"]
)
def test_repeated_headers_do_not_hurt(caller: Caller, name: str) -> None:
    values = {"Accept": "application/json", "Content-Type": "application/json", **caller.identity}
    twice = [(name, values.get(name, "other")), (name, str(uuid.uuid4()))]

    assert_well_formed(caller("GET", "/v2/queues", headers=twice))
    assert_well_formed(caller("GET", "/v2/queues", headers=list(reversed(twice))))


def test_a_repeated_project_header_does_not_mix_projects(caller: Caller) -> None:
    other = Caller(caller._connection.host, caller._connection.port, project=f"project-{uuid.uuid4().hex}")
    assert other("PUT", "/v2/queues/theirs").status == 201
    both = [("X-Project-ID", caller.project), ("X-Project-ID", other.project)]

    answer = caller("GET", "/v2/queues", headers=both)

    assert_well_formed(answer)
    assert answer.status == 400 or len(answer.json["queues"]) <= 1
    other.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v2/queues\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/ping HTTP/1.1\r\nHost: x\r\nClient-ID: a\x00b\r\n\r\n",
        b"GET /v2/ping HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"POST /v2/queues/q/messages HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2/queues/q/messages HTTP/1.1\r\nHost: x\r\nContent-Length: five\r\n\r\n",
        b"POST /v2/queues/q/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /v2/queues/q/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
        b"POST /v2/queues/q/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v2/queues/q/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET http://other.example/v2/ping HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Long: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Many: a\r\n" * 5_000 + b"\r\n",
        b"FROBNICATE /v2/queues HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/ping HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=lambda head: repr(head[:40]),
)
def test_what_is_hardly_http_does_not_hurt(server: ServerProcess, caller: Caller, head: bytes) -> None:
    with Wire(server.host, server.port) as wire:
        wire.send_while_it_listens([head[start : start + 65536] for start in range(0, len(head), 65536)])
        wire.end()
        assert wire.status() < 500
    assert caller("GET", "/v2/ping").status == 204


# --- connections -----------------------------------------------------------------------------------------


def test_an_aborted_body_changes_nothing(server: ServerProcess, caller: Caller, project: str) -> None:
    body = b'{"messages": [{"body": 1}]}'
    for cut in (0, 10, len(body) - 1):
        for hard in (False, True):
            with Wire(server.host, server.port) as wire:
                wire.send(request("POST", "/v2/queues/q/messages", project, f"Content-Length: {len(body)}"))
                wire.send(body[:cut])
                if hard:
                    wire.close_hard()
    assert caller("GET", "/v2/queues").json["queues"] == []
    assert "Traceback" not in server.log


def test_a_slow_body_holds_nobody_up(server: ServerProcess, caller: Caller, project: str) -> None:
    body = b'{"messages": [{"body": 1}]}'
    slow = [Wire(server.host, server.port) for _ in range(50)]
    for wire in slow:
        wire.send(request("POST", "/v2/queues/q/messages", project, f"Content-Length: {len(body)}"))

    for at in range(len(body)):
        for wire in slow:
            wire.send(body[at : at + 1])
        if at < len(body) - 1:
            assert caller("GET", "/v2/queues/q/stats").json["messages"]["total"] == 0

    for wire in slow:
        with wire:
            assert wire.status() == 201
    assert caller("GET", "/v2/queues/q/stats").json["messages"]["total"] == len(slow)


def test_pipelined_requests_are_answered_in_order(server: ServerProcess, project: str) -> None:
    with Wire(server.host, server.port) as wire:
        wire.send(
            request("PUT", "/v2/queues/q", project)
            + request("PUT", "/v2/queues/q", project, "Connection: close")
        )
        assert [int(line.split()[1]) for line in wire.rest().splitlines() if line.startswith(b"HTTP/")] == [
            201,
            204,
        ]


# --- fuzz ------------------------------------------------------------------------------------------------

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

WORDS = (
    "messages body ttl delay grace limit op path value resource_types subscriptions /metadata/a add replace "
    "remove _default_message_ttl _max_claim_count _dead_letter_queue"
)
words = st.sampled_from(WORDS.split())
texts = words | st.text(max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
integers = st.integers(-5, 100) | st.sampled_from([60, 300, 43200, 43201, 1209600, 2**63])
message = st.fixed_dictionaries(
    {}, optional={"body": values, "ttl": integers | values, "delay": integers | values}
)
operation = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["add", "replace", "remove"]) | values,
        "path": st.builds("/metadata/{}".format, texts) | values,
        "value": values,
    },
)
subscribers = st.sampled_from(
    ["http://hooks.example/", "mailto:a@b.example", "queue:other", "http:", "trust+http:x"]
)
options = st.dictionaries(
    st.sampled_from(["_retry_policy", "_dead_letter_queue", "filter", "ordered", "batch", "post_data"])
    | texts,
    integers | values,
    max_size=4,
)
subscription = (
    st.fixed_dictionaries(
        {},
        optional={
            "subscriber": subscribers | values,
            "ttl": integers | values,
            "options": options | values,
            "confirmed": st.booleans() | values,
        },
    )
    | values
)
documents = {
    "messages": st.fixed_dictionaries({"messages": st.lists(message | values, max_size=3) | values}) | values,
    "queue": st.dictionaries(texts, integers | values, max_size=4) | values,
    "patch": st.lists(operation | values, max_size=3) | values,
    "claim": st.fixed_dictionaries({}, optional={"ttl": integers | values, "grace": integers | values})
    | values,
    "renewal": st.fixed_dictionaries({}, optional={"ttl": integers | values, "grace": integers | values})
    | values,
    "purge": st.fixed_dictionaries({"resource_types": st.lists(texts, max_size=3) | values}) | values,
    "share": st.dictionaries(
        st.sampled_from(["paths", "methods", "expires"]) | texts,
        st.lists(st.sampled_from(["messages", "GET", "claims"]) | values, max_size=3) | values,
        max_size=3,
    )
    | values,
    "subscription": subscription,
    "change": subscription,
    "confirmation": subscription,
}
documents |= {"topic": documents["queue"], "topic patch": documents["patch"]}
documents |= {f"topic {name}": documents[name] for name in ("messages", "subscription")}


@pytest.mark.parametrize(("method", "path", "headers"), TAKERS)
def test_any_json_gets_a_proper_answer(
    request: pytest.FixtureRequest, caller: Caller, method: str, path: str, headers: dict[str, str]
) -> None:
    @FUZZ
    @given(documents[request.node.callspec.id])
    def check(document: Any) -> None:
        answer = caller(method, path, json.dumps(document), headers=headers)
        assert_well_formed(answer)
        for reading in ("/v2/queues?detailed=true", "/v2/queues/q/messages?echo=true", "/v2/queues/q/stats"):
            assert caller("GET", reading).status == 200

    check()


@pytest.mark.parametrize(("method", "path", "headers"), TAKERS)
def test_any_bytes_get_a_proper_answer(
    caller: Caller, method: str, path: str, headers: dict[str, str]
) -> None:
    @FUZZ
    @given(st.binary(max_size=200) | st.text(string.printable, max_size=200).map(str.encode))
    def check(body: bytes) -> None:
        assert_well_formed(caller(method, path, body, headers=headers))

    check()


query_values = st.text(max_size=10).map(lambda text: quote(text, safe="")) | st.sampled_from(
    ["", "1", "0", "-1", "20", "21", "true", "False", "a,b", "%", "%00", "%FF", "+", "99999999999999999999"]
)
PARAMETERS = (
    "limit marker detailed name with_count echo include_claimed include_delayed ids pop claim_id claim_ids "
    "team"
)
query_names = st.sampled_from(PARAMETERS.split()) | st.text(max_size=5).map(lambda text: quote(text, safe=""))
queries = st.lists(st.tuples(query_names, query_values).map("=".join), max_size=5).map("&".join)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/queues"),
        ("GET", "/v2/queues/q"),
        ("GET", "/v2/queues/q/messages"),
        ("DELETE", "/v2/queues/q/messages"),
        ("DELETE", "/v2/queues/q/messages/m"),
        ("POST", "/v2/queues/q/claims"),
        ("GET", "/v2/queues/q/stats"),
        ("HEAD", "/v2/ping"),
    ],
)
def test_any_query_gets_a_proper_answer(filled: Caller, method: str, path: str) -> None:
    @FUZZ
    @given(queries)
    def check(query: str) -> None:
        assert_well_formed(filled(method, f"{path}?{query}"), method=method)

    check()


@FUZZ
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS"]),
    path=st.lists(
        st.sampled_from(
            ["v2", "queues", "q", "messages", "claims", "stats", "purge", "ping", "health", "", ".."]
        )
        | st.text(max_size=6).map(lambda text: quote(text, safe="")),
        max_size=7,
    ).map(lambda parts: "/" + "/".join(parts)),
)
def test_any_path_gets_a_proper_answer(caller: Caller, method: str, path: str) -> None:
    assert_well_formed(caller(method, path), method=method)
