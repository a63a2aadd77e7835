"""The storage contract: what every backend promises and core relies on.

A store is a function of the calls made on it. It reads no clock and mints no id: `now` and ids are
arguments, so leases, delays and lifetimes are arithmetic, and two stores fed the same calls agree.
Every verb is atomic and, when it returns, as durable as the backend's traits say. Absence and refusal
are return values; whether they are errors is core's rule. The one exception raised is
`StoreUnavailable`: nothing of that call is acknowledged, and repeating it is safe.

`tests/stores/` holds the suite each backend passes, and compares it step by step with `memory.py`.
"""

import enum
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from sukkal.model import Holder, Lease, Message, QueueKey, Stats, View
from sukkal.tally import StoreFigures


class Trait(enum.StrEnum):
    """What a backend offers; the API's pool capabilities are drawn from these."""

    FIFO = "FIFO"  # first deliveries of a queue follow the order of its acknowledged posts
    CLAIMS = "CLAIMS"  # messages can be leased
    DURABLE = "DURABILITY"  # an acknowledged write survives a crash of the machine
    AT_LEAST_ONCE = "AOD"
    HIGH_THROUGHPUT = "HIGH_THROUGHPUT"
    SHARED = "SHARED"  # several processes may use it at once
    IN_ORDER = (
        "IN_ORDER"  # of appends begun one after the other in one turn, none is kept without the ones before
    )


class Messages(Protocol):
    """The data plane. A queue needs no creation: one that holds nothing answers as empty.

    A message is *live* while `now < expires`. It is *held* while a lease on it is live, *delayed* while
    `now < visible`, and *visible*, that is claimable, when neither. What is not live is in no answer.
    """

    def append(self, queue: QueueKey, batch: Sequence[Message], *, noted: str = "") -> Awaitable[str | None]:
        """Add messages at the end, in order: all become visible together or none does.

        Answers the note on the queue, see `mark`; None when there is none. `noted` is the kind of note the
        caller has seen to, "" if none: on a queue with a note of another kind nothing is stored.

        A message whose id the queue already holds is left as it is, so a repeated call stores one copy.
        `claim` and `marker` of what is passed are ignored; `claim_count` is kept. Those who follow the
        queue are told of each message, see `Waker.follow`.
        """
        ...

    async def page(
        self, queue: QueueKey, *, view: View, after: str | None, limit: int, now: float
    ) -> list[Message]:
        """Up to `limit` messages that `view` shows, oldest first, following the marker `after`.

        A marker stays good when its message has gone, and when the queue was purged since: following
        markers meets every live message once. One this store never made yields an empty list. The list is
        not to be changed: a store may answer with the same one until the page is another.
        """
        ...

    async def fetch(self, queue: QueueKey, ids: Sequence[str], *, now: float) -> list[Message]:
        """The live messages among `ids`, held and delayed ones too, in the order asked for, each once."""
        ...

    async def claim(self, queue: QueueKey, lease: Lease, *, limit: int, now: float) -> list[Message]:
        """Hand out up to `limit` visible messages under `lease`, oldest first.

        Each message goes to one lease at a time, also under concurrent calls. Its `claim_count` grows
        by one. One that would expire before `lease.due` gets `ttl = lease.ttl + lease.grace` and
        expires at `lease.due + lease.grace`; others keep their lifetime. A message that a lapsed or
        released lease held is handed out at its old place. Calling again with the same lease, while it is
        live, adds to it.
        """
        ...

    async def held(self, queue: QueueKey, claim: str, *, now: float) -> tuple[Lease, list[Message]] | None:
        """The live lease with this id and what it still holds, oldest first; None when that is nothing."""
        ...

    async def renew(self, queue: QueueKey, lease: Lease, *, now: float) -> bool:
        """Replace ttl, grace and start of the live lease with `lease.id`; False when there is none.

        Lifetimes of the held messages are extended as `claim` does; claim counts stay.
        """
        ...

    async def release(self, queue: QueueKey, claim: str, *, now: float) -> bool:
        """Give back what a live lease holds, each message at its old place; False when there is none."""
        ...

    async def delete(self, queue: QueueKey, ids: Sequence[str], *, holder: Holder, now: float) -> list[str]:
        """Delete those of the live messages `ids` that `holder` may delete; answers which were.

        In the order asked for.
        """
        ...

    async def pop(self, queue: QueueKey, *, limit: int, now: float) -> list[Message]:
        """Take up to `limit` visible messages out for good, oldest first."""
        ...

    async def end_delays(self, queue: QueueKey) -> None:
        """Make every delayed message of the queue visible at once, as if posted without delay.

        Its `visible` becomes its `created`; that of a message whose delay is over may. Nothing else changes.
        """
        ...

    async def next_due(self, queue: QueueKey, *, now: float) -> float | None:
        """When, by time alone, the next live message that is held or delayed becomes visible; after `now`.

        None when none will. Never too late; it may be too early, by messages that end before they would
        become visible.
        """
        ...

    async def stats(self, queue: QueueKey, *, now: float) -> Stats:
        """Exact counts at `now`, and the queue's ends."""
        ...

    async def purge(self, queue: QueueKey) -> None:
        """Drop every message and lease of the queue, at a cost that does not depend on how many."""
        ...

    async def mark(self, queue: QueueKey, note: str) -> None:
        """Put a note on the queue in place of the one that was there; appends answer it from now on.

        It tells those who post, in any process, that somebody is to hear of it. Its first letter is its kind;
        of that and the former note's kind the one later in the alphabet stays. It is as durable as messages
        are; purging the queue leaves it.
        """
        ...

    async def unmark(self, queue: QueueKey, note: str) -> bool:
        """Take the queue's note away, if it is this one; else leave it. Answers whether it was."""
        ...

    async def volume(self, *, now: float) -> Stats:
        """Messages of all queues together, without ends. What expired or lapsed since the last
        sweep may still count as it did before. Those of the service's own project, "", do not count.
        """
        ...

    async def sweep(self, *, now: float) -> int:
        """Reclaim a bounded amount of space that nothing can see; how much, 0 when there was none.

        Messages that have expired are counted in the backend's figures, once, by the time that no sweep of
        any process finds anything more; what was purged meanwhile may not be.

        Nothing depends on it but space and speed: lapses, delays and lifetimes end by themselves.
        """
        ...


