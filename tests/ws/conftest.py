"""A WebSocket service in the test's own process, for each test its own."""

from collections.abc import AsyncIterator

import pytest
from ws_site import Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site().open() as site:
        yield site
