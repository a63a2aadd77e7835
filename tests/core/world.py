"""A service in a test's hands: its clock moves only when the test moves it, its store fails when told to.

`World` is a service on the memory store. `Stage` is that store with every call in the test's reach: it can
fail, be held until the test lets it go, or be recorded. `schedules` runs tasks against a store in every order
their calls can take.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

import msgspec
from hand_clock import NOW as NOW
from hand_clock import HandClock
from msgspec import Raw

from sukkal.core.context import Context
from sukkal.core.service import Service
from sukkal.errors import StoreUnavailable
from sukkal.model import Message
from sukkal.operations import BY_NAME
from sukkal.requests import NewMessage
from sukkal.stores.contract import Backend, Trait
from sukkal.stores.memory import MemoryBackend

PROJECT = "acme"
CLIENT = "producer"


class World:
    """A service and a clock. Options are those of `Service`."""

    def __init__(
        self, backend: Backend | None = None, *, clock: HandClock | None = None, **options: Any
    ) -> None:
        self.clock = clock or HandClock()
        self.backend: Backend = backend or MemoryBackend()
        self.service = Service(self.backend, clock=self.clock, **options)

    @property
    def now(self) -> float:
        return self.clock.time

    @now.setter
    def now(self, time: float) -> None:
        self.clock.time = time

    async def pass_time(self, seconds: float) -> None:
        await self.clock.reach(self.now + seconds)

    def ctx(
        self,
        *,
        project: str = PROJECT,
        client: str = CLIENT,
        roles: Sequence[str] = (),
        signed: bool = False,
    ) -> Context:
        return Context(
            project=project,
            client=client,
            request_id="req-test",
            now=self.now,
            roles=frozenset(roles),
            signed=signed,
        )

    async def call(
        self,
        operation: str,
        /,
        *,
        project: str = PROJECT,
        client: str = CLIENT,
        signed: bool = False,
        **fields: Any,
    ) -> Any:
        """Ask for an operation of the table, as a transport does; `signed`: by a pre-signed URL."""
        row = BY_NAME[operation]
        ctx = self.ctx(project=project, client=client, signed=signed)
        return await self.service.call(row, ctx, row.request(**fields))

    async def create(self, queue: str, /, *, project: str = PROJECT, **metadata: Any) -> None:
        await self.call("queues.create", project=project, queue=queue, metadata=metadata)

    async def patch(self, queue: str, *changes: Any, project: str = PROJECT) -> dict[str, Any]:
        """Change metadata; answers what is stored afterwards."""
        answer = await self.call("queues.update", project=project, queue=queue, changes=list(changes))
        stored: dict[str, Any] = answer.stored
        return stored

    async def set(self, queue: str, /, **metadata: Any) -> None:
        await self.patch(
            queue, *({"op": "add", "path": f"/metadata/{key}", "value": v} for key, v in metadata.items())
        )

    async def post(
        self, queue: str, *bodies: Any, project: str = PROJECT, client: str = CLIENT, **times: int
    ) -> list[str]:
        """Post in one request; answers the ids."""
        messages = [NewMessage(body=Raw(msgspec.json.encode(body)), **times) for body in bodies]
        answer = await self.call(
            "messages.post", project=project, client=client, queue=queue, messages=messages
        )
        ids: list[str] = answer.ids
        return ids

    async def listed(self, queue: str, *, project: str = PROJECT, **fields: Any) -> list[Message]:
        """A listing that shows everything, unless told otherwise."""
        shown = {"echo": True, "include_claimed": True, "include_delayed": True, "limit": 20} | fields
        answer = await self.call("messages.list", project=project, queue=queue, **shown)
        messages: list[Message] = answer.messages
        return messages

    async def queues(self, *, project: str = PROJECT) -> list[str]:
        answer = await self.call("queues.list", project=project, limit=20)
        return [queue.name for queue in answer.queues]

    async def get(self, queue: str, id: str) -> Message:
        message: Message = await self.call("messages.get", queue=queue, id=id)
        return message


def ids(messages: Sequence[Message]) -> list[str]:
    return [message.id for message in messages]


def bodies(messages: Sequence[Message]) -> list[Any]:
    return [msgspec.json.decode(message.body) for message in messages]


class Gate:
    """Where a call waits until the test lets it go on."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def reached(self) -> None:
        """Return when the call has come here."""
        async with asyncio.timeout(5):
            await self._reached.wait()

    def open(self) -> None:
        self._opened.set()

    async def pass_(self) -> None:
        self._reached.set()
        await self._opened.wait()


Step = Callable[[], Awaitable[None]]


