"""The line between processes that share a Redis: publish and subscribe, one channel for each queue.

A connection of its own hears. It subscribes to a queue when somebody here starts to wait on it. When the
connection was lost, everybody who waits is told to look, once it is back.

What is told travels with the other calls of the turn. If it could not be sent, because the connection broke
just after the write it tells of, it is sent when there is one again, as "any number".

Messages are told of by the append itself, if a key says that somebody follows the queue. That key lasts for a
minute, so that nobody is told for long for whom the process that asked has died.
"""

import asyncio
import contextlib
import itertools
from collections import deque

from sukkal.errors import StoreUnavailable
from sukkal.model import QueueKey
from sukkal.stores.contract import Heard, Told
from sukkal.stores.redis.layout import Layout, command, message, number
from sukkal.stores.redis.link import Link, Reply
from sukkal.stores.redis.node import Node, ignore
from sukkal.stores.redis.servers import Servers

HEARTBEAT = 1.0  # seconds between looks whether the line still stands
PAUSE = 0.2  # seconds between attempts to tell what could not be told
MOST_UNTOLD = 10_000  # queues
ATTEMPTS = 3  # to subscribe
FOLLOWED = 60  # seconds that a queue counts as followed, unless that is said again
FOLLOW_EVERY = 20  # heartbeats


class _Ear(Link):
    """The connection that hears."""

    def __init__(self, waker: "RedisWaker", timeout: float) -> None:
        super().__init__(timeout=timeout)
        self._waker = waker
        self._expected: deque[asyncio.Future[None]] = deque()  # in the order of subscriptions
        self._subscribed: dict[bytes, asyncio.Future[None]] = {}

    def pushed(self, message: list[Reply]) -> None:
        if message[0] == b"message":
            self._waker.hear(message[1], message[2])
        elif message[0] == b"subscribe":
            confirmed = self._expected.popleft()
            if not confirmed.done():
                confirmed.set_result(None)

    async def subscribe(self, *channels: bytes) -> None:
        """Return when all of them are subscribed to, or the connection has ended."""
        for channel in channels:
            if channel not in self._subscribed:
                self._subscribed[channel] = asyncio.get_running_loop().create_future()
                self._expected.append(self._subscribed[channel])
                self.say(command(b"SUBSCRIBE", channel))
        if not self.ended.done():
            for channel in channels:
                await asyncio.shield(self._subscribed[channel])

    def unsubscribe(self, channel: bytes) -> None:
        if self._subscribed.pop(channel, None) is not None:
            self.say(command(b"UNSUBSCRIBE", channel))

    def end(self) -> None:
        super().end()
        for confirmed in self._expected:
            if not confirmed.done():
                confirmed.set_result(None)


def _following(channel: bytes) -> bytes:
    """The command by which a queue counts as followed."""
    return command(b"SET", channel, b"", b"EX", b"%d" % FOLLOWED)


