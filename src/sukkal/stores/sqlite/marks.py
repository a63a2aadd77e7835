"""Notes on queues, kept in memory so that every append can answer them. Table layout: `schema.py`."""

from collections.abc import Callable
from typing import Any

from sukkal.model import QueueKey
from sukkal.stores.sqlite.database import Database


class Marks:
    """`put` and `remove` are steps of a write."""

    def __init__(self, database: Database) -> None:
        self._execute: Callable[..., Any] = database.execute
        self._notes: dict[QueueKey, str] = {}
        self.get = self._notes.get
        self.load()

    def load(self) -> None:
        """Take over what the file has."""
        self._notes.clear()
        for project, name, note in self._execute("SELECT project, name, note FROM mark"):
            self._notes[QueueKey(project, name)] = note

    def put(self, queue: QueueKey, note: str) -> None:
        self._execute("INSERT OR REPLACE INTO mark VALUES (?, ?, ?)", (*queue, note))
        self._notes[queue] = note

    def remove(self, queue: QueueKey, note: str) -> bool:
        if self._notes.get(queue) != note:
            return False
        self._execute("DELETE FROM mark WHERE project = ? AND name = ?", queue)
        del self._notes[queue]
        return True
