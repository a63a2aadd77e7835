"""One connection to a Redis server.

Commands of one turn of the event loop leave together; answers come back in the order of the commands.
A connection that gives no answer for too long is given up, and everything under way on it with it, so nobody
waits longer than that.

With `min_replicas`, the writes of a turn are followed by a small write and a WAIT, and are answered when
that many replicas have them. (WAIT looks at what its own connection has written. Without the small write, a
command that found its work done already, by a call whose answer was lost, would wait for nothing.)
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple, Protocol, cast

import hiredis

from sukkal.errors import StoreUnavailable
from sukkal.stores.redis.layout import command
from sukkal.tally import StoreFigures

MOST_UNDER_WAY = 20_000  # commands
MOST_BYTES = 64 * 1024 * 1024  # of them

# What a server says to a WAIT when it has become a replica: what was written before it may be gone or not.
_DEMOTED = ("UNBLOCKED", "ERR")

Reply = Any  # bytes, int, None, or a list of these


class Lost(Exception):
    """The connection has ended: what was sent may have been done or not.

    `overdue` when it was we who ended it, since no answer came.
    """

    def __init__(self, *, overdue: bool = False) -> None:
        super().__init__()
        self.overdue = overdue


class Refused(Exception):
    """The server's answer is an error; `code` is its first word."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code, _, self.rest = text.partition(" ")


class _Waiting(Protocol):
    """Who gets an answer: a future, or one of the two classes below."""

    def done(self) -> bool: ...
    def set_result(self, result: Reply, /) -> None: ...
    def set_exception(self, exception: Exception, /) -> None: ...


class _Batch(NamedTuple):
    """The commands of one turn."""

    last: int  # the number of the last of them
    sent: float  # when, by `perf_counter`
    size: int  # bytes


