"""The control plane on SQL. Tables: `schema.py`; how a put is one step: `postgresql.py`, `mysql.py`."""

from typing import Any

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sukkal.stores.contract import Document, Shelf
from sukkal.stores.sql.database import Database
from sukkal.stores.sql.parameters import (
    AT_PLACE,
    LIVE,
    NAME,
    ON_SHELF,
    place_given,
    record_given,
    shelf_given,
    words,
)
from sukkal.stores.sql.schema import document

_GET = select(document.c.value, document.c.version).where(AT_PLACE, LIVE)
_SCAN = (
    select(document.c.name, document.c.value, document.c.version)
    .where(ON_SHELF, document.c.name > NAME, LIVE)
    .order_by(document.c.name)
    .limit(bindparam("limit"))
)
_COUNT = select(func.count()).select_from(document).where(ON_SHELF, LIVE)
_DELETE = delete(document).where(AT_PLACE)


class SqlDocuments:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._kind = database.kind

    async def get(self, shelf: Shelf, name: str, *, now: float) -> Document | None:
        given = {**place_given(shelf, name), "now": now}

        async def ask(connection: AsyncConnection) -> Any:
            return (await connection.execute(_GET, given)).one_or_none()

        row = await self._database.call(ask)
        return None if row is None else Document(name=name, value=row.value, version=row.version)

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
        given = record_given(shelf, name, value, expires)

        async def write(connection: AsyncConnection) -> int | None:
            if expires is not None:
                # Who brings what will be rubbish takes some away. So there is never much more of it than
                # there were records that expire, all alive at one time.
                await connection.execute(self._kind.sweep, {"now": now})
            return await self._kind.put(connection, given, expect=expect, now=now)

        return await self._database.call(write)

    async def delete(self, shelf: Shelf, name: str) -> bool:
        given = place_given(shelf, name)

        async def write(connection: AsyncConnection) -> bool:
            return (await connection.execute(_DELETE, given)).rowcount > 0

        return await self._database.call(write)

    async def scan(self, shelf: Shelf, *, after: str, limit: int, now: float) -> list[Document]:
        given = {**place_given(shelf, after), "limit": limit, "now": now}

        async def ask(connection: AsyncConnection) -> Any:
            return (await connection.execute(_SCAN, given)).all()

        rows = await self._database.call(ask)
        return [Document(name=words(row.name), value=row.value, version=row.version) for row in rows]

    async def count(self, shelf: Shelf, *, now: float) -> int:
        given = {**shelf_given(shelf), "now": now}

        async def ask(connection: AsyncConnection) -> int:
            return int((await connection.execute(_COUNT, given)).scalar_one())

        return await self._database.call(ask)
