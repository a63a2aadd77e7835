"""URI scheme → store. A driver is imported when its scheme is first asked for, and named nowhere else."""

import importlib
from urllib.parse import urlsplit

from sukkal.stores.contract import Backend

_OPENERS = {
    "memory": "sukkal.stores.memory",
    "sqlite": "sukkal.stores.sqlite",
}


class UnknownScheme(ValueError):
    """A store URI whose scheme no driver serves."""


async def open_backend(uri: str, *, durable: bool = True) -> Backend:
    """Open the store at `uri`, creating it when it is new.

    `durable` asks that writes are on stable storage before they are acknowledged; the traits of what is
    returned tell what the store really promises. Raises UnknownScheme, StoreInUse, StoreUnavailable.
    """
    scheme = urlsplit(uri).scheme
    if scheme not in _OPENERS:
        raise UnknownScheme(
            f"No store serves the URI {uri!r}; it must start with one of: "
            + ", ".join(f"{known}:" for known in sorted(_OPENERS))
        )
    opener = importlib.import_module(_OPENERS[scheme]).open_backend
    backend: Backend = await opener(uri, durable=durable)
    return backend
