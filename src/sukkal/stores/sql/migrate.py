"""Which form the tables have, and how Alembic brings them to the newest, by the steps in `migrations/`."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sukkal.errors import StoreUnavailable
from sukkal.stores.sql.database import Database
from sukkal.stores.sql.schema import NEWEST, SCHEMA_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger(__name__)
logging.getLogger("alembic").setLevel(logging.WARNING)  # what it does is told in a line of our own

MOST_SECONDS = 3600.0  # for steps on large tables


def configuration() -> "Config":
    """For Alembic; whoever has its command line can use it too."""
    from alembic.config import Config  # slow to import, and seldom needed

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


async def stored_version(database: Database) -> int | None:
    """What the database has; None when nothing is there yet."""

    async def ask(connection: AsyncConnection) -> int | None:
        return await connection.run_sync(_stored)

    return await database.call(ask)


def _stored(connection: Connection) -> int | None:
    if not inspect(connection).has_table(SCHEMA_TABLE):
        return None
    revision = connection.execute(text(f"SELECT max(version_num) FROM {SCHEMA_TABLE}")).scalar()
    return None if revision is None else int(revision)


async def bring_up_to_date(database: Database) -> None:
    """Leave the tables in the newest form, whoever else starts at the same time.

    Raises StoreUnavailable, also when they have one that only a later release knows.
    """
    if not _is_newest(await stored_version(database)):
        await database.call(lambda connection: _migrate(connection, database.kind.lock), within=MOST_SECONDS)


def _is_newest(stored: int | None) -> bool:
    if stored is not None and stored > NEWEST:
        raise StoreUnavailable(
            f"The records have schema version {stored}, this release knows {NEWEST}: start the release that "
            "wrote them, or a later one."
        )
    return stored == NEWEST


async def _migrate(connection: AsyncConnection, lock: Sequence[str]) -> None:
    await connection.execution_options(
        isolation_level="READ COMMITTED"
    )  # so PostgreSQL does all steps or none
    got: object = None
    for statement in lock:
        result = await connection.execute(text(statement))
        got = result.scalar() if result.returns_rows else None
    if got != 1:
        raise StoreUnavailable("Another process has been changing the store's tables for long.")
    stored = await connection.run_sync(_stored)
    if not _is_newest(stored):
        await connection.run_sync(_upgrade)
        log.info("schema brought from version %s to %s", stored or "none", NEWEST)
    await connection.commit()
    await connection.invalidate()  # which ends the lock, where the end of the transaction has not


def _upgrade(connection: Connection) -> None:
    from alembic import command  # slow to import, and seldom needed

    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
