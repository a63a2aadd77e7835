"""Stores that earlier releases wrote are brought to the newest form when they are opened."""

from pathlib import Path

import apsw
import pytest

from sukkal.model import ANYONE, Lease, Message, QueueKey, View
from sukkal.stores.registry import open_backend
from sukkal.stores.sqlite.schema import MIGRATIONS, SEQUENCE_BITS

QUEUE = QueueKey("acme", "orders")
NOW = 1000.0
BOX = 7
SEQUENCE = 50  # numbers below it were used


@pytest.fixture
def first_form(tmp_path: Path) -> Path:
    """A file in the first form: three messages ready, one held and one delayed, in this order."""
    path = tmp_path / "sukkal.db"
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID")
    connection.execute(MIGRATIONS[0])
    connection.execute("INSERT INTO meta VALUES ('schema', 1)")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'sequence'", (SEQUENCE,))
    connection.execute("INSERT INTO box VALUES (?, ?, ?, 0, 5, 1, 1)", (BOX, *QUEUE))
    for number in range(5):
        place = BOX << SEQUENCE_BITS | 40 + number
        visible = NOW + 30 if number == 4 else NOW
        connection.execute(
            "INSERT INTO message VALUES (?, ?, ?, 600, ?, ?, ?, '', ?)",
            (place, BOX, f"old{number}", NOW, visible, NOW + 600, b'"%d"' % number),
        )
        if number < 3:
            connection.execute("INSERT INTO ready VALUES (?, 0)", (place,))
        elif number == 3:
            connection.execute("INSERT INTO held VALUES (?, ?, ?, 'lease', 1)", (place, BOX, NOW + 60))
            connection.execute("INSERT INTO lease VALUES (?, 'lease', 60, 60, ?, ?)", (BOX, NOW, NOW + 60))
        else:
            connection.execute("INSERT INTO delayed VALUES (?, ?, ?, 0)", (place, BOX, visible))
    connection.close()
    return path


def new(number: int) -> Message:
    return Message(id=f"new{number}", body=b"{}", ttl=600, created=NOW, visible=NOW, expires=NOW + 600)


async def test_first_form_is_served_and_goes_on(first_form: Path) -> None:
    backend = await open_backend(f"sqlite://{first_form}")
    try:
        messages = backend.messages
        await messages.append(QUEUE, [new(0), new(1)])
        everything = View(include_claimed=True, include_delayed=True)
        shown = await messages.page(QUEUE, view=everything, after=None, limit=10, now=NOW)
        assert [m.id for m in shown] == ["old0", "old1", "old2", "old3", "old4", "new0", "new1"]
        behind = await messages.page(QUEUE, view=everything, after=shown[2].marker, limit=10, now=NOW)
        assert [m.id for m in behind] == ["old3", "old4", "new0", "new1"]
        assert [m.claim for m in shown if m.claim] == ["lease"]

        lease = Lease(id="next", ttl=60, grace=60, since=NOW)
        first = await messages.claim(QUEUE, lease, limit=4, now=NOW)
        assert [m.id for m in first] == ["old0", "old1", "old2", "new0"]
        # The lease of old lapses, the delay ends: both come before what was posted later.
        rest = await messages.pop(QUEUE, limit=9, now=NOW + 60.5)
        assert [m.id for m in rest] == ["old0", "old1", "old2", "old3", "old4", "new0", "new1"]
        assert await messages.delete(QUEUE, ["old0"], holder=ANYONE, now=NOW) == []
        stats = await messages.stats(QUEUE, now=NOW)
        assert (stats.free, stats.claimed) == (0, 0)
    finally:
        await backend.close()
