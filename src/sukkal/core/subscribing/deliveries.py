"""Deliveries: what outside subscribers are to be told, kept in the store until they were.

They lie in two queues of the project "", which no caller has, so leases, delays and lapses are those of any
queue. Bodies stay in the form in which the message is stored, sealed ones sealed.

    deliveries   jobs: messages of one queue, for whoever is subscribed when a job is taken up
    line/…       jobs of one queue some of whose subscribers want its messages in order, oldest first
    retries      parked deliveries: one message, or a text of the service's own, for one subscription
    series/…     deliveries to one subscription that wants them in order or together, oldest first
    turn/…       whose turn it is to go through a line or a series: one message, held by who does, delayed
                 until it is due

Whoever takes up jobs takes some of many queues, and others take the next ones at the same time. So where
order matters, jobs are in a line of their queue's, which one goes through at a time; a job without messages
has somebody do that.

A job is written before the messages it tells of: in the same turn of the event loop, so in the same
transaction on SQLite, in the same pipeline on Redis. Where a store does not keep the order of such calls
(`Trait.IN_ORDER`), or messages lie in other stores than jobs, it is waited for. Its id is made of the first
message's, so writing it again stores one. What is parked has an id made of the message's, the
subscription's and how often it was parked. What was taken up is deleted last. So a crash anywhere repeats
some steps, and skips none.

Which posts need a job, and where, is told by a note on the queue (`Messages.mark` of the store). It is put
there once a subscription is recorded, and taken away when a job meets no subscriptions. Every append answers
it, and what it answered last is what the next post goes by. One that meets a note of another kind stores
nothing, and starts again.

To change the form: add fields at the end, with defaults. Processes of two releases may share a store.
"""

import asyncio
import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sukkal.core.waiting import Place, Waiting
from sukkal.model import ANYONE, Holder, Lease, Message, QueueKey, Stats, Subscription, View
from sukkal.stores.contract import Messages as Store

log = logging.getLogger(__name__)

JOBS = QueueKey("", "deliveries")
PARKED = QueueKey("", "retries")

# Kinds of notes on queues: that somebody is subscribed, and that somebody wants messages in order, which is
# later in the alphabet and so stays.
SUBSCRIBED = "n"
ORDERED = "o"

_ALL = View(include_claimed=True, include_delayed=True)
LASTING = 10 * 365 * 86400  # seconds that what is recorded stays if nobody ever takes it up
MOST_NOTES = 100_000  # queues known to have subscribers


Record = TypeVar("Record")


class Told(Struct, frozen=True, array_like=True):
    """A message as it was stored."""

    id: str
    body: bytes
    ttl: int
    created: float
    delay: int = 0

    @classmethod
    def of(cls, message: Message) -> "Told":
        delay = round(message.visible - message.created)
        return cls(message.id, message.body, message.ttl, message.created, delay)


class Job(Struct, frozen=True, array_like=True):
    """Messages that a queue's subscribers are to be told of."""

    project: str
    queue: str
    note: str  # that the queue bore
    messages: list[Told]  # none: somebody is to go through the queue's line
    dead: bool = False  # they came as dead letters, and make no more of them
    put_off: int = 0  # how often

    @property
    def key(self) -> QueueKey:
        return QueueKey(self.project, self.queue)

    @property
    def size(self) -> int:
        """Bytes of its messages."""
        return sum(len(told.body) for told in self.messages)


class Parked(Struct, frozen=True, array_like=True, kw_only=True):
    """A delivery to one subscription that is tried from some time on."""

    id: str  # the delivery's, the same on each attempt
    project: str
    queue: str
    subscription: str
    since: float  # when the delivery was recorded
    attempts: int = 0  # so far
    parkings: int = 0  # so far, this one included
    message: Told | None = None
    text: bytes = b""  # JSON, in place of a message; in a form bodies are stored in
    directed: str = ""  # what the service's own text is: it needs no confirmation and makes no dead letter
    dead: bool = False  # see Job
    turn: bool = False  # no delivery: whoever takes it up goes through the series; through the queue's line,
    # where there is no subscription

    @property
    def key(self) -> QueueKey:
        return QueueKey(self.project, self.queue)

    @property
    def size(self) -> int:
        """Bytes of what is to be delivered."""
        return len(self.message.body if self.message is not None else self.text)

    @property
    def letter(self) -> str:
        """The id of its dead letter, should there be one."""
        return letter_id(self.id)


