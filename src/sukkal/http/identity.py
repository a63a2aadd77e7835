"""The headers that say who calls."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from sukkal.core.context import Credentials
from sukkal.core.signing import Grant
from sukkal.errors import InvalidIdentity
from sukkal.wire import identity

CLIENT_HEADER = b"client-id"
REQUEST_ID_HEADER = b"x-openstack-request-id"  # inbound, the global one
SIGNATURE_HEADER = b"url-signature"
PROJECT_HEADERS = (b"x-project-id", b"x-tenant-id", b"x-tenant")
_GRANT_HEADERS = (SIGNATURE_HEADER, b"url-paths", b"url-methods", b"url-expires")


LONGEST_KEPT = 512  # bytes of the headers of a caller that is remembered


class Caller(NamedTuple):
    """Who calls."""

    client: str
    project: str
    roles: frozenset[str]  # in lower case


class Callers:
    """Reads who calls. Most call again and again, so what was read of them is kept for a while."""

    def __init__(self, client_ids: identity.ClientIds) -> None:
        self._client_ids = client_ids
        self._kept = lru_cache(4096)(self._read)

    def read(self, headers: Mapping[bytes, bytes]) -> Caller:
        """The caller; InvalidIdentity when what names it is missing or malformed."""
        client, project = headers.get(CLIENT_HEADER), headers.get(PROJECT_HEADERS[0])
        if project is None:
            project = _named(headers)
        roles = headers.get(b"x-roles") or headers.get(b"x-role") or b""
        if client and project and len(client) + len(project) + len(roles) <= LONGEST_KEPT:
            return self._kept(client, project, roles)
        return self._read(client, project, roles)

    def _read(self, client: bytes | None, project: bytes | None, roles: bytes) -> Caller:
        return Caller(self._client_ids.read(client), identity.project(project), identity.roles(roles))


def _named(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The first of the headers for a project that is there."""
    for name in PROJECT_HEADERS:
        value = headers.get(name)
        if value is not None:
            return value
    return None


def project(headers: Mapping[bytes, bytes]) -> str:
    """The project of the call."""
    return identity.project(_named(headers))


def named_project(headers: Mapping[bytes, bytes]) -> str | None:
    """The same for a log line: None when none is named."""
    try:
        return project(headers)
    except InvalidIdentity:
        return None


def global_request_id(headers: Mapping[bytes, bytes]) -> str | None:
    """The id that the caller gave to what it does, if it did in due form."""
    return identity.global_request_id(headers.get(REQUEST_ID_HEADER))


def credentials(headers: Mapping[bytes, bytes]) -> Credentials | None:
    """What the caller shows for others to act in its name; None unless it is a token and whose."""
    token, user = headers.get(b"x-auth-token"), headers.get(b"x-user-id")
    if not token or not user:
        return None
    roles = identity.role_names(headers.get(b"x-roles") or headers.get(b"x-role"))
    return Credentials(token=token.decode("latin-1"), user=user.decode("latin-1"), roles=roles)


def grant(headers: Mapping[bytes, bytes]) -> Grant:
    """What a pre-signed request shows instead of a token."""
    texts = (headers.get(name, b"").decode("latin-1") for name in _GRANT_HEADERS)
    signature, paths, methods, expires = texts
    return Grant(signature, tuple(paths.split(",")), tuple(methods.split(",")), expires)
