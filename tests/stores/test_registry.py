"""Which URIs open a store, and what is said of those that do not."""

import importlib
from types import ModuleType

import pytest

from sukkal.errors import BadStoreURI
from sukkal.stores.registry import open_backend


async def test_scheme_that_no_store_serves_is_refused_with_those_that_are() -> None:
    with pytest.raises(BadStoreURI) as caught:
        await open_backend("nosql://user:secret@host")
    assert "'nosql'" in str(caught.value)
    assert "sqlite:" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_store_whose_packages_are_missing_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_parser(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {name}", name="hiredis")

    monkeypatch.setattr(importlib, "import_module", without_parser)
    with pytest.raises(BadStoreURI, match=r"hiredis.*pip install 'sukkal\[redis\]'"):
        await open_backend("redis://localhost")
