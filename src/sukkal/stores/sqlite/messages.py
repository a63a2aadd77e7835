"""The data plane on SQLite. Table layout: `schema.py`."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sukkal.model import Edge, Holder, Lease, Message, QueueKey, Stats, View
from sukkal.stores.local_waker import LocalWaker
from sukkal.stores.sqlite.boxes import Box, Boxes
from sukkal.stores.sqlite.database import Database
from sukkal.stores.sqlite.marks import Marks
from sukkal.stores.sqlite.pages import Pages
from sukkal.stores.sqlite.schema import LISTED, SEQUENCE_BITS, SEQUENCE_MASK

SWEEP_ROWS = 500  # reclaimed at a time, a few milliseconds
SWEEP_BOXES = 200  # looked at for lapsed leases and ended delays, or whether they are empty, at a time
EMPTY_SECONDS = 60.0  # that a queue of the service's own stays when nothing is in it any more
WINDOW = 2000  # messages a filtered listing looks through before it lets others run
LONGEST_MARKER = len(str(SEQUENCE_MASK))

# Columns of a message as `_message` takes them.
_CONTENT = "m.id, m.body, m.ttl, m.created, m.visible, m.expires, m.client"


def _select(table: str, claim: str = "NULL", index: str = "") -> str:
    return (
        f"SELECT s.place, s.claims, {claim}, {_CONTENT} FROM {table} s {index}"
        " CROSS JOIN message m ON m.place = s.place"
        " WHERE s.place > ? AND s.place < ? AND m.expires > ?"
    )


_ORDERED = " ORDER BY s.place LIMIT ?"
_DUE = " AND s.box = ? AND s.due <= ?"
_LIVE_CLAIM = "CASE WHEN s.due > ? THEN s.claim END"

TAIL = (
    f"SELECT s.place, 0, NULL, {_CONTENT.replace('m.', 's.')} FROM message s"
    f" WHERE s.place > ? AND s.place < ? AND s.expires > ? AND s.place & {LISTED} = 0" + _ORDERED
)
READY = _select("ready") + _ORDERED
ANY_READY = "SELECT 1 FROM ready WHERE place > ? AND place < ? LIMIT 1"
HELD = _select("held", _LIVE_CLAIM) + _ORDERED
LAPSED = _select("held", index="INDEXED BY held_due") + _DUE + _ORDERED
DELAYED = _select("delayed") + _ORDERED
ARRIVED = _select("delayed", index="INDEXED BY delayed_due") + _DUE + _ORDERED
UNDER_CLAIM = (
    _select("held", "s.claim", "INDEXED BY held_due")
    + " AND s.box = ? AND s.due = ? AND s.claim = ? ORDER BY s.place"
)
BY_ID = f"SELECT m.place, 0, NULL, {_CONTENT} FROM message m WHERE m.id = ? AND m.box = ? AND m.expires > ?"
# The same, leaving out what one client posted.
FILTERED = {
    query: re.sub(r"(\w)\.expires > \?", r"\g<0> AND \1.client <> ?", query, count=1)
    for query in (TAIL, READY, HELD, LAPSED, DELAYED, ARRIVED)
}
INSERT = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id, box) DO NOTHING"

_TABLES = ("message", "ready", "held", "delayed")  # those keyed by place

Row = tuple[Any, ...]  # place, claims so far, live claim, then _CONTENT


def _in_tail(box: Box, place: int) -> bool:
    return place >= box.tail and not place & LISTED


def _tail_end(box: Box, rows: list[Row], limit: int, until: int) -> int:
    """Where to stop looking through the tail, when `rows` from outside of it are the first to be had.

    They are put in order, and cut off at `limit`. The tail may be any number of listed places long.
    """
    rows.sort()
    del rows[limit:]
    return min(rows[-1][0] if len(rows) == limit else until, box.last + 1)


def _marks(count: int, one: str = "?") -> str:
    """Placeholders for `count` values, so that one statement handles them all."""
    return ", ".join([one] * count)


def _message(row: Row) -> Message:
    place, claims, claim, id_, body, ttl, created, visible, expires, client = row
    return Message(
        id=id_,
        body=body,
        ttl=ttl,
        created=created,
        visible=visible,
        expires=expires,
        client=client,
        claim=claim,
        claim_count=claims,
        marker=str(place & SEQUENCE_MASK),
    )


class SqliteMessages:
    """Every public verb is one step of the database; the steps below them are plain functions."""

    def __init__(self, database: Database, waker: LocalWaker) -> None:
        self._database = database
        self._waker = waker
        self._execute: Callable[..., Any] = database.execute
        self._boxes = Boxes(database)
        self._marks = Marks(database)
        self._pages = Pages()
        self._settled = {"held": 0, "delayed": 0}  # boxes the sweep has looked at for what came due
        # Of the service's own queues: the last one looked at, since when, and those that were empty: their
        # appends by then, and when that was.
        self._looked_at, self._looking_since = "", 0.0
        self._empty: dict[str, tuple[Box, int, float]] = {}

    def append(self, queue: QueueKey, batch: Sequence[Message], *, noted: str = "") -> Awaitable[str | None]:
        note = self._marks.get(queue)
        if note is not None and note[0] != noted:
            return self._database.nothing_to_write(note)
        stored = self._database.write(self._append, queue, batch, note)
        if self._waker.follows(queue):
            stored.add_done_callback(lambda stored: self._tell(queue, batch, stored))
        return stored

    def _tell(self, queue: QueueKey, batch: Sequence[Message], stored: asyncio.Future[str | None]) -> None:
        if not stored.cancelled() and stored.exception() is None:
            self._waker.appended(queue, batch)

    async def page(
        self, queue: QueueKey, *, view: View, after: str | None, limit: int, now: float
    ) -> list[Message]:
        if after is not None and not (
            after.isascii()
            and after.isdigit()
            and len(after) <= LONGEST_MARKER
            and int(after) <= SEQUENCE_MASK
        ):
            return []
        box = self._database.read(self._boxes.get, queue)
        if box is None:
            return []
        asked = (queue, view, after, limit)
        page = self._pages.get(asked, box, now)
        if page is None:
            changes, appends = box.changes, box.appends
            page = await self._page(queue, view, int(after or 0), limit, now)
            if changes == box.changes and appends == box.appends:
                due = self._database.read(self._earliest_due, box) if box.held or box.delayed else math.inf
                self._pages.keep(asked, box, page, now, due)
        return page

    async def _page(
        self, queue: QueueKey, view: View, sequence: int, limit: int, now: float
    ) -> list[Message]:
        number, found = 0, list[Message]()
        while (box := self._database.read(self._boxes.get, queue)) is not None:
            if box.id != number:  # at the start, or purged meanwhile
                number, found = box.id, []
            rows, sequence = self._database.read(self._rows, box, view, sequence, limit - len(found), now)
            found += map(_message, rows)
            if len(found) == limit or not sequence:
                return found
            await asyncio.sleep(0)
        return []

    async def fetch(self, queue: QueueKey, ids: Sequence[str], *, now: float) -> list[Message]:
        found: list[Message] = self._database.read(self._fetch, queue, ids, now)
        return found

    async def claim(self, queue: QueueKey, lease: Lease, *, limit: int, now: float) -> list[Message]:
        taken: list[Message] = await self._database.write(self._claim, queue, lease, limit, now)
        return taken

    async def held(self, queue: QueueKey, claim: str, *, now: float) -> tuple[Lease, list[Message]] | None:
        found: tuple[Lease, list[Row]] | None = self._database.read(self._under, queue, claim, now)
        return (found[0], [_message(row) for row in found[1]]) if found else None

    async def renew(self, queue: QueueKey, lease: Lease, *, now: float) -> bool:
        renewed: bool = await self._database.write(self._renew, queue, lease, now)
        return renewed

    async def release(self, queue: QueueKey, claim: str, *, now: float) -> bool:
        released: bool = await self._database.write(self._release, queue, claim, now)
        return released

    async def delete(self, queue: QueueKey, ids: Sequence[str], *, holder: Holder, now: float) -> list[str]:
        deleted: list[str] = await self._database.write(self._delete, queue, ids, holder, now)
        return deleted

    async def pop(self, queue: QueueKey, *, limit: int, now: float) -> list[Message]:
        popped: list[Message] = await self._database.write(self._pop, queue, limit, now)
        return popped

    async def end_delays(self, queue: QueueKey) -> None:
        await self._database.write(self._end_delays, queue)

    async def next_due(self, queue: QueueKey, *, now: float) -> float | None:
        due: float = self._database.read(self._next_due, queue, now)
        return due if due < math.inf else None

    async def stats(self, queue: QueueKey, *, now: float) -> Stats:
        found: Stats = self._database.read(self._stats, queue, now)
        return found

    async def purge(self, queue: QueueKey) -> None:
        await self._database.write(self._purge, queue)

    async def mark(self, queue: QueueKey, note: str) -> None:
        await self._marks.put(queue, note)

    async def unmark(self, queue: QueueKey, note: str) -> bool:
        return await self._marks.remove(queue, note)

    async def volume(self, *, now: float) -> Stats:
        held = self._boxes.held
        return Stats(free=self._boxes.total - held, claimed=held)

    async def sweep(self, *, now: float) -> int:
        swept: int = await self._database.write(self._sweep, now)
        return swept

    # --- adding --------------------------------------------------------------------------------------

    def _append(self, queue: QueueKey, batch: Sequence[Message], note: str | None) -> str | None:
        box = self._boxes.obtain(queue)
        rows, listed = [], []
        for m in batch:
            place = box.start | self._database.next_number() << 1
            if box.last < box.tail:
                box.tail = place
            if m.visible > m.created or m.claim_count:
                place |= LISTED
                listed.append((place, m))
            else:
                box.last = place
            rows.append((place, box.id, m.id, m.ttl, m.created, m.visible, m.expires, m.client, m.body))
        if len(rows) == 1:
            self._database.insert(INSERT, rows[0])
            added = self._database.changes()
        else:
            before = self._database.total_changes()
            self._database.executemany(INSERT, rows)
            added = self._database.total_changes() - before
        delayed = 0
        for place, m in listed:
            delayed += self._list(box, place, m)
        self._boxes.append(box, added, delayed)
        return note

    def _list(self, box: Box, place: int, m: Message) -> bool:
        """Note where a new message belongs that is not part of the tail; whether it is delayed.

        Nothing, if the box held the message before and so did not take it.
        """
        if m.visible <= m.created:
            self._execute(
                "INSERT INTO ready SELECT place, ? FROM message WHERE place = ?", (m.claim_count, place)
            )
            box.returned = True
            return False
        self._execute(
            "INSERT INTO delayed SELECT place, box, visible, ? FROM message WHERE place = ?",
            (m.claim_count, place),
        )
        box.next_due = min(box.next_due, m.visible)
        return bool(self._database.changes())

    # --- looking -------------------------------------------------------------------------------------

    def _rows(self, box: Box, view: View, sequence: int, limit: int, now: float) -> tuple[list[Row], int]:
        """Rows after a sequence number, and the number to go on from when more may follow, else 0."""
        after, until, goes_on = box.start | sequence, box.end, 0
        if view.without_client is not None and box.total > WINDOW:
            last = self._execute(
                "SELECT place FROM message WHERE place > ? AND place < ? ORDER BY place LIMIT 1 OFFSET ?",
                (after, box.end, WINDOW),
            ).fetchone()
            if last is not None:
                until, goes_on = last[0], (last[0] & SEQUENCE_MASK) - 1
        span, without, due = (after, until, now), view.without_client, box.next_due <= now
        rows = list[Row]()
        if box.returned:
            rows += self._listed(READY, (), span, (), without, limit)
        if box.held:
            if view.include_claimed:
                rows += self._listed(HELD, (now,), span, (), without, limit)
            elif due:
                rows += self._listed(LAPSED, (), span, (box.id, now), without, limit)
        if box.delayed:
            if view.include_delayed:
                rows += self._listed(DELAYED, (), span, (), without, limit)
            elif due:
                rows += self._listed(ARRIVED, (), span, (box.id, now), without, limit)
        until = _tail_end(box, rows, limit, until)
        if max(after, box.tail - 1) < until:
            tail = self._listed(TAIL, (), (max(after, box.tail - 1), until, now), (), without, limit)
            rows = sorted(rows + tail)[:limit] if rows else tail
        return rows, 0 if len(rows) == limit else goes_on

    def _listed(
        self, query: str, before: Row, span: Row, rest: Row, without: str | None, limit: int
    ) -> list[Row]:
        if without is None:
            return self._all(query, (*before, *span, *rest, limit))
        return self._all(FILTERED[query], (*before, *span, without, *rest, limit))

    def _all(self, query: str, args: Row) -> list[Row]:
        rows: list[Row] = self._execute(query, args).fetchall()
        return rows

    def _fetch(self, queue: QueueKey, ids: Sequence[str], now: float) -> list[Message]:
        box = self._boxes.get(queue)
        if box is None:
            return []
        found = []
        for id_ in ids if len(ids) == 1 else dict.fromkeys(ids):
            row = self._row(box, id_, now)
            if row is not None:
                found.append(_message(row))
        return found

    def _row(self, box: Box, id_: str, now: float) -> Row | None:
        row: Row | None = self._execute(BY_ID, (id_, box.id, now)).fetchone()
        if row is None or _in_tail(box, row[0]):
            return row
        place = row[0]
        held = self._execute("SELECT claims, claim, due FROM held WHERE place = ?", (place,)).fetchone()
        if held is not None:
            claims, claim, due = held
            return (place, claims, claim if due > now else None, *row[3:])
        (claims,) = self._execute(
            "SELECT coalesce((SELECT claims FROM ready WHERE place = ?1),"
            " (SELECT claims FROM delayed WHERE place = ?1), 0)",
            (place,),
        ).fetchone()
        return (place, claims, None, *row[3:])

    def _stats(self, queue: QueueKey, now: float) -> Stats:
        box = self._boxes.get(queue)
        if box is None or not box.total:
            return Stats()
        span = (box.start, box.end, now)
        (expired,) = self._execute(
            "SELECT count(*) FROM message INDEXED BY message_expires"
            " WHERE expires <= ? AND place > ? AND place < ?",
            (now, box.start, box.end),
        ).fetchone()
        claimed = box.held
        if box.held:
            (lapsed,) = self._execute(
                "SELECT count(*) FROM held WHERE box = ? AND due <= ?", (box.id, now)
            ).fetchone()
            claimed -= lapsed
        ends = self._ends(TAIL, (box.tail - 1, box.last + 1, now))
        if box.returned:
            ends += self._ends(READY, span)
        if box.held:
            ends += self._ends(HELD, (now, *span))
        if box.delayed:
            ends += self._ends(ARRIVED, (*span, box.id, now))
        oldest, newest = min(ends, default=None), max(ends, default=None)
        return Stats(
            free=box.total - expired - claimed,
            claimed=claimed,
            oldest=Edge(id=oldest[3], created=oldest[6]) if oldest else None,
            newest=Edge(id=newest[3], created=newest[6]) if newest else None,
        )

    def _ends(self, query: str, args: Row) -> list[Row]:
        backwards = query.replace(_ORDERED, _ORDERED.replace("place", "place DESC"))
        return self._all(query, (*args, 1)) + self._all(backwards, (*args, 1))

    # --- claims --------------------------------------------------------------------------------------

    def _visible(self, box: Box, limit: int, now: float) -> list[Row]:
        """The oldest messages that can be handed out. Tells the box when next something comes due."""
        span = (box.start, box.end, now)
        rows = self._all(READY, (*span, limit)) if box.returned else []
        if not rows and box.returned:
            box.returned = bool(self._all(ANY_READY, span[:2]))
        if box.next_due <= now and (box.held or box.delayed):
            rows += self._all(LAPSED, (*span, box.id, now, limit))
            rows += self._all(ARRIVED, (*span, box.id, now, limit))
            box.next_due = self._earliest_due(box)
        end = _tail_end(box, rows, limit, box.end)
        if box.tail < end:
            tail = self._all(TAIL, (box.tail - 1, end, now, limit))
            box.tail = tail[0][0] if tail else end  # what was passed over is so only once
            rows = sorted(rows + tail)[:limit] if rows else tail
        return rows

    def _earliest_due(self, box: Box, after: float = 0.0) -> float:
        (due,) = self._execute(
            "SELECT min(coalesce((SELECT min(due) FROM held WHERE box = ?1 AND due > ?2), 9e999),"
            " coalesce((SELECT min(due) FROM delayed WHERE box = ?1 AND due > ?2), 9e999))",
            (box.id, after),
        ).fetchone()
        return float(due)

    def _next_due(self, queue: QueueKey, now: float) -> float:
        box = self._boxes.get(queue)
        return math.inf if box is None or not (box.held or box.delayed) else self._earliest_due(box, now)

    def _leave(self, box: Box, places: Sequence[int]) -> None:
        """Take places out of ready, held and delayed, wherever each is; not out of the tail."""
        places = [place for place in places if not _in_tail(box, place)]
        left = len(places)
        if left and box.returned:
            left -= self._delete_places("ready", places)
        if left and box.held:
            gone = self._delete_places("held", places)
            self._boxes.change(box, held=-gone)
            left -= gone
        if left:
            self._boxes.change(box, delayed=-self._delete_places("delayed", places))

    def _return(self, box: Box, rows: Sequence[Row]) -> None:
        """Make places, given with their claims so far, ready again."""
        self._database.executemany("INSERT INTO ready VALUES (?, ?)", rows)
        box.returned = True

    def _remove(self, box: Box, places: Sequence[int]) -> None:
        """Delete messages for good."""
        self._leave(box, places)
        self._delete_places("message", places)
        self._boxes.change(box, total=-len(places))

    def _delete_places(self, table: str, places: Sequence[int]) -> int:
        self._execute(f"DELETE FROM {table} WHERE place IN ({_marks(len(places))})", places)
        return self._database.changes()

    def _extend(self, lease: Lease, rows: list[Row]) -> list[Row]:
        """Lengthen the lives of messages that would end before the lease; the rows as they are then."""
        due, ttl, expires = lease.due, lease.ttl + lease.grace, lease.due + lease.grace
        extended = []
        for row in rows:
            if row[8] >= due:
                extended.append(row)
                continue
            self._execute("UPDATE message SET ttl = ?, expires = ? WHERE place = ?", (ttl, expires, row[0]))
            extended.append((*row[:5], ttl, *row[6:8], expires, row[9]))
        return extended

    def _claim(self, queue: QueueKey, lease: Lease, limit: int, now: float) -> list[Message]:
        box = self._boxes.get(queue)
        if box is None:
            return []
        rows = self._visible(box, limit, now)
        if not rows:
            return []
        due = lease.due
        places = [row[0] for row in rows]
        self._leave(box, places)
        box.tail = 1 + max((place for place in places if _in_tail(box, place)), default=box.tail - 1)
        self._execute(
            f"INSERT INTO held VALUES {_marks(len(rows), '(?, ?, ?, ?, ?)')}",
            [value for row in rows for value in (row[0], box.id, due, lease.id, row[1] + 1)],
        )
        self._boxes.change(box, held=len(rows))
        box.next_due = min(box.next_due, due)
        self._store_lease(box, lease)
        return [_message((row[0], row[1] + 1, lease.id, *row[3:])) for row in self._extend(lease, rows)]

    def _store_lease(self, box: Box, lease: Lease) -> None:
        self._execute(
            "INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?, ?, ?)",
            (box.id, lease.id, lease.ttl, lease.grace, lease.since, lease.due),
        )

    def _under(self, queue: QueueKey, claim: str, now: float) -> tuple[Lease, list[Row]] | None:
        """A live lease and the rows it holds; None when it is not live or holds nothing."""
        box = self._boxes.get(queue)
        if box is None:
            return None
        found = self._execute(
            "SELECT ttl, grace, since, due FROM lease WHERE box = ? AND id = ? AND due > ?",
            (box.id, claim, now),
        ).fetchone()
        if found is None:
            return None
        ttl, grace, since, due = found
        rows = self._execute(UNDER_CLAIM, (box.start, box.end, now, box.id, due, claim)).fetchall()
        return (Lease(id=claim, ttl=ttl, grace=grace, since=since), rows) if rows else None

    def _renew(self, queue: QueueKey, lease: Lease, now: float) -> bool:
        found = self._under(queue, lease.id, now)
        if found is None:
            return False
        box, rows = self._boxes.obtain(queue), found[1]
        self._database.executemany(
            "UPDATE held SET due = ? WHERE place = ?", [(lease.due, row[0]) for row in rows]
        )
        self._extend(lease, rows)
        self._store_lease(box, lease)
        self._boxes.change(box)
        box.next_due = min(box.next_due, lease.due)
        return True

    def _release(self, queue: QueueKey, claim: str, now: float) -> bool:
        found = self._under(queue, claim, now)
        if found is None:
            return False
        box, rows = self._boxes.obtain(queue), found[1]
        self._leave(box, [row[0] for row in rows])
        self._return(box, [row[:2] for row in rows])
        self._execute("DELETE FROM lease WHERE box = ? AND id = ?", (box.id, claim))
        return True

    # --- taking out ----------------------------------------------------------------------------------

    def _delete(self, queue: QueueKey, ids: Sequence[str], holder: Holder, now: float) -> list[str]:
        box = self._boxes.get(queue)
        if box is None:
            return []
        gone = []
        for id_ in dict.fromkeys(ids):
            row = self._row(box, id_, now)
            if row is None:
                continue
            allowed = holder.unclaimed if row[2] is None else row[2] in holder.claims
            if allowed or holder.anyone:
                gone.append(row)
        if gone:
            self._remove(box, [row[0] for row in gone])
            for claim in {row[2] for row in gone} - {None}:
                self._end_empty_lease(box, claim)
        return [row[3] for row in gone]

    def _end_empty_lease(self, box: Box, claim: str) -> None:
        self._execute(
            "DELETE FROM lease WHERE box = ?1 AND id = ?2 AND NOT EXISTS (SELECT 1 FROM held"
            " WHERE box = ?1 AND due = lease.due AND claim = ?2)",
            (box.id, claim),
        )

    def _pop(self, queue: QueueKey, limit: int, now: float) -> list[Message]:
        box = self._boxes.get(queue)
        if box is None:
            return []
        rows = self._visible(box, limit, now)
        if rows:
            self._remove(box, [row[0] for row in rows])
        return [_message(row) for row in rows]

    def _end_delays(self, queue: QueueKey) -> None:
        box = self._boxes.get(queue)
        if box is None or not box.delayed:
            return
        self._execute(
            "UPDATE message SET visible = created WHERE place IN (SELECT place FROM delayed WHERE box = ?)",
            (box.id,),
        )
        self._execute("INSERT INTO ready SELECT place, claims FROM delayed WHERE box = ?", (box.id,))
        box.returned = True
        self._execute("DELETE FROM delayed WHERE box = ?", (box.id,))
        self._boxes.change(box, delayed=-box.delayed)

    def _purge(self, queue: QueueKey) -> None:
        box = self._boxes.get(queue)
        if box is not None:
            self._boxes.abandon(box)

    # --- sweeping ------------------------------------------------------------------------------------

    def _sweep(self, now: float) -> int:
        return (
            self._reclaim_dead_box()
            + self._drop_expired(now)
            + self._drop_leases(now)
            + self._settle(now)
            + self._abandon_empty_boxes(now)
        )

    def _reclaim_dead_box(self) -> int:
        row = self._execute("SELECT id FROM box WHERE dead = 1 LIMIT 1").fetchone()
        if row is None:
            return 0
        (number,) = row
        span = (number << SEQUENCE_BITS, (number + 1) << SEQUENCE_BITS, SWEEP_ROWS)
        reclaimed = 0
        for table in _TABLES:
            reclaimed += self._changed(
                f"DELETE FROM {table} WHERE place IN"
                f" (SELECT place FROM {table} WHERE place > ? AND place < ? LIMIT ?)",
                span,
            )
        reclaimed += self._changed(
            "DELETE FROM lease WHERE box = ?1 AND id IN (SELECT id FROM lease WHERE box = ?1 LIMIT ?2)",
            (number, SWEEP_ROWS),
        )
        if not reclaimed:
            self._execute("DELETE FROM box WHERE id = ?", (number,))
        return reclaimed or 1

    def _abandon_empty_boxes(self, now: float) -> int:
        """Of the service's own queues, any number of which come and go; a few are looked at."""
        if not self._looked_at:
            # What is still there of these has been abandoned since, or looked at again.
            over = self._looking_since - EMPTY_SECONDS
            self._empty = {name: look for name, look in self._empty.items() if look[2] > over}
            self._looking_since = now
        rows = self._execute(
            "SELECT name FROM box WHERE project = '' AND dead = 0 AND name > ? ORDER BY name LIMIT ?",
            (self._looked_at, SWEEP_BOXES),
        ).fetchall()
        self._looked_at = rows[-1][0] if len(rows) == SWEEP_BOXES else ""
        abandoned = 0
        for (name,) in rows:
            box = self._boxes.get(QueueKey("", name))
            if box is None or box.total:
                self._empty.pop(name, None)
                continue
            known, appends, since = self._empty.setdefault(name, (box, box.appends, now))
            if (known, appends) != (box, box.appends):
                self._empty[name] = box, box.appends, now
            elif since + EMPTY_SECONDS <= now:
                self._boxes.abandon(box)
                del self._empty[name]
                abandoned += 1
        return abandoned

    def _changed(self, statement: str, args: Row) -> int:
        self._execute(statement, args)
        return self._database.changes()

    def _drop_expired(self, now: float) -> int:
        rows = self._execute(
            "SELECT box, place FROM message WHERE expires <= ? LIMIT ?", (now, SWEEP_ROWS)
        ).fetchall()
        by_box: dict[int, list[int]] = {}
        for number, place in rows:
            by_box.setdefault(number, []).append(place)
        for number, places in by_box.items():
            box = self._boxes.by_number(number)
            if box is not None:
                self._remove(box, places)
                self._database.figures.count_expired(box.key.project, len(places))
            else:  # dead, so nobody counts them
                for table in _TABLES:
                    self._delete_places(table, places)
        return len(rows)

    def _drop_leases(self, now: float) -> int:
        return self._changed(
            "DELETE FROM lease WHERE (box, id) IN (SELECT box, id FROM lease WHERE due <= ? LIMIT ?)",
            (now, SWEEP_ROWS),
        )

    def _settle(self, now: float) -> int:
        """Move what came due back to ready, so that claims need not sort it; a few queues at a time."""
        moved = 0
        for table in ("held", "delayed"):
            number = self._settled[table]
            for _ in range(SWEEP_BOXES):
                row = self._execute(
                    f"SELECT box, due FROM {table} INDEXED BY {table}_due"
                    " WHERE box > ? ORDER BY box, due LIMIT 1",
                    (number,),
                ).fetchone()
                if row is None:
                    number = 0
                    break
                number = row[0]
                if row[1] <= now:
                    moved += self._settle_box(table, number, now)
                if moved >= SWEEP_ROWS:
                    number -= 1  # there may be more of it
                    break
            self._settled[table] = number
        return moved

    def _settle_box(self, table: str, number: int, now: float) -> int:
        box = self._boxes.by_number(number)
        if box is None:
            return 0
        rows = self._execute(
            f"SELECT place, claims FROM {table} WHERE box = ? AND due <= ? LIMIT ?", (number, now, SWEEP_ROWS)
        ).fetchall()
        self._leave(box, [row[0] for row in rows])
        self._return(box, rows)
        return len(rows)
