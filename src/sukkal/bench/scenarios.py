"""What the load does: for each scenario a turn, repeated over and over or begun at a fixed rate.

A turn is a generator that yields one request and is sent its answer. An answer with another status than
expected ends the turn. Where messages are measured on their way to readers, those have turns of their own.
"""

import random
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import msgspec

from sukkal.bench.bodies import Posts, Stamped
from sukkal.bench.calls import Answer, Caller, Request
from sukkal.bench.plan import Plan

Turn = Generator[Request, Answer, None]

CLAIM_TTL = 300  # s
REFILL = 200  # messages posted when a consumer has found nothing
MIXED = {"post": 5, "list": 3, "consume": 2}  # of ten turns


@dataclass
class Seat:
    """Who takes the turns on one connection, and what they work with."""

    plan: Plan
    number: int
    random: random.Random
    posts: Posts
    moved: Callable[[int], None]  # called with a number of messages that went all the way
    delivered: Callable[[int], None]  # called with a message's stamp
    failed: Callable[[str], None]  # called with what went wrong, other than a status
    due: Callable[[], int] = lambda: 0  # when this turn was due, in ns of the monotonic clock
    _callers: dict[str, Caller] = field(default_factory=dict)
    _client: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        self.queue = self.plan.queues[self.number % len(self.plan.queues)]
        self.call = self.caller(self.plan.projects[self.number % len(self.plan.projects)])
        self.claiming = b'{"ttl":%d,"grace":60}' % CLAIM_TTL

    def caller(self, project: str) -> Caller:
        if project not in self._callers:
            self._callers[project] = self.plan.caller(self._client, project)
        return self._callers[project]


@dataclass(frozen=True)
class Scenario:
    about: str
    turn: Callable[[Seat], Turn]
    socket: bool = False  # the turns speak through WebSockets, several on each
    reader: Callable[[Seat], Turn] | None = None  # what every connection does beside; posters are added
    listeners: bool = False  # every connection is a WebSocket that subscribes; posters are added
    backlog: int = 0  # messages stored beforehand unless the caller says otherwise
    queues: int = 1
    projects: int = 1


class Entry(msgspec.Struct):
    """A message as it is listed or claimed."""

    id: str = ""
    href: str = ""
    body: msgspec.Raw = msgspec.Raw()

    @property
    def name(self) -> str:
        """Its id, also of servers that show it in the link only."""
        return self.id or self.href.rpartition("/")[2].partition("?")[0]


class _Link(msgspec.Struct):
    rel: str
    href: str


class _Page(msgspec.Struct):
    messages: list[Entry] = []
    links: list[_Link] = []

    @property
    def next(self) -> str | None:
        return next((link.href for link in self.links if link.rel == "next"), None)


_page = msgspec.json.Decoder(_Page).decode
_stamp = msgspec.json.Decoder(Stamped).decode


def _produce(seat: Seat) -> Turn:
    yield seat.call.request("messages.post", seat.queue, body=seat.posts.next())
    seat.moved(seat.posts.batch)


def _consume(seat: Seat) -> Turn:
    """Claim and delete; what was found empty is filled up again, outside the count."""
    claimed = yield from _claim(seat, seat.call, seat.queue)
    if claimed:
        yield _delete(seat.call, seat.queue, claimed)
        seat.moved(len(claimed))
        return
    for body, _ in seat.posts.filling(REFILL):
        yield seat.call.request("messages.post", seat.queue, body=body, name="refill", counted=False)


def _claim(seat: Seat, call: Caller, queue: str) -> Generator[Request, Answer, list[Entry]]:
    answer = yield call.request("claims.create", queue, query=f"limit={seat.plan.limit}", body=seat.claiming)
    return _page(answer.body).messages if answer.status == 201 else []


def _delete(call: Caller, queue: str, entries: list[Entry]) -> Request:
    ids = ",".join(entry.name for entry in entries)
    return call.request("messages.delete_many", queue, query=f"ids={ids}")


def _observe(seat: Seat) -> Turn:
    """Read a queue from its beginning to its end, page by page."""
    query = f"limit={seat.plan.limit}&echo=true&include_claimed=true"
    page = _page((yield seat.call.request("messages.list", seat.queue, query=query)).body)
    while page.messages:
        seat.moved(len(page.messages))
        if page.next is None or len(page.messages) < seat.plan.limit:
            return
        page = _page((yield seat.call.follow("messages.list", page.next)).body)


def _mixed(seat: Seat) -> Turn:
    """Of ten turns five post, three list a page, two claim and delete."""
    (kind,) = seat.random.choices(list(MIXED), list(MIXED.values()))
    if kind == "list":
        yield seat.call.request("messages.list", seat.queue, query=f"limit={seat.plan.limit}&echo=true")
    else:
        yield from _produce(seat) if kind == "post" else _consume(seat)


def _fan_out(seat: Seat) -> Turn:
    yield seat.call.request("messages.post", seat.queue, body=seat.posts.stamped(seat.due()))


