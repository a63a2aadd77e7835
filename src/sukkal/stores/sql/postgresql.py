"""What is PostgreSQL's own: asyncpg, and a put in a single statement."""

from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.expression import Executable

from sukkal.stores.sql.database import LOCK_SECONDS, SWEPT
from sukkal.stores.sql.parameters import (
    AT_PLACE,
    EXPECT,
    EXPIRED,
    EXPIRES,
    KIND,
    LIVE,
    NAME,
    NUMBER,
    PROJECT,
    VALUE,
    Given,
)
from sukkal.stores.sql.schema import counter, document
from sukkal.stores.sql.uri import Options

LOCK = 0x5355_4B4B_414C  # known within this database

_KEY = (document.c.kind, document.c.project, document.c.name)

# The next version is drawn in the same statement. Its counter stays locked until that has committed, so the
# versions of a name commit in order. `next` is joined, not asked for in a subquery: a row that was changed
# meanwhile is looked at again, and a write inside a subquery cannot be.
_next = (
    update(counter)
    .where(counter.c.number == NUMBER)
    .values(value=counter.c.value + 1)
    .returning(counter.c.value)
    .cte("next")
)
_insert = insert(document).from_select(
    [column.name for column in document.c],
    select(KIND, PROJECT, NAME, _next.c.value, VALUE, EXPIRES),
)
_new = {column: _insert.excluded[column] for column in ("version", "value", "expires")}
_PUT = _insert.on_conflict_do_update(index_elements=_KEY, set_=_new).returning(document.c.version)
_CREATE = _insert.on_conflict_do_update(index_elements=_KEY, set_=_new, where=EXPIRED).returning(
    document.c.version
)
_REPLACE = (
    update(document)
    .where(AT_PLACE, LIVE, document.c.version == EXPECT)
    .values(version=_next.c.value, value=VALUE, expires=EXPIRES)
    .returning(document.c.version)
)


# What somebody is writing just now is left to them.
_expired = (
    select(*_KEY).where(EXPIRED).order_by(document.c.expires).limit(SWEPT).with_for_update(skip_locked=True)
)


class Postgresql:
    name = "PostgreSQL"
    url = "postgresql+asyncpg://"
    tests_connections = False  # a connection knows when it has been closed
    errors: tuple[type[Exception], ...] = (
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,  # none of the hosts takes writes
    )
    syncs = "SELECT current_setting('fsync')::bool AND current_setting('synchronous_commit') <> 'off'"
    how_to_sync = "Set fsync and synchronous_commit to on for durable writes."
    lock: tuple[str, ...] = (
        "SET LOCAL statement_timeout = 0",
        f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'",
        f"SELECT 1 FROM pg_advisory_xact_lock({LOCK})",
    )

    sweep: Executable = delete(document).where(tuple_(*_KEY).in_(_expired))

    def __init__(self, options: Options, *, durable: bool) -> None:
        """Raises OSError when a file that TLS needs cannot be read."""
        self._options = options
        self._durable = durable
        self._tls = options.ssl_context()
        self._settings = {
            "application_name": "sukkal",
            "default_transaction_isolation": "read committed",
            "statement_timeout": f"{options.timeout * 1000:.0f}",  # given up here, given up there
            "idle_in_transaction_session_timeout": "60000",  # if this machine vanishes amid a migration
        }
        if not durable:
            self._settings["synchronous_commit"] = "off"

    async def connect(self) -> Any:
        options = self._options
        connection = await asyncpg.connect(
            host=[host for host, _ in options.addresses],
            port=[port for _, port in options.addresses],
            user=options.user,
            password=options.password,
            database=options.database,
            timeout=options.connect_timeout,
            ssl=self._tls or False,
            target_session_attrs="read-write",
            server_settings=self._settings,
        )
        if self._durable:
            # Stronger settings (remote_apply) stay as they are.
            await connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') = 'off'",
                timeout=options.connect_timeout,
            )
        return connection

    def is_closed(self, connection: Any) -> bool:
        return bool(connection.is_closed())

    def refuses_credentials(self, error: BaseException) -> bool:
        return isinstance(error, asyncpg.InvalidAuthorizationSpecificationError)

    def met_deadlock(self, error: DBAPIError) -> bool:
        return isinstance(error.__cause__, asyncpg.DeadlockDetectedError) or (
            error.orig is not None and isinstance(error.orig.__cause__, asyncpg.DeadlockDetectedError)
        )

    async def put(
        self, connection: AsyncConnection, given: Given, *, expect: int | None, now: float
    ) -> int | None:
        if expect is None:
            answer = await connection.execute(_PUT, given)
        elif expect == 0:
            answer = await connection.execute(_CREATE, {**given, "now": now})
        else:
            answer = await connection.execute(_REPLACE, {**given, "now": now, "expect": expect})
        version: int | None = answer.scalar_one_or_none()
        return version