class Shelf(NamedTuple):
    """A set of documents with unique names: those of one kind in one project."""

    kind: str
    project: str


class Document(Struct, frozen=True, kw_only=True):
    """A small named record."""

    name: str
    value: bytes
    version: int  # grows with each put of this name, also after it was deleted


class Documents(Protocol):
    """The control plane: named records. One whose `expires` is not after `now` is absent."""

    async def get(self, shelf: Shelf, name: str, *, now: float) -> Document | None: ...

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
        """Store a record; answers its new version, or None when another writer was first.

        `expect` is the version to replace, 0 for "must be absent", None for "whatever is there". With an
        `expires` that is over, a record of that version is removed.
        """
        ...

    async def delete(self, shelf: Shelf, name: str) -> bool:
        """Remove a record; False when there was none."""
        ...

    async def scan(self, shelf: Shelf, *, after: str, limit: int, now: float) -> list[Document]:
        """Up to `limit` records with names greater than `after`, in bytewise order of the names."""
        ...

    async def count(self, shelf: Shelf, *, now: float) -> int: ...


# Called with a queue, how many messages become visible, and when. See `Waker.tell`.
Heard = Callable[[QueueKey, int | None, float], None]


# Called with a queue and a message that was appended to it, as it is stored, but for its marker.
Told = Callable[[QueueKey, Message], None]


class Waker(Protocol):
    """A line between all who have the same store open: who has written tells, who waits hears.

    Who watches a queue hears hints to look again. They may come late, twice or for nothing; but whatever is
    told of a queue is heard by everyone who watches it. A driver whose line was broken says for each queue
    watched that something may have come. Who follows a queue is told of the messages themselves.
    """

    def listen(self, heard: Heard) -> None:
        """Have what is told called out, on the event loop that opened the store. There is one listener."""
        ...

    async def watch(self, queue: QueueKey) -> None:
        """Hear what is told of this queue, once this has returned. Watching twice is watching once.

        Raises StoreUnavailable when the line cannot be had.
        """
        ...

    def unwatch(self, queue: QueueKey) -> None:
        """Hear of it no more, soon."""
        ...

    def wanted(self, queue: QueueKey) -> bool:
        """Whether telling may matter to anybody; False spares the caller working out what to tell."""
        ...

    def tell(self, queue: QueueKey, count: int | None, due: float = 0.0) -> None:
        """Say that `count` messages become visible at `due`, 0 for now; None for any number.

        To be told after the write, never before. A count of 0 says that listings may show more than they
        did, though there is nothing to claim. Whatever the count, it is heard as it was told, or as None.
        Costs nothing that anyone has to wait for.
        """
        ...

    # Messages themselves, for whom a listing comes too late: others may have taken them by then.

    def listen_to_messages(self, told: Told) -> None:
        """Have what is appended to followed queues called out, on the same event loop. One listener."""
        ...

    async def follow(self, queue: QueueKey) -> None:
        """Be told of each message that anybody appends, once this has returned.

        After it was stored, never before, and in the order of the queue where the store promises one. A
        message whose append was repeated may be told of twice. While a driver's line is broken nothing is
        told, and that is not made up for. Following twice is following once. An append to a queue that
        nobody follows costs next to nothing more, whatever its size. Raises StoreUnavailable when the line
        cannot be had.
        """
        ...

    def unfollow(self, queue: QueueKey) -> None:
        """Be told no more, soon."""
        ...


class Form(NamedTuple):
    """Versions of how things are stored."""

    stored: int | None  # what is there; None when nothing is yet
    known: int  # the newest that this release knows, and brings the store to when it opens it


class ControlBackend(Protocol):
    """One opened store that keeps documents, and need not keep more."""

    @property
    def traits(self) -> frozenset[Trait]: ...

    @property
    def documents(self) -> Documents: ...

    @property
    def figures(self) -> StoreFigures: ...

    async def ping(self) -> None:
        """Return when the store answers; StoreUnavailable when it does not."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the store."""
        ...


class Backend(ControlBackend, Protocol):
    """One opened store."""

    @property
    def messages(self) -> Messages: ...

    @property
    def waker(self) -> Waker: ...
