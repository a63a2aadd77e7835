"""The data plane on Redis. Keys and their contents: `layout.py`; the verbs themselves: the scripts beside it.

A call may be sent twice, when the answer to the first was lost with the connection. Appending again is
harmless by the ids; a claim and a pop carry a name of their own, by which the server knows them again and
answers alike; with the other verbs only the answer may differ, since what they ask for is done already.
"""

import secrets
from collections.abc import Sequence
from itertools import count

from sukkal.model import Edge, Holder, Lease, Message, QueueKey, Stats, View
from sukkal.stores.redis import scripts
from sukkal.stores.redis.layout import (
    Home,
    Layout,
    bulk,
    command,
    content,
    first_place,
    lease,
    message,
    messages,
    number,
    place,
    posted_by,
)
from sukkal.stores.redis.link import Reply
from sukkal.stores.redis.node import ignore
from sukkal.stores.redis.scripts import Script
from sukkal.stores.redis.servers import Servers
from sukkal.tally import StoreFigures

SWEPT_AT_ONCE = 64  # queues and shelves looked at in one sweep
LARGEST_PLACE = 2**53

_AGAIN = b"AGAIN"


class Names:
    """Names for calls, each of its own, in this process and in all others."""

    def __init__(self) -> None:
        self._process = secrets.token_hex(6)
        self._numbers = count()

    def __call__(self) -> bytes:
        return f"{self._process}.{next(self._numbers):x}".encode()


