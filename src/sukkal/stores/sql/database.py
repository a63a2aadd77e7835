"""What every call goes through: a pool of connections, a bound on time, and one kind of error.

What differs between PostgreSQL and MySQL is behind `Kind`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql.expression import Executable

from sukkal.errors import StoreUnavailable
from sukkal.stores.sql.parameters import Given
from sukkal.stores.sql.uri import Options

log = logging.getLogger(__name__)
# Connections that cannot even be closed well are no news: whoever used them has been told.
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

Result = TypeVar("Result")
Work = Callable[[AsyncConnection], Awaitable[Result]]

CLOSING = 2.0  # seconds that connections may take to end well
LOCK_SECONDS = 60  # to wait while another process brings the tables to the newest form
SWEPT = 8  # expired records that are deleted at a time


class Kind(Protocol):
    """What one sort of database needs, and how it does what the others do differently."""

    name: str
    url: str  # for SQLAlchemy: dialect and driver, without an address
    tests_connections: bool  # whether a connection is asked before it is used, to find out if it still is one
    syncs: str  # a query that answers whether what is committed is on stable storage
    how_to_sync: str  # for who reads that it is not
    lock: tuple[str, ...]  # statements, of which the last answers 1 when no other process has the lock; it
    # is held until the transaction and the connection have ended

    errors: tuple[type[Exception], ...]  # what connecting raises
    sweep: Executable  # deletes up to SWEPT records that have expired at `now`

    async def connect(self) -> Any:
        """A new connection of the driver, with what every call relies on set."""
        ...

    def is_closed(self, connection: Any) -> bool: ...

    def refuses_credentials(self, error: BaseException) -> bool: ...

    def met_deadlock(self, error: DBAPIError) -> bool:
        """Whether the server has undone the transaction for the sake of another."""
        ...

    async def put(
        self, connection: AsyncConnection, given: Given, *, expect: int | None, now: float
    ) -> int | None:
        """`Documents.put` as one step. `given` is what `record_given` makes of the record."""
        ...


class Database:
    def __init__(self, options: Options, kind: Kind) -> None:
        self.kind = kind
        self.syncs = False  # whether commits were synced when that was last looked at
        self._options = options
        self._errors: tuple[type[Exception], ...] = (SQLAlchemyError, OSError, TimeoutError, *kind.errors)
        self._warned = False
        self._calls: set[asyncio.Task[Any]] = set()
        self._engine: AsyncEngine = create_async_engine(
            kind.url,
            async_creator=kind.connect,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
            enable_from_linting=False,  # one row joined to one needs no condition
            hide_parameters=True,  # they are what users store
            pool_size=options.connections,
            max_overflow=0,
            pool_timeout=options.timeout,
            pool_use_lifo=True,
            pool_reset_on_return=None,  # each call ends what it begins, or ends its connection
            pool_pre_ping=kind.tests_connections,
        )
        event.listen(self._engine.sync_engine, "checkout", self._check_out)

    def _check_out(self, _adapted: Any, record: Any, _proxy: Any) -> None:
        """Before a connection is used. Those to a server that was restarted are known to be closed."""
        if self.kind.is_closed(record.driver_connection):
            raise InvalidatePoolError

    async def call(self, work: Work[Result], *, within: float | None = None) -> Result:
        """What `work` answers, given a connection. Each statement is committed by itself.

        Raises StoreUnavailable, also when it takes longer than `within` seconds, by default the URI's
        timeout.
        """
        within = within or self._options.timeout
        task = asyncio.create_task(self._work(work))
        self._calls.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait({task}, timeout=within)
        finally:
            # What hangs is given up by its caller at once; letting go of its connection may take longer.
            finished = task.done() or not task.cancel()
        if not finished:
            raise StoreUnavailable(f"{self._shown} did not answer within {within:g} s.")
        if task.cancelled():
            raise StoreUnavailable(f"{self._shown}: the store has been closed.")
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # so that nobody complains that it was never looked at

    async def _work(self, work: Work[Result]) -> Result:
        try:
            async with self._engine.connect() as connection:
                while True:
                    try:
                        return await work(connection)
                    except BaseException as exc:
                        if isinstance(exc, DBAPIError) and self.kind.met_deadlock(exc):
                            continue
                        await connection.invalidate()  # and with it whatever had begun
                        raise
        except self._errors as exc:
            raise StoreUnavailable(f"{self._shown}: {self._words(exc)}") from exc

    @property
    def _shown(self) -> str:
        return f"{self.kind.name} at {self._options.shown}"

    def _words(self, exc: BaseException) -> str:
        """What went wrong, in one line without statements, values, names of users and passwords."""
        cause: BaseException | None = exc
        while cause is not None:
            if self.kind.refuses_credentials(cause):
                return "it refuses the user or the password in the store's URI."
            cause = getattr(cause, "orig", None) or cause.__cause__
        original = getattr(exc, "orig", None) or exc
        original = original.__cause__ or original  # the driver's own
        lines = str(original).splitlines()
        return f"{lines[0].rstrip('.') if lines else type(original).__name__}."

    async def ping(self) -> None:
        """Return when it answers; notes whether it syncs."""

        async def ask(connection: AsyncConnection) -> bool:
            return bool((await connection.execute(text(self.kind.syncs))).scalar_one())

        self.syncs = await self.call(ask)

    def warn_unless_synced(self) -> None:
        if not self.syncs and not self._warned:
            log.warning(
                "%s: a crash of the machine may lose the last writes. %s", self._shown, self.kind.how_to_sync
            )
        self._warned = not self.syncs

    async def close(self) -> None:
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        closing = asyncio.ensure_future(asyncio.gather(*calls, return_exceptions=True))
        await asyncio.wait({closing}, timeout=CLOSING)
        disposing = asyncio.create_task(self._engine.dispose())
        await asyncio.wait({disposing}, timeout=CLOSING)
        for task in (closing, disposing):
            task.cancel()
