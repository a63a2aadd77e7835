"""The headers that say who calls."""

from collections.abc import Mapping

from sukkal.errors import InvalidIdentity
from sukkal.wire import identity

CLIENT_HEADER = b"client-id"
REQUEST_ID_HEADER = b"x-openstack-request-id"  # inbound, the global one
PROJECT_HEADERS = (b"x-project-id", b"x-tenant-id", b"x-tenant")


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
