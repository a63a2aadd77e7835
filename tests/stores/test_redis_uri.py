"""URIs of the Redis store: what they say, and how wrong ones are refused."""

import pytest

from sukkal.errors import BadStoreURI
from sukkal.stores.redis.uri import Options, parse


@pytest.mark.parametrize(
    "uri, expected",
    [
        ("redis://", Options(scheme="redis", addresses=(("localhost", 6379),))),
        ("redis://h", Options(scheme="redis", addresses=(("h", 6379),))),
        ("redis://h:7000/3", Options(scheme="redis", addresses=(("h", 7000),), database=3)),
        ("redis://[::1]:7000", Options(scheme="redis", addresses=(("::1", 7000),))),
        (
            "rediss://u:p%40s@h/?ca=/etc/ca.pem",
            Options(
                scheme="rediss",
                addresses=(("h", 6379),),
                user="u",
                password="p@s",
                tls=True,
                ca="/etc/ca.pem",
            ),
        ),
        (
            "redis+sentinel://:pw@a,b:26380/main/1?min_replicas=1&replica_timeout=0.5&sentinel_password=x",
            Options(
                scheme="redis+sentinel",
                addresses=(("a", 26379), ("b", 26380)),
                password="pw",
                service="main",
                database=1,
                min_replicas=1,
                replica_timeout=0.5,
                sentinel_password="x",
            ),
        ),
        (
            "redis+cluster://a:7000,b:7001?tls=true&prefix=other&timeout=3",
            Options(
                scheme="redis+cluster",
                addresses=(("a", 7000), ("b", 7001)),
                tls=True,
                prefix="other",
                timeout=3.0,
            ),
        ),
    ],
)
def test_uri_says_where_and_how(uri: str, expected: Options) -> None:
    assert parse(uri) == expected


@pytest.mark.parametrize(
    "uri, why",
    [
        ("redis://u:secret@h:port", "port"),
        ("redis://u:secret@h:0", "port"),
        ("redis://u:secret@h/one", "database"),
        ("redis://u:secret@h/1/2", "path"),
        ("redis+cluster://u:secret@h/1", "path"),
        ("redis+sentinel://u:secret@h", "service"),
        ("redis://u:secret@h?colour=red", "'colour'"),
        ("redis://u:secret@h?min_replicas=-1", "min_replicas"),
        ("redis://u:secret@h?timeout=0", "timeout"),
        ("redis://u:secret@h?timeout=soon", "timeout"),
        ("redis://u:secret@h?prefix={a}", "prefix"),
    ],
)
def test_uri_that_cannot_be_used_is_refused_without_its_password(uri: str, why: str) -> None:
    with pytest.raises(BadStoreURI, match=why) as caught:
        parse(uri)
    assert "secret" not in str(caught.value)