class Link(asyncio.Protocol):
    """Made by `asyncio.loop.create_connection`."""

    def __init__(
        self,
        *,
        timeout: float,
        min_replicas: int = 0,
        replica_timeout: float = 0.0,
        fence: bytes = b"",
        figures: StoreFigures | None = None,
    ) -> None:
        """`fence` is a key on that server for the small write. What is sent is counted in `figures`."""
        self._figures = figures or StoreFigures()
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.on_end: Callable[[], None] = _nothing  # called at the end before anybody else hears of it
        self._timeout = timeout
        self._replicas = min_replicas
        self._replica_timeout = replica_timeout
        self.fence(fence)
        self._parser = hiredis.Reader(notEnoughData=...)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[_Waiting] = deque()
        self._leaving: list[bytes] = []  # commands of this turn
        self._writes: list[_Write] = []  # those of them that wait for replicas
        self._sent = self._answered = 0
        self._bytes = 0
        self._batches: deque[_Batch] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self.overdue = False  # given up, since no answer came

    def fence(self, key: bytes) -> None:
        """The small write is to this key from now on."""
        milliseconds = b"%d" % (self._replica_timeout * 1000)
        self._wait = command(b"SET", key, b"") + command(b"WAIT", b"%d" % self._replicas, milliseconds)

    # --- sending -------------------------------------------------------------------------------------

    def send(self, packed: bytes, *, write: bool = False) -> "asyncio.Future[Reply]":
        """Have a command sent with the others of this turn.

        The future ends with the answer, with Refused, with Lost, or, for a write that too few replicas have,
        with StoreUnavailable. Raises Lost when the connection has ended before, StoreUnavailable when too
        much is under way already.
        """
        if self._transport is None:
            raise Lost
        if self._sent - self._answered >= MOST_UNDER_WAY or self._bytes >= MOST_BYTES:
            raise StoreUnavailable("Redis does not keep up: too many calls are under way.")
        future: asyncio.Future[Reply] = self._loop.create_future()
        if write and self._replicas:
            held = _Write(future)
            self._writes.append(held)
            self._waiting.append(held)
        else:
            self._waiting.append(future)
        if not self._leaving:
            self._loop.call_soon(self._flush)
        self._leaving.append(packed)
        self._sent += 1
        return future

    def say(self, packed: bytes) -> None:
        """Have a command sent that gets no answer of its own; nothing, when the connection has ended."""
        if self._transport is None:
            return
        if not self._leaving:
            self._loop.call_soon(self._flush)
        self._leaving.append(packed)

    def _flush(self) -> None:
        if self._transport is None:
            return
        if self._writes:
            self._leaving.append(self._wait)
            self._waiting += (_Nobody(), _Replicas(self._writes, self._replicas))
            self._sent += 2
            self._writes = []
        data = b"".join(self._leaving)
        self._bytes += len(data)
        self._figures.batch_sizes.add(len(self._leaving))
        self._batches.append(_Batch(self._sent, perf_counter(), len(data)))
        self._leaving.clear()
        self._transport.write(data)

    # --- asyncio.Protocol ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        parser, waiting = self._parser, self._waiting
        try:
            parser.feed(data)
            while (reply := parser.gets()) is not ...:
                if isinstance(reply, hiredis.PushNotification):
                    self.pushed(reply)
                    continue
                self._answered += 1
                one = waiting.popleft()
                if one.done():
                    continue
                if isinstance(reply, hiredis.ReplyError):
                    one.set_exception(Refused(str(reply)))
                else:
                    one.set_result(reply)
        except (hiredis.ProtocolError, IndexError):  # not Redis, or answers nobody asked for
            self.close()
            return
        batches = self._batches
        while batches and batches[0].last <= self._answered:
            batch = batches.popleft()
            self._bytes -= batch.size
            self._figures.batch_seconds.add(perf_counter() - batch.sent)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()

    def pushed(self, message: list[Reply]) -> None:
        """Take what the server sends unasked."""

    # --- ending --------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Give the connection up when the oldest answer is overdue; look again soon."""
        if self._batches and perf_counter() - self._batches[0].sent > self._timeout:
            self.overdue = True
            self.close()
        else:
            self._watch = self._loop.call_later(self._timeout / 8, self._look)

    def close(self) -> None:
        """End the connection at once; what is under way on it is lost."""
        if self._transport is not None:
            self._transport.abort()
        self.end()

    def end(self) -> None:
        """Let everybody know who waits for an answer."""
        if self.ended.done():
            return
        self._transport = None
        self.ended.set_result(None)
        self.on_end()
        if self._watch is not None:
            self._watch.cancel()
        self._leaving.clear()
        self._writes.clear()
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            if not one.done():
                one.set_exception(Lost(overdue=self.overdue))


def _nothing() -> None:
    pass


class _Nobody:
    """Nobody asks for this answer."""

    def done(self) -> bool:
        return True

    def set_result(self, result: Reply, /) -> None: ...
    def set_exception(self, exception: Exception, /) -> None: ...


class _Write:
    """A write whose answer is kept until the replicas have it."""

    def __init__(self, future: "asyncio.Future[Reply]") -> None:
        self._future = future
        self._reply: Reply = None

    def done(self) -> bool:
        return self._future.done()

    def set_result(self, result: Reply, /) -> None:
        self._reply = result

    def set_exception(self, exception: Exception, /) -> None:
        self._future.set_exception(exception)

    def confirm(self) -> None:
        if not self._future.done():
            self._future.set_result(self._reply)


class _Replicas:
    """The answer to WAIT: how many replicas have the writes before it."""

    def __init__(self, writes: list[_Write], wanted: int) -> None:
        self._writes = writes
        self._wanted = wanted

    def done(self) -> bool:
        return False

    def set_result(self, result: Reply, /) -> None:
        if result >= self._wanted:
            for write in self._writes:
                write.confirm()
        else:
            self.set_exception(
                StoreUnavailable(f"Only {result} of {self._wanted} replicas have taken the write in time.")
            )

    def set_exception(self, exception: Exception, /) -> None:
        if isinstance(exception, Refused) and exception.code in _DEMOTED:
            exception = Lost()
        for write in self._writes:
            if not write.done():
                write.set_exception(exception)
