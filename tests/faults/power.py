"""A file system shim that knows what would be left on the disk if the power went now.

SQLite's own file system does the work (shared memory and locks of the log included: apsw passes those on to
what a file inherits from); the shim keeps, for every file, what was there when it was last synced and what
was written since. What survives a cut is what was synced and any part of the rest, as disks and page caches
are free to choose: sector by sector, in any order, the last one perhaps torn; names of files come and go in
the order they were made, from the last sync of their directory on. A file whose size is cut may be caught
half-way: the last blocks gone, the first still there. File systems with a journal spare us that, others not.
"""

import contextlib
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw

SECTOR = 512

Image = dict[str, bytes]  # content by name of the file

_FRESHLY_NAMED = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
_serial = itertools.count(1)


class Platter:
    """One file's content on the disk: what is sure, and what was written since, oldest first."""

    def __init__(self, content: bytes = b"") -> None:
        self.synced = bytearray(content)
        self.pending: list[tuple[int, bytes | None]] = []  # (offset, data), or (size, None) for a cut to size
        self.names_its_directory = False  # syncing it syncs the directory too
        self._sure = 0  # changes that are no longer pending

    @property
    def changes(self) -> int:
        """How many there were ever."""
        return self._sure + len(self.pending)

    def sync(self, changes: int) -> None:
        """Make the first so many of all changes sure; another sync may have done so for some of them."""
        count = max(0, changes - self._sure)
        for change in self.pending[:count]:
            _apply(self.synced, change)
        del self.pending[:count]
        self._sure += count

    def survivor(self, chance: random.Random) -> bytes:
        """What a cut may leave."""
        kinds = ["none", "all", "oldest", "sectors", "sectors", "torn", "but one"]
        shortened = [number for number, (_, data) in enumerate(self.pending) if data is None]
        kind = chance.choice(kinds + ["shortened in part"] * 4 * bool(shortened))
        content = bytearray(self.synced)
        if kind == "shortened in part":
            until = chance.choice(shortened)
            for change in self.pending[:until]:
                _apply(content, change)
            size, whole = self.pending[until][0], len(content)
            del content[chance.randint(min(size, whole), whole) :]
            return bytes(content)
        if kind == "none":
            return bytes(content)
        if kind in ("all", "oldest"):
            count = len(self.pending) if kind == "all" else chance.randrange(len(self.pending) + 1)
            for change in self.pending[:count]:
                _apply(content, change)
            return bytes(content)
        return self._scattered(chance, content, kind)

    def _scattered(self, chance: random.Random, content: bytearray, kind: str) -> bytes:
        """Each sector as it was at some moment since the sync; the size too."""
        sizes, by_sector = [len(content)], dict[int, list[tuple[int, bytes]]]()
        for offset, data in self.pending:
            if data is None:
                for sector in range(offset // SECTOR, -(-sizes[-1] // SECTOR)):
                    start = max(offset, sector * SECTOR)
                    by_sector.setdefault(sector, []).append((start, bytes((sector + 1) * SECTOR - start)))
                sizes.append(offset)
                continue
            end = offset + len(data)
            sizes.append(max(sizes[-1], end))
            for sector in range(offset // SECTOR, -(-end // SECTOR)):
                start, stop = max(offset, sector * SECTOR), min(end, (sector + 1) * SECTOR)
                by_sector.setdefault(sector, []).append((start, data[start - offset : stop - offset]))
        left_out = chance.choice(list(by_sector)) if by_sector else -1
        for sector, pieces in by_sector.items():
            count = len(pieces) if kind == "but one" else chance.randrange(len(pieces) + 1)
            if sector == left_out:
                count = 0
            for piece in pieces[:count]:
                _apply(content, piece)
            if kind == "torn" and count < len(pieces):
                offset, data = pieces[count]
                _apply(content, (offset, data[: chance.randrange(len(data) + 1)]))
        size = sizes[-1] if kind == "but one" else chance.choice([sizes[0], sizes[-1], *sizes])
        return bytes(content[:size].ljust(size, b"\0"))


def _apply(content: bytearray, change: tuple[int, bytes | None]) -> None:
    offset, data = change
    if data is None:
        del content[offset:]
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class Disk:
    """What is on the disk, and `on_change`, called in the midst of things: before and after any change."""

    def __init__(self, image: Image | None = None, *, lying: bool = False) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.shortened: set[str] = set()  # files whose size was ever cut
        self.lock = threading.RLock()
        self._lying = lying  # says that it has synced, and has not
        self._names = {name: Platter(content) for name, content in (image or {}).items()}
        self._sure_names = dict(self._names)
        self._renamings: list[tuple[str, Platter | None]] = []

    def opened(self, name: str, *, created: bool, kind: int) -> Platter:
        with self.lock:
            if created or name not in self._names:
                platter = self._names[name] = Platter()
                platter.names_its_directory = bool(kind & _FRESHLY_NAMED)
                self._renamings.append((name, platter))
            self.on_change()
            return self._names[name]

    def deleted(self, name: str, *, sync: bool) -> None:
        with self.lock:
            self._names.pop(name, None)
            self._renamings.append((name, None))
            self.on_change()
            if sync:
                self._sync_names()

    def changed(self, platter: Platter, offset: int, data: bytes | None) -> None:
        with self.lock:
            platter.pending.append((offset, data))
            self.on_change()

    @contextlib.contextmanager
    def syncing(self, platter: Platter) -> Iterator[None]:
        """What was written when a sync begins is sure when it ends."""
        with self.lock:
            changes = platter.changes
            self.on_change()
        yield
        if self._lying:
            return
        with self.lock:
            platter.sync(changes)
            if platter.names_its_directory:
                self._sync_names()
            self.on_change()

    def _sync_names(self) -> None:
        self._sure_names = dict(self._names)
        self._renamings.clear()

    def after_a_cut(self, chance: random.Random) -> Image:
        with self.lock:
            names = dict(self._sure_names)
            for name, platter in self._renamings[: chance.randrange(len(self._renamings) + 1)]:
                if platter is None:
                    names.pop(name, None)
                else:
                    names[name] = platter
            return {name: platter.survivor(chance) for name, platter in names.items()}


class RecordingVFS(apsw.VFS):
    """Give `name` to what opens a file; `unregister` when done."""

    def __init__(self, disk: Disk) -> None:
        self.name = f"recording-{next(_serial)}"
        self._disk = disk
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> "RecordingFile":  # noqa: N802
        return RecordingFile(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self._disk.deleted(Path(filename).name, sync=syncdir)


class RecordingFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        created = not path.exists()
        super().__init__("", name, flags)
        self._disk = disk
        self._name = path.name
        self._platter = disk.opened(path.name, created=created, kind=flags[0])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._disk.changed(self._platter, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        shorter = newsize < self.xFileSize()  # SQLite also asks for the size that the file has
        super().xTruncate(newsize)
        if shorter:
            self._disk.shortened.add(self._name)
            self._disk.changed(self._platter, newsize, None)

    def xSync(self, flags: int) -> None:  # noqa: N802
        with self._disk.syncing(self._platter):  # nothing needs to be on the real disk
            pass
