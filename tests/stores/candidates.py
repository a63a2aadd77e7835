"""Every store the suite runs on. A further store is one line here."""

from pathlib import Path

from sukkal.stores.contract import Backend
from sukkal.stores.registry import open_backend

# Name to URI; {directory} is an empty directory of the test's own.
STORES = {
    "memory": "memory:",
    "sqlite": "sqlite:///{directory}/store.db",
}


async def open_store(name: str, directory: Path) -> Backend:
    """A new, empty store with every promise in force."""
    return await open_backend(STORES[name].format(directory=directory), durable=True)
