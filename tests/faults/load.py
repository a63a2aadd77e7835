"""Several clients at work on one server, keeping a record of what they sent and were told."""

import asyncio
import base64
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from sukkal.model import QueueKey

from .audit import Holding, Record
from .wire import Answer, Connection, NoAnswer, NotSent, messages_path, seen

QUEUES = [
    QueueKey("acme", "orders"),
    QueueKey("acme", "invoices"),
    QueueKey("acme", "returns"),
    QueueKey("umbrella", "orders"),
    QueueKey("umbrella", "samples"),
]
CLIENTS = 8
FULL = 120  # messages in a queue from which on more is taken out than put in
MESSAGE_TTL = 1_209_600  # none ends during a run
CLAIM_TTLS = [60, 3600, 43_200]  # the shortest lapse during a long run
GRACE = 60
# What fills bodies: some of it could be saved by compression, most has to be written.
PADDING = base64.b85encode(random.Random(1).randbytes(40_000)).decode()


class Load:
    """Random requests, until told to stop or the server is gone.

    `watch` is called at each answer, with requests of other clients under way: with how many answers there
    were so far. A client that got a 503 goes on when `refused` returns. A `lasting`
    load goes on when a connection breaks, with a new one.
    """

    def __init__(
        self,
        record: Record,
        port: int,
        chance: random.Random,
        watch: Callable[[int], None] | None = None,
        refused: Callable[[], Awaitable[object]] | None = None,
        *,
        lasting: bool = False,
    ) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()  # by what was asked, and status
        self._record = record
        self._port = port
        self._chance = chance
        self._watch = watch
        self._refused = refused
        self._lasting = lasting
        self._count = 0
        self._refusals = 0
        self.slowest = 0.0  # seconds until an answer
        self.stopping = False

    async def run(self) -> None:
        """Return when every client has stopped; raises what one of them met."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._work())

    async def claim_and_release(self, queues: Iterable[QueueKey]) -> None:
        """Claim once in each queue, and give back what that was given."""
        connection = Connection(self._port)
        for queue in queues:
            lease = await self._claim(connection, queue)
            if lease is not None:
                await self._release(connection, queue, lease)
        connection.close()

    def watch(self, watch: Callable[[int], None]) -> None:
        """Have this called at each answer from now on."""
        self._watch = watch

    def stop(self) -> None:
        """Let every client finish its request."""
        self.stopping = True

    async def _work(self) -> None:
        connection = Connection(self._port)
        steps = [self._post, self._claim, self._delete_held, self._delete_many, self._pop, self._release]
        steps += [self._renew, self._list]
        try:
            while not self.stopping:
                queue = self._chance.choice(QUEUES)
                full = len(self._record.by_queue[queue]) > FULL
                weights = [8, 12, 18, 6, 8, 4, 4, 2] if full else [30, 12, 12, 2, 3, 6, 4, 2]
                (step,) = self._chance.choices(steps, weights)
                before = self._refusals
                try:
                    await step(connection, queue)
                except (NoAnswer, NotSent):
                    if not self._lasting:
                        return
                if self._refusals != before and self._refused is not None:
                    await self._refused()
        finally:
            connection.close()

    async def _call(
        self,
        connection: Connection,
        kind: str,
        queue: QueueKey,
        method: str,
        path: str,
        document: object = None,
    ) -> Answer:
        begun = time.monotonic()
        answer = await connection.call(queue.project, method, path, document)
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.answers[kind, answer.status] += 1
        self._count += 1
        if self._watch is not None:
            self._watch(self._count)
        if answer.status == 503:
            self._refusals += 1
            error = answer.document
            assert isinstance(error, dict), f"{kind}: 503 with {error!r}"
            assert error.get("title"), f"{kind}: 503 with {error!r}"
            assert error.get("description"), f"{kind}: 503 with {error!r}"
            assert int(answer.retry_after or 0) > 0, f"{kind}: 503 without a time to come back"
        else:
            assert answer.status < 500, f"{kind}: {answer}"
        return answer

    @contextlib.asynccontextmanager
    async def _unless_sent(self, undo: Callable[[], None]) -> AsyncIterator[None]:
        """Take a request back when there was no server to send it to."""
        try:
            yield
        except NotSent:
            undo()
            raise

    # Every step: begin, send, close by the answer. A 503 leaves the request open, as no answer does.

    async def _post(self, connection: Connection, queue: QueueKey) -> None:
        count = self._chance.choice([1, 1, 2, 5, 9])
        most = self._chance.choice([60, 60, 60, 3_000, 40_000 // count])
        post = self._record.begin_post(queue, [self._chance.randrange(most) for _ in range(count)])
        messages = [
            {"ttl": MESSAGE_TTL, "body": {"number": n, "padding": PADDING[: self._record.sent[n].size]}}
            for n in post.numbers
        ]
        async with self._unless_sent(lambda: self._record.not_posted(post)):
            path = messages_path(queue)
            answer = await self._call(connection, "post", queue, "POST", path, {"messages": messages})
        if answer.status != 503:
            assert answer.status == 201, answer
            ids = [resource.rpartition("/")[2] for resource in answer.document["resources"]]
            self._record.posted(post, ids, at=time.time())

    async def _claim(self, connection: Connection, queue: QueueKey) -> Holding | None:
        limit, ttl = self._chance.choice([1, 3, 10]), self._chance.choice(CLAIM_TTLS)
        request = self._record.begin_claim(queue, limit=limit, ttl=ttl, at=time.time())
        path = f"/v2/queues/{queue.name}/claims?limit={limit}"
        async with self._unless_sent(lambda: self._record.drop(request)):
            answer = await self._call(connection, "claim", queue, "POST", path, {"ttl": ttl, "grace": GRACE})
        if answer.status == 204:
            return self._record.claimed(request, None, [], at=time.time())
        if answer.status == 503:
            return None
        assert answer.status == 201, answer
        messages = [seen(message) for message in answer.document["messages"]]
        (claim,) = {message.claim for message in messages}
        return self._record.claimed(request, claim, messages, at=time.time())

    async def _delete_held(self, connection: Connection, queue: QueueKey) -> None:
        lease = self._lease(queue)
        if lease is None:
            return
        held = [sent for sent in self._record.known(queue) if sent.lease is lease]
        sent = self._chance.choice(held)
        request = self._record.begin_delete(queue, [sent.number], at=time.time())
        path = f"{messages_path(queue)}/{sent.id}?claim_id={lease.id}"
        async with self._unless_sent(lambda: self._record.drop(request)):
            answer = await self._call(connection, "delete", queue, "DELETE", path)
        if answer.status == 204:
            self._record.deleted(request)
        elif answer.status != 503:
            assert answer.status in (400, 403), answer  # another client gave the claim back
            self._record.not_deleted(request)

    async def _delete_many(self, connection: Connection, queue: QueueKey) -> None:
        known = self._record.known(queue)
        chosen = self._chance.sample(known, min(len(known), self._chance.choice([1, 4, 10])))
        if not chosen:
            return
        request = self._record.begin_delete(queue, [sent.number for sent in chosen], at=time.time())
        path = f"{messages_path(queue)}?ids={','.join(sent.id or '' for sent in chosen)}"
        async with self._unless_sent(lambda: self._record.drop(request)):
            answer = await self._call(connection, "delete many", queue, "DELETE", path)
        if answer.status != 503:
            assert answer.status == 204, answer
            self._record.deleted(request)

    async def _pop(self, connection: Connection, queue: QueueKey) -> None:
        limit = self._chance.choice([1, 2, 10])
        request = self._record.begin_pop(queue, limit=limit, at=time.time())
        async with self._unless_sent(lambda: self._record.drop(request)):
            answer = await self._call(
                connection, "pop", queue, "DELETE", f"{messages_path(queue)}?pop={limit}"
            )
        if answer.status != 503:
            assert answer.status == 200, answer
            messages = [seen(message) for message in answer.document["messages"]]
            self._record.popped(request, messages, at=time.time())

    async def _release(self, connection: Connection, queue: QueueKey, lease: Holding | None = None) -> None:
        lease = lease or self._lease(queue)
        if lease is None:
            return
        request = self._record.begin_release(lease, at=time.time())
        path = f"/v2/queues/{queue.name}/claims/{lease.id}"
        async with self._unless_sent(lambda: self._record.drop(request)):
            answer = await self._call(connection, "release", queue, "DELETE", path)
        if answer.status != 503:
            assert answer.status == 204, answer
            self._record.released(request)

    async def _renew(self, connection: Connection, queue: QueueKey) -> None:
        lease = self._lease(queue)
        if lease is None or lease.renewals:
            return
        ttl = self._chance.choice(CLAIM_TTLS)
        request = self._record.begin_renew(lease, ttl=ttl, at=time.time())
        path = f"/v2/queues/{queue.name}/claims/{lease.id}"
        async with self._unless_sent(lambda: self._record.drop(request)):
            answer = await self._call(connection, "renew", queue, "PATCH", path, {"ttl": ttl, "grace": GRACE})
        if answer.status != 503:
            assert answer.status in (204, 404), answer  # another client gave it back, or emptied it
            self._record.renewed(request, answer.status == 204, at=time.time())

    async def _list(self, connection: Connection, queue: QueueKey) -> None:
        answer = await self._call(connection, "list", queue, "GET", f"{messages_path(queue)}?echo=true")
        assert answer.status in (200, 503), answer
        for message in (answer.document or {}).get("messages", ()):
            self._record.recognise(seen(message), queue)

    def _lease(self, queue: QueueKey) -> Holding | None:
        leases = self._record.live_leases(queue, time.time())
        return self._chance.choice(leases) if leases else None
