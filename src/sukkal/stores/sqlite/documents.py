"""The control plane on SQLite. Table layout: `schema.py`."""

from sukkal.stores.contract import Document, Shelf
from sukkal.stores.sqlite.database import Database

_LIVE = "kind = ? AND project = ? AND (expires IS NULL OR expires > ?)"


class SqliteDocuments:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._execute = database.execute

    async def get(self, shelf: Shelf, name: str, *, now: float) -> Document | None:
        found: Document | None = self._database.read(self._get, shelf, name, now)
        return found

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
        version: int | None = await self._database.write(self._put, shelf, name, value, expect, now, expires)
        return version

    async def delete(self, shelf: Shelf, name: str) -> bool:
        deleted: bool = await self._database.write(self._delete, shelf, name)
        return deleted

    async def scan(self, shelf: Shelf, *, after: str, limit: int, now: float) -> list[Document]:
        found: list[Document] = self._database.read(self._scan, shelf, after, limit, now)
        return found

    async def count(self, shelf: Shelf, *, now: float) -> int:
        found: int = self._database.read(self._count, shelf, now)
        return found

    def _get(self, shelf: Shelf, name: str, now: float) -> Document | None:
        row = self._execute(
            f"SELECT value, version FROM document WHERE {_LIVE} AND name = ?", (*shelf, now, name)
        ).fetchone()
        return Document(name=name, value=row[0], version=row[1]) if row else None

    def _put(
        self, shelf: Shelf, name: str, value: bytes, expect: int | None, now: float, expires: float | None
    ) -> int | None:
        if expect is not None:
            present = self._get(shelf, name, now)
            if (present.version if present else 0) != expect:
                return None
        version = self._database.next_number()  # so that a name used again gets a new version too
        if expires is not None and expires <= now:  # nothing to keep
            self._delete(shelf, name)
            return version
        self._execute(
            "INSERT OR REPLACE INTO document VALUES (?, ?, ?, ?, ?, ?)",
            (*shelf, name, version, value, expires),
        )
        return version

    def _delete(self, shelf: Shelf, name: str) -> bool:
        self._execute("DELETE FROM document WHERE kind = ? AND project = ? AND name = ?", (*shelf, name))
        return self._database.changes() > 0

    def _scan(self, shelf: Shelf, after: str, limit: int, now: float) -> list[Document]:
        rows = self._execute(
            f"SELECT name, value, version FROM document WHERE {_LIVE} AND name > ? ORDER BY name LIMIT ?",
            (*shelf, now, after, limit),
        )
        return [Document(name=name, value=value, version=version) for name, value, version in rows]

    def _count(self, shelf: Shelf, now: float) -> int:
        return int(self._execute(f"SELECT count(*) FROM document WHERE {_LIVE}", (*shelf, now)).fetchone()[0])
