"""Random calls on a store opened in this process, and what it must hold after any number of them.

A store is a function of the calls made on it, so what it must hold is what the memory store holds after the
same calls. Each call is followed by one that writes its index into a document, the *mark*: it tells how far
a store came that was cut off.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from sukkal.errors import StoreUnavailable
from sukkal.model import ANYONE, UNCLAIMED, Holder, Lease, Message, QueueKey, View
from sukkal.stores.contract import Backend, Shelf
from sukkal.stores.registry import open_backend

QUEUES = [QueueKey("acme", "orders"), QueueKey("acme", "invoices"), QueueKey("umbrella", "orders")]
START = 1_800_000_000.0
LATER = 500.0  # seconds; every lease and delay of a script has ended, most messages still live
SHELF = Shelf("record", "acme")
MARK = Shelf("mark", "faults")
ALL = View(include_claimed=True, include_delayed=True)

Picture = dict[str, Any]


class Call(NamedTuple):
    """A call of one verb of `messages` or `documents`."""

    part: str
    verb: str
    args: tuple[Any, ...]
    options: dict[str, Any]


class Script:
    """Makes calls up, aimed at what earlier ones have made."""

    def __init__(self, chance: random.Random) -> None:
        self.now = START
        self.claims: list[tuple[QueueKey, str]] = []
        self._chance = chance
        self._minted = 0
        self._ids: dict[QueueKey, list[str]] = {queue: [] for queue in QUEUES}

    def calls(self, most: int) -> list[Call]:
        """What happens in one turn of the loop."""
        self.now += self._chance.choice([0.0, 0.25, 3.0])
        return [self._call() for _ in range(self._chance.randint(1, most))]

    def _call(self) -> Call:
        makers: list[Callable[[QueueKey], Call]]
        makers = [self._append, self._claim, self._delete, self._pop, self._renew, self._release]
        makers += [self._sweep, self._purge, self._end_delays, self._put, self._drop]
        (maker,) = self._chance.choices(makers, [30, 15, 12, 6, 6, 6, 5, 1, 2, 8, 3])
        return maker(self._chance.choice(QUEUES))

    def _id(self) -> str:
        self._minted += 1
        return f"{self._minted:08}"

    def _append(self, queue: QueueKey) -> Call:
        batch = []
        for _ in range(self._chance.choice([1, 1, 2, 4, 7])):
            size = self._chance.choice([20, 20, 200, 3_000, 9_000])
            delay, ttl = self._chance.choice([0, 0, 0, 7]), self._chance.choice([40, 3_600, 3_600])
            id = self._id()
            self._ids[queue].append(id)
            batch.append(
                Message(
                    id=id,
                    body=b'"%s"' % (id.encode() * (size // 8)),
                    ttl=ttl,
                    created=self.now,
                    visible=self.now + delay,
                    expires=self.now + ttl,
                )
            )
        return Call("messages", "append", (queue, batch), {})

    def _lease(self, id: str) -> Lease:
        return Lease(id=id, ttl=self._chance.choice([4, 30, 200]), grace=60, since=self.now)

    def _claim(self, queue: QueueKey) -> Call:
        lease = self._lease(f"claim-{self._id()}")
        self.claims.append((queue, lease.id))
        limit = self._chance.choice([1, 3, 8])
        return Call("messages", "claim", (queue, lease), {"limit": limit, "now": self.now})

    def _taken(self, queue: QueueKey) -> tuple[QueueKey, str]:
        return self._chance.choice(self.claims[-12:] or [(queue, "never-taken")])

    def _delete(self, queue: QueueKey) -> Call:
        known = self._ids[queue][-40:]
        ids = self._chance.sample(known, min(len(known), self._chance.randint(1, 6)))
        claims = frozenset(claim for _, claim in self.claims[-6:])
        holder = self._chance.choice([ANYONE, UNCLAIMED, Holder(claims=claims), Holder(claims=claims)])
        return Call("messages", "delete", (queue, ids), {"holder": holder, "now": self.now})

    def _pop(self, queue: QueueKey) -> Call:
        return Call("messages", "pop", (queue,), {"limit": self._chance.randint(1, 4), "now": self.now})

    def _renew(self, queue: QueueKey) -> Call:
        queue, claim = self._taken(queue)
        return Call("messages", "renew", (queue, self._lease(claim)), {"now": self.now})

    def _release(self, queue: QueueKey) -> Call:
        return Call("messages", "release", self._taken(queue), {"now": self.now})

    def _sweep(self, _queue: QueueKey) -> Call:
        return Call("messages", "sweep", (), {"now": self.now})

    def _purge(self, queue: QueueKey) -> Call:
        return Call("messages", "purge", (queue,), {})

    def _end_delays(self, queue: QueueKey) -> Call:
        return Call("messages", "end_delays", (queue,), {})

    def _put(self, _queue: QueueKey) -> Call:
        value = self._id().encode() * self._chance.choice([1, 300])
        name = f"record-{self._chance.randrange(6)}"
        return Call("documents", "put", (SHELF, name, value), {"expect": None, "now": self.now})

    def _drop(self, _queue: QueueKey) -> Call:
        return Call("documents", "delete", (SHELF, f"record-{self._chance.randrange(6)}"), {})


async def carry_out(backend: Backend, call: Call) -> None:
    await getattr(getattr(backend, call.part), call.verb)(*call.args, **call.options)


async def take_turn(backend: Backend, calls: Sequence[Call], first: int) -> list[bool]:
    """Make the calls, with their marks, in one turn of the loop; which of them were acknowledged."""
    steps = []
    for index, call in enumerate(calls, start=first):
        steps.append(carry_out(backend, call))
        steps.append(backend.documents.put(MARK, "last", b"%d" % index, expect=None, now=START))  # type: ignore[arg-type]
    answers = (await asyncio.gather(*steps, return_exceptions=True))[::2]
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, StoreUnavailable):
            raise answer
    return [answer is None for answer in answers]


async def marked(backend: Backend) -> int:
    """The index of the last call that was carried out with its mark; -1 when none was."""
    mark = await backend.documents.get(MARK, "last", now=START)
    return -1 if mark is None else int(mark.value)


async def picture(backend: Backend, script: Script) -> Picture:
    """Everything the store shows, at the script's end and when all that lapses has lapsed."""
    documents = await backend.documents.scan(SHELF, after="", limit=100, now=START)
    shown: Picture = {"documents": [(document.name, document.value) for document in documents]}
    for now in (script.now, script.now + LATER):
        for queue in QUEUES:
            shown[f"{queue} at {now}"] = await _listing(backend, queue, now)
            shown[f"stats of {queue} at {now}"] = await backend.messages.stats(queue, now=now)
        for queue, claim in script.claims:
            found = await backend.messages.held(queue, claim, now=now)
            if found is not None:
                shown[f"{claim} at {now}"] = (found[0], [message.id for message in found[1]])
    return shown


