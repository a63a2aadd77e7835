from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sukkal.stores.contract import Backend, Documents, Messages

from .candidates import CONFORMING, RECORDS, open_records, open_store


@pytest.fixture(params=CONFORMING)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """Each store in turn, new and empty."""
    opened = await open_store(request.param, tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def messages(backend: Backend) -> Messages:
    return backend.messages


@pytest.fixture(params=[*CONFORMING, *RECORDS])
async def documents(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Documents]:
    """The records of each store in turn, none yet."""
    opened = await open_records(request.param, tmp_path)
    yield opened.documents
    await opened.close()
