"""Which URIs open a store, and what is said of those that do not."""

import importlib
from types import ModuleType

import pytest

from sukkal.errors import BadStoreURI
from sukkal.stores.registry import located, open_backend, open_control


async def test_scheme_that_no_store_serves_is_refused_with_those_that_are() -> None:
    with pytest.raises(BadStoreURI) as caught:
        await open_backend("nosql://user:secret@host")
    assert "'nosql'" in str(caught.value)
    assert "sqlite:" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "one, other",
    [
        ("redis://host", "redis://user:secret@HOST:6379/0"),
        ("redis://host", "rediss://host?timeout=3"),
        ("redis+cluster://a,b", "redis+cluster://b:6379,a"),
        ("sqlite:///srv/a.db", "sqlite:///srv/b/../a.db"),
        ("memory:///name", "memory:///name/"),
    ],
)
def test_uris_of_one_store_have_one_identity(one: str, other: str) -> None:
    assert located(one)[1] == located(other)[1]


@pytest.mark.parametrize(
    "one, other",
    [
        ("redis://host", "redis://host/1"),
        ("redis://host", "redis://host:6380"),
        ("redis://host", "redis://host?prefix=other"),
        ("sqlite:///srv/a.db", "sqlite:///srv/b.db"),
        ("memory:///one", "memory:///two"),
    ],
)
def test_uris_of_two_stores_have_two(one: str, other: str) -> None:
    assert located(one)[1] != located(other)[1]


def test_options_go_into_the_uri_as_far_as_its_driver_knows_them() -> None:
    uri, _ = located("redis://host?timeout=3", {"timeout": 9, "prefix": "a b", "max_retry_sleep": 1})
    assert uri == "redis://host?timeout=3&prefix=a+b"
    assert located("sqlite:///a.db", {"timeout": 9})[0] == "sqlite:///a.db"


@pytest.mark.parametrize("uri", ["redis://[", "redis://h/x", "localhost:6379", "", "redis://u:p?w@h"])
def test_uri_that_leads_nowhere_is_refused(uri: str) -> None:
    with pytest.raises(BadStoreURI) as caught:
        located(uri)
    assert "p?w" not in str(caught.value)


@pytest.mark.parametrize(
    "uri, package, extra",
    [("redis://localhost", "hiredis", "redis"), ("postgresql://localhost/d", "asyncpg", "sql")],
)
async def test_store_whose_packages_are_missing_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, uri: str, package: str, extra: str
) -> None:
    def without_package(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {name}", name=package)

    monkeypatch.setattr(importlib, "import_module", without_package)
    with pytest.raises(BadStoreURI, match=rf"{package}.*pip install 'sukkal\[{extra}\]'"):
        await open_control(uri)
