"""What clients sent and were told, and whether what a store shows agrees with it.

A `Record` is kept by whoever drives a store, over any transport: every request is *begun* before it is
sent, and closed by its answer. A request that stays open is in doubt: it may or may not have been carried
out, as a whole. `audit` reads everything back through a `Reader` and checks

    I1  every acknowledged message is there, unless its removal was acknowledged or is in doubt;
        a batch is there as a whole or not at all
    I2  no message is under two live leases, and a lease holds what it was given until it ends
    I3  what was acknowledged as deleted or popped never returns
    I4  messages stand in the order of their acknowledged posts
    I5  a lease that ended or lapsed holds nothing any more
    I7  a message shows in its own project and queue only
    I8  statistics agree with the listing
    I9  a marker got at any time pages on from where it stood

Once the store was opened anew, nothing sent before can be carried out any more: `audit(..., settle=True)`
then takes what is there for what happened, so that the next audit holds the store to it.

A store that may lose its last writes, and says so, has gone back to some moment before: what was posted,
claimed and removed after it was not. A record that `forgives` counts that instead of raising Violated. Still
each batch is there as a whole or not at all, in order, in its place, and what was never sent does not show.

Messages are known by the number in their body, since a producer that saw no answer knows no id.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sukkal.model import QueueKey

FOREVER = float("inf")


class Seen(NamedTuple):
    """A message as a store shows it."""

    number: int
    size: int  # of the padding in its body
    id: str
    claim: str | None = None


class Counts(NamedTuple):
    free: int
    claimed: int


class Reader(Protocol):
    """How an audit looks at a store."""

    async def listing(self, queue: QueueKey, after: str | None = None) -> list[Seen]:
        """Every message behind a marker, held and delayed ones too, in the order of the queue."""
        ...

    async def held(self, queue: QueueKey, claim: str) -> list[int] | None:
        """The numbers of what a live lease holds; None when there is no such lease."""
        ...

    async def stats(self, queue: QueueKey) -> Counts: ...


class Violated(AssertionError):
    """The store broke a promise."""


@dataclass(eq=False, slots=True)
class Post:
    """One request that posts a batch."""

    queue: QueueKey
    numbers: list[int]
    begun: int
    answered: int | None = None
    acknowledged: float | None = None  # when
    applied: bool = False  # acknowledged, or met since
    absent: bool = False  # known never to have happened


@dataclass(eq=False, slots=True)
class Holding:
    """A lease as its holder knows it."""

    id: str
    queue: QueueKey
    due_first: float  # it cannot lapse before this
    due_last: float  # it must have lapsed after this
    releases: int = 0  # begun and not closed
    renewals: int = 0  # likewise; which of two at once came last, nobody could tell
    ended: int | None = None  # when its release was acknowledged


@dataclass(eq=False, slots=True)
class Sent:
    """One message on its way."""

    number: int
    size: int
    post: Post
    id: str | None = None
    gone: int | None = None  # when its removal was acknowledged
    removals: int = 0  # begun and not closed
    lease: Holding | None = None
    story: list[str] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Request:
    """A request that is no post: what it may do until it is closed."""

    kind: str
    queue: QueueKey
    begun: int
    at: float
    ttl: int = 0
    limit: int = 0
    lease: Holding | None = None
    numbers: Sequence[int] = ()


class Marked(NamedTuple):
    """A marker, and what stood before it."""

    queue: QueueKey
    marker: str
    before: frozenset[int]


class Record:
    """What was sent and answered. Times are seconds since the epoch, by the clock the store is given."""

    def __init__(self, *, forgives: bool = False) -> None:
        self.forgives = forgives  # that the last writes are lost
        self.forgiven: Counter[str] = Counter()  # by invariant
        self.lost: list[Sent] = []
        self.sent: dict[int, Sent] = {}
        self.by_queue: defaultdict[QueueKey, set[int]] = defaultdict(set)  # numbers not known to be gone
        self.posts: set[Post] = set()  # open ones
        self.requests: set[Request] = set()  # open ones
        self.leases: dict[str, Holding] = {}
        self.markers: list[Marked] = []
        self.answers = 0
        self.newest_id = ""
        self._numbers = itertools.count(1)
        self._clock = itertools.count(1)  # orders what begins and what is answered
        self._last_id_before = ""

    # --- posting -------------------------------------------------------------------------------------

    def begin_post(self, queue: QueueKey, sizes: Iterable[int]) -> Post:
        post = Post(queue, [], next(self._clock))
        for size in sizes:
            number = next(self._numbers)
            post.numbers.append(number)
            self.sent[number] = Sent(number, size, post)
            self.by_queue[queue].add(number)
        self.posts.add(post)
        return post

    def posted(self, post: Post, ids: Sequence[str], *, at: float | None = None) -> None:
        if len(ids) != len(post.numbers):
            raise Violated(f"{len(post.numbers)} messages were posted, {len(ids)} ids answered")
        self._close(post)
        post.applied = True
        post.acknowledged = at
        for number, id in zip(post.numbers, ids, strict=True):
            self._name(self.sent[number], id)
            if id <= self._last_id_before:
                raise Violated(f"the id {id} is not greater than {self._last_id_before} of an earlier life")
            self.newest_id = max(self.newest_id, id)
            self._note(number, "posted")

    def not_posted(self, post: Post) -> None:
        """The post was refused, so it must never show."""
        self._close(post)
        self._void(post)

    def _void(self, post: Post) -> None:
        post.absent = True
        self.by_queue[post.queue].difference_update(post.numbers)

    def _close(self, post: Post) -> None:
        self.posts.discard(post)
        post.answered = self._answer()

    def _name(self, sent: Sent, id: str) -> None:
        if sent.id not in (None, id):
            raise Violated(f"message {sent.number} is {sent.id}, and now {id}: {sent.story}")
        sent.id = id

    # --- claims --------------------------------------------------------------------------------------

    def begin_claim(self, queue: QueueKey, *, limit: int, ttl: int, at: float) -> Request:
        return self._begin("claim", queue, at, ttl=ttl, limit=limit)

    def claimed(
        self, request: Request, id: str | None, messages: Sequence[Seen], *, at: float
    ) -> Holding | None:
        """A claim was answered; None when there was nothing to claim."""
        self._end(request)
        if id is None:
            return None
        lease = Holding(id, request.queue, request.at + request.ttl, at + request.ttl)
        if id in self.leases:
            raise Violated(f"I2: two claims have the id {id}")
        self.leases[id] = lease
        for seen in messages:
            sent = self._handed_out(seen, request, at)
            sent.lease = lease
            self._note(seen.number, f"claimed by {id}")
        return lease

    def _handed_out(self, seen: Seen, request: Request, at: float) -> Sent:
        """Check what a claim or a pop was given."""
        sent = self.recognise(seen, request.queue)
        sent.post.applied = True
        self._name(sent, seen.id)
        if sent.gone is not None and sent.gone < request.begun:
            self._fault(f"I3: message {seen.number} was gone and is handed out: {sent.story}")
            self._back(sent)
        if sent.lease is not None and self.holds(sent.lease, at):
            self._fault(
                f"I2: message {seen.number} is handed out by a {request.kind}, held by {sent.lease.id}: "
                f"{sent.story}"
            )
        return sent

    def recognise(self, seen: Seen, queue: QueueKey) -> Sent:
        """The message that was sent with this number; checks that it is that one."""
        sent = self.sent.get(seen.number)
        if sent is None:
            raise Violated(f"message {seen.number} was never posted")
        if sent.post.queue != queue:
            raise Violated(f"I7: message {seen.number} of {sent.post.queue} shows in {queue}")
        if sent.size != seen.size:
            raise Violated(f"message {seen.number} had {sent.size} bytes and has {seen.size}")
        if sent.post.absent:
            raise Violated(f"message {seen.number} was not accepted and shows: {sent.story}")
        return sent

    def holds(self, lease: Holding, at: float) -> bool:
        """Whether a lease is live for certain."""
        return lease.ended is None and not lease.releases and at < lease.due_first

    def begin_renew(self, lease: Holding, *, ttl: int, at: float) -> Request:
        lease.due_first = min(lease.due_first, at + ttl)
        lease.due_last = FOREVER
        lease.renewals += 1
        return self._begin("renew", lease.queue, at, ttl=ttl, lease=lease)

    def renewed(self, request: Request, done: bool, *, at: float) -> None:
        self._end(request)
        assert request.lease is not None
        request.lease.renewals -= 1
        if done:
            request.lease.due_first = request.at + request.ttl
            request.lease.due_last = at + request.ttl

    def begin_release(self, lease: Holding, *, at: float) -> Request:
        lease.releases += 1
        return self._begin("release", lease.queue, at, lease=lease)

    def released(self, request: Request) -> None:
        self._end(request)
        assert request.lease is not None
        request.lease.releases -= 1
        self._end_lease(request.lease)

    def _end_lease(self, lease: Holding) -> None:
        lease.ended = next(self._clock)
        for number in self.by_queue[lease.queue]:
            sent = self.sent[number]
            if sent.lease is lease:
                sent.lease = None
                self._note(number, f"released from {lease.id}")

    # --- removal -------------------------------------------------------------------------------------

    def begin_delete(self, queue: QueueKey, numbers: Sequence[int], *, at: float) -> Request:
        for number in numbers:
            self.sent[number].removals += 1
        return self._begin("delete", queue, at, numbers=numbers)

    def deleted(self, request: Request) -> None:
        self._end(request)
        for number in request.numbers:
            self.sent[number].removals -= 1
            self._gone(number, "deleted")

    def not_deleted(self, request: Request) -> None:
        self._end(request)
        for number in request.numbers:
            self.sent[number].removals -= 1

    def begin_pop(self, queue: QueueKey, *, limit: int, at: float) -> Request:
        return self._begin("pop", queue, at, limit=limit)

    def popped(self, request: Request, messages: Sequence[Seen], *, at: float) -> None:
        self._end(request)
        for seen in messages:
            sent = self._handed_out(seen, request, at)
            if sent.gone is not None and "popped" in sent.story:
                self._fault(f"I3: message {seen.number} was popped twice: {sent.story}")
            self._gone(seen.number, "popped")

    def _gone(self, number: int, how: str) -> None:
        sent = self.sent[number]
        sent.lease = None
        if sent.gone is None:
            sent.gone = next(self._clock)
            self.by_queue[sent.post.queue].discard(number)
        self._note(number, how)

    def _back(self, sent: Sent) -> None:
        """Its removal was forgotten."""
        sent.gone = None
        self.by_queue[sent.post.queue].add(sent.number)
        self._note(sent.number, "back")

    def _fault(self, fault: str) -> None:
        if not self.forgive(fault):
            raise Violated(fault)

    def forgive(self, fault: str) -> bool:
        """Whether it is one of those that come of lost writes; then it is counted."""
        if not self.forgives or not fault.startswith(("I2: message ", "I3: message ", "I5: ")):
            return False
        self.forgiven[fault[:2]] += 1
        return True

    def forgive_loss(self, sent: Sent, present: set[int]) -> bool:
        """The same, of a message that is not there: all that was posted with it must be gone too."""
        if not (self.forgives and sent.post.applied and present.isdisjoint(sent.post.numbers)):
            return False
        self.forgiven["I1"] += 1
        self.lost.append(sent)
        return True

    # --- all requests --------------------------------------------------------------------------------

    def drop(self, request: Request) -> None:
        """The request was refused, or never left: it has done nothing."""
        self._end(request)
        if request.kind == "delete":
            for number in request.numbers:
                self.sent[number].removals -= 1
        elif request.lease is not None:
            if request.kind == "release":
                request.lease.releases -= 1
            else:
                request.lease.renewals -= 1

    def _begin(self, kind: str, queue: QueueKey, at: float, **more: object) -> Request:
        request = Request(kind, queue, next(self._clock), at, **more)  # type: ignore[arg-type]
        self.requests.add(request)
        return request

    def _end(self, request: Request) -> None:
        self.requests.discard(request)
        self._answer()

    def _answer(self) -> int:
        self.answers += 1
        return next(self._clock)

    def _note(self, number: int, what: str) -> None:
        self.sent[number].story.append(what)

    # --- what a driver aims with ---------------------------------------------------------------------

    def known(self, queue: QueueKey) -> list[Sent]:
        """Messages with known ids that are not known to be gone."""
        return [self.sent[n] for n in self.by_queue[queue] if self.sent[n].id is not None]

    def live_leases(self, queue: QueueKey, at: float) -> list[Holding]:
        found = {
            sent.lease.id: sent.lease
            for number in self.by_queue[queue]
            if (sent := self.sent[number]).lease is not None
        }
        return [lease for lease in found.values() if self.holds(lease, at)]

    def mark(self, queue: QueueKey, marker: str, before: Iterable[int]) -> None:
        """Keep a marker; `before` is everything that was listed up to it from the beginning."""
        self.markers.append(Marked(queue, marker, frozenset(before)))
        del self.markers[:-50]

    # --- after the store was opened anew -------------------------------------------------------------

    def settle(self, queue: QueueKey, shown: Sequence[Seen], at: float) -> None:
        """Nothing begun before happens any more; what is shown is what happened."""
        now = next(self._clock)
        present = {seen.number: seen for seen in shown}
        for number in present:
            if self.sent[number].gone is not None:
                self._back(self.sent[number])
        for post in [post for post in self.posts if post.queue == queue]:
            self.posts.discard(post)
            post.answered = now
            if not post.applied:
                if any(number in present for number in post.numbers):
                    post.applied = True
                else:
                    self._void(post)
        for number in list(self.by_queue[queue]):
            sent = self.sent[number]
            sent.removals = 0
            if number not in present:
                self._gone(number, "found gone")
                continue
            self._name(sent, present[number].id)
            claim = present[number].claim
            found = self.leases.get(claim) if claim is not None else None
            if sent.lease is not found:
                self._note(number, f"found under {claim}")
            sent.lease = found
            if found is not None:
                found.ended = None
        for lease in self.leases.values():
            if lease.queue == queue and lease.releases:
                lease.releases = 0
                if all(seen.claim != lease.id for seen in shown):
                    lease.ended = now
        for request in [request for request in self.requests if request.queue == queue]:
            self.requests.discard(request)
            if request.kind == "renew":
                assert request.lease is not None
                request.lease.renewals = 0
                request.lease.due_last = max(request.lease.due_first, at + request.ttl)
        self._last_id_before = self.newest_id

    def adopt(self, claim: str, request: Request, at: float) -> None:
        """A claim in doubt turns out to have been carried out, under this id."""
        self.leases[claim] = Holding(claim, request.queue, request.at + request.ttl, at + request.ttl)


async def audit(record: Record, reader: Reader, *, clock: Callable[[], float], settle: bool) -> None:
    """Raise Violated unless the store shows what it must; no requests may be under way.

    `settle` says that the store was opened anew since the last request in doubt was sent.
    """
    for queue in list(record.by_queue):
        start = clock()
        shown, counts = await _listed_and_counted(reader, queue)
        claims = sorted({seen.claim for seen in shown if seen.claim is not None})
        held = {claim: await reader.held(queue, claim) for claim in claims}
        end = clock()
        faults = [
            *_recognised(record, queue, shown),
            *_complete(record, queue, shown, end),
            *_ordered(record, shown),
            *_leases(record, queue, shown, start, end, settle),
            *_counted(shown, counts),
            *_held(record, shown, held, end),
            *await _released(record, reader, queue),
            *await _marked(record, reader, queue, shown),
        ]
        faults = [fault for fault in faults if not record.forgive(fault)]
        if faults:
            more = f"\n… and {len(faults) - 20} more" if len(faults) > 20 else ""
            raise Violated(f"{queue}:\n" + "\n".join(faults[:20]) + more)
        if settle:
            record.settle(queue, shown, start)


async def _listed_and_counted(reader: Reader, queue: QueueKey) -> tuple[list[Seen], Counts]:
    """Read again when a lease may have lapsed between the two."""
    shown, counts = await reader.listing(queue), await reader.stats(queue)
    if list(_counted(shown, counts)):
        shown, counts = await reader.listing(queue), await reader.stats(queue)
    return shown, counts


def _recognised(record: Record, queue: QueueKey, shown: list[Seen]) -> Iterable[str]:
    met: set[int] = set()
    for seen in shown:
        try:
            sent = record.recognise(seen, queue)
        except Violated as fault:
            yield str(fault)
            continue
        if sent.number in met:
            yield f"message {sent.number} shows twice: {sent.story}"
        met.add(sent.number)
        if sent.id not in (None, seen.id):
            yield f"message {sent.number} is {sent.id}, and shows as {seen.id}: {sent.story}"
        if sent.gone is not None:
            yield f"I3: message {sent.number} was gone and is back: {sent.story}"


def _complete(record: Record, queue: QueueKey, shown: list[Seen], end: float) -> Iterable[str]:
    present = {seen.number for seen in shown}
    pops = sum(r.limit for r in record.requests if r.kind == "pop" and r.queue == queue)
    for number in sorted(record.by_queue[queue] - present):
        sent = record.sent[number]
        if not sent.post.applied and present.isdisjoint(sent.post.numbers):
            continue  # in doubt, and it did not happen
        if sent.removals:
            continue
        if pops and (record.forgives or sent.lease is None or not record.holds(sent.lease, end)):
            pops -= 1
            continue
        if record.forgive_loss(sent, present):
            continue
        whole = "is lost" if sent.post.applied else "of a batch in doubt is missing, and others are there"
        yield f"I1: message {number} {whole}: {sent.story}"


def _ordered(record: Record, shown: list[Seen]) -> Iterable[str]:
    """I4: none stands before one whose post was answered before its own was begun."""
    latest = batch = previous = 0
    for seen in shown:
        sent = record.sent.get(seen.number)
        if sent is None:
            continue
        if sent.post.answered is not None and sent.post.answered < latest:
            yield f"I4: message {seen.number} stands too late: {sent.story}"
        if sent.post.begun == batch and seen.number < previous:
            yield f"I4: message {seen.number} stands out of order in its batch"
        latest, batch, previous = max(latest, sent.post.begun), sent.post.begun, seen.number


def _leases(
    record: Record, queue: QueueKey, shown: list[Seen], start: float, end: float, settle: bool
) -> Iterable[str]:
    unknown: dict[str, int] = {}
    for seen in shown:
        sent, claim = record.sent.get(seen.number), seen.claim
        if sent is None:
            continue
        held = sent.lease
        if held is not None and record.holds(held, end) and claim != held.id:
            yield f"I2: message {sent.number} is under {claim} and was given to {held.id}: {sent.story}"
        if claim is None:
            continue
        lease = record.leases.get(claim)
        if lease is None:
            unknown[claim] = unknown.get(claim, 0) + 1
        elif lease.ended is not None:
            yield f"I5: message {sent.number} is under {claim}, which was released: {sent.story}"
        elif start > lease.due_last:
            yield f"I5: message {sent.number} is under {claim}, lapsed {start - lease.due_last} s ago"
    doubtful = [request for request in record.requests if request.kind == "claim" and request.queue == queue]
    doubtful.sort(key=lambda request: request.limit)
    for claim, count in sorted(unknown.items(), key=lambda item: item[1]):
        request = next((request for request in doubtful if count <= request.limit), None)
        if request is None:
            yield f"I2: {count} messages are under the claim {claim} that nobody took"
            continue
        doubtful.remove(request)
        if settle:
            record.adopt(claim, request, start)


def _counted(shown: list[Seen], counts: Counts) -> Iterable[str]:
    claimed = sum(seen.claim is not None for seen in shown)
    if counts != Counts(len(shown) - claimed, claimed):
        yield f"I8: the statistics are {counts}, listed are {len(shown)} with {claimed} claimed"


def _held(record: Record, shown: list[Seen], held: dict[str, list[int] | None], end: float) -> Iterable[str]:
    """What was asked of each claim that shows on a message."""
    for claim, numbers in held.items():
        lease = record.leases.get(claim)
        listed = [seen.number for seen in shown if seen.claim == claim]
        if numbers != listed and (numbers is not None or lease is None or record.holds(lease, end)):
            yield f"I2: the claim {claim} has {numbers}, the listing {listed}"


async def _released(record: Record, reader: Reader, queue: QueueKey) -> Iterable[str]:
    ended = [lease for lease in record.leases.values() if lease.queue == queue and lease.ended is not None]
    answers = [(lease.id, await reader.held(queue, lease.id)) for lease in ended[-5:]]
    return [f"I5: the claim {id} was released and has {held}" for id, held in answers if held is not None]


async def _marked(record: Record, reader: Reader, queue: QueueKey, shown: list[Seen]) -> Iterable[str]:
    faults = []
    for marked in [marked for marked in record.markers if marked.queue == queue][-3:]:
        behind = [seen.number for seen in await reader.listing(queue, marked.marker)]
        expected = [seen.number for seen in shown if seen.number not in marked.before]
        if behind != expected:
            faults.append(f"I9: behind {marked.marker} there is {behind}, expected {expected}")
    return faults
