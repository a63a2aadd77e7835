"""A loaded server is killed at random points, again and again, and must have kept every promise.

Short: a few kills. SUKKAL_LONG=1: over a hundred.
"""

import asyncio
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sukkal.stores.registry import open_backend

from .audit import Record, Violated, audit
from .lapse import audit_after_lapse
from .load import QUEUES, Load
from .victim import LONG, Victim, seed, victim
from .wire import ServerReader

pytestmark = pytest.mark.faults

KILLS = 150 if LONG else 8
MOST_ANSWERS = 1500 if LONG else 600  # between start and kill; the log is moved about every thousand


async def test_killed_server_keeps_its_promises(tmp_path: Path) -> None:
    chance = random.Random(seed())
    record = Record()
    kinds: set[tuple[str, int]] = set()
    open_at_kill = 0
    for life in range(KILLS):
        with victim(tmp_path) as server:
            reader = ServerReader(server.port)
            await audit(record, reader, clock=time.time, settle=True)
            await check_plain_claims(record, server)
            await keep_markers(record, reader, chance)
            limit = chance.randrange(1, 30 if life % 2 else MOST_ANSWERS)
            load = Load(record, server.port, chance, strike_at(limit, server, chance))
            await load.run()
            server.bury()
            reader.close()
        kinds |= set(load.answers)
        open_at_kill += len(record.posts) + len(record.requests)
        if life % 10 == 7:
            await check_lapse(record, tmp_path)
    with victim(tmp_path) as server:
        reader = ServerReader(server.port)
        await audit(record, reader, clock=time.time, settle=True)
        reader.close()
        server.stop()
    await check_lapse(record, tmp_path)
    # The kills hit something, and every kind of request was among what they hit.
    assert open_at_kill >= KILLS
    expected = {("post", 201), ("claim", 201), ("delete", 204), ("delete many", 204), ("pop", 200)}
    assert kinds >= expected | {("release", 204), ("renew", 204)}


async def test_server_that_forgets_is_found_out(tmp_path: Path) -> None:
    chance = random.Random(seed())
    record = Record()
    with victim(tmp_path, "--store", "memory:") as server:
        load = Load(record, server.port, chance, strike_at(200, server, chance))
        await load.run()
        server.bury()
    with victim(tmp_path, "--store", "memory:") as server:
        reader = ServerReader(server.port)
        with pytest.raises(Violated, match="I1"):
            await audit(record, reader, clock=time.time, settle=True)
        reader.close()


def strike_at(limit: int, server: Victim, chance: random.Random) -> Callable[[int], None]:
    """Kill the server within milliseconds after so many answers."""

    def watch(count: int) -> None:
        if count == limit:
            asyncio.get_running_loop().call_later(chance.random() * 0.004, server.kill)

    return watch


async def check_plain_claims(record: Record, server: Victim) -> None:
    """I2 across the restart: a claim is given nothing that a live lease of before holds."""
    load = Load(record, server.port, random.Random(0))
    await load.claim_and_release(QUEUES)


async def keep_markers(record: Record, reader: ServerReader, chance: random.Random) -> None:
    queue = chance.choice(QUEUES)
    before: list[int] = []
    async for page, marker in reader.pages(queue, limit=chance.randrange(1, 20)):
        before += [each.number for each in page]
        if chance.random() < 0.3:
            record.mark(queue, marker, before)


async def check_lapse(record: Record, directory: Path) -> None:
    """I5: on a copy of the dead server's store, at the time when all leases have lapsed."""
    copy = directory / "copy"
    shutil.copytree(directory / "data", copy)
    backend = await open_backend(f"sqlite://{copy}/sukkal.db")
    try:
        await audit_after_lapse(record, backend.messages)
    finally:
        await backend.close()
        shutil.rmtree(copy)
