"""URI scheme → store. A driver is imported when its scheme is first asked for, and named nowhere else."""

import importlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from sukkal.errors import BadStoreURI
from sukkal.stores.contract import Backend, ControlBackend, Form

_OPENERS = {
    "memory": "sukkal.stores.memory",
    "sqlite": "sukkal.stores.sqlite",
    "redis": "sukkal.stores.redis",
    "rediss": "sukkal.stores.redis",
    "redis+sentinel": "sukkal.stores.redis",
    "redis+cluster": "sukkal.stores.redis",
    "postgresql": "sukkal.stores.sql",
    "mysql": "sukkal.stores.sql",
    "mariadb": "sukkal.stores.sql",
}
# Drivers that need packages of their own, and what brings them.
_EXTRAS = {"sukkal.stores.redis": "redis", "sukkal.stores.sql": "sql"}
_WITHOUT_MESSAGES = {"sukkal.stores.sql"}


async def inspect(uri: str) -> Form | None:
    """In which form things are stored, found out without changing them; None when the form has no versions.

    Raises BadStoreURI and StoreUnavailable, as `open_backend` does.
    """
    driver = _driver(uri)
    if not hasattr(driver, "inspect"):
        return None
    form: Form = await driver.inspect(uri)
    return form


async def open_backend(uri: str, *, durable: bool = True) -> Backend:
    """Open the store at `uri`, creating it when it is new.

    `durable` asks that writes are on stable storage before they are acknowledged; the traits of what is
    returned tell what the store really promises. Raises BadStoreURI for one that
    no driver serves, or cannot serve here, StoreInUse, StoreUnavailable.
    """
    check_keeps_messages(uri)
    backend: Backend = await _driver(uri).open_backend(uri, durable=durable)
    return backend


def check_keeps_messages(uri: str) -> None:
    """Raise BadStoreURI for a store that has no place for messages."""
    scheme = urlsplit(uri).scheme
    if _OPENERS.get(scheme) in _WITHOUT_MESSAGES:
        raise BadStoreURI(
            f"The store {scheme}: keeps records only, and no messages: name it as control_store, and another "
            "one as store, such as sqlite: or redis://localhost."
        )


async def open_control(uri: str, *, durable: bool = True) -> ControlBackend:
    """The same for a store that is asked for documents only; some have nothing else."""
    control: ControlBackend = await _driver(uri).open_backend(uri, durable=durable)
    return control


def located(uri: str, options: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """The URI with those of the options that its driver knows, and the identity of the store it leads to.

    Identities are equal for URIs that lead to the same store, as far as that can be told without going there.
    What the URI says itself wins over options. Raises BadStoreURI.
    """
    try:
        driver = _driver(uri)
        said = parse_qs(urlsplit(uri).query, keep_blank_values=True)
        known = getattr(driver, "OPTIONS", ())
        further = {k: v for k, v in (options or {}).items() if k in known and k not in said}
        if further:
            uri += ("&" if said else "?") + urlencode(further)
        return uri, driver.identity(uri)
    except BadStoreURI:
        raise
    except ValueError as exc:  # from urlsplit
        raise BadStoreURI("The URI cannot be read.") from exc


def _driver(uri: str) -> Any:
    scheme = urlsplit(uri).scheme
    if scheme not in _OPENERS:
        # Without the rest, which may hold a password.
        raise BadStoreURI(
            f"No store serves a URI that begins with {scheme!r}; it must start with one of: "
            + ", ".join(f"{known}:" for known in sorted(_OPENERS))
        )
    name = _OPENERS[scheme]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if name not in _EXTRAS or (exc.name or "").startswith("sukkal"):
            raise
        raise BadStoreURI(
            f"The store {scheme}: needs the package {exc.name}, which is not installed: "
            f"pip install 'sukkal[{_EXTRAS[name]}]'"
        ) from exc
