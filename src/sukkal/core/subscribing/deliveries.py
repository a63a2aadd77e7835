"""Deliveries: what outside subscribers are to be told, kept in the store until they were.

They lie in two queues of the project "", which no caller has, so leases, delays and lapses are those of any
queue. Bodies stay in the form in which the message is stored, sealed ones sealed.

    deliveries   jobs: messages of one queue, for whoever is subscribed when a job is taken up
    retries      parked deliveries: one message, or a text of the service's own, for one subscription
    series/…     deliveries to one subscription that wants them in order or together, oldest first
    turn/…       whose turn it is to serve that series: one message, held by who does, delayed until it is due

A job is written before the messages it tells of: in the same turn of the event loop, so in the same
transaction on SQLite, in the same pipeline on Redis. Where a store does not keep the order of such calls
(`Trait.IN_ORDER`), or messages lie in other stores than jobs, it is waited for. Its id is made of the first
message's, so writing it again stores one. What is parked has an id made of the message's, the
subscription's and how often it was parked. What was taken up is deleted last. So a crash anywhere repeats
some steps, and skips none.

Which posts need a job is told by a note on the queue (`Messages.mark` of the store). It is put there once a
subscription is recorded, and taken away when a job meets no subscriptions. Every append answers it, and what
it answered last is what the next post goes by; one that finds a note it did not know of writes its job then,
before it is acknowledged.

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
    messages: list[Told]
    dead: bool = False  # they came as dead letters, and make no more of them

    @property
    def key(self) -> QueueKey:
        return QueueKey(self.project, self.queue)


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
    turn: bool = False  # no delivery: whoever takes it up serves the subscription's series
    replayed: bool = False  # it was a dead letter under this id, which may not be deleted yet

    @property
    def key(self) -> QueueKey:
        return QueueKey(self.project, self.queue)

    @property
    def size(self) -> int:
        """Bytes of what is to be delivered."""
        return len(self.message.body if self.message is not None else self.text)

    @property
    def letter(self) -> str:
        """The id of its dead letter, should there be one. That of a replayed one is another."""
        return delivery_id(self.id, "replayed") if self.replayed else self.id


class Turn(Struct, frozen=True, array_like=True):
    """The right to serve a series, which one has at a time; and how far its first parcel has come."""

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


def series_id(key: QueueKey, subscription: str) -> str:
    return hashlib.blake2b(f"{key.project}/{key.name}/{subscription}".encode(), digest_size=16).hexdigest()


def turn_queue(name: str) -> QueueKey:
    return QueueKey("", f"turn/{name}")


def turn_item(parked: Parked, id_: str) -> Parked:
    """What has the series served that a delivery belongs to."""
    return replace(parked, id=id_, message=None, text=b"", parkings=0, turn=True)


def _series(name: str) -> QueueKey:
    return QueueKey("", f"series/{name}")


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
    ) -> None:
        """Store messages in a queue with that note, and before them the job to tell of them."""
        job = self._job(key, messages, note, dead, now)
        try:
            recorded = asyncio.ensure_future(self._store.append(JOBS, [job]))
            recorded.add_done_callback(
                _seen
            )  # a store may refuse the second call before the first is awaited
            if not self._in_order:
                await recorded
            stored = asyncio.ensure_future(self._store.append(key, messages))
            _, found = await asyncio.gather(recorded, stored)
        finally:
            self._tell(JOBS, [job], now)
        if found is None:
            self.notes.pop(key, None)
        else:
            self.notes[key] = found

    def at_hand(self, key: QueueKey) -> bool:
        """Whether messages for that queue reach the store in the turn in which they come."""
        return self._in_order or key not in self.notes

    async def record(
        self, key: QueueKey, messages: list[Message], note: str, *, dead: bool, now: float
    ) -> None:
        """Write the job of messages that were just stored in a queue which was found to have this note."""
        job = self._job(key, messages, note, dead, now)
        try:
            await self._store.append(JOBS, [job])
        finally:
            self._tell(JOBS, [job], now)
        if len(self.notes) >= MOST_NOTES:
            del self.notes[next(iter(self.notes))]
        self.notes[key] = note

    def _job(self, key: QueueKey, messages: list[Message], note: str, dead: bool, now: float) -> Message:
        told = [Told.of(message) for message in messages]
        id_ = messages[0].id
        if dead:  # it was told of before under that id, in the queue it came from
            id_ = delivery_id(id_, f"{key.project}/{key.name}")
        return _stored(id_, _encode(Job(*key, note, told, dead)), now, now)

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
            self._tell(PARKED, batch, now)

    def _tell(self, queue: QueueKey, batch: list[Message], now: float) -> None:
        if self._waiting.wanted(queue):
            self._waiting.posted(queue, batch, now)

    # --- series --------------------------------------------------------------------------------------

    async def line_up(self, parked: Sequence[Parked], *, now: float) -> None:
        """Put deliveries at the end of their series, and have somebody look after these."""
        rows = defaultdict[str, list[Parked]](list)
        for each in parked:
            rows[series_id(each.key, each.subscription)].append(each)
        await asyncio.gather(
            *(
                self._store.append(_series(name), [_stored(row.id, _encode(row), now, now) for row in some])
                for name, some in rows.items()
            )
        )
        # Each with an id of its own: one that is taken up at this moment might have looked before.
        turns = [turn_item(some[-1], f"{_TURN}.{some[-1].id}") for some in rows.values()]
        await self.park([(turn, now) for turn in turns], now=now)

    async def take_turn(self, name: str, lease: Lease, *, now: float) -> Turn | None:
        """The turn to serve a series, under the lease; None while it is another's, or is not due."""
        await self._store.append(turn_queue(name), [_stored(_TURN, _encode(Turn()), now, now)])
        taken = await self._store.claim(turn_queue(name), lease, limit=1, now=now)
        return _turn(taken[0].body) if taken else None

    async def turn_due(self, name: str, *, now: float) -> float | None:
        """When a turn that could not be had can be had at the latest; None: now."""
        return await self._store.next_due(turn_queue(name), now=now)

    async def put_off(self, name: str, lease: str, turn: Turn, *, due: float, now: float) -> None:
        """Let nobody serve the series before that time.

        If another process comes in between the two steps, it is served sooner: a try too many.
        """
        await asyncio.gather(
            self.finish(turn_queue(name), [_TURN], frozenset({lease}), now=now),
            self._store.append(turn_queue(name), [_stored(_TURN, _encode(turn), now, due)]),
        )

    async def end_turn(self, name: str, lease: str, *, now: float) -> bool:
        """Give the turn up; whether the series was empty afterwards. Else it has to be taken again."""
        await self.finish(turn_queue(name), [_TURN], frozenset({lease}), now=now)
        return not await self._store.page(_series(name), view=_ALL, after=None, limit=1, now=now)

    async def first(self, name: str, *, limit: int, now: float) -> list[tuple[str, Parked | None]]:
        """The first deliveries of a series, with their ids in it."""
        found = await self._store.page(_series(name), view=_ALL, after=None, limit=limit, now=now)
        return [(m.id, _read(_parked, m)) for m in found]

    async def done(self, name: str, ids: Sequence[str], *, now: float) -> None:
        """Take deliveries out of a series."""
        await self._store.delete(_series(name), ids, holder=ANYONE, now=now)

    async def drop(self, name: str) -> None:
        """Forget a series and its turn."""
        await asyncio.gather(self._store.purge(_series(name)), self._store.purge(turn_queue(name)))

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
