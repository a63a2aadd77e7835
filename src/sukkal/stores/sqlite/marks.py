"""Notes on queues, kept in memory so that every append can answer them. Table layout: `schema.py`."""

import asyncio

from sukkal.model import QueueKey
from sukkal.stores.sqlite.database import Database

_PUT = """
    INSERT INTO mark VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET note = max(substr(note, 1, 1), substr(excluded.note, 1, 1))
        || substr(excluded.note, 2)
    RETURNING note
"""


class Marks:
    """What is in memory is what was committed, so there is nothing to undo when a transaction fails."""

    def __init__(self, database: Database) -> None:
        self._database = database
        rows = database.execute("SELECT project, name, note FROM mark")
        self._notes = {QueueKey(project, name): note for project, name, note in rows}
        self.get = self._notes.get

    async def put(self, queue: QueueKey, note: str) -> None:
        stored = self._database.write(self._put, queue, note)
        stored.add_done_callback(lambda stored: self._note(stored, queue))
        await asyncio.shield(stored)  # it is stored, whether or not the caller stays

    async def remove(self, queue: QueueKey, note: str) -> bool:
        """Remove the note if it is this one."""
        removed: asyncio.Future[bool] = self._database.write(self._remove, queue, note)
        removed.add_done_callback(lambda removed: self._forget(removed, queue))
        return await asyncio.shield(removed)

    def _put(self, queue: QueueKey, note: str) -> str:
        ((put,),) = self._database.execute(_PUT, (*queue, note))
        return str(put)

    def _remove(self, queue: QueueKey, note: str) -> bool:
        self._database.execute("DELETE FROM mark WHERE project = ? AND name = ? AND note = ?", (*queue, note))
        return self._database.changes() > 0

    # Take over a change, unless it was none or undone. Called in the order of the changes.

    def _note(self, put: "asyncio.Future[str]", queue: QueueKey) -> None:
        if not put.cancelled() and put.exception() is None:
            self._notes[queue] = put.result()

    def _forget(self, removed: "asyncio.Future[bool]", queue: QueueKey) -> None:
        if not removed.cancelled() and removed.exception() is None and removed.result():
            self._notes.pop(queue, None)
