"""Several processes that share a store, in a test's hands: so is the line between them.

    shared = Shared()
    one, other = shared.process(), shared.process()

What one tells, the others hear some turns later, or when the test lets it through.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from hand_clock import HandClock
from msgspec.structs import replace

from sukkal.model import Message, Notice, QueueKey
from sukkal.operations import BY_NAME
from sukkal.stores.contract import Heard, Told
from sukkal.stores.local_waker import LocalWaker

from .world import PROJECT, Stage, Step, World


class Shared:
    """A store and the line of all who have it open. `around` is a step that each use of either takes."""

    def __init__(self, around: Step | None = None) -> None:
        self.stage = Stage(around, answers_wait=False)
        self.clock = HandClock()
        self.ends: list[End] = []
        self.told: list[tuple[QueueKey, int | None]] = []
        self.holds = False  # whether what is told is kept from being heard
        self._around = around
        self._held: list[Callable[[], None]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self.stage.waker.listen_to_messages(self._appended)

    def process(self, **options: Any) -> "Process":
        return Process(self, **options)

    def tell(self, queue: QueueKey, count: int | None, due: float) -> None:
        self.told.append((queue, count))
        task = asyncio.create_task(self._deliver(queue, count, due))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _deliver(self, queue: QueueKey, count: int | None, due: float) -> None:
        await self.step()
        for end in self.ends:
            if self.holds:
                self._held.append(lambda end=end: end.hears.tell(queue, count, due))
            else:
                end.hears.tell(queue, count, due)

    def let_through(self) -> None:
        """Have everybody hear what was held."""
        self.holds = False
        held, self._held = self._held, []
        for hear in held:
            hear()

    def lose(self) -> None:
        """Have nobody ever hear what was held."""
        self.holds, self._held = False, []

    def mend(self) -> None:
        """Lose it as a line does that breaks: all look who may have missed something."""
        self.lose()
        for end in self.ends:
            for queue in list(end.hears._watched):
                end.hears.tell(queue, None)

    async def step(self) -> None:
        if self._around is not None:
            await self._around()

    def _appended(self, queue: QueueKey, message: Message) -> None:
        for end in self.ends:
            end.hears.appended(queue, [message])


class End:
    """A process's end of the line: a Waker."""

    def __init__(self, shared: Shared) -> None:
        self.hears = LocalWaker()
        self._shared = shared
        shared.ends.append(self)

    def listen(self, heard: Heard) -> None:
        self.hears.listen(heard)

    async def watch(self, queue: QueueKey) -> None:
        await self._shared.step()
        await self.hears.watch(queue)

    def unwatch(self, queue: QueueKey) -> None:
        self.hears.unwatch(queue)

    def wanted(self, queue: QueueKey) -> bool:
        return True

    def tell(self, queue: QueueKey, count: int | None, due: float = 0.0) -> None:
        self._shared.tell(queue, count, due)

    def listen_to_messages(self, told: Told) -> None:
        self.hears.listen_to_messages(told)

    async def follow(self, queue: QueueKey) -> None:
        await self._shared.stage.waker.follow(queue)
        await self.hears.follow(queue)

    def unfollow(self, queue: QueueKey) -> None:
        self.hears.unfollow(queue)

    @property
    def idle(self) -> bool:
        """Nothing is watched or followed."""
        return not (self.hears._watched or self.hears._followed)


class _Opened:
    """The store as one process has it open: a Backend."""

    def __init__(self, shared: Shared) -> None:
        stage = shared.stage
        self.traits, self.messages, self.documents = stage.traits, stage.messages, stage.documents
        self.ping, self.close = stage.ping, stage.close
        self.waker = End(shared)


class Process(World):
    """One of the processes, to which connections may come."""

    def __init__(self, shared: Shared, **options: Any) -> None:
        backend: Any = _Opened(shared)
        super().__init__(backend, clock=shared.clock, **options)
        self.end: End = backend.waker

    def connect(self, id_: str) -> "Socket":
        return Socket(self, id_)


class Socket:
    """A connection to a process, and what it was told."""

    def __init__(self, process: World, id_: str) -> None:
        self.heard: list[str] = []
        self._process = process
        self._id = id_
        process.service.subscriptions.connected(id_, f"http://here/{id_}", self._hear)

    def _hear(self, notice: Notice) -> None:
        self.heard.append(notice.body.decode())

    async def subscribe(self, queue: str = "orders", **fields: Any) -> str:
        row, ctx = BY_NAME["subscriptions.create"], replace(self._process.ctx(), connection=self._id)
        request = row.request(queue=queue, subscriber=None, **fields)
        answer: Any = await self._process.service.call(row, ctx, request)
        return str(answer.id)

    async def leave(self) -> None:
        await self._process.service.subscriptions.disconnected(self._id, now=self._process.now)


def listening(process: World, queue: str = "orders") -> dict[str, float]:
    """Until when who listens to a queue in this process, by subscription."""
    listeners = process.service.subscriptions._notifier._listeners.get(QueueKey(PROJECT, queue), {})
    return {id_: listener.expires for id_, listener in listeners.items()}
