"""The headers that say who calls."""

from collections.abc import Mapping

from sukkal.core.signing import Grant
from sukkal.errors import InvalidIdentity
from sukkal.wire import identity

CLIENT_HEADER = b"client-id"
REQUEST_ID_HEADER = b"x-openstack-request-id"  # inbound, the global one
SIGNATURE_HEADER = b"url-signature"
PROJECT_HEADERS = (b"x-project-id", b"x-tenant-id", b"x-tenant")
_GRANT_HEADERS = (SIGNATURE_HEADER, b"url-paths", b"url-methods", b"url-expires")


def project(headers: Mapping[bytes, bytes]) -> str:
    """The project of the call: the first of its headers that is there."""
    for name in PROJECT_HEADERS:
        value = headers.get(name)
        if value is not None:
            return identity.project(value)
    return identity.project(None)


def named_project(headers: Mapping[bytes, bytes]) -> str | None:
    """The same for a log line: None when none is named."""
    try:
        return project(headers)
    except InvalidIdentity:
        return None


def global_request_id(headers: Mapping[bytes, bytes]) -> str | None:
    """The id that the caller gave to what it does, if it did in due form."""
    return identity.global_request_id(headers.get(REQUEST_ID_HEADER))


def roles(headers: Mapping[bytes, bytes]) -> frozenset[str]:
    """The caller's roles, in lower case."""
    return identity.roles(headers.get(b"x-roles") or headers.get(b"x-role"))


def grant(headers: Mapping[bytes, bytes]) -> Grant:
    """What a pre-signed request shows instead of a token."""
    texts = (headers.get(name, b"").decode("latin-1") for name in _GRANT_HEADERS)
    signature, paths, methods, expires = texts
    return Grant(signature, tuple(paths.split(",")), tuple(methods.split(",")), expires)
