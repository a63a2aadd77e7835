"""The boxes messages lie in: which is whose, and their kept counters."""

import contextlib

import apsw

from sukkal.errors import StoreUnavailable
from sukkal.model import QueueKey
from sukkal.stores.sqlite.database import Database
from sukkal.stores.sqlite.schema import MAX_BOX, SEQUENCE_BITS

CACHED_BOXES = 20_000


class Box:
    """One generation of a queue. Counters include what has expired or lapsed and was not yet swept."""

    __slots__ = (
        "appends",
        "changed",
        "changes",
        "delayed",
        "end",
        "held",
        "id",
        "key",
        "last",
        "next_due",
        "returned",
        "start",
        "tail",
        "total",
    )

    def __init__(
        self, key: QueueKey, number: int, total: int, held: int, delayed: int, tail: int, last: int
    ) -> None:
        self.key = key
        self.id = number
        self.start = number << SEQUENCE_BITS  # places of its messages lie between these two
        self.end = (number + 1) << SEQUENCE_BITS
        self.total = total
        self.held = held
        self.delayed = delayed
        self.tail = tail  # what lies here and behind is listed nowhere else, but for places marked as listed
        self.last = last  # the tail ends here, if not before: less than `tail` when it is empty
        self.returned = True  # whether there may be ready places outside the tail
        self.next_due = 0.0  # nothing held or delayed comes due before this; a lower bound, not exact
        self.changed = False  # counters differ from the table's
        self.appends = 0  # grows with each append
        self.changes = 0  # grows with each other change to what a listing shows


class Boxes:
    """Boxes by queue, cached; changed counters are written once a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: dict[QueueKey, Box] = {}
        self._changed: list[Box] = []
        database.before_commit = self._write_counters
        database.after_rollback = self._forget
        self._count()

    def get(self, key: QueueKey) -> Box | None:
        box = self._cache.get(key)
        if box is None:
            row = self._database.execute(
                "SELECT id, total, held, delayed, tail, coalesce((SELECT place FROM message"
                f" WHERE place < (box.id + 1) << {SEQUENCE_BITS} AND place >= tail"
                " ORDER BY place DESC LIMIT 1), 0) FROM box WHERE project = ? AND name = ? AND dead = 0",
                key,
            ).fetchone()
            if row is not None:
                box = self._remember(Box(key, *row))
        return box

    def by_number(self, number: int) -> Box | None:
        """The live box with this number; None when it is dead."""
        row = self._database.execute(
            "SELECT project, name FROM box WHERE id = ? AND dead = 0", (number,)
        ).fetchone()
        return self.get(QueueKey(*row)) if row else None

    def obtain(self, key: QueueKey) -> Box:
        """The queue's box, made when there is none. Only within a write."""
        box = self.get(key)
        if box is None:
            number = self._free_number()
            box = self._remember(Box(key, number, 0, 0, 0, number << SEQUENCE_BITS, 0))
            self._database.execute(
                "INSERT INTO box (id, project, name, tail) VALUES (?, ?, ?, ?)", (number, *key, box.tail)
            )
        return box

    def append(self, box: Box, added: int, delayed: int) -> None:
        """Count messages that came in at the end. Only within a write."""
        box.appends += 1
        box.total += added
        box.delayed += delayed
        if box.key.project:
            self.total += added
        if not box.changed:
            box.changed = True
            self._changed.append(box)

    def change(self, box: Box, *, total: int = 0, held: int = 0, delayed: int = 0) -> None:
        """Add to a box's counters after any other change to its messages. Only within a write."""
        box.changes += 1
        box.total += total
        box.held += held
        box.delayed += delayed
        if box.key.project:
            self.total += total
            self.held += held
        if not box.changed:
            box.changed = True
            self._changed.append(box)

    def abandon(self, box: Box) -> None:
        """Leave a box behind, dead. Only within a write."""
        self._database.execute("UPDATE box SET dead = 1 WHERE id = ?", (box.id,))
        if box.key.project:
            self.total -= box.total
            self.held -= box.held
        del self._cache[box.key]

    def _remember(self, box: Box) -> Box:
        self._cache[box.key] = box
        return box

    def _free_number(self) -> int:
        (last,) = self._database.execute("SELECT coalesce(max(id), 0) FROM box").fetchone()
        if last < MAX_BOX:
            return int(last) + 1
        row = self._database.execute(
            "SELECT id + 1 FROM box b WHERE id < ? AND NOT EXISTS (SELECT 1 FROM box WHERE id = b.id + 1)"
            " LIMIT 1",
            (MAX_BOX,),
        ).fetchone()
        if row is None:
            raise StoreUnavailable(f"The embedded store is full: it holds {MAX_BOX} queues.")
        return int(row[0])

    def _write_counters(self) -> None:
        for box in self._changed:
            self._database.execute(
                "UPDATE box SET total = ?, held = ?, delayed = ?, tail = ? WHERE id = ?",
                (box.total, box.held, box.delayed, box.tail, box.id),
            )
            box.changed = False
        self._changed.clear()
        while len(self._cache) > CACHED_BOXES:
            del self._cache[next(iter(self._cache))]

    def _forget(self) -> None:
        self._cache.clear()
        self._changed.clear()
        with contextlib.suppress(apsw.Error):  # the totals are informative
            self._count()

    def _count(self) -> None:
        self.total, self.held = self._database.execute(
            "SELECT coalesce(sum(total), 0), coalesce(sum(held), 0) FROM box WHERE dead = 0 AND project <> ''"
        ).fetchone()
