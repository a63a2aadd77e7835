"""Store URIs of this driver, read and judged.

redis://[user[:password]@]host[:port][/database][?option=value&…]
rediss://…                                       the same over TLS
redis+sentinel://…host:port,host:port/service[/database]
redis+cluster://…host:port,host:port
"""

import ssl
from typing import Annotated, Any
from urllib.parse import unquote

from msgspec import Meta, Struct

from sukkal.errors import BadStoreURI
from sukkal.stores import uris
from sukkal.stores.uris import Address

_PORTS = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379, "redis+cluster": 6379}
_Seconds = Annotated[float, Meta(gt=0, le=3600)]


class Options(Struct, frozen=True, kw_only=True):
    """What a URI says. From `prefix` on they are its options, by these names."""

    scheme: str
    addresses: tuple[Address, ...]  # of the server, of the sentinels, or of some nodes of the cluster
    user: str = ""
    password: str = ""
    service: str = ""  # as the sentinels know it
    database: int = 0
    prefix: Annotated[str, Meta(pattern=r"^[^{}]*$")] = "sukkal"  # of all keys; stores with others are apart
    min_replicas: Annotated[int, Meta(ge=0, le=100)] = 0  # that must have a write before it is acknowledged
    replica_timeout: _Seconds = 1.0  # to wait for them
    timeout: _Seconds = 2.0  # an answer may take before the connection is given up
    connect_timeout: _Seconds = 1.0
    tls: bool = False
    ca: str = ""  # file of authorities to trust; the system's when empty
    cert: str = ""  # file of our own certificate, with its key unless `key` names another
    key: str = ""
    sentinel_user: str = ""
    sentinel_password: str = ""

    @property
    def identity(self) -> str:
        """Equal where the same keys of the same servers are meant."""
        servers = ",".join(sorted(f"{host.lower()}:{port}" for host, port in self.addresses))
        return f"redis {servers} {self.service} {self.database} {self.prefix}"

    @property
    def in_group(self) -> bool:
        """Whether servers take over from each other by themselves."""
        return self.scheme in ("redis+sentinel", "redis+cluster")

    def ssl_context(self) -> ssl.SSLContext | None:
        """Raises OSError when a file cannot be read."""
        return uris.ssl_context(self.ca, self.cert, self.key) if self.tls else None


OPTIONS = uris.known(Options, first="prefix")


def parse(uri: str) -> Options:
    """Raises BadStoreURI, in words that hold no credentials."""
    parts = uris.split(uri)
    scheme = parts.scheme
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = ""
    if scheme == "redis+sentinel":
        if not path:
            raise BadStoreURI("A redis+sentinel: URI names the service: redis+sentinel://host,host/service.")
        service = path.pop(0)
    if len(path) > 1 or (path and scheme == "redis+cluster"):
        raise BadStoreURI(f"The path of the {scheme}: URI is too long at /{path[-1]}.")
    if path and not (path[0].isascii() and path[0].isdigit()):
        raise BadStoreURI(f"The database in a {scheme}: URI must be a number, not {path[0]!r}.")
    given: dict[str, Any] = {
        "tls": scheme == "rediss",
        **uris.options(scheme, parts.query, Options, OPTIONS),
    }
    return Options(
        scheme=scheme,
        addresses=tuple(uris.address(host, _PORTS[scheme]) for host in hosts.split(",")),
        user=unquote(user),
        password=unquote(password),
        service=service,
        database=int(path[0]) if path else 0,
        **given,
    )