class RedisWaker:
    """See `Waker`."""

    def __init__(self, servers: Servers, layout: Layout, timeout: float) -> None:
        self._servers = servers
        self._layout = layout
        self._timeout = timeout
        self._heard: Heard | None = None
        self._watched: dict[bytes, QueueKey] = {}  # by channel
        self._told: Told | None = None
        self._followed: dict[bytes, QueueKey] = {}  # likewise
        self._ear: _Ear | None = None  # the newest
        self._node: Node | None = None  # from the first watch on
        self._heartbeat: asyncio.Task[None] | None = None
        self._untold: dict[QueueKey, float] = {}  # when it comes due
        self._telling: asyncio.Task[None] | None = None

    def listen(self, heard: Heard) -> None:
        self._heard = heard

    async def watch(self, queue: QueueKey) -> None:
        channel = self._channel(queue)
        self._watched[channel] = queue
        await self._subscribe(channel)

    async def _subscribe(self, channel: bytes) -> None:
        if self._node is None:
            self._node = Node("The line to Redis", self._connect)
            self._heartbeat = asyncio.create_task(self._beat(self._node))
        for _ in range(ATTEMPTS):
            if self._node.link is None:
                await self._node.ready()
            ear = self._ear
            if ear is not None and not ear.ended.done():
                await ear.subscribe(channel)
                if not ear.ended.done():
                    return
        raise StoreUnavailable("The line to Redis is lost again and again.")

    def unwatch(self, queue: QueueKey) -> None:
        self._unsubscribe(self._channel(queue), self._watched)

    def _unsubscribe(self, channel: bytes, wanted: dict[bytes, QueueKey]) -> None:
        if wanted.pop(channel, None) is not None and self._ear is not None:
            self._ear.unsubscribe(channel)

    def wanted(self, queue: QueueKey) -> bool:
        return True  # who waits elsewhere is not known here

    def tell(self, queue: QueueKey, count: int | None, due: float = 0.0) -> None:
        home = self._layout.queue(queue)
        said = b"%b %b" % (b"" if count is None else b"%d" % count, number(due))
        told = self._servers.send(
            home.partition, command(b"PUBLISH", b"%bw:%b" % (home.tag, home.name), said)
        )
        if told is None:
            self._remember(queue, due)
        else:
            told.add_done_callback(lambda told: self._remember(queue, due) if told.exception() else None)

    def listen_to_messages(self, told: Told) -> None:
        self._told = told

    async def follow(self, queue: QueueKey) -> None:
        channel = self._layout.queue(queue).followed
        self._followed[channel] = queue
        await self._subscribe(channel)
        await self._servers.call(self._layout.queue(queue).partition, _following(channel))

    def unfollow(self, queue: QueueKey) -> None:
        self._unsubscribe(self._layout.queue(queue).followed, self._followed)

    def hear(self, channel: bytes, said: bytes) -> None:
        """Pass on what arrived on a channel."""
        if (queue := self._watched.get(channel)) is not None and self._heard is not None:
            count, _, due = said.partition(b" ")
            self._heard(queue, int(count) if count else None, float(due))
        elif (queue := self._followed.get(channel)) is not None and self._told is not None:
            length, _, rest = said.partition(b" ")
            end = int(length)
            self._told(queue, message(rest[:end].decode(), rest[end:], None))

    async def close(self) -> None:
        for task in (self._heartbeat, self._telling):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._node is not None:
            await self._node.close()

    def _channel(self, queue: QueueKey) -> bytes:
        home = self._layout.queue(queue)
        return b"%bw:%b" % (home.tag, home.name)

    # --- hearing -------------------------------------------------------------------------------------

    async def _connect(self) -> Link:
        link = await self._servers.line(lambda: _Ear(self, self._timeout))
        assert isinstance(link, _Ear)
        again = self._ear is not None
        self._ear = link
        await link.subscribe(*self._watched, *self._followed)
        self._follow_on()
        if again and self._heard is not None:
            for queue in list(self._watched.values()):
                self._heard(queue, None, 0.0)
        return link

    async def _beat(self, node: Node) -> None:
        """Ask for a sign of life now and then: a line that is dead looks like one on which nobody speaks."""
        for beat in itertools.count(1):
            await asyncio.sleep(HEARTBEAT)
            if node.link is not None:
                with contextlib.suppress(Exception):
                    await node.link.send(command(b"PING"))
                if beat % FOLLOW_EVERY == 0:
                    self._follow_on()

    def _follow_on(self) -> None:
        """Say again what is followed."""
        for channel, queue in self._followed.items():
            said = self._servers.send(self._layout.queue(queue).partition, _following(channel))
            if said is not None:
                said.add_done_callback(ignore)

    # --- telling later -------------------------------------------------------------------------------

    def _remember(self, queue: QueueKey, due: float) -> None:
        if len(self._untold) < MOST_UNTOLD:
            self._untold[queue] = min(due, self._untold.get(queue, due))
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_later())

    async def _tell_later(self) -> None:
        while self._untold:
            queue, due = next(iter(self._untold.items()))
            try:
                packed = command(b"PUBLISH", self._channel(queue), b" " + number(due))
                await self._servers.call(self._layout.queue(queue).partition, packed)
            except StoreUnavailable:
                await asyncio.sleep(PAUSE)
            else:
                self._untold.pop(queue, None)
