"""Query strings → fields of a request."""

from typing import Any
from urllib.parse import quote

import pytest
from asgi_caller import Web

from sukkal.errors import InvalidParameter
from sukkal.http.query import QueryReader, parameters

TYPES = {
    "limit": int | None,
    "echo": bool,
    "marker": str | None,
    "ids": list[str] | None,
}


def read(query: str) -> dict[str, Any]:
    return dict(QueryReader(TYPES).fields(query.encode("latin-1")))


@pytest.mark.parametrize(
    "query, fields",
    [
        ("", {}),
        ("limit=3", {"limit": 3}),
        ("limit=%2B3", {"limit": 3}),
        ("limit=-3", {"limit": -3}),
        ("limit=007", {"limit": 7}),
        ("limit=99999999999999999999999", {"limit": 99999999999999999999999}),
        ("limit=1&limit=2", {"limit": 2}),
        ("limit=&marker=&echo=&ids=", {}),
        ("limit=2&limit=", {"limit": 2}),
        ("marker=a%20b%2Bc+d", {"marker": "a b+c d"}),
        ("marker=%C3%A9", {"marker": "é"}),
        ("marker=a=b", {"marker": "a=b"}),
        ("ids=a,b", {"ids": ["a", "b"]}),
        ("ids=a&ids=b,c", {"ids": ["a", "b", "c"]}),
        ("ids=a,,b,", {"ids": ["a", "b"]}),
        ("ids=a%2Cb", {"ids": ["a", "b"]}),
        ("ids=a,a", {"ids": ["a", "a"]}),
        ("unknown=1&limit=3", {"limit": 3}),
        ("limit", {}),
        ("&&limit=3&", {"limit": 3}),
    ],
)
def test_parameters_are_read(query: str, fields: dict[str, Any]) -> None:
    assert read(query) == fields


@pytest.mark.parametrize("text", ["true", "True", "t", "yes", "y", "1", "on"])
def test_text_is_true(text: str) -> None:
    assert read(f"echo={text}") == {"echo": True}


@pytest.mark.parametrize("text", ["false", "False", "f", "no", "n", "0", "off"])
def test_text_is_false(text: str) -> None:
    assert read(f"echo={text}") == {"echo": False}


@pytest.mark.parametrize("text", ["TRUE", "FALSE", "None", "2", "null", "maybe", "%20true", "t,f"])
def test_other_text_is_no_boolean(text: str) -> None:
    with pytest.raises(InvalidParameter) as fault:
        read(f"echo={text}")
    assert fault.value.title == "Invalid parameter"
    assert fault.value.message == (
        'The "echo" parameter is invalid. The value of the parameter must be "true" or "false".'
    )


@pytest.mark.parametrize(
    "text",
    ["x", "1.0", "1e3", "0x10", "1_000", "-", "%2B", "--1", "1,2", "٣", "²", "NaN", "true", "9" * 5000],
)
def test_other_text_is_no_integer(text: str) -> None:
    with pytest.raises(InvalidParameter) as fault:
        read(f"limit={quote(text, safe='%')}")
    assert fault.value.title == "Invalid parameter"
    assert fault.value.message == 'The "limit" parameter is invalid. The value must be an integer.'


def test_what_is_not_known_is_a_filter_where_there_are_filters() -> None:
    reader = QueryReader(TYPES, filters=True)
    assert reader.fields(b"limit=3&team=blue&size=7&team=red&blank=") == {
        "limit": 3,
        "filters": {"team": "red", "size": "7"},
    }


def test_bytes_that_are_no_text_are_read_somehow() -> None:
    for query in (b"marker=%ff", b"marker=\xff", b"%ff=1", b"marker=%", b"marker=%zz", b"marker=%00"):
        assert isinstance(parameters(query), dict)


def test_long_and_short_queries_are_read_alike_and_twice() -> None:
    reader = QueryReader(TYPES)
    for query in (b"ids=a,b", b"ids=" + b"a," * 1000):
        first = reader.fields(query)
        assert reader.fields(query) == first
        assert set(first["ids"]) <= {"a", "b"}


# --- as requests meet them -----------------------------------------------------------------------------


async def test_limit_out_of_bounds_is_not_a_parameter_that_cannot_be_read(web: Web) -> None:
    for text in ("0", "-1", "21", "9" * 30):
        reply = await web.ask(f"GET /v2/queues/q/messages?limit={text}")
        assert reply.fault == (400, "Invalid API request")


async def test_unknown_parameters_are_ignored_but_filter_queues(web: Web) -> None:
    await web.ask("PUT /v2/queues/q", {"team": "blue"})
    assert (await web.ask("GET /v2/queues/q/messages?team=red")).status == 200
    assert (await web.ask("GET /v2/queues?team=red")).document == {"queues": [], "links": []}
    assert [queue["name"] for queue in (await web.ask("GET /v2/queues?team=blue")).document["queues"]] == [
        "q"
    ]


@pytest.mark.parametrize(
    "query",
    [
        "limit=1&detailed=true",
        "limit=1&detailed=true&with_count=true&name=q",
        "limit=1&team=blue%20%26%20red&size=7",
        "limit=1&%C3%A9=%C3%A9&a%26b=%3D%23",
        "limit=1&with_count=false&detailed=no",
    ],
)
async def test_next_links_of_queues_lead_through_all_that_was_asked_for(web: Web, query: str) -> None:
    metadata = {"team": "blue & red", "size": 7, "é": "é", "a&b": "=#"}
    for number in range(3):
        await web.ask(f"PUT /v2/queues/q{number}", metadata)
        await web.ask(f"PUT /v2/queues/q{number}-other")
    met = []
    target = f"/v2/queues?{query}"
    while page := (await web.ask(f"GET {target}")).document:
        met += [queue["name"] for queue in page["queues"]]
        if not page["queues"]:
            assert page["links"] == []
            break
        ((rel, target),) = [(link["rel"], link["href"]) for link in page["links"]]
        assert rel == "next"
    filtered = "team" in query or "%C3" in query
    assert met == [f"q{n}{end}" for n in range(3) for end in (("",) if filtered else ("", "-other"))]


async def test_next_links_of_messages_keep_what_was_asked_for(web: Web) -> None:
    await web.post("q", *range(3))
    for query, kept in (
        ("echo=true", "echo=true&include_delayed=true"),
        ("echo=1&limit=3&include_claimed=yes", "limit=3&echo=true&include_claimed=true&include_delayed=true"),
    ):
        page = (await web.ask(f"GET /v2/queues/q/messages?{query}&marker=")).document
        (link,) = page["links"]
        path, _, rest = link["href"].partition("?")
        assert path == "/v2/queues/q/messages"
        assert rest.startswith(f"{kept}&marker=")
        assert (await web.ask(f"GET {link['href']}")).document == {"messages": [], "links": []}
