"""Every store the suite runs on. A further store is one line here."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import sql_servers
from redis_servers import SHARED

from sukkal.stores.contract import Backend, ControlBackend
from sukkal.stores.registry import open_backend, open_control


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

# Stores that keep records only. Each is a new database on a server that the tests of a worker share.
RECORDS: dict[str, Callable[[], str]] = {
    kind: lambda kind=kind: sql_servers.SHARED.server(kind).new_database() + "?timeout=30&connect_timeout=30"
    for kind in sql_servers.KINDS
}


async def open_store(name: str, directory: Path) -> Backend:
    """The store that belongs to a directory, at first new and empty, with every promise in force."""
    return await open_backend(_uri(name, directory), durable=True)


async def open_records(name: str, directory: Path) -> ControlBackend:
    """The same, also for stores that keep no messages."""
    return await open_control(_uri(name, directory), durable=True)


def _uri(name: str, directory: Path) -> str:
    note = directory / f"{name}.uri"
    if not note.exists():
        note.write_text({**STORES, **RECORDS}[name]().replace("{directory}", str(directory)))
    return note.read_text()
