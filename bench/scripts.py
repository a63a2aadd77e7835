"""What a connection says: generators that yield one request and are sent its answer.

A script that never returns runs until the load generator's time is up; one that returns ends its connection.
Scripts of one run share a `Job`, so that N connections can work off one list.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from itertools import cycle as forever
from typing import NamedTuple

import proc
import wire
from wire import Caller

CLAIMED_TOGETHER = 10
CLAIMS_PER_BLOCK = 20
LONGEST_CLAIM = 43200  # seconds
MOST_PER_CLAIM = 20


class Step(NamedTuple):
    """One request: under which name it is measured, its bytes, and the statuses that count as success."""

    name: str
    wire: bytes
    expect: tuple[int, ...]


class Answer(NamedTuple):
    status: int
    body: bytes


Script = Generator[Step, Answer, None]


@dataclass
class Job:
    """What the scripts of one run share."""

    queue: str
    paths: list[str]  # for `read`: what to ask for, in turn
    total: int  # for bounded scripts: how many messages, queues or claims in all
    server_pid: int  # 0: unknown
    moved: Callable[[int], None]  # called with a number of messages that went all the way
    note: Callable[[str, float], None]  # adds to a named figure of the run
    offset: Iterator[int]  # gives each connection its own place to start
    numbers: Iterator[int] = field(init=False)  # the items of a bounded script, each for one connection

    def __post_init__(self) -> None:
        self.numbers = iter(range(self.total))

    @property
    def messages(self) -> str:
        return f"/v2/queues/{self.queue}/messages"

    @property
    def claims(self) -> str:
        return f"/v2/queues/{self.queue}/claims"


def post(caller: Caller, job: Job) -> Script:
    """Post one message per request."""
    step = _post(caller, job, 1)
    while True:
        yield step
        job.moved(1)


def read(caller: Caller, job: Job) -> Script:
    """Get the job's paths in turn. 201 is what the echo says."""
    steps = [Step("read", wire.request(caller, "GET", path), (200, 201)) for path in job.paths]
    start = next(job.offset) * len(steps) // 32 % len(steps)
    turns = forever(steps[start:] + steps[:start])
    while True:
        yield next(turns)


def cycle(caller: Caller, job: Job) -> Script:
    """Post 10, claim 10, delete what was claimed by ids: a message counts when it is deleted."""
    post, claim = _post(caller, job, CLAIMED_TOGETHER), _claim(caller, job, CLAIMED_TOGETHER)
    while True:
        yield post
        claimed = wire.message_ids((yield claim).body)
        if not claimed:
            continue
        deleted = yield _delete(caller, job, claimed)
        if deleted.status == 204:
            job.moved(len(claimed))


def fill(caller: Caller, job: Job) -> Script:
    """Store `total` messages with posts as large as the API takes."""
    most = wire.fitting()
    whole, rest = _post(caller, job, most), job.total % most
    for number in job.numbers:
        if number * most >= job.total:
            return
        last = (number + 1) * most > job.total
        answer = yield _post(caller, job, rest) if last else whole
        if answer.status == 201:
            job.moved(rest if last else most)


def hold(caller: Caller, job: Job) -> Script:
    """Claim until `total` messages are in flight, and keep them."""
    claim = _claim(caller, job, MOST_PER_CLAIM, ttl=LONGEST_CLAIM)
    for number in job.numbers:
        if number * MOST_PER_CLAIM >= job.total:
            return
        job.moved(len(wire.message_ids((yield claim).body)))


def queues(caller: Caller, job: Job) -> Script:
    """Create `total` queues and post one message to each."""
    body = wire.messages(1)
    for number in job.numbers:
        path = f"/v2/queues/{job.queue}-{number}"
        yield Step("put", wire.request(caller, "PUT", path), (201, 204))
        yield Step("post", wire.request(caller, "POST", f"{path}/messages", body), (201,))
        job.moved(1)


def claims(caller: Caller, job: Job) -> Script:
    """Claim `total` times 10 in blocks; after each, delete what was claimed and post as much again.

    Notes the CPU time the server spent in the blocks of claims alone, as `claim_cpu`, in seconds.
    """
    post, claim = _post(caller, job, CLAIMED_TOGETHER), _claim(caller, job, CLAIMED_TOGETHER)
    for _ in range(0, job.total, CLAIMS_PER_BLOCK):
        batches = []
        before = proc.cpu_seconds(job.server_pid)
        for _ in range(CLAIMS_PER_BLOCK):
            batches.append(wire.message_ids((yield claim).body))  # noqa: PERF401 - this yields
        job.note("claim_cpu", proc.cpu_seconds(job.server_pid) - before)
        for batch in filter(None, batches):
            yield _delete(caller, job, batch)
            yield post
            job.moved(len(batch))


SCRIPTS: dict[str, Callable[[Caller, Job], Script]] = {
    script.__name__: script for script in (post, read, cycle, fill, hold, queues, claims)
}


def _post(caller: Caller, job: Job, count: int) -> Step:
    return Step("post", wire.request(caller, "POST", job.messages, wire.messages(count)), (201,))


def _claim(caller: Caller, job: Job, limit: int, *, ttl: int = 300) -> Step:
    body = b'{"ttl":%d,"grace":60}' % ttl
    return Step("claim", wire.request(caller, "POST", f"{job.claims}?limit={limit}", body), (201,))


def _delete(caller: Caller, job: Job, ids: list[bytes]) -> Step:
    path = f"{job.messages}?ids={b','.join(ids).decode()}"
    return Step("delete", wire.request(caller, "DELETE", path), (204,))