async def _listing(backend: Backend, queue: QueueKey, now: float) -> list[Message]:
    """Without markers, which each store makes itself, and without the times of delays that are over."""
    listed = await backend.messages.page(queue, view=ALL, after=None, limit=100_000, now=now)
    return [replace(each, marker="", visible=max(each.visible, now)) for each in listed]


async def markers(backend: Backend, script: Script) -> dict[str, int]:
    """The places in the order, by id; markers of this store are numbers."""
    found = {}
    for queue in QUEUES:
        for each in await backend.messages.page(queue, view=ALL, after=None, limit=100_000, now=script.now):
            found[each.id] = int(each.marker)
    return found


class Model:
    """Pictures of what a store must show, by how many calls were carried out."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def after(self, calls: Sequence[Call]) -> Picture:
        return (await self.after_each(calls, {len(calls)}))[len(calls)]

    async def after_each(self, calls: Sequence[Call], counts: set[int]) -> dict[int, Picture]:
        backend = await open_backend("memory:")
        pictures = {}
        for count in range(len(calls) + 1):
            if count in counts:
                pictures[count] = await picture(backend, self._script)
            if count < len(calls):
                await carry_out(backend, calls[count])
        await backend.close()
        return pictures


def difference(found: Picture, expected: Picture) -> str:
    """The first thing in which two pictures differ."""
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            return f"{key}:\n  found    {_short(found.get(key))}\n  expected {_short(expected.get(key))}"
    return ""


def _short(shown: object) -> object:
    if isinstance(shown, list) and shown and isinstance(shown[0], Message):
        return [(m.id, m.claim, m.claim_count, m.expires - START) for m in shown]
    return shown
