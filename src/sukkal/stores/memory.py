"""The reference store: everything in plain lists and dicts of one process, gone with it.

It is the model the other stores are compared with, so it is written to be read, and it serves trials.
Appending is cheap at any depth; claims, pops, statistics and sweeps walk the queue from its old end.

Layout
    Every message gets the next number of one sequence for the whole store: its *place*. The sequence
    never restarts, so a place, and the marker that is its decimal text, stays good after a purge.
    One `_Queue` for each queue that stores something: messages by place, the places in order, the
    place of each id, and for each claim the lease with the places under it. A message's `claim` and a
    holding's places always say the same; both may outlive the lease, whose own arithmetic decides
    whether it is live.
    Marks are kept by queue.
    Documents are kept by shelf, then name. Versions too come from one sequence that never restarts, so
    a record that was deleted and made anew never repeats a version.

No method waits for anything, so each runs as one step of the event loop: that is what makes it atomic.
"""

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count, islice
from urllib.parse import urlsplit

from msgspec import Struct, field
from msgspec.structs import replace

from sukkal.model import Edge, Holder, Lease, Message, QueueKey, Stats, View
from sukkal.stores.contract import Backend, Document, Documents, Messages, Shelf, Trait, Waker
from sukkal.stores.local_waker import LocalWaker
from sukkal.tally import StoreFigures

_MARKER = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_SWEEP_STEP = 1000  # messages or leases reclaimed by one sweep at most


class _Holding(Struct):
    """A lease and the places of what it holds; never without places."""

    lease: Lease
    places: set[int]


class _Queue(Struct):
    """What one queue stores."""

    places: list[int] = field(default_factory=list)  # ascending
    messages: dict[int, Message] = field(default_factory=dict)  # by place
    place_of: dict[str, int] = field(default_factory=dict)  # by message id
    holdings: dict[str, _Holding] = field(default_factory=dict)  # by claim id, lapsed ones too

    def add(self, place: int, message: Message) -> None:
        self.places.append(place)
        self.messages[place] = message
        self.place_of[message.id] = place

    def remove(self, place: int) -> None:
        self.let_go(place)
        del self.places[bisect_left(self.places, place)]
        del self.place_of[self.messages.pop(place).id]

    def hold(self, place: int, lease: Lease) -> None:
        self.let_go(place)
        self.messages[place] = replace(self.messages[place], claim=lease.id)
        self.holdings.setdefault(lease.id, _Holding(lease, set())).places.add(place)

    def let_go(self, place: int) -> None:
        claim = self.messages[place].claim
        if claim is None:
            return
        self.messages[place] = replace(self.messages[place], claim=None)
        self.holdings[claim].places.remove(place)
        if not self.holdings[claim].places:
            del self.holdings[claim]

    def let_all_go(self, claim: str) -> None:
        for place in list(self.holdings[claim].places):
            self.let_go(place)

    def outlive(self, place: int, lease: Lease) -> None:
        """Make a message last until the end of the lease that holds it, and its grace."""
        if self.messages[place].expires < lease.due:
            self.messages[place] = replace(
                self.messages[place], ttl=lease.ttl + lease.grace, expires=lease.due + lease.grace
            )

    def holding(self, claim: str, now: float) -> _Holding | None:
        """What a live lease holds; None for one that lapsed, holds nothing any more or never was."""
        holding = self.holdings.get(claim)
        return holding if holding is not None and now < holding.lease.due else None

    def seen(self, place: int, now: float) -> Message:
        """A message as it is shown at `now`: without the claim on it when that has lapsed."""
        message = self.messages[place]
        if message.claim is not None and self.holding(message.claim, now) is None:
            return replace(message, claim=None)
        return message

    def live(self, now: float, after: int = 0) -> Iterator[tuple[int, Message]]:
        """Places and live messages in order, as they are shown at `now`, from behind a place."""
        for place in islice(self.places, bisect_right(self.places, after), None):
            if now < self.messages[place].expires:
                yield place, self.seen(place, now)

    def visible(self, now: float, limit: int) -> list[int]:
        """The places of the oldest messages that can be handed out."""
        places = (
            place for place, message in self.live(now) if message.claim is None and message.visible <= now
        )
        return list(islice(places, limit))


