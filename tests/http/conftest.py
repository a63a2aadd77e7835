import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # a package here would hide the standard library's `http`

from asgi_caller import Web


@pytest.fixture
def web() -> Web:
    """The application with default settings, over an empty store."""
    return Web()
