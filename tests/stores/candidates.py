"""Every store the suite runs on. A further store is one line here."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

from redis_servers import SHARED

from sukkal.stores.contract import Backend
from sukkal.stores.registry import open_backend


def _apart(uri: str) -> str:
    """A part of the servers that nobody else uses. On a busy machine they may take long to answer."""
    return f"{uri}?prefix={uuid.uuid4().hex}&timeout=30&connect_timeout=30"


# Name to what makes the URI of a new, empty store; {directory} is an empty directory of the test's own.
STORES: dict[str, Callable[[], str]] = {
    "memory": lambda: "memory:",
    "sqlite": lambda: "sqlite:///{directory}/store.db",
    "redis": lambda: _apart(SHARED.server().uri),
    "valkey": lambda: _apart(SHARED.server("valkey-server").uri),
    "redis+sentinel": lambda: _apart(SHARED.sentinel_group().uri),
    "redis+cluster": lambda: _apart(SHARED.cluster().uri),
}

# These are a dozen processes, with the scripts and promises of "redis". The whole suite runs on them in CI
# and in the long form, else the random agreement, and what is told in test_redis_groups.py.
GROUPS = ("redis+sentinel", "redis+cluster")
THOROUGH = bool(os.environ.get("NOTHING_IS_MISSING")) or os.environ.get("SUKKAL_LONG") == "1"
CONFORMING = [name for name in STORES if THOROUGH or name not in GROUPS]


async def open_store(name: str, directory: Path) -> Backend:
    """The store that belongs to a directory, at first new and empty, with every promise in force."""
    note = directory / f"{name}.uri"
    if not note.exists():
        note.write_text(STORES[name]().format(directory=directory))
    return await open_backend(note.read_text(), durable=True)
