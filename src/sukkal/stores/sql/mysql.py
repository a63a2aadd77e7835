"""What is MySQL's and MariaDB's own: asyncmy, and a put as a transaction of three statements."""

import logging
from typing import Any

import asyncmy
from asyncmy.constants import CLIENT
from asyncmy.errors import MySQLError
from sqlalchemy import delete, func, update
from sqlalchemy.dialects.mysql import insert
from sqlalchemy.exc import DBAPIError, IntegrityError
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
    VERSION,
    Given,
)
from sukkal.stores.sql.schema import counter, document
from sukkal.stores.sql.uri import Options

logging.getLogger("asyncmy").setLevel(logging.ERROR)  # not what the server notes on statements

IDLE = 60  # seconds; if this machine vanishes amid a put, its counter is free again after that

_DEADLOCK = 1213
_REFUSED = (1044, 1045, 1698)  # the user, the password

# The counter stays locked until the transaction has ended, so puts of one name take turns.
_DRAW = (
    update(counter).where(counter.c.number == NUMBER).values(value=func.last_insert_id(counter.c.value + 1))
)
_NEW = {"version": VERSION, "value": VALUE, "expires": EXPIRES}
_INSERT = insert(document).values({"kind": KIND, "project": PROJECT, "name": NAME, **_NEW})
_PUT = _INSERT.on_duplicate_key_update({column: _INSERT.inserted[column] for column in _NEW})
_REVIVE = update(document).where(AT_PLACE, EXPIRED).values(_NEW)
_REPLACE = update(document).where(AT_PLACE, LIVE, document.c.version == EXPECT).values(_NEW)


class Mysql:
    name = "MySQL"
    url = "mysql+asyncmy://"
    tests_connections = True
    errors: tuple[type[Exception], ...] = (MySQLError,)
    syncs = "SELECT @@innodb_flush_log_at_trx_commit IN (1, 3) AND (NOT @@log_bin OR @@sync_binlog = 1)"
    how_to_sync = (
        "Set innodb_flush_log_at_trx_commit to 1, and sync_binlog to 1 where there is a binary log, for "
        "durable writes."
    )
    lock: tuple[str, ...] = (f"SELECT GET_LOCK(CONCAT('sukkal.', SHA1(DATABASE())), {LOCK_SECONDS})",)
    sweep: Executable = delete(document).where(EXPIRED).with_dialect_options(mysql_limit=SWEPT)

    def __init__(self, options: Options) -> None:
        """Raises OSError when a file that TLS needs cannot be read."""
        self._options = options
        self._tls = options.ssl_context()

    async def connect(self) -> Any:
        options = self._options
        ((host, port),) = options.addresses
        connection = await asyncmy.connect(
            host=host,
            port=port,
            user=options.user,
            password=options.password or "",
            db=options.database,
            connect_timeout=options.connect_timeout,
            ssl=self._tls,
            charset="utf8mb4",
            binary_prefix=True,  # values are bytes, and no text of any character set
            client_flag=CLIENT.FOUND_ROWS,
            autocommit=True,
        )
        async with connection.cursor() as cursor:
            await cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            await cursor.execute(
                "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), "
                f"SESSION innodb_lock_wait_timeout = {max(1, round(options.timeout))}, "
                f"SESSION wait_timeout = {IDLE}"
            )
        return connection

    def is_closed(self, connection: Any) -> bool:
        return not connection.connected

    def refuses_credentials(self, error: BaseException) -> bool:
        return isinstance(error, MySQLError) and bool(error.args) and error.args[0] in _REFUSED

    def met_deadlock(self, error: DBAPIError) -> bool:
        return error.orig is not None and error.orig.args[:1] == (_DEADLOCK,)

    async def put(
        self, connection: AsyncConnection, given: Given, *, expect: int | None, now: float
    ) -> int | None:
        record = {**given}
        await connection.exec_driver_sql("START TRANSACTION")
        drawn = await connection.execute(_DRAW, {"counted_by": record.pop("counted_by")})
        record["new_version"] = version = int(drawn.lastrowid)
        written = await _write(connection, record, expect, now)
        await connection.exec_driver_sql("COMMIT" if written else "ROLLBACK")
        return version if written else None


async def _write(connection: AsyncConnection, record: Given, expect: int | None, now: float) -> bool:
    if expect is None:
        await connection.execute(_PUT, record)
        return True
    if expect:
        answer = await connection.execute(_REPLACE, {**record, "expect": expect, "now": now})
        return answer.rowcount > 0
    answer = await connection.execute(_REVIVE, {**record, "now": now})
    if answer.rowcount > 0:
        return True
    try:
        await connection.execute(_INSERT, record)
    except IntegrityError:  # it is there, and alive
        return False
    return True
