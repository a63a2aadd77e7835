"""The line between processes that share a Redis: publish and subscribe, one channel for each queue.

A connection of its own hears. It subscribes to a queue when somebody here starts to wait on it. When the
connection was lost, everybody who waits is told to look, once it is back.

What is told travels with the other calls of the turn. If it could not be sent, because the connection broke
just after the write it tells of, it is sent when there is one again, as "any number".
"""

import asyncio
import contextlib
from collections import deque

from sukkal.errors import StoreUnavailable
from sukkal.model import QueueKey
from sukkal.stores.contract import Heard
from sukkal.stores.redis.layout import Layout, command, number
from sukkal.stores.redis.link import Link, Reply
from sukkal.stores.redis.node import Node
from sukkal.stores.redis.servers import Servers

HEARTBEAT = 1.0  # seconds between looks whether the line still stands
PAUSE = 0.2  # seconds between attempts to tell what could not be told
MOST_UNTOLD = 10_000  # queues
ATTEMPTS = 3  # to subscribe


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


class RedisWaker:
    """See `Waker`."""

    def __init__(self, servers: Servers, layout: Layout, timeout: float) -> None:
        self._servers = servers
        self._layout = layout
        self._timeout = timeout
        self._heard: Heard | None = None
        self._watched: dict[bytes, QueueKey] = {}  # by channel
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
        channel = self._channel(queue)
        if self._watched.pop(channel, None) is not None and self._ear is not None:
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

    def hear(self, channel: bytes, said: bytes) -> None:
        """Pass on what arrived on a channel."""
        queue = self._watched.get(channel)
        if queue is not None and self._heard is not None:
            count, _, due = said.partition(b" ")
            self._heard(queue, int(count) if count else None, float(due))

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
        await link.subscribe(*self._watched)
        if again and self._heard is not None:
            for queue in list(self._watched.values()):
                self._heard(queue, None, 0.0)
        return link

    async def _beat(self, node: Node) -> None:
        """Ask for a sign of life now and then: a line that is dead looks like one on which nobody speaks."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            if node.link is not None:
                with contextlib.suppress(Exception):
                    await node.link.send(command(b"PING"))

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