class MemoryMessages:
    """The data plane; see `Messages` for what each verb promises."""

    def __init__(self, waker: LocalWaker, figures: StoreFigures) -> None:
        self._waker = waker
        self._figures = figures
        self._queues: defaultdict[QueueKey, _Queue] = defaultdict(_Queue)
        self._sequence = count(1)
        self._marks: dict[QueueKey, str] = {}

    async def append(self, queue: QueueKey, batch: Sequence[Message], *, noted: str = "") -> str | None:
        note = self._marks.get(queue)
        if note is not None and note[0] != noted:
            return note
        stored = self._queues[queue]
        for message in batch:
            if message.id not in stored.place_of:
                place = next(self._sequence)
                stored.add(place, replace(message, claim=None, marker=str(place)))
        self._forget_if_empty(queue)
        self._waker.appended(queue, batch)
        return note

    async def page(
        self, queue: QueueKey, *, view: View, after: str | None, limit: int, now: float
    ) -> list[Message]:
        if after is not None and not _MARKER.fullmatch(after):
            return []
        shown = (
            message
            for _, message in self._queue(queue).live(now, after=int(after or 0))
            if (view.include_claimed or message.claim is None)
            and (view.include_delayed or message.visible <= now)
            and (view.without_client is None or message.client != view.without_client)
        )
        return list(islice(shown, limit))

    async def fetch(self, queue: QueueKey, ids: Sequence[str], *, now: float) -> list[Message]:
        stored = self._queue(queue)
        return [stored.seen(place, now) for place in self._live_places(stored, ids, now)]

    async def claim(self, queue: QueueKey, lease: Lease, *, limit: int, now: float) -> list[Message]:
        stored = self._queue(queue)
        if lease.id in stored.holdings and stored.holding(lease.id, now) is None:
            stored.let_all_go(lease.id)
        places = stored.visible(now, limit)
        for place in places:
            stored.hold(place, lease)
            stored.outlive(place, lease)
            message = stored.messages[place]
            stored.messages[place] = replace(message, claim_count=message.claim_count + 1)
        return [stored.messages[place] for place in places]

    async def held(self, queue: QueueKey, claim: str, *, now: float) -> tuple[Lease, list[Message]] | None:
        stored = self._queue(queue)
        holding = stored.holding(claim, now)
        if holding is None:
            return None
        return holding.lease, [stored.messages[place] for place in sorted(holding.places)]

    async def renew(self, queue: QueueKey, lease: Lease, *, now: float) -> bool:
        stored = self._queue(queue)
        holding = stored.holding(lease.id, now)
        if holding is None:
            return False
        holding.lease = lease
        for place in holding.places:
            stored.outlive(place, lease)
        return True

    async def release(self, queue: QueueKey, claim: str, *, now: float) -> bool:
        stored = self._queue(queue)
        if stored.holding(claim, now) is None:
            return False
        stored.let_all_go(claim)
        return True

    async def delete(self, queue: QueueKey, ids: Sequence[str], *, holder: Holder, now: float) -> list[str]:
        stored = self._queue(queue)
        deleted = []
        for place in self._live_places(stored, ids, now):
            message = stored.seen(place, now)
            allowed = holder.unclaimed if message.claim is None else message.claim in holder.claims
            if allowed or holder.anyone:
                stored.remove(place)
                deleted.append(message.id)
        self._forget_if_empty(queue)
        return deleted

    async def pop(self, queue: QueueKey, *, limit: int, now: float) -> list[Message]:
        stored = self._queue(queue)
        popped = []
        for place in stored.visible(now, limit):
            popped.append(stored.seen(place, now))
            stored.remove(place)
        self._forget_if_empty(queue)
        return popped

    async def end_delays(self, queue: QueueKey) -> None:
        stored = self._queue(queue)
        for place in stored.places:
            message = stored.messages[place]
            stored.messages[place] = replace(message, visible=message.created)

    async def next_due(self, queue: QueueKey, *, now: float) -> float | None:
        stored = self._queue(queue)
        dues = (
            (message.visible if message.claim is None else stored.holdings[message.claim].lease.due, message)
            for _, message in stored.live(now)
        )
        return min((due for due, message in dues if now < due < message.expires), default=None)

    async def stats(self, queue: QueueKey, *, now: float) -> Stats:
        free = claimed = 0
        oldest = newest = None
        for _, message in self._queue(queue).live(now):
            if message.claim is None:
                free += 1
            else:
                claimed += 1
            if message.visible <= now:
                newest = Edge(id=message.id, created=message.created)
                oldest = oldest or newest
        return Stats(free=free, claimed=claimed, oldest=oldest, newest=newest)

    async def purge(self, queue: QueueKey) -> None:
        self._queues.pop(queue, None)

    async def mark(self, queue: QueueKey, note: str) -> None:
        self._marks[queue] = max(note[0], self._marks.get(queue, note)[0]) + note[1:]

    async def unmark(self, queue: QueueKey, note: str) -> bool:
        if self._marks.get(queue) != note:
            return False
        del self._marks[queue]
        return True

    async def volume(self, *, now: float) -> Stats:
        free = claimed = 0
        for queue, stored in self._queues.items():
            for _, message in stored.live(now) if queue.project else ():
                if message.claim is None:
                    free += 1
                else:
                    claimed += 1
        return Stats(free=free, claimed=claimed)

    async def sweep(self, *, now: float) -> int:
        reclaimed = 0
        for queue, stored in list(self._queues.items()):
            lapsed = (claim for claim, holding in stored.holdings.items() if holding.lease.due <= now)
            for claim in list(islice(lapsed, _SWEEP_STEP - reclaimed)):
                stored.let_all_go(claim)
                reclaimed += 1
            expired = (place for place in stored.places if stored.messages[place].expires <= now)
            for place in list(islice(expired, _SWEEP_STEP - reclaimed)):
                stored.remove(place)
                self._figures.count_expired(queue.project, 1)
                reclaimed += 1
            self._forget_if_empty(queue)
        return reclaimed

    def _queue(self, queue: QueueKey) -> _Queue:
        """The queue to look at; one that stores nothing is not created by looking."""
        return self._queues.get(queue) or _Queue()

    def _live_places(self, stored: _Queue, ids: Sequence[str], now: float) -> list[int]:
        """Where the live messages among `ids` are, in the order asked for, each once."""
        places = (stored.place_of[id] for id in dict.fromkeys(ids) if id in stored.place_of)
        return [place for place in places if now < stored.messages[place].expires]

    def _forget_if_empty(self, queue: QueueKey) -> None:
        if queue in self._queues and not self._queues[queue].places:
            del self._queues[queue]


