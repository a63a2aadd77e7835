"""The control plane on Redis. Keys and their contents: `layout.py`."""

from sukkal.stores.contract import Document, Shelf
from sukkal.stores.redis import scripts
from sukkal.stores.redis.layout import Home, Layout, command, first_place, number
from sukkal.stores.redis.link import Reply
from sukkal.stores.redis.messages import Names
from sukkal.stores.redis.scripts import Script
from sukkal.stores.redis.servers import Servers

_AGAIN = b"AGAIN"


class RedisDocuments:
    def __init__(self, servers: Servers, layout: Layout, names: Names) -> None:
        self._servers = servers
        self._layout = layout
        self._name = names

    async def get(self, shelf: Shelf, name: str, *, now: float) -> Document | None:
        home = self._layout.shelf(shelf)
        asked = command(b"HGET", b"%bR:%b" % (home.tag, home.name), _name(name))
        record = await self._servers.call(home.partition, asked)
        return None if record is None else _document(name, record, now)

    async def put(
        self,
        shelf: Shelf,
        name: str,
        value: bytes,
        *,
        expect: int | None,
        now: float,
        expires: float | None = None,
    ) -> int | None:
        version = await self._settled(
            scripts.PUT_DOCUMENT,
            self._layout.shelf(shelf),
            number(now),
            _name(name),
            value,
            b"" if expect is None else b"%d" % expect,
            b"" if expires is None else number(expires),
            self._name(),
            first_place(now),
            write=True,
        )
        return None if version is None else int(version)

    async def delete(self, shelf: Shelf, name: str) -> bool:
        home = self._layout.shelf(shelf)
        packed = scripts.DELETE_DOCUMENT.on(home, b"", _name(name))
        return bool(await self._servers.call(home.partition, packed, write=True))

    async def scan(self, shelf: Shelf, *, after: str, limit: int, now: float) -> list[Document]:
        home = self._layout.shelf(shelf)
        names, records = await self._settled(
            scripts.SCAN_DOCUMENTS, home, number(now), _name(after), b"%d" % limit
        )
        found = (_document(name.decode(), record, now) for name, record in zip(names, records, strict=True))
        return [document for document in found if document is not None]

    async def count(self, shelf: Shelf, *, now: float) -> int:
        return int(await self._settled(scripts.COUNT_DOCUMENTS, self._layout.shelf(shelf), number(now)))

    async def _settled(self, script: Script, home: Home, *arguments: bytes, write: bool = False) -> Reply:
        """The answer of a script that first drops what has expired, some of it in each call."""
        packed = script.on(home, *arguments)
        while True:
            reply = await self._servers.call(home.partition, packed, write=write)
            if reply != _AGAIN:
                return reply


def _name(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _document(name: str, record: bytes, now: float) -> Document | None:
    version, expires, _, value = record.split(b" ", 3)
    if expires != b"-" and float(expires) <= now:
        return None
    return Document(name=name, value=value, version=int(version))
