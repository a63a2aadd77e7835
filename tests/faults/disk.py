"""A file system shim that fails when it is told to, at the n-th call of a kind, once or from then on.

SQLite's own file system does the work. apsw passes the shared memory and the locks of the log on to what a
file inherits from, so this is the write-ahead log as in production; only syncing is left out, for speed.

A read that comes back short is no fault here: SQLite takes what lies behind the end of a file as zeros, as
it must for a new page, and a file system does not shorten reads in the middle of a file without an error.
"""

import itertools
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any, NoReturn

import apsw

_serial = itertools.count(1)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and where."""

    call: str  # "write", "sync", "truncate", "read", "open"
    code: int  # SQLite's extended result code
    lasting: bool = False  # until `mend`; otherwise once
    torn: bool = False  # half of a write is done before it fails

    def __str__(self) -> str:
        name = apsw.mapping_extended_result_codes.get(self.code) or apsw.mapping_result_codes[self.code]
        return f"{self.call}-{name}{'-torn' if self.torn else ''}{'-lasting' if self.lasting else ''}"


FAULTS = [
    Fault("write", apsw.SQLITE_FULL),
    Fault("write", apsw.SQLITE_FULL, lasting=True),
    Fault("write", apsw.SQLITE_FULL, lasting=True, torn=True),
    Fault("write", apsw.SQLITE_IOERR_WRITE),
    Fault("write", apsw.SQLITE_IOERR_WRITE, torn=True),
    Fault("sync", apsw.SQLITE_IOERR_FSYNC),
    Fault("sync", apsw.SQLITE_IOERR_FSYNC, lasting=True),
    Fault("truncate", apsw.SQLITE_IOERR_TRUNCATE),
    Fault("read", apsw.SQLITE_IOERR_READ),
    Fault("read", apsw.SQLITE_IOERR_READ, lasting=True),
    Fault("open", apsw.SQLITE_CANTOPEN, lasting=True),
]


class Weakness:
    """Which call fails. Files of a `FaultyVFS` ask it before each; it counts them."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.failed = 0  # since `arm`
        self._fault: Fault | None = None
        self._left = 0
        self._lock = threading.Lock()

    def arm(self, fault: Fault, at: int) -> None:
        """Let the call number `at` from now on fail, counted from 1."""
        with self._lock:
            self._fault, self._left, self.failed = fault, at, 0

    def mend(self) -> None:
        with self._lock:
            self._fault = None

    def strikes(self, call: str) -> Fault | None:
        """The fault that this call meets."""
        with self._lock:
            self.calls[call] += 1
            fault = self._fault
            if fault is None or fault.call != call:
                return None
            self._left -= 1
            if self._left > 0:
                return None
            self.failed += 1
            if not fault.lasting:
                self._fault = None
            return fault


def _raise(fault: Fault) -> NoReturn:
    raise apsw.exception_for(fault.code)


class FaultyVFS(apsw.VFS):
    """Give `name` to what opens a file; `unregister` when done."""

    def __init__(self, weakness: Weakness) -> None:
        self.name = f"faulty-{next(_serial)}"
        self._weakness = weakness
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> "FaultyFile":  # noqa: N802
        if fault := self._weakness.strikes("open"):
            _raise(fault)
        return FaultyFile(self._weakness, name, flags)


class FaultyFile(apsw.VFSFile):
    def __init__(self, weakness: Weakness, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._weakness = weakness

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        if fault := self._weakness.strikes("read"):
            _raise(fault)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if fault := self._weakness.strikes("write"):
            if fault.torn:
                super().xWrite(bytes(data[: len(data) // 2]), offset)
            _raise(fault)
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        if fault := self._weakness.strikes("truncate"):
            _raise(fault)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if fault := self._weakness.strikes("sync"):
            _raise(fault)