class _Record(Struct, frozen=True):
    """A document and when it ends."""

    document: Document
    expires: float | None

    def live(self, now: float) -> bool:
        return self.expires is None or now < self.expires


class MemoryDocuments:
    """The control plane; see `Documents` for what each verb promises."""

    def __init__(self) -> None:
        self._shelves: dict[Shelf, dict[str, _Record]] = {}
        self._versions = count(1)

    async def get(self, shelf: Shelf, name: str, *, now: float) -> Document | None:
        record = self._shelves.get(shelf, {}).get(name)
        return record.document if record is not None and record.live(now) else None

    async def put(
        self,
        shelf: Shelf,
        name: str,
        value: bytes,
        *,
        expect: int | None,
        now: float,
        expires: float | None = None,
    ) -> int | None:
        present = await self.get(shelf, name, now=now)
        if expect is not None and expect != (present.version if present else 0):
            return None
        record = _Record(Document(name=name, value=value, version=next(self._versions)), expires)
        if record.live(now):
            self._shelves.setdefault(shelf, {})[name] = record
        else:
            await self.delete(shelf, name)
        return record.document.version

    async def delete(self, shelf: Shelf, name: str) -> bool:
        return self._shelves.get(shelf, {}).pop(name, None) is not None

    async def scan(self, shelf: Shelf, *, after: str, limit: int, now: float) -> list[Document]:
        documents = self._live(shelf, now)
        # Text sorts by code point, which is the bytewise order of its UTF-8.
        return [documents[name] for name in sorted(documents) if name > after][:limit]

    async def count(self, shelf: Shelf, *, now: float) -> int:
        return len(self._live(shelf, now))

    def _live(self, shelf: Shelf, now: float) -> dict[str, Document]:
        """A shelf's documents by name, once the expired ones have been dropped."""
        records = {name: record for name, record in self._shelves.get(shelf, {}).items() if record.live(now)}
        if records:
            self._shelves[shelf] = records
        else:
            self._shelves.pop(shelf, None)
        return {name: record.document for name, record in records.items()}


class MemoryBackend:
    """A store for tests and trials: ordered and leasing, but neither durable nor shared."""

    traits: frozenset[Trait] = frozenset({Trait.FIFO, Trait.CLAIMS, Trait.AT_LEAST_ONCE, Trait.IN_ORDER})

    def __init__(self) -> None:
        waker = LocalWaker()
        self.figures = StoreFigures()
        self.messages: Messages = MemoryMessages(waker, self.figures)
        self.documents: Documents = MemoryDocuments()
        self.waker: Waker = waker

    async def ping(self) -> None:
        """Return at once: what lives in this process can be reached."""

    async def close(self) -> None:
        """Do nothing: everything goes with the last reference to it."""


def identity(uri: str) -> str:
    """Stores in memory are told apart by name: `memory:///name`."""
    return f"memory {urlsplit(uri).path.strip('/')}"


async def open_backend(uri: str, *, durable: bool = True) -> Backend:
    """A new, empty store for `memory:`. It cannot be durable, as its traits tell."""
    return MemoryBackend()
