"""Pages that were just listed, for the readers who list them next.

Many readers follow one feed and ask for the same pages. What a page shows is known until a message of its
box changes other than by an append, one of its own expires, or something held or delayed comes due. A full
page is not changed by appends, which come in behind it.
"""

from typing import NamedTuple

from sukkal.model import Message, QueueKey, View
from sukkal.stores.sqlite.boxes import Box

KEPT_PAGES = 1024
KEPT_BYTES = 16 * 1024  # of bodies in a page; longer ones are not kept

Asked = tuple[QueueKey, View, str | None, int]


class _Page(NamedTuple):
    box: Box
    changes: int
    appends: int | None  # None when no append can change the page
    since: float
    until: float
    messages: list[Message]


class Pages:
    def __init__(self) -> None:
        self._pages: dict[Asked, _Page] = {}

    def get(self, asked: Asked, box: Box, now: float) -> list[Message] | None:
        """The page, if it is known and still as it was. Not to be changed."""
        page = self._pages.get(asked)
        if (
            page is not None
            and page.box is box
            and page.changes == box.changes
            and (page.appends is None or page.appends == box.appends)
            and page.since <= now < page.until
        ):
            return page.messages
        return None

    def keep(self, asked: Asked, box: Box, messages: list[Message], now: float, due: float) -> None:
        """Remember a page listed at `now`, when nothing comes due before `due`."""
        if sum(len(message.body) for message in messages) > KEPT_BYTES:
            return
        full = len(messages) == asked[3]
        until = min([due, *(message.expires for message in messages)])
        if len(self._pages) >= KEPT_PAGES:
            del self._pages[next(iter(self._pages))]
        self._pages[asked] = _Page(box, box.changes, None if full else box.appends, now, until, messages)
