"""A service that delivers is killed again and again, while receivers misbehave; then it is audited.

On its own, and as several workers on one Redis, which is killed too. Every acknowledged message was brought
to each subscriber at least once, or lies in the dead letter queue; and that has one letter for each delivery
that failed for good, none twice. Who wants order got each client's messages in the order of its posts.

Short: a few kills. SUKKAL_LONG=1: many.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis_servers import DURABLE, started
from worker_processes import until, worker_pids

from .outage import WORKERS, until_served
from .story import Story, all_ended, strike, subscribe
from .victim import LONG, SETTINGS, Victim, seed

pytestmark = pytest.mark.faults

KILLS = 40 if LONG else 4
MOST_POSTS = 400 if LONG else 120  # between start and kill
DELIVERING = SETTINGS | {"webhook_allow": "127.0.0.0/8", "webhook_timeout": "1"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"

Behaviour = Callable[[asyncio.StreamWriter, random.Random], bool]  # whether the message was taken


def takes(writer: asyncio.StreamWriter, _chance: random.Random) -> bool:
    writer.write(OK)
    return True


def refuses(writer: asyncio.StreamWriter, _chance: random.Random) -> bool:
    writer.write(REFUSED)
    return False


def sometimes_takes(writer: asyncio.StreamWriter, chance: random.Random) -> bool:
    taken = chance.random() < 0.85  # seldom so often in a row that it is left alone for long
    writer.write(OK if taken else BUSY)
    return taken


def mostly_takes(writer: asyncio.StreamWriter, chance: random.Random) -> bool:
    """So that one message after the other comes to an end: each waits for those before it."""
    return takes(writer, chance) if chance.random() < 0.98 else sometimes_takes(writer, chance)


def sometimes_hangs_up(writer: asyncio.StreamWriter, chance: random.Random) -> bool:
    if chance.random() < 0.85:
        return takes(writer, chance)
    writer.transport.abort()
    return False


def misbehaves(writer: asyncio.StreamWriter, chance: random.Random) -> bool:
    """Hangs, drips, says what no HTTP is, or far too much, which counts as taken; mostly it is well."""
    kind = chance.random()
    if kind < 0.03:
        return False
    if kind < 0.06:
        writer.write(b"HTTP/1.1 2")
        return False
    if kind < 0.12:
        writer.write(b"\0 what is this\r\n\r\n")
        return False
    if kind < 0.2:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 200_000)
        return True
    return takes(writer, chance)


class Receiver:
    """Notes the number of each message it has taken, in the order in which they first came."""

    def __init__(self, behaviour: Behaviour, chance: random.Random, *, ordered: bool) -> None:
        self.ordered = ordered
        self.taken: Counter[int] = Counter()
        self.url = ""
        self._behaviour = behaviour
        self._chance = chance

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                notice = json.loads(await reader.readexactly(length))
                if self._behaviour(writer, self._chance):
                    self.taken[notice["body"]["number"]] += 1
        writer.transport.abort()


@asynccontextmanager
async def receiver(
    behaviour: Behaviour, chance: random.Random, *, ordered: bool = False
) -> AsyncIterator[Receiver]:
    made = Receiver(behaviour, chance, ordered=ordered)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield made
    finally:
        server.close()


@asynccontextmanager
async def receivers_of_all_kinds(chance: random.Random) -> AsyncIterator[list[Receiver]]:
    """One that takes all, one that refuses all, and others; of some kinds also one that wants order."""
    kinds = [(kind, False) for kind in (takes, refuses, sometimes_takes, sometimes_hangs_up, misbehaves)]
    kinds += [(kind, True) for kind in (takes, mostly_takes)]
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(receiver(kind, chance, ordered=ordered))
            for kind, ordered in kinds
        ]


async def subscribe_all(port: int, receivers: Sequence[Receiver]) -> None:
    for ordered in (False, True):
        await subscribe(port, [each for each in receivers if each.ordered is ordered], ordered=ordered)


async def test_killed_server_delivers_all_it_has_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(seed())
    story = Story()
    async with receivers_of_all_kinds(chance) as receivers:
        for life in range(KILLS):
            server = Victim(tmp_path, settings=DELIVERING)
            try:
                if life == 0:
                    await subscribe_all(server.port, receivers)
                limit = chance.randrange(5, MOST_POSTS)
                await story.post(server.port, limit, lambda: strike(server, chance))  # noqa: B023
            except BaseException:
                server._process.kill()
                raise
            server.bury()
        server = Victim(tmp_path, settings=DELIVERING)
        try:
            letters = await all_ended(server.port, story.acknowledged, receivers)
        finally:
            server.stop()
    check(story, receivers, letters)


async def test_killed_workers_and_a_killed_redis_deliver_all_they_have_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(seed())
    story = Story()
    loop = asyncio.get_running_loop()
    with started(*DURABLE) as redis:
        server = Victim(tmp_path, "--store", redis.uri, "--workers", str(WORKERS), settings=DELIVERING)

        def kill_worker() -> None:
            os.kill(chance.choice(sorted(worker_pids(server))), signal.SIGKILL)

        def restart_redis() -> None:
            redis.kill()
            redis.start()

        try:
            async with receivers_of_all_kinds(chance) as receivers:
                await subscribe_all(server.port, receivers)
                for number in range(KILLS):
                    strikes: list[asyncio.Future[None]] = []
                    blow = restart_redis if number % 2 else kill_worker
                    await story.post(
                        server.port,
                        chance.randrange(5, MOST_POSTS),
                        lambda: strikes.append(loop.run_in_executor(None, blow)),  # noqa: B023
                        more=MOST_POSTS // 4,
                    )
                    await asyncio.gather(*strikes)
                    await asyncio.to_thread(until, lambda: len(worker_pids(server)) == WORKERS)
                    await until_served(server)
                letters = await all_ended(server.port, story.acknowledged, receivers)
        except BaseException:
            server._process.kill()
            server.bury()
            raise
        server.stop()
    check(story, receivers, letters)


def check(story: Story, receivers: Sequence[Receiver], letters: dict[str, Counter[int]]) -> None:
    """Hold the deliveries to what was acknowledged."""
    good, bad, *others = receivers
    assert story.open > 0, "no kill hit anything"
    assert not letters[good.url]
    assert story.acknowledged <= set(good.taken)
    for each in others:
        dead = letters[each.url]
        assert story.acknowledged <= set(each.taken) | set(dead)
        assert max(dead.values(), default=1) == 1
        if each.ordered:
            assert_in_order(story, each)
    # Each failure is one letter: of what was acknowledged, and perhaps of what was about to be.
    assert not bad.taken
    assert story.acknowledged <= set(letters[bad.url])
    assert set(letters[bad.url].values()) == {1}


def assert_in_order(story: Story, receiver: Receiver) -> None:
    place = {number: place for place, number in enumerate(receiver.taken)}
    for sequence in story.sequences:
        came = [number for number in sequence if number in place]
        assert came == sorted(came, key=place.__getitem__)
