"""A service and a dispatcher in a test's hands, whose deliverer does what the test says."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from core.world import PROJECT, World
from hand_clock import others_go_on
from until import until

from sukkal.core.ids import Mint
from sukkal.model import QueueKey, Subscription
from sukkal.notify.deliverer import Deliverer, Outcome, Parcel, Result
from sukkal.notify.dispatcher import Dispatcher
from sukkal.notify.hosts import Hosts
from sukkal.stores.contract import Backend

DELIVERED = Outcome(Result.DELIVERED)
LATER = Outcome(Result.RETRY, "not now")
NEVER = Outcome(Result.FAILED, "never")
GONE = Outcome(Result.GONE, "gone")

ONCE_MORE = {
    "retries_with_no_delay": 0,
    "minimum_delay_retries": 0,
    "minimum_delay": 10,
    "maximum_delay": 20,
    "maximum_delay_retries": 0,
}  # tries again after 10 and after 15 seconds


class Carrier:
    """A Deliverer that answers each attempt with the next of a subscriber's outcomes, at last the last."""

    def __init__(self) -> None:
        self.outcomes: dict[str, list[Outcome]] = {}
        self.parcels: list[Parcel] = []
        self.hanging: set[str] = set()  # subscribers that answer nothing
        self.pausing: dict[str, asyncio.Event] = {}  # subscribers that answer nothing before this
        self.closed = False
        self.most_at_once: Counter[str] = Counter()  # attempts under way, by subscriber
        self._at_once: Counter[str] = Counter()

    def check(self, subscriber: str) -> None:
        pass

    def host(self, subscriber: str) -> str:
        return subscriber

    def size(self, subscription: Subscription, told: int) -> int:
        return told

    async def deliver(self, parcel: Parcel) -> Outcome:
        self.parcels.append(parcel)
        subscriber = parcel.subscription.subscriber
        self._at_once[subscriber] += 1
        self.most_at_once[subscriber] = max(self.most_at_once[subscriber], self._at_once[subscriber])
        await asyncio.sleep(0)
        try:
            return await self._outcome(subscriber)
        finally:
            self._at_once[subscriber] -= 1

    async def _outcome(self, subscriber: str) -> Outcome:
        if subscriber in self.hanging:
            await asyncio.Event().wait()
        if subscriber in self.pausing:
            await self.pausing[subscriber].wait()
        outcomes = self.outcomes.get(subscriber, [DELIVERED])
        return outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]

    async def close(self) -> None:
        self.closed = True

    def to(self, subscriber: str) -> list[Any]:
        """The bodies of what was brought to a subscriber, each attempt."""
        parcels = [parcel for parcel in self.parcels if parcel.subscription.subscriber == subscriber]
        return [msgspec.json.decode(notice).get("body") for parcel in parcels for notice in parcel.notices]


class Post(World):
    """A world whose subscribers live at `http:`, and are reached by a carrier."""

    def __init__(self, backend: Backend | None = None, **options: Any) -> None:
        super().__init__(backend, subscriber_types=("http",), **options)
        self.carrier = Carrier()
        self.deliverers: dict[str, Deliverer] = {"http": self.carrier}
        self.dispatchers: list[Dispatcher] = []

    def dispatcher(self, **limits: int) -> Dispatcher:
        """One more dispatcher on the same store, not started."""
        made = Dispatcher(
            self.service.deliveries,
            self.service.recipients,
            self.deliverers,
            Hosts(**limits),
            self.clock,
            Mint(),
            self.service.figures,
            chance=lambda: 0.0,
        )
        self.dispatchers.append(made)
        return made

    async def subscribe(self, queue: str, subscriber: str, **options: Any) -> str:
        answer = await self.call("subscriptions.create", queue=queue, subscriber=subscriber, options=options)
        id_: str = answer.id
        return id_

    async def pending(self) -> tuple[int, int]:
        """How many jobs and parked deliveries there are."""
        jobs, parked = await self.service.deliveries.pending(self.now)
        return jobs.total, parked.total

    async def settled(self) -> None:
        """Return when nothing is left to do now."""
        await until(lambda: not any(dispatcher.busy for dispatcher in self.dispatchers))

    async def delivered(self, attempts: int) -> None:
        """Return when so many attempts were made, and all that follows from them."""
        await until(lambda: len(self.carrier.parcels) >= attempts)
        await self.settled()


@asynccontextmanager
async def dispatching(post: Post, **limits: int) -> AsyncIterator[Dispatcher]:
    dispatcher = post.dispatcher(**limits)
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        await dispatcher.stop(0.2)
        post.dispatchers.remove(dispatcher)


async def crash(post: Post, dispatcher: Dispatcher) -> None:
    """End it as a crash does: nothing is written or given back."""
    post.dispatchers.remove(dispatcher)
    tasks = [*dispatcher._handed_out.tasks, *dispatcher._tries.tasks]
    for task in [*dispatcher._taking, *tasks, dispatcher._writing]:
        if task is not None:
            task.cancel()
    dispatcher._ledger.close()
    dispatcher._ledger._written_to.clear()
    await others_go_on()


def key(queue: str) -> QueueKey:
    return QueueKey(PROJECT, queue)
