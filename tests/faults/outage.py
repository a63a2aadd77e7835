"""A service of several processes whose store goes away under load, and comes back."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from .audit import Record, Sent, audit
from .load import Load
from .victim import Victim, victim
from .wire import Connection, ServerReader

log = logging.getLogger(__name__)

WORKERS = 2


class Loss(NamedTuple):
    """Acknowledged messages that are gone. Times are when they were acknowledged."""

    messages: int
    first: float = float("inf")
    last: float = float("inf")

    @classmethod
    def of(cls, lost: Sequence[Sent]) -> "Loss":
        times = [sent.post.acknowledged or 0.0 for sent in lost]
        return cls(len(lost), min(times), max(times)) if times else cls(0)

    def __str__(self) -> str:
        if not self.messages:
            return "nothing"
        return f"{self.messages} messages, acknowledged within {self.last - self.first:.3f} s"


class Outage:
    """When clients that were refused may go on."""

    def __init__(self) -> None:
        self._over = asyncio.Event()
        self._over.set()

    def begin(self) -> None:
        self._over.clear()

    def end(self) -> None:
        self._over.set()

    async def over(self) -> None:
        await self._over.wait()


@contextlib.asynccontextmanager
async def service(directory: Path, uri: str) -> AsyncIterator[Victim]:
    with victim(directory, "--store", uri, "--workers", str(WORKERS)) as server:
        try:
            yield server
        except BaseException:
            log.warning("the log of the service ends with:\n%s", server.log[-4000:])
            raise


async def audited(record: Record, server: Victim) -> None:
    """Hold the service to everything it has said. All requests sent before must have been answered."""
    reader = ServerReader(server.port)
    await audit(record, reader, clock=time.time, settle=True)
    reader.close()


async def until_served(server: Victim) -> None:
    """Return when every worker has found its way back: many connections, all answered well."""
    async with asyncio.timeout(90):
        while not await served(server):  # noqa: ASYNC110 - nobody tells us when
            await asyncio.sleep(0.05)


async def served(server: Victim) -> bool:
    connections = [Connection(server.port) for _ in range(20)]
    try:
        answers = [await connection.call("acme", "GET", "/v2/ping") for connection in connections]
    finally:
        for connection in connections:
            connection.close()
    return all(answer.status == 204 for answer in answers)


async def under_load(
    record: Record,
    server: Victim,
    chance: random.Random,
    disturb: Callable[[], object],
    recover: Callable[[], object],
    *,
    answers: range = range(30, 300),
) -> Load:
    """Disturb the store after so many answers, recover it, and go on for a while. Returns when it is done."""
    outage = Outage()
    disturbances: list[asyncio.Task[None]] = []
    at = chance.choice(answers)

    async def strike() -> None:
        await asyncio.sleep(chance.random() * 0.004)  # anywhere within a request
        outage.begin()
        try:
            await asyncio.to_thread(disturb)
            await asyncio.to_thread(recover)
            await until_served(server)
        finally:
            outage.end()
            asyncio.get_running_loop().call_later(0.5, load.stop)

    def watch(count: int) -> None:
        if count == at:
            disturbances.append(asyncio.create_task(strike()))

    load = Load(record, server.port, chance, watch, outage.over)
    await load.run()
    assert disturbances, "the load ended before it was disturbed"
    await asyncio.gather(*disturbances)
    return load
