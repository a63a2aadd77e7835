"""Store URIs of this driver, read and judged.

postgresql://[user[:password]@]host[:port][,host[:port]…]/database[?option=value&…]
mysql://[user[:password]@]host[:port]/database[?option=value&…]          mariadb:// is the same
"""

import ssl
from typing import Annotated
from urllib.parse import unquote

from msgspec import Meta, Struct

from sukkal.errors import BadStoreURI
from sukkal.stores import uris
from sukkal.stores.uris import Address

_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
_Seconds = Annotated[float, Meta(gt=0, le=3600)]


class Options(Struct, frozen=True, kw_only=True):
    """What a URI says. From `timeout` on they are its options, by these names."""

    scheme: str
    addresses: tuple[Address, ...]  # of one server, or of a group of which one takes writes
    database: str
    user: str | None = None
    password: str | None = None
    timeout: _Seconds = 5.0  # a call may take, the wait for a connection included
    connect_timeout: _Seconds = 2.0
    connections: Annotated[int, Meta(ge=1, le=1000)] = 8  # that one process has open at most
    tls: bool = False
    ca: str = ""  # file of authorities to trust; the system's when empty
    cert: str = ""  # file of our own certificate, with its key unless `key` names another
    key: str = ""

    @property
    def identity(self) -> str:
        """Equal for URIs of the same database, as far as that can be told without going there."""
        return f"{'postgresql' if self.scheme == 'postgresql' else 'mysql'}://{self.shown}/{self.database}"

    @property
    def shown(self) -> str:
        """Where it is, without who asks."""
        return ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.addresses
        )

    def ssl_context(self) -> ssl.SSLContext | None:
        """Raises OSError when a file cannot be read."""
        return uris.ssl_context(self.ca, self.cert, self.key) if self.tls else None


OPTIONS = uris.known(Options, first="timeout")


def parse(uri: str) -> Options:
    """Raises BadStoreURI, in words that hold no credentials."""
    parts = uris.split(uri)
    scheme = parts.scheme
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database:
        raise BadStoreURI(f"A {scheme}: URI names one database: {scheme}://user:password@host/database.")
    addresses = tuple(uris.address(host, _PORTS[scheme]) for host in hosts.split(","))
    if len(addresses) > 1 and scheme != "postgresql":
        raise BadStoreURI(f"A {scheme}: URI names one server.")
    return Options(
        scheme=scheme,
        addresses=addresses,
        database=database,
        user=unquote(user) or None,
        password=unquote(password) or None,
        **uris.options(scheme, parts.query, Options, OPTIONS),
    )
