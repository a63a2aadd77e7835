"""The embedded store: one SQLite file, one process, every write synced before it is acknowledged.

URI: `sqlite:///absolute/path`, optionally with `?vfs=NAME` for a registered SQLite VFS.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import apsw

from sukkal.errors import StoreInUse, StoreUnavailable
from sukkal.stores.contract import Backend, Documents, Form, Messages, Trait, Waker
from sukkal.stores.local_waker import LocalWaker
from sukkal.stores.sqlite.database import Database
from sukkal.stores.sqlite.documents import SqliteDocuments
from sukkal.stores.sqlite.messages import SqliteMessages
from sukkal.stores.sqlite.schema import MIGRATIONS, UnusableFile, stored_version


class SqliteBackend:
    def __init__(self, path: Path, *, durable: bool, vfs: str | None = None) -> None:
        """Raises StoreInUse when another process has the file, StoreUnavailable when it cannot be used."""
        with contextlib.ExitStack() as undo:
            self._lock = _take_lock(path)
            undo.callback(os.close, self._lock)
            try:
                # Made here, so that it is for its owner's eyes only; the log takes over the mode.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                self._database = Database(path, durable=durable, vfs=vfs)
                undo.callback(self._database.abandon)
                waker = LocalWaker()
                self.messages: Messages = SqliteMessages(self._database, waker)
                self.documents: Documents = SqliteDocuments(self._database)
            except apsw.BusyError as exc:
                raise StoreInUse(f"Another process is using the store {path}.") from exc
            except (apsw.Error, OSError, UnusableFile) as exc:
                raise StoreUnavailable(f"The store {path} cannot be opened: {exc}") from exc
            undo.pop_all()
        self.waker: Waker = waker
        self.figures = self._database.figures
        self.traits = frozenset(
            {Trait.FIFO, Trait.CLAIMS, Trait.AT_LEAST_ONCE, Trait.HIGH_THROUGHPUT, Trait.IN_ORDER}
        )
        if durable:
            self.traits |= {Trait.DURABLE}

    async def ping(self) -> None:
        self._database.read(self._database.execute, "SELECT value FROM meta WHERE key = 'schema'")

    async def close(self) -> None:
        await self._database.close()
        os.close(self._lock)


def _take_lock(path: Path) -> int:
    """Hold a lock beside the file for as long as this process lives; the kernel lets go of it on a crash."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StoreUnavailable(f"The store {path} cannot be opened: {exc.strerror}.") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        owner = os.read(lock, 20).decode(errors="replace")
        os.close(lock)
        raise StoreInUse(
            f"The store {path} is in use by process {owner or '?'}: "
            "stop it, or choose another data directory."
        ) from exc
    with contextlib.suppress(OSError):  # who has it is for people to read; the lock does not depend on it
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
    return lock


def identity(uri: str) -> str:
    """The file, whatever it is called on the way there."""
    return f"sqlite {os.path.realpath(unquote(urlsplit(uri).path))}"


async def inspect(uri: str) -> Form:
    return _inspect(Path(unquote(urlsplit(uri).path)))


def _inspect(path: Path) -> Form:
    """Which version the file has; it is not written to, and may be in use. Raises StoreUnavailable."""
    try:
        if not path.exists():
            return Form(None, len(MIGRATIONS))
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return Form(stored_version(connection), len(MIGRATIONS))
        finally:
            connection.close()
    except (apsw.Error, OSError) as exc:
        raise StoreUnavailable(f"The store {path} cannot be read: {exc}") from exc


async def open_backend(uri: str, *, durable: bool = True) -> Backend:
    parts = urlsplit(uri)
    vfs = parse_qs(parts.query).get("vfs", [None])[0]
    return SqliteBackend(Path(unquote(parts.path)), durable=durable, vfs=vfs)
