"""The conformance suite of the line between who writes and who waits: `sukkal.stores.contract.Waker`.

What is told may be heard later, so these tests wait for it; and since it may be heard twice or for nothing,
they never insist on how often.
"""

import asyncio
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from sukkal.model import Message, QueueKey, View
from sukkal.stores.contract import Backend, Waker

from .samples import NOW, QUEUE, message

OTHERS = [QueueKey("acme", "invoices"), QueueKey("umbrella", "orders")]

Told = tuple[QueueKey, int | None, float]


class Listener:
    """Remembers what it has heard."""

    def __init__(self, waker: Waker) -> None:
        self.heard: list[Told] = []
        self._news = asyncio.Event()
        waker.listen(self._hear)

    def _hear(self, queue: QueueKey, count: int | None, due: float) -> None:
        self.heard.append((queue, count, due))
        self._news.set()

    async def until(self, wanted: Callable[[list[Told]], bool]) -> None:
        """Return when what was heard is as wanted."""
        async with asyncio.timeout(10):
            while not wanted(self.heard):
                self._news.clear()
                await self._news.wait()

    async def hears(self, *told: Told) -> None:
        await self.until(lambda heard: set(told) <= set(heard))


@pytest.fixture
def waker(backend: Backend) -> Waker:
    return backend.waker


@pytest.fixture
def listener(waker: Waker) -> Listener:
    return Listener(waker)


@pytest.mark.parametrize("count", [None, 0, 1, 20, 2**128 - 1])
@pytest.mark.parametrize("due", [0.0, NOW + 0.5])
async def test_what_is_told_of_a_watched_queue_is_heard(
    waker: Waker, listener: Listener, count: int | None, due: float
) -> None:
    await waker.watch(QUEUE)
    waker.tell(QUEUE, count, due)
    await listener.hears((QUEUE, count, due))


async def test_everything_told_is_heard_also_in_a_burst(waker: Waker, listener: Listener) -> None:
    await waker.watch(QUEUE)
    told = [(QUEUE, count, 0.0) for count in range(200)]
    for queue, count, due in told:
        waker.tell(queue, count, due)
    await listener.hears(*told)


async def test_names_of_any_kind_are_told_apart(waker: Waker, listener: Listener) -> None:
    queues = [QueueKey("a", "b.c"), QueueKey("a.b", "c"), QueueKey("a:b", "c"), QueueKey("é *", "[x]?")]
    for number, queue in enumerate(queues):
        await waker.watch(queue)
        waker.tell(queue, number)
    told = {(queue, number, 0.0) for number, queue in enumerate(queues)}
    await listener.hears(*told)
    assert {each for each in listener.heard if each[1] is not None} == told


async def test_watching_twice_is_watching_once(waker: Waker, listener: Listener) -> None:
    await asyncio.gather(*(waker.watch(QUEUE) for _ in range(10)))
    await waker.watch(OTHERS[0])
    waker.tell(QUEUE, 1)
    await listener.hears((QUEUE, 1, 0.0))
    waker.unwatch(QUEUE)
    waker.unwatch(QUEUE)
    waker.tell(OTHERS[0], 2)
    await listener.hears((OTHERS[0], 2, 0.0))


async def test_queue_that_is_watched_again_is_heard_again(waker: Waker, listener: Listener) -> None:
    for count in range(3):
        await waker.watch(QUEUE)
        waker.tell(QUEUE, count)
        await listener.hears((QUEUE, count, 0.0))
        waker.unwatch(QUEUE)
    assert set(listener.heard) >= {(QUEUE, count, 0.0) for count in range(3)}


async def test_queue_that_nobody_watches_is_not_heard(waker: Waker, listener: Listener) -> None:
    await waker.watch(QUEUE)
    for count, other in enumerate(OTHERS):
        waker.tell(other, count)
    waker.tell(QUEUE, 7)
    await listener.hears((QUEUE, 7, 0.0))
    assert {queue for queue, _, _ in listener.heard} == {QUEUE}


async def test_a_watched_queue_is_wanted(waker: Waker) -> None:
    await waker.watch(QUEUE)
    assert waker.wanted(QUEUE)