class Verbs:
    """The verbs of a part of a store, each in the test's reach."""

    def __init__(self, part: Any, around: Step | None, answers_wait: bool) -> None:
        self._part = part
        self._around = around
        self._answers_wait = answers_wait
        self._before: defaultdict[str, list[Step]] = defaultdict(list)
        self._after: defaultdict[str, list[Step]] = defaultdict(list)
        self.calls: list[str] = []
        self.broken: set[str] | None = set()  # verbs that always fail; None: all of them

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(verb)
            if self._around is not None:
                await self._around()
            await self._run(self._before[verb])
            if self.broken is None or verb in self.broken:
                raise StoreUnavailable(f"{verb}: this store is broken")
            answer = await getattr(self._part, verb)(*args, **kwargs)
            await self._run(self._after[verb])
            if self._around is not None and self._answers_wait:
                await self._around()
            return answer

        return call

    @staticmethod
    async def _run(steps: list[Step]) -> None:
        if steps:
            await steps.pop(0)()

    def before(self, verb: str, step: Step) -> None:
        """Take a step before the next call of `verb` that has none yet."""
        self._before[verb].append(step)

    def after(self, verb: str, step: Step) -> None:
        """The same after the call has taken effect, before its caller knows."""
        self._after[verb].append(step)

    def hold_before(self, verb: str, *, skip: int = 0) -> Gate:
        """Hold the next call of `verb`, or the one after so many more that pass."""
        gate = Gate()
        for _ in range(skip - len(self._before[verb])):
            self.before(verb, _pass)
        self.before(verb, gate.pass_)
        return gate

    def hold_after(self, verb: str, *, skip: int = 0) -> Gate:
        gate = Gate()
        for _ in range(skip - len(self._after[verb])):
            self.after(verb, _pass)
        self.after(verb, gate.pass_)
        return gate

    def fail_once(self, verb: str) -> None:
        """The next call has no effect and raises StoreUnavailable."""
        self.before(verb, _unavailable)


async def _pass() -> None:
    pass


async def _unavailable() -> None:
    raise StoreUnavailable("this call fails")


class Stage:
    """A memory store in the test's reach: a Backend.

    `around` is a step that each call takes before it has its effect, and if `answers_wait` also before its
    caller knows.
    """

    def __init__(self, around: Step | None = None, *, answers_wait: bool = True) -> None:
        self._inner = MemoryBackend()
        self.traits: frozenset[Trait] = self._inner.traits
        self.messages: Any = Verbs(self._inner.messages, around, answers_wait)
        self.documents: Any = Verbs(self._inner.documents, around, answers_wait)
        self.waker = self._inner.waker
        self.reachable = True

    def break_down(self) -> None:
        """From now on nothing of the store can be reached."""
        self.messages.broken = self.documents.broken = None
        self.reachable = False

    async def ping(self) -> None:
        if not self.reachable:
            raise StoreUnavailable("the store does not answer")

    async def close(self) -> None:
        pass


# --- every order ---------------------------------------------------------------------------------------


class Turns:
    """Store calls wait here; one goes on at a time, whose turn it is by the schedule."""

    def __init__(self, schedule: Sequence[int]) -> None:
        self._schedule = schedule
        self.choices: list[int] = []  # how many tasks could have gone on at each point
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._numbers: dict[asyncio.Task[Any], int] = {}  # tasks, as they first came; names would vary by run
        self.running = False  # outside, calls pass without waiting

    async def wait(self) -> None:
        if not self.running:
            return
        task = asyncio.current_task()
        assert task is not None
        number = self._numbers.setdefault(task, len(self._numbers))
        turn = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await turn
        finally:  # also when it is cancelled, as one is that nobody needs any more
            self._waiting.pop(number, None)

    async def run(self, *steps: Coroutine[Any, Any, Any]) -> list[str]:
        """Run coroutines named "0", "1" … to their end; answers the names in the order they ended."""
        self.running = True
        ended: list[str] = []
        tasks = [asyncio.create_task(step, name=str(number)) for number, step in enumerate(steps)]
        for task in tasks:
            task.add_done_callback(lambda task: ended.append(task.get_name()))
        while True:
            for _ in range(8):  # let each run as far as it can without a turn
                await asyncio.sleep(0)
            if not self._waiting:
                break
            point = len(self.choices)
            numbers = sorted(self._waiting)
            self.choices.append(len(numbers))
            chosen = self._schedule[point] if point < len(self._schedule) else 0
            self._waiting[numbers[chosen]].set_result(None)
        assert all(task.done() for task in tasks), "the tasks wait for each other for ever"
        for task in tasks:
            task.result()
        self.running = False
        return ended


def next_schedule(schedule: Sequence[int], choices: Sequence[int]) -> list[int] | None:
    """The schedule after this one, depth first, given how many choices each point of it had."""
    taken = [*schedule[: len(choices)], *([0] * (len(choices) - len(schedule)))]
    while taken:
        if taken[-1] + 1 < choices[len(taken) - 1]:
            return [*taken[:-1], taken[-1] + 1]
        taken.pop()
    return None


def count_up(limit: int) -> Iterator[int]:
    """Numbers up to a limit that must not be met: a search that does not end is a fault of the test."""
    yield from range(limit)
    raise AssertionError(f"more than {limit} schedules")