class Turn(Struct, frozen=True, array_like=True):
    """The right to go through a line or series, which one has at a time; and how its first parcel fared."""

    attempts: int = 0
    size: int = 0  # deliveries in the parcel that failed, which stay together; 0: there was none


_encode = msgspec.msgpack.Encoder().encode
_job = msgspec.msgpack.Decoder(Job).decode
_parked = msgspec.msgpack.Decoder(Parked).decode
_turn = msgspec.msgpack.Decoder(Turn).decode
_TURN = "turn"  # id of a turn, the only message of its queue


def delivery_id(message: str, subscription: str) -> str:
    """The id of the delivery of this message to this subscription."""
    return hashlib.blake2b(f"{message}/{subscription}".encode(), digest_size=16).hexdigest()


def letter_id(delivery: str) -> str:
    """The id of the dead letter of this delivery.

    No message of a client's has it, whatever the client says is the delivery: ids that are given to messages
    can be guessed, but not what they would be made of here.
    """
    return delivery_id(delivery, "letter")


def line_or_series(key: QueueKey, subscription: str) -> QueueKey:
    """Where a subscription's deliveries are lined up; without one, where a queue's jobs are."""
    digest = hashlib.blake2b(f"{key.project}/{key.name}/{subscription}".encode(), digest_size=16)
    return QueueKey("", f"{'series' if subscription else 'line'}/{digest.hexdigest()}")


def turn_queue(line: QueueKey) -> QueueKey:
    return QueueKey("", f"turn/{line.name.partition('/')[2]}")


def turn_item(parked: Parked, id_: str) -> Parked:
    """What has somebody go through the series that a delivery belongs to."""
    return replace(parked, id=id_, message=None, text=b"", parkings=0, turn=True)


def new_note(id_: str, *, ordered: bool) -> str:
    """What to put on a queue that somebody subscribes to; `id_` is no other note's."""
    return (ORDERED if ordered else SUBSCRIBED) + id_


