"""What the URIs of all servers have in common: an address, and options behind a question mark."""

import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec

from sukkal.errors import BadStoreURI

Address = tuple[str, int]


def split(uri: str) -> SplitResult:
    """The parts of a URI. Raises BadStoreURI, in words that hold no credentials.

    A password with a slash in it ends the part where passwords are looked for; what is left of it would then
    be taken for a path, and be shown.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as exc:  # whose words quote the URI
        raise BadStoreURI("The store's URI cannot be read: its brackets do not fit.") from exc
    if "@" in parts.path + parts.fragment + parts.query.partition("=")[0]:
        raise BadStoreURI(
            f"The {parts.scheme}: URI has an @ in the wrong place. In a user's name or password, "
            "/ ? # and @ are written %2F, %3F, %23 and %40."
        )
    return parts


def address(text: str, default_port: int) -> Address:
    """What `host`, `host:port` or `[IPv6]:port` names."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
    else:
        host, colon, port = text.partition(":")
        rest = colon + port
    if not rest:
        return host or "localhost", default_port
    port = rest.removeprefix(":")
    if not (rest.startswith(":") and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise BadStoreURI(f"The port in a store's URI must be a number from 1 to 65535, not {port!r}.")
    return host, int(port)


def ssl_context(authorities: str, certificate: str, key: str) -> ssl.SSLContext:
    """How servers are spoken to over TLS, with the system's authorities unless a file of them is named.

    `certificate` is a file with our own, and its key unless `key` names another. Raises OSError when a file
    cannot be read.
    """
    context = ssl.create_default_context(cafile=authorities or None)
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context


def known(kind: type[msgspec.Struct], *, first: str) -> list[str]:
    """The fields of `kind` from the one named `first` on, which URIs may set by these names."""
    names = [field.name for field in msgspec.structs.fields(kind)]
    return names[names.index(first) :]


def options(scheme: str, query: str, kind: type[msgspec.Struct], known: Sequence[str]) -> dict[str, Any]:
    """What a query gives: fields of `kind`, among those that are `known`."""
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    found = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise BadStoreURI(f"A {scheme}: URI has no option {name!r}; it has {', '.join(known)}.")
        try:
            found[name] = msgspec.convert(text, types[name], strict=False)
        except msgspec.ValidationError as exc:
            raise BadStoreURI(f"The option {name} of the {scheme}: URI cannot be used: {exc}.") from exc
    return found