class RedisMessages:
    def __init__(self, servers: Servers, layout: Layout, names: Names, figures: StoreFigures) -> None:
        self._servers = servers
        self._layout = layout
        self._name = names
        self._figures = figures

    async def append(self, queue: QueueKey, batch: Sequence[Message], *, noted: str = "") -> str | None:
        home = self._layout.queue(queue)
        if not batch:
            note = await self._servers.call(home.partition, command(b"GET", home.noted))
            return None if note is None else note.decode()
        arguments = [b"", first_place(batch[0].created), noted.encode()]
        for m in batch:
            arguments += (
                m.id.encode(),
                content(m),
                number(m.expires),
                number(m.visible) if m.visible > m.created else b"",
                b"%d" % m.claim_count,
            )
        packed = scripts.APPEND.on(home, *arguments, more=home.looked_at)
        note = await self._servers.call(home.partition, packed, write=True)
        return None if note is None else note.decode()

    async def page(
        self, queue: QueueKey, *, view: View, after: str | None, limit: int, now: float
    ) -> list[Message]:
        if after is None:
            behind = b"0"
        elif after.isascii() and after.isdigit() and len(after) < 17 and int(after) < LARGEST_PLACE:
            behind = after.encode()
        else:
            return []
        home = self._layout.queue(queue)
        without = b"" if view.without_client is None else posted_by(view.without_client)
        found: list[Message] = []
        while True:
            *listed, behind = await self._settled(
                scripts.PAGE,
                home,
                number(now),
                behind,
                b"%d" % (limit - len(found)),
                b"%d" % view.include_claimed,
                b"%d" % view.include_delayed,
                without,
                write=False,
            )
            found += messages(*listed)
            if not behind:
                return found

    async def fetch(self, queue: QueueKey, ids: Sequence[str], *, now: float) -> list[Message]:
        asked = [id.encode("utf-8", "surrogatepass") for id in dict.fromkeys(ids)]
        home = self._layout.queue(queue)
        contents, states = await self._settled(scripts.FETCH, home, number(now), *asked, write=False)
        return messages(asked, contents, states)

    async def claim(self, queue: QueueKey, lease: Lease, *, limit: int, now: float) -> list[Message]:
        taken = await self._settled(
            scripts.CLAIM,
            self._layout.queue(queue),
            number(now),
            b"%d" % limit,
            lease.id.encode(),
            *_terms(lease),
            self._name(),
        )
        return messages(*taken)

    async def held(self, queue: QueueKey, claim: str, *, now: float) -> tuple[Lease, list[Message]] | None:
        home = self._layout.queue(queue)
        found = await self._settled(scripts.HELD, home, number(now), claim.encode(), write=False)
        if found is None:
            return None
        written, ids, contents, states = found
        rows = sorted(zip(contents, ids, states, strict=True), key=lambda row: place(row[0]))
        return lease(claim, written), [message(id.decode(), content, state) for content, id, state in rows]

    async def renew(self, queue: QueueKey, lease: Lease, *, now: float) -> bool:
        home = self._layout.queue(queue)
        renewed = await self._settled(scripts.RENEW, home, number(now), lease.id.encode(), *_terms(lease))
        return bool(renewed)

    async def release(self, queue: QueueKey, claim: str, *, now: float) -> bool:
        home = self._layout.queue(queue)
        return bool(await self._settled(scripts.RELEASE, home, number(now), claim.encode()))

    async def delete(self, queue: QueueKey, ids: Sequence[str], *, holder: Holder, now: float) -> list[str]:
        deleted = await self._settled(
            scripts.DELETE,
            self._layout.queue(queue),
            number(now),
            b"%d" % holder.anyone,
            b"%d" % holder.unclaimed,
            b"%d" % len(holder.claims),
            *[claim.encode() for claim in holder.claims],
            *[id.encode("utf-8", "surrogatepass") for id in dict.fromkeys(ids)],
        )
        return [id.decode() for id in deleted]

    async def pop(self, queue: QueueKey, *, limit: int, now: float) -> list[Message]:
        home = self._layout.queue(queue)
        receipt = b"%bp:%b" % (home.tag, self._name())
        popped = await self._settled(scripts.POP, home, number(now), b"%d" % limit, more=bulk((receipt,)))
        if popped[0]:
            noted = self._servers.send(home.partition, command(b"UNLINK", receipt))
            if noted is not None:
                noted.add_done_callback(ignore)
        return messages(*popped)

    async def end_delays(self, queue: QueueKey) -> None:
        home = self._layout.queue(queue)
        await self._servers.call(home.partition, scripts.END_DELAYS.on(home, b""), write=True)

    async def next_due(self, queue: QueueKey, *, now: float) -> float | None:
        home = self._layout.queue(queue)
        due = await self._servers.call(home.partition, scripts.NEXT_DUE.on(home, number(now)))
        return None if due is None else float(due)

    async def stats(self, queue: QueueKey, *, now: float) -> Stats:
        home = self._layout.queue(queue)
        total, held, *ends = await self._settled(scripts.STATS, home, number(now), write=False)
        edges = [
            Edge(id=shown.id, created=shown.created)
            for shown in (message(ends[n].decode(), ends[n + 1], None) for n in range(0, len(ends), 2))
        ]
        return Stats(
            free=total - held,
            claimed=held,
            oldest=edges[0] if edges else None,
            newest=edges[1] if edges else None,
        )

    async def purge(self, queue: QueueKey) -> None:
        home = self._layout.queue(queue)
        await self._servers.call(home.partition, scripts.PURGE.on(home, b""), write=True)

    async def mark(self, queue: QueueKey, note: str) -> None:
        home = self._layout.queue(queue)
        packed = scripts.MARK.on(home, b"", note.encode(), more=bulk((home.noted,)))
        await self._servers.call(home.partition, packed, write=True)

    async def unmark(self, queue: QueueKey, note: str) -> bool:
        home = self._layout.queue(queue)
        packed = scripts.UNMARK.on(home, b"", note.encode(), more=bulk((home.noted,)))
        return bool(await self._servers.call(home.partition, packed, write=True))

    async def volume(self, *, now: float) -> Stats:
        tallies = await self._servers.everywhere(
            [command(b"HMGET", tag + b"tally", b"total", b"held") for tag in self._layout.tags]
        )
        total = sum(int(tally[0] or 0) for tally in tallies)
        held = sum(int(tally[1] or 0) for tally in tallies)
        return Stats(free=total - held, claimed=held)

    async def sweep(self, *, now: float) -> int:
        until = number(now)
        agendas = await self._servers.everywhere(
            [
                command(
                    b"ZRANGEBYSCORE", tag + b"agenda", b"-inf", until, b"LIMIT", b"0", b"%d" % SWEPT_AT_ONCE
                )
                for tag in self._layout.tags
            ]
        )
        due = [self._layout.member(member) for agenda in agendas for member in agenda]
        swept = 0
        for home in due[:SWEPT_AT_ONCE]:
            script = scripts.SWEEP if home.letter == b"q" else scripts.SWEEP_DOCUMENTS
            done, _, *told = await self._servers.call(home.partition, script.on(home, until))
            if told and told[0]:
                self._figures.count_expired(home.project, told[0])
            swept += done
        # What was looked at in vain has been taken off the agenda: there may be more behind it.
        return swept or (1 if len(due) > SWEPT_AT_ONCE else 0)

    async def _settled(
        self, script: Script, home: Home, *arguments: bytes, more: bytes = b"", write: bool = True
    ) -> Reply:
        """The answer of a script that settles first what time has brought, some of it in each call."""
        packed = script.on(home, *arguments, more=more)
        while True:
            reply = await self._servers.call(home.partition, packed, write=write)
            if reply != _AGAIN:
                return reply


def _terms(lease: Lease) -> tuple[bytes, ...]:
    """A lease as scripts take it, and what it makes of a message that would expire under it."""
    return (
        b"%d" % lease.ttl,
        b"%d" % lease.grace,
        number(lease.since),
        number(lease.due),
        b"%d" % (lease.ttl + lease.grace),
        number(lease.due + lease.grace),
    )
