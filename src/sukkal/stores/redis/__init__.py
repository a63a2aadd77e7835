"""The store for more than one machine: Redis or Valkey. URIs: `uri.py`; what lies where: `layout.py`."""

from sukkal.stores.contract import Backend, Documents, Messages, Trait, Waker
from sukkal.stores.redis.cluster import Cluster
from sukkal.stores.redis.dial import Dialer
from sukkal.stores.redis.documents import RedisDocuments
from sukkal.stores.redis.layout import Layout
from sukkal.stores.redis.messages import Names, RedisMessages
from sukkal.stores.redis.servers import OneServer, SentinelGroup, Servers
from sukkal.stores.redis.uri import OPTIONS as OPTIONS
from sukkal.stores.redis.uri import Options, parse
from sukkal.stores.redis.waker import RedisWaker

_KINDS: dict[str, type[OneServer] | type[Cluster]] = {
    "redis": OneServer,
    "rediss": OneServer,
    "redis+sentinel": SentinelGroup,
    "redis+cluster": Cluster,
}


class RedisBackend:
    def __init__(self, options: Options, *, durable: bool) -> None:
        layout, names = Layout(options.prefix), Names()
        self._durable = durable
        dialer = Dialer(options, durable=durable)
        self._servers: Servers = _KINDS[options.scheme](options, layout, dialer)
        self._in_order = isinstance(self._servers, OneServer)  # its calls go down one connection
        self._waker = RedisWaker(self._servers, layout, options.timeout)
        self.messages: Messages = RedisMessages(self._servers, layout, names, dialer.figures)
        self.documents: Documents = RedisDocuments(self._servers, layout, names)
        self.waker: Waker = self._waker
        self.figures = dialer.figures

    @property
    def traits(self) -> frozenset[Trait]:
        """What holds now: a failover may bring a server that promises less."""
        traits = {Trait.FIFO, Trait.CLAIMS, Trait.AT_LEAST_ONCE, Trait.HIGH_THROUGHPUT, Trait.SHARED}
        if self._durable and self._servers.durable:
            traits.add(Trait.DURABLE)
        if self._in_order:
            traits.add(Trait.IN_ORDER)
        return frozenset(traits)

    async def open(self) -> None:
        """Return when the servers are there; raises StoreUnavailable when they are not."""
        await self._servers.open()

    async def ping(self) -> None:
        await self._servers.ping()

    async def close(self) -> None:
        await self._waker.close()
        await self._servers.close()


def identity(uri: str) -> str:
    """Raises BadStoreURI."""
    return parse(uri).identity


async def open_backend(uri: str, *, durable: bool = True) -> Backend:
    """Raises BadStoreURI, StoreUnavailable."""
    backend = RedisBackend(parse(uri), durable=durable)
    try:
        await backend.open()
    except BaseException:
        await backend.close()
        raise
    return backend
