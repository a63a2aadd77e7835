import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

import chromium
from chromium import Chromium


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Chromium; without one the tests are skipped, except where a browser is said to be there."""
    path = chromium.found()
    if path is None:
        reason = "Chromium is not installed (on Debian: apt-get install chromium)"
        if os.environ.get("NOTHING_IS_MISSING"):
            pytest.fail(reason)
        pytest.skip(reason)
    with chromium.running(path, tmp_path_factory.mktemp("chromium")) as running:
        yield running
