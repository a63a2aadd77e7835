"""The headers that say who calls."""

from collections.abc import Mapping

from sukkal.wire import identity

CLIENT_HEADER = b"client-id"
PROJECT_HEADERS = (b"x-project-id", b"x-tenant-id", b"x-tenant")


def project(headers: Mapping[bytes, bytes]) -> str:
    """The project of the call: the first of its headers that is there."""
    for name in PROJECT_HEADERS:
        value = headers.get(name)
        if value is not None:
            return identity.project(value)
    return identity.project(None)


def roles(headers: Mapping[bytes, bytes]) -> frozenset[str]:
    """The caller's roles, in lower case."""
    return identity.roles(headers.get(b"x-roles") or headers.get(b"x-role"))
