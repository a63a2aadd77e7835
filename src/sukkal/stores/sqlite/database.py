"""One SQLite file: group commit, sequence numbers, checkpoints.

Statements run inline on the event loop, where one costs microseconds and a thread hop would cost more. Writes
that come in close together share a transaction: when a turn of the loop brings no further one it is
committed, and synced unless the store is opened relaxed, before any of them is answered. Reads see the
writes before them, committed or not.

Reads too run in a transaction, which stays open until the next write ends it: opening one costs as much as
many a read. Nobody else writes, so what it sees is always the newest.

The log is moved into the database by a second connection in a thread, so that requests do not wait for it;
only the last pages are moved inline, which lets SQLite start the log afresh.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import apsw

from sukkal.errors import StoreUnavailable
from sukkal.stores.sqlite.schema import UnusableFile, migrate
from sukkal.tally import StoreFigures

log = logging.getLogger(__name__)

PAGE_CACHE_KIB = 32 * 1024
CHECKPOINT_PAGES = 8192  # length of the log (4 KiB pages) that starts moving it
INLINE_PAGES = 1024  # so few pages are moved within a turn
LONGEST_GROUP = 0.005  # seconds a transaction waits for more writes while they keep coming
SEQUENCE_BLOCK = 1_000_000  # numbers reserved at a time, and lost at most when the process dies

Step = Callable[..., Any]


class Database:
    """An open file; made and used on one event loop."""

    def __init__(self, path: Path, *, durable: bool, vfs: str | None = None) -> None:
        """Raises apsw.Error when the file cannot be opened, UnusableFile when it is not for us."""
        self.durable = durable
        self.figures = StoreFigures()
        self.before_commit: Step = _nothing  # writes what the drivers keep in memory meanwhile
        self.after_rollback: Step = _nothing  # forgets it, since the file does not have it
        self._path = path
        self._vfs = vfs
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[asyncio.Future[Any], Any]] | None = None  # for the commit, while writing
        self._reading = False  # in a transaction that has not written
        self._log_pages = 0
        self._checkpoint_at = CHECKPOINT_PAGES
        self._checkpoint: asyncio.Future[tuple[int, int]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._connection = self._open()
        self.execute: Step = self._connection.execute
        self.insert: Step = self._connection.cursor().execute  # for what has no rows: no cursor for each call
        self.executemany: Step = self._connection.executemany
        self.changes = self._connection.changes
        self.total_changes = self._connection.total_changes
        self._number = self._reserved = self._stored_sequence()

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self._path), vfs=self._vfs)
        connection.set_busy_timeout(2000)
        return connection

    def _open(self) -> apsw.Connection:
        connection = self._connect()
        try:
            # Plans must not depend on bound values: SQLite would compile `LIMIT ?` anew at every call.
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'NORMAL'}")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
            connection.execute("PRAGMA temp_store = MEMORY")
            migrate(connection)
            _check_mode(connection)
            connection.set_wal_hook(self._note_log_pages)
        except BaseException:
            connection.close()
            raise
        return connection

    # --- transactions --------------------------------------------------------------------------------

    def read(self, step: Step, *args: Any) -> Any:
        """What `step(*args)` returns; StoreUnavailable when the file cannot be read."""
        try:
            if self._waiting is None and not self._reading:
                self.execute("BEGIN")
                self._reading = True
            return step(*args)
        except apsw.ConnectionClosedError as exc:
            raise StoreUnavailable("The store was closed.") from exc
        except apsw.Error as exc:
            if not self._connection.in_transaction:  # SQLite has undone it
                self._reading = False
                if self._waiting is not None:
                    self._abort(exc)
            raise StoreUnavailable(str(exc)) from exc

    def _end_read(self) -> None:
        if self._reading:
            self._reading = False
            self.execute("COMMIT")

    def write(self, step: Step, *args: Any) -> asyncio.Future[Any]:
        """Run `step(*args)` in the open transaction, or a new one; its result comes when that is committed.

        The step has run when this returns, so steps take effect in the order of the calls.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        try:
            if self._waiting is None:
                if not self._reading:
                    self.execute("BEGIN IMMEDIATE")
                self._reading = False
                self._waiting = []
                self._loop.call_soon(self._commit_when_quiet, self._loop.time() + LONGEST_GROUP, 0)
            self._waiting.append((future, step(*args)))
        except apsw.ConnectionClosedError as exc:
            raise StoreUnavailable("The store was closed.") from exc
        except apsw.Error as exc:
            self._abort(exc)
            raise StoreUnavailable(str(exc)) from exc
        except BaseException as exc:  # a fault of ours half-way through a step: nothing of them all is sure
            self._abort(exc)
            raise
        return future

    def nothing_to_write(self, result: Any) -> asyncio.Future[Any]:
        """What `write` answers, of a step that was not necessary."""
        future: asyncio.Future[Any] = self._loop.create_future()
        future.set_result(result)
        return future

    def _commit_when_quiet(self, latest: float, writes: int) -> None:
        """Commit, unless the last turn brought more writes: then the next may bring more still."""
        if self._waiting is not None and writes < len(self._waiting) and self._loop.time() < latest:
            self._loop.call_soon(self._commit_when_quiet, latest, len(self._waiting))
        else:
            self._commit()

    def _commit(self) -> None:
        if self._waiting is None:  # aborted in the meantime
            return
        try:
            self.before_commit()
            begun = perf_counter()
            self.execute("COMMIT")
            self.figures.batch_seconds.add(perf_counter() - begun)
        except apsw.Error as exc:
            self._abort(exc)
            return
        except BaseException as exc:  # a fault of ours; those who wait must not wait for ever
            self._abort(exc)
            raise
        waiting, self._waiting = self._waiting, None
        self.figures.batch_sizes.add(len(waiting))
        for future, result in waiting:
            if not future.done():
                future.set_result(result)
        if self._log_pages > self._checkpoint_at and self._checkpoint is None:
            self._start_checkpoint()

    def _abort(self, reason: BaseException) -> None:
        """Undo the open transaction and fail all its writes."""
        waiting, self._waiting = self._waiting, None
        log.error("a transaction of %d writes failed: %s", len(waiting or ()), reason)
        if self._connection.in_transaction:
            with contextlib.suppress(apsw.Error):  # already undone by SQLite
                self.execute("ROLLBACK")
        self._reserved = 0  # what was reserved meanwhile is not, so the next number reserves anew
        self.after_rollback()
        for future, _ in waiting or ():
            if not future.done():
                future.set_exception(StoreUnavailable(str(reason)))

    # --- sequence numbers ----------------------------------------------------------------------------

    def next_number(self) -> int:
        """A number greater than all before, also across restarts. Only within a write."""
        number = self._number
        if number >= self._reserved:
            self._reserved = number + SEQUENCE_BLOCK
            self.execute("UPDATE meta SET value = ? WHERE key = 'sequence'", (self._reserved,))
        self._number = number + 1
        return number

    def _stored_sequence(self) -> int:
        row = self.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()
        return int(row[0])

    # --- checkpoints ---------------------------------------------------------------------------------

    def _note_log_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _start_checkpoint(self) -> None:
        self._checkpoint = self._loop.run_in_executor(self._thread, self._move_log)
        self._checkpoint.add_done_callback(self._end_checkpoint)

    def _move_log(self) -> tuple[int, int]:
        connection = self._connect()
        try:
            # A connection that has read nothing yet knows of no log, and would move none of it.
            connection.execute("SELECT count(*) FROM meta").fetchall()
            return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        finally:
            connection.close()

    def _end_checkpoint(self, done: asyncio.Future[tuple[int, int]]) -> None:
        try:
            _, moved = done.result()
            if self._waiting is not None:  # not inside a transaction
                self._commit()
            self._end_read()  # also since SQLite starts the log afresh only for a transaction begun later
            if self._log_pages - moved <= INLINE_PAGES:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._checkpoint_at = CHECKPOINT_PAGES
        except apsw.Error as exc:
            log.error("the log could not be moved into the database: %s", exc)
            self._checkpoint_at = self._log_pages + CHECKPOINT_PAGES  # not again at every commit
        self._checkpoint = None

    async def close(self) -> None:
        """Commit, move the log into the database and let go of the file."""
        while self._waiting is not None or self._checkpoint is not None:  # some may write meanwhile
            self._commit()
            if self._checkpoint is not None:
                await asyncio.wait([self._checkpoint])
        with contextlib.suppress(apsw.Error):  # the log is replayed at the next start
            self._end_read()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file. SQLite moves the log into it and deletes the log, if nothing hinders it.

        The log must never be emptied by cutting its size: on a file system without a journal a crash in the
        midst of that may leave the log's beginning, which would be replayed over what is newer.
        """
        self._thread.shutdown()
        with contextlib.suppress(apsw.Error):  # it is closed all the same
            self._connection.close()


def _check_mode(connection: apsw.Connection) -> None:
    """SQLite goes on in another mode when it cannot have the one asked for; that would break our promises."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone() or ("unknown",)
    if mode != "wal":
        raise UnusableFile(
            f"it cannot keep a write-ahead log (journal mode is {mode}). Try again; if that does not help, "
            "put the data directory on a local disk."
        )


def _nothing() -> None:
    pass
