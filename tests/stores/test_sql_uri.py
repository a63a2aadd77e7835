"""URIs of databases: what they say, and how wrong ones are refused."""

import pytest

from sukkal.errors import BadStoreURI
from sukkal.stores.registry import inspect, open_backend, open_control
from sukkal.stores.sql.uri import Options, parse


@pytest.mark.parametrize(
    "uri, expected",
    [
        (
            "postgresql:///sukkal",
            Options(scheme="postgresql", addresses=(("localhost", 5432),), database="sukkal"),
        ),
        (
            "mysql://u:p%40%2Fs@h/d",
            Options(scheme="mysql", addresses=(("h", 3306),), database="d", user="u", password="p@/s"),
        ),
        ("mariadb://[::1]:7000/d", Options(scheme="mariadb", addresses=(("::1", 7000),), database="d")),
        (
            "postgresql://u@a,b:6432/d?timeout=1.5&connections=3&tls=true&ca=/etc/ca.pem",
            Options(
                scheme="postgresql",
                addresses=(("a", 5432), ("b", 6432)),
                database="d",
                user="u",
                timeout=1.5,
                connections=3,
                tls=True,
                ca="/etc/ca.pem",
            ),
        ),
    ],
)
def test_uri_is_read(uri: str, expected: Options) -> None:
    assert parse(uri) == expected


@pytest.mark.parametrize(
    "uri, said",
    [
        ("postgresql://u:secret@h", "names one database"),
        ("postgresql://u:secret@h/", "names one database"),
        ("postgresql://u:secret@h/a/b", "names one database"),
        ("mysql://u:secret@a,b/d", "names one server"),
        ("mysql://u:secret@h:high/d", "port"),
        ("mysql://u:secret@h/d?colour=red", "no option 'colour'"),
        ("mysql://u:secret@h/d?timeout=0", "timeout"),
        ("mysql://u:secret@h/d?connections=many", "connections"),
        ("mysql://u:sec/secret@h/d", "%2F"),
        ("mysql://u:sec#secret@h/d", "%23"),
        ("mysql://u:sec?secret@h/d", "%3F"),
        ("mysql://[u:secret@h/d", "cannot be read"),
    ],
)
def test_wrong_uri_is_refused_without_showing_the_password(uri: str, said: str) -> None:
    with pytest.raises(BadStoreURI) as caught:
        parse(uri)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["postgresql://u:secret@h/d", "mysql://u:secret@h/d", "mariadb://u:secret@h/d"]
)
async def test_database_is_refused_as_a_store_of_messages(uri: str) -> None:
    with pytest.raises(BadStoreURI, match=r"keeps records only.*control_store") as caught:
        await open_backend(uri)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_file_for_tls_that_is_not_there_is_named(scheme: str) -> None:
    uri = f"{scheme}://u:secret@127.0.0.1:1/d?tls=true&ca=/nowhere/ca.pem"
    for opener in (open_control, inspect):
        with pytest.raises(BadStoreURI, match="for TLS cannot be used: No such file"):
            await opener(uri)