async def test_telling_before_anyone_listens_does_no_harm(waker: Waker) -> None:
    await waker.watch(QUEUE)
    waker.tell(QUEUE, 1)
    listener = Listener(waker)
    waker.tell(QUEUE, 2)
    await listener.hears((QUEUE, 2, 0.0))


# --- messages themselves -----------------------------------------------------------------------------------


class Follower:
    """Remembers the messages it was told of."""

    def __init__(self, waker: Waker) -> None:
        self.told: list[tuple[QueueKey, Message]] = []
        self._news = asyncio.Event()
        waker.listen_to_messages(self._tell)

    def _tell(self, queue: QueueKey, message: Message) -> None:
        self.told.append((queue, message))
        self._news.set()

    async def until(self, queue: QueueKey, id: str) -> list[str]:
        """The ids it was told of, once this one of that queue is among them."""
        async with asyncio.timeout(10):
            while (queue, id) not in ((queue, message.id) for queue, message in self.told):
                self._news.clear()
                await self._news.wait()
        return [message.id for _, message in self.told]


@pytest.fixture
def follower(waker: Waker) -> Follower:
    return Follower(waker)


async def test_follower_is_told_of_messages_as_they_are_stored_and_in_their_order(
    backend: Backend, waker: Waker, follower: Follower
) -> None:
    await waker.follow(QUEUE)
    posted = [message("one", body=b"\x00 \r\n"), message("two", delay=60, client="c"), message("3 4", ttl=61)]
    await backend.messages.append(QUEUE, posted)
    assert await follower.until(QUEUE, "3 4") == ["one", "two", "3 4"]
    assert [replace(told, marker="") for _, told in follower.told] == posted


async def test_follower_is_told_of_many_posts_in_the_order_of_the_queue(
    backend: Backend, waker: Waker, follower: Follower
) -> None:
    await waker.follow(QUEUE)
    await asyncio.gather(*(backend.messages.append(QUEUE, [message(f"m{number}")]) for number in range(300)))
    told = await follower.until(QUEUE, "m299")
    listed = await backend.messages.page(QUEUE, view=View(), after=None, limit=1000, now=NOW)
    assert told == [each.id for each in listed]


async def test_follower_is_not_told_of_other_queues(
    backend: Backend, waker: Waker, follower: Follower
) -> None:
    await waker.follow(QUEUE)
    for other in OTHERS:
        await backend.messages.append(other, [message("elsewhere")])
    await backend.messages.append(QUEUE, [message("told")])
    assert await follower.until(QUEUE, "told") == ["told"]


async def test_follower_is_told_also_of_what_is_taken_at_once(
    backend: Backend, waker: Waker, follower: Follower
) -> None:
    await waker.follow(QUEUE)
    for number in range(20):
        await asyncio.gather(
            backend.messages.append(QUEUE, [message(f"m{number}")]),
            backend.messages.pop(QUEUE, limit=5, now=NOW),
        )
    assert len(await follower.until(QUEUE, "m19")) == 20


async def test_queue_is_followed_until_it_is_not(backend: Backend, waker: Waker, follower: Follower) -> None:
    await asyncio.gather(*(waker.follow(QUEUE) for _ in range(3)))
    await waker.follow(OTHERS[0])
    waker.unfollow(QUEUE)
    waker.unfollow(QUEUE)
    await backend.messages.append(QUEUE, [message("unheard")])
    await backend.messages.append(OTHERS[0], [message("other")])
    assert await follower.until(OTHERS[0], "other") == ["other"]
    await waker.follow(QUEUE)
    await backend.messages.append(QUEUE, [message("heard")])
    assert await follower.until(QUEUE, "heard") == ["other", "heard"]


async def test_following_and_watching_do_not_disturb_each_other(
    backend: Backend, waker: Waker, follower: Follower, listener: Listener
) -> None:
    await asyncio.gather(waker.watch(QUEUE), waker.follow(QUEUE))
    waker.unwatch(QUEUE)
    await backend.messages.append(QUEUE, [message("one")])
    await follower.until(QUEUE, "one")
    await waker.watch(QUEUE)
    waker.unfollow(QUEUE)
    waker.tell(QUEUE, 3)
    await listener.hears((QUEUE, 3, 0.0))