def _long_poll(seat: Seat) -> Turn:
    """Wait for messages and delete them."""
    plan, began = seat.plan, time.monotonic()
    query = f"limit={plan.limit}&wait={plan.wait}"
    answer = yield seat.call.request(
        "claims.create",
        seat.queue,
        query=query,
        body=seat.claiming,
        name="waiting claim",
        counted=False,
        patient=True,
    )
    if answer.status != 201:
        if time.monotonic() - began < plan.wait / 2:
            seat.failed("waiting claim: answered without messages and without waiting")
        return
    claimed = _page(answer.body).messages
    for entry in claimed:
        seat.delivered(_stamp(entry.body).bench_ns)
    yield _delete(seat.call, seat.queue, claimed)
    seat.moved(len(claimed))


def _socket_posts(seat: Seat) -> Turn:
    body = b'{"queue_name":"%b","messages":[%b]}' % (seat.queue.encode(), seat.posts.entries())
    yield seat.call.frame("messages.post", body)
    seat.moved(seat.posts.batch)


def _job(seat: Seat) -> Turn:
    """A job's life: posted, claimed, its claim renewed, done and deleted under the claim."""
    call, queue = seat.call, seat.queue
    yield call.request("messages.post", queue, body=seat.posts.next())
    answer = yield call.request("claims.create", queue, query="limit=1", body=seat.claiming)
    claimed = _page(answer.body).messages if answer.status == 201 else []
    if not claimed:
        return
    (job,) = claimed
    claim = job.href.partition("claim_id=")[2].partition("&")[0]
    yield call.request("claims.renew", queue, claim_id=claim, body=seat.claiming)
    yield call.request("messages.delete", queue, message_id=job.name, query=f"claim_id={claim}")
    seat.moved(1)


def _many_queues(seat: Seat) -> Turn:
    """Post to any queue, and take what is in another one."""
    yield seat.call.request("messages.post", seat.random.choice(seat.plan.queues), body=seat.posts.next())
    queue = seat.random.choice(seat.plan.queues)
    claimed = yield from _claim(seat, seat.call, queue)
    if claimed:
        yield _delete(seat.call, queue, claimed)
        seat.moved(len(claimed))


def _many_projects(seat: Seat) -> Turn:
    """In any of the projects: post, and take what is there."""
    call = seat.caller(seat.random.choice(seat.plan.projects))
    yield call.request("messages.post", seat.queue, body=seat.posts.next())
    claimed = yield from _claim(seat, call, seat.queue)
    if claimed:
        yield _delete(call, seat.queue, claimed)
        seat.moved(len(claimed))


def _deep(seat: Seat) -> Turn:
    """Post, claim as much, delete it: the queue stays as deep as it is."""
    yield seat.call.request("messages.post", seat.queue, body=seat.posts.next())
    answer = yield seat.call.request(
        "claims.create", seat.queue, query=f"limit={seat.posts.batch}", body=seat.claiming
    )
    if answer.status == 201:
        claimed = _page(answer.body).messages
        yield _delete(seat.call, seat.queue, claimed)
        seat.moved(len(claimed))


SCENARIOS = {
    "produce": Scenario("post messages", _produce),
    "consume": Scenario("claim messages and delete them", _consume, backlog=10_000),
    "observe": Scenario("list a queue from end to end with markers", _observe, backlog=2_000),
    "mixed": Scenario("half posts, the rest lists, claims and deletes", _mixed, backlog=1_000),
    "fan-out": Scenario(
        "post to a queue that every connection, a WebSocket, subscribes to; measures deliveries",
        _fan_out,
        listeners=True,
    ),
    "long-poll": Scenario(
        "post to a queue that every connection waits for with claims; measures deliveries",
        _fan_out,
        reader=_long_poll,
    ),
    "websocket": Scenario("post through WebSockets, many requests under way", _socket_posts, socket=True),
    "jobs": Scenario("post, claim, renew the claim, delete under it", _job),
    "many-queues": Scenario("post to and claim from any of many queues", _many_queues, queues=1_000),
    "deep-backlog": Scenario("post, claim and delete at a deep queue", _deep, backlog=100_000),
    "many-projects": Scenario("post, claim and delete in any of many projects", _many_projects, projects=100),
}


def preparation(plan: Plan, posts: Posts) -> Iterator[Request]:
    """What is to be done before the load starts; the requests may be made in any order."""
    client = str(uuid.uuid4())
    if len(plan.projects) == 1:
        call = plan.caller(client, plan.projects[0])
        for queue in plan.queues:
            yield call.request("queues.create", queue, body=b"{}")
            share = plan.backlog // len(plan.queues)
            for body, _ in posts.filling(share):
                yield call.request("messages.post", queue, body=body)


def cleaning(plan: Plan) -> Iterator[Request]:
    """What leaves the server as it was."""
    client = str(uuid.uuid4())
    for project in plan.projects:
        call = plan.caller(client, project)
        for queue in plan.queues:
            yield call.request("queues.delete", queue)
