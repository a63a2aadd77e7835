"""The `Accept` header."""

import pytest
from asgi_caller import Web

from sukkal.http.accept import chosen
from sukkal.wire.media import JSON, MSGPACK


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/*",
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;q=0.1",
        "text/html, application/json",
        "text/html,*/*;q=0.8",
        "text/html;q=0.9 , application/* ; q=0.001",
        "application/xml;q=0, application/json",
        "*/*;q=0.0001",
    ],
)
def test_json_is_admitted(accept: str) -> None:
    assert chosen(accept.encode()) is JSON


@pytest.mark.parametrize(
    "accept",
    [
        "application/xml",
        "text/html",
        "plain/text",
        "text/*",
        "application/json-home",
        "application/jsonp",
        "json",
        "application/json;q=0",
        "*/*;q=0",
        "application/* ; q = 0.000",
        "text/html, */*;q=0.0",
        "application/json;q=0, text/html",
        "application/x-msgpack;q=0",
        "application/json;q=0, application/x-msgpack; q=0, */*",  # the more specific range decides
    ],
)
def test_neither_medium_is_admitted(accept: str) -> None:
    assert chosen(accept.encode()) is None


@pytest.mark.parametrize(
    "accept",
    [
        "application/x-msgpack",
        "application/msgpack",
        "Application/VND.MsgPack",
        "application/x-msgpack;q=0.001",
        "application/x-msgpack, */*",
        "*/*, application/x-msgpack",
        "application/x-msgpack, application/*;q=0.9",
        "application/json;q=0.5, application/x-msgpack;q=0.6",
        "application/json; q=0.5 , */*",
        "application/json;q=0, */*",  # the more specific range decides (RFC 9110, 12.5.1)
        "application/json;q=0, application/*;q=0.1",
    ],
)
def test_messagepack_is_preferred(accept: str) -> None:
    assert chosen(accept.encode()) is MSGPACK


@pytest.mark.parametrize(
    "accept",
    [
        "application/json, application/x-msgpack",
        "application/x-msgpack, application/json",
        "application/x-msgpack;q=0.9, application/json;q=0.9",
        "application/x-msgpack;q=0.9, */*",
        "application/x-msgpack;q=0.5, application/json",
        "application/x-msgpack;q=0, */*",
        "application/json;q=nonsense",
        "application/json;q=1.9",
        "",
        " ",
        ",",
    ],
)
def test_json_is_preferred(accept: str) -> None:
    assert chosen(accept.encode()) is JSON


async def test_refusal_says_what_is_served(web: Web) -> None:
    reply = await web.ask("GET /v2/queues", accept="text/html")
    assert reply.fault == (406, "406 Not Acceptable")
    assert "application/json" in reply.document["description"]


async def test_empty_header_excludes_nothing(web: Web) -> None:
    assert (await web.ask("GET /v2/queues", accept="")).status == 200


@pytest.mark.parametrize(
    "media_type, status",
    [
        ("application/x-www-form-urlencoded", 400),
        ("Application/X-WWW-Form-Urlencoded", 400),
        ("application/x-www-form-urlencoded; charset=utf-8", 201),
        ("text/plain", 201),
        ("", 201),
    ],
)
async def test_form_is_refused_where_a_length_is_declared(web: Web, media_type: str, status: int) -> None:
    assert (await web.ask("PUT /v2/queues/q", b"{}", content_type=media_type)).status == status
    assert (await web.ask("PUT /v2/queues/other", content_type=media_type)).status == 201