class Deliveries:
    """What posts record, and what a dispatcher does with it."""

    def __init__(
        self, store: Store, waiting: Waiting, new_id: Callable[[float], str], *, in_order: bool
    ) -> None:
        """`in_order`: jobs and messages lie in one store, which keeps none without the ones before."""
        self.notes: dict[QueueKey, str] = {}  # of queues, as the last append to each in this process told
        self._store = store
        self._waiting = waiting
        self._new_id = new_id
        self._in_order = in_order

    # --- recording -----------------------------------------------------------------------------------

    async def append(
        self, key: QueueKey, messages: list[Message], note: str, *, dead: bool, now: float
    ) -> bool:
        """Store messages in a queue with that note, and before them what is to be done to tell of them.

        False when nothing was stored, since the note is of another kind now: start again with that.
        """
        jobs = self._jobs(key, messages, note, dead, now)
        recorded = []
        try:
            for queue, job in jobs:
                recorded.append(asyncio.ensure_future(self._store.append(queue, [job])))
                recorded[-1].add_done_callback(
                    _seen
                )  # a store may refuse a later call before this is awaited
                if not self._in_order:
                    await recorded[-1]
            stored = asyncio.ensure_future(self._store.append(key, messages, noted=note[0]))
            *_, found = await asyncio.gather(*recorded, stored)
        finally:
            if self._waiting.wanted(JOBS):
                self._waiting.posted(JOBS, [jobs[-1][1]], now)
        if found is None:
            self.notes.pop(key, None)
            return True
        self.learn(key, found)
        if found[0] == note[0]:
            return True
        await asyncio.gather(
            *(self._store.delete(queue, [job.id], holder=ANYONE, now=now) for queue, job in jobs)
        )
        return False

    def learn(self, key: QueueKey, note: str) -> None:
        """Go by this note from now on."""
        if key not in self.notes and len(self.notes) >= MOST_NOTES:
            del self.notes[next(iter(self.notes))]
        self.notes[key] = note

    def at_hand(self, key: QueueKey) -> bool:
        """Whether messages for that queue reach the store in the turn in which they come."""
        return self._in_order or key not in self.notes

    def _jobs(
        self, key: QueueKey, messages: list[Message], note: str, dead: bool, now: float
    ) -> list[tuple[QueueKey, Message]]:
        """What to write, and where, in this order; the last of it has somebody look."""
        job = Job(*key, note, [Told.of(message) for message in messages], dead)
        # A message may come to other queues under its id: as a dead letter, or when it is forwarded.
        id_ = delivery_id(messages[0].id, f"{key.project}/{key.name}")
        if note[0] != ORDERED:
            return [(JOBS, _stored(id_, _encode(job), now, now))]
        return [
            (line_or_series(key, ""), _stored(id_, _encode(job), now, now)),
            (JOBS, _stored(id_, _encode(replace(job, messages=[])), now, now)),
        ]

    async def send(
        self, key: QueueKey, subscription: Subscription, text: bytes, kind: str, now: float
    ) -> None:
        """Have a JSON text of the service's own brought to one subscription, confirmed or not."""
        directed = Parked(
            id=self._new_id(now),
            project=key.project,
            queue=key.name,
            subscription=subscription.id,
            since=now,
            text=text,
            directed=kind,
        )
        await self.park([(directed, now)], now=now)

    async def park(self, parked: Sequence[tuple[Parked, float]], *, now: float) -> None:
        """Store deliveries, each with when it is due."""
        batch = [_stored(f"{each.id}.{each.parkings:x}", _encode(each), now, due) for each, due in parked]
        try:
            await self._store.append(PARKED, batch)
        finally:
            if self._waiting.wanted(PARKED):
                self._waiting.posted(PARKED, batch, now)

    # --- lines and series ----------------------------------------------------------------------------

    async def line_up(self, parked: Sequence[Parked], *, now: float) -> None:
        """Put deliveries at the end of their series, and have somebody look after these."""
        rows = defaultdict[QueueKey, list[Parked]](list)
        for each in parked:
            rows[line_or_series(each.key, each.subscription)].append(each)
        await asyncio.gather(
            *(
                self._store.append(series, [_stored(row.id, _encode(row), now, now) for row in some])
                for series, some in rows.items()
            )
        )
        # Each with an id of its own: one that is taken up at this moment might have looked before.
        turns = [turn_item(some[-1], f"{_TURN}.{some[-1].id}") for some in rows.values()]
        await self.park([(turn, now) for turn in turns], now=now)

    async def take_turn(self, line: QueueKey, lease: Lease, *, now: float) -> Turn | None:
        """The turn of a line or series, under the lease; None while it is another's, or is not due."""
        await self._store.append(turn_queue(line), [_stored(_TURN, _encode(Turn()), now, now)])
        taken = await self._store.claim(turn_queue(line), lease, limit=1, now=now)
        return _turn(taken[0].body) if taken else None

    async def turn_due(self, line: QueueKey, *, now: float) -> float | None:
        """When a turn that could not be had can be had at the latest; None: now."""
        return await self._store.next_due(turn_queue(line), now=now)

    async def put_off(self, line: QueueKey, lease: str, turn: Turn, *, due: float, now: float) -> None:
        """Let nobody go on before that time, unless the turn has lapsed and is another's.

        If another process comes in between the two steps, it goes on sooner: a try too many.
        """
        holder = Holder(claims=frozenset({lease}))
        if await self._store.delete(turn_queue(line), [_TURN], holder=holder, now=now):
            await self._store.append(turn_queue(line), [_stored(_TURN, _encode(turn), now, due)])

    async def end_turn(self, line: QueueKey, lease: str, *, now: float) -> bool:
        """Give the turn up; whether nothing was there afterwards. Else it has to be taken again."""
        await self.finish(turn_queue(line), [_TURN], frozenset({lease}), now=now)
        return not await self._first(line, 1, now)

    async def first_jobs(self, line: QueueKey, *, limit: int, now: float) -> list[tuple[str, Job | None]]:
        """The first jobs of a line, with their ids; None for one that cannot be read."""
        return [(m.id, _read(_job, m)) for m in await self._first(line, limit, now)]

    async def deliveries_in(
        self, series: QueueKey, *, limit: int, after: str | None, now: float
    ) -> tuple[list[tuple[str, Parked | None]], str | None]:
        """The same of a series; and behind what the next ones follow, None when these are the last."""
        found = await self._store.page(series, view=_ALL, after=after, limit=limit, now=now)
        read = [(m.id, _read(_parked, m)) for m in found]
        return read, found[-1].marker if len(found) == limit else None

    async def _first(self, line: QueueKey, limit: int, now: float) -> list[Message]:
        return await self._store.page(line, view=_ALL, after=None, limit=limit, now=now)

    async def done(self, line: QueueKey, ids: Sequence[str], *, now: float) -> None:
        """Take out of a line or series what is done."""
        await self._store.delete(line, ids, holder=ANYONE, now=now)

    async def drop(self, series: QueueKey) -> None:
        """Forget a series and its turn."""
        await asyncio.gather(self._store.purge(series), self._store.purge(turn_queue(series)))

    # --- dispatching ---------------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Whether `place` wakes nobody any more."""
        return self._waiting.stopped

    def place(self, queue: QueueKey, limit: int) -> Place:
        """Where a dispatcher waits for what is recorded or comes due."""
        return self._waiting.place(queue, limit=limit)

    async def take_jobs(self, lease: Lease, *, limit: int, now: float) -> list[tuple[str, Job | None]]:
        """The oldest jobs with their ids, under the lease; None for one that cannot be read."""
        return [(m.id, _read(_job, m)) for m in await self._take(JOBS, lease, limit, now)]

    async def put_jobs_off(self, jobs: Sequence[tuple[str, Job, float]], *, now: float) -> None:
        """Store jobs anew, each with the id by which it was taken and when it is due."""
        again = [
            (id_.partition(".")[0], replace(job, put_off=job.put_off + 1), due) for id_, job, due in jobs
        ]
        batch = [_stored(f"{id_}.{job.put_off:x}", _encode(job), now, due) for id_, job, due in again]
        try:
            await self._store.append(JOBS, batch)
        finally:
            if self._waiting.wanted(JOBS):
                self._waiting.posted(JOBS, batch, now)

    async def take_parked(self, lease: Lease, *, limit: int, now: float) -> list[tuple[str, Parked | None]]:
        """The same of parked deliveries that are due; the ids are those they are parked by."""
        return [(m.id, _read(_parked, m)) for m in await self._take(PARKED, lease, limit, now)]

    async def _take(self, queue: QueueKey, lease: Lease, limit: int, now: float) -> list[Message]:
        taken = await self._store.claim(queue, lease, limit=limit, now=now)
        if taken:
            self._waiting.comes_due(queue, lease.due)
        return taken

    async def renew(self, queue: QueueKey, lease: Lease) -> bool:
        """Hold on to what was taken; False when the lease has lapsed."""
        renewed = await self._store.renew(queue, lease, now=lease.since)
        if renewed:
            self._waiting.comes_due(queue, lease.due)
        return renewed

    async def finish(
        self, queue: QueueKey, ids: Sequence[str], leases: frozenset[str], *, now: float
    ) -> None:
        """Delete what is done, as far as these leases still hold it."""
        await self._store.delete(queue, ids, holder=Holder(claims=leases), now=now)

    async def give_back(self, queue: QueueKey, lease: str, *, now: float) -> None:
        """Let others have at once what this lease holds."""
        if await self._store.release(queue, lease, now=now):
            self._waiting.given_back(queue)

    async def unmark(self, key: QueueKey, note: str) -> None:
        """Say that the queue has nobody to be told, unless somebody has come since it got that note."""
        if self.notes.get(key) == note:
            del self.notes[key]
        await self._store.unmark(key, note)

    async def pending(self, now: float) -> tuple[Stats, Stats]:
        """Of jobs and of parked deliveries."""
        jobs, parked = await asyncio.gather(
            self._store.stats(JOBS, now=now), self._store.stats(PARKED, now=now)
        )
        return jobs, parked


def _read(decode: Callable[[bytes], Record], message: Message) -> Record | None:
    try:
        return decode(message.body)
    except msgspec.DecodeError as exc:
        log.error("deliveries: %s is damaged and is dropped: %s", message.id, exc)
        return None


def _seen(done: "asyncio.Future[str | None]") -> None:
    if not done.cancelled():
        done.exception()


def _stored(id_: str, body: bytes, now: float, due: float) -> Message:
    return Message(
        id=id_, body=body, ttl=LASTING, created=now, visible=max(now, due), expires=max(now, due) + LASTING
    )
