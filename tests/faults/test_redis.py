"""Services on one Redis that is killed, restarted and paused under load, and workers that are killed.

Short: a few of each. SUKKAL_LONG=1: many, and a pause of ten seconds.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis_servers import DURABLE, RedisServer, started
from worker_processes import caller_for_each, until, worker_pids

from sukkal.stores.registry import open_backend

from .audit import Record
from .lapse import audit_after_lapse
from .load import Load
from .outage import WORKERS, audited, service, under_load, until_served
from .victim import LONG, Victim, seed

pytestmark = pytest.mark.faults

EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")
RESTARTS = 40 if LONG else 3
KILLS = 30 if LONG else 3
PAUSE = 10.0 if LONG else 2.5  # seconds
TIMEOUT = 2.0 if LONG else 0.5  # seconds until the driver gives up a connection without answers
ANSWERED_WITHIN = 2 * TIMEOUT + 5.0  # seconds; generous: a loaded test machine
MOST_GROWTH = 64 << 20  # bytes of memory in one process while Redis hangs


@pytest.mark.parametrize("options", [DURABLE, EVERYSEC], ids=["always", "everysec"])
async def test_killed_redis_keeps_what_was_acknowledged(tmp_path: Path, options: tuple[str, ...]) -> None:
    chance = random.Random(seed())
    record = Record()
    refusals = 0
    with started(*options) as redis:
        async with service(tmp_path, redis.uri) as server:
            for _ in range(RESTARTS):
                load = await under_load(record, server, chance, redis.kill, redis.start)
                refusals += sum(number for (_, status), number in load.answers.items() if status == 503)
                assert load.slowest < 15
                await audited(record, server)
        backend = await open_backend(redis.uri)
        await audit_after_lapse(record, backend.messages)
        await backend.close()
    assert refusals >= RESTARTS, "the kills have hit nothing"


async def test_redis_that_hangs_is_answered_for_in_time_and_found_again(tmp_path: Path) -> None:
    chance = random.Random(seed())
    record = Record()
    with started(*DURABLE) as redis:
        async with service(tmp_path, f"{redis.uri}/?timeout={TIMEOUT}") as server:
            before = {pid: resident(pid) for pid in worker_pids(server)}
            load = await under_load(record, server, chance, lambda: pause(redis), lambda: None)
            assert sum(number for (_, status), number in load.answers.items() if status == 503)
            assert load.slowest < ANSWERED_WITHIN
            for pid, memory in before.items():
                assert resident(pid) - memory < MOST_GROWTH
            await audited(record, server)
            server.check()


def pause(redis: RedisServer) -> None:
    with redis.stopped():
        time.sleep(PAUSE)  # what is tested: no condition to wait for


def resident(pid: int) -> int:
    """Bytes of memory a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_callers_of_a_redis_that_hangs_are_refused_and_none_hangs(tmp_path: Path) -> None:
    """Many at once, and more as time goes on: each is answered within bounds, before Redis is back."""
    with started(*DURABLE) as redis:
        async with service(tmp_path, f"{redis.uri}/?timeout={TIMEOUT}") as server:
            await until_served(server)
            before = {pid: resident(pid) for pid in worker_pids(server)}
            with redis.stopped():
                record, chance = Record(), random.Random(seed())
                crowd = [Load(record, server.port, chance) for _ in range(8)]
                ends = asyncio.get_running_loop().time() + PAUSE

                def stop_in_time(load: Load) -> Callable[[int], None]:
                    loop = asyncio.get_running_loop()
                    return lambda _: load.stop() if loop.time() > ends else None

                for load in crowd:
                    load.watch(stop_in_time(load))
                await asyncio.gather(*(load.run() for load in crowd))
            statuses = {status for load in crowd for _, status in load.answers}
            assert statuses == {503}
            assert max(load.slowest for load in crowd) < ANSWERED_WITHIN
            for pid, memory in before.items():
                assert resident(pid) - memory < MOST_GROWTH
            await until_served(server)


async def test_killed_worker_takes_no_message_with_it(tmp_path: Path) -> None:
    chance = random.Random(seed())
    record = Record()
    with started(*DURABLE) as redis:
        async with service(tmp_path, redis.uri) as server:
            for _ in range(KILLS):
                killed = await kill_worker_under_load(record, server, chance)
                await asyncio.to_thread(
                    until, lambda killed=killed: len(worker_pids(server) - {killed}) == WORKERS
                )
                with caller_for_each(server, "acme", WORKERS):
                    await audited(record, server)
        backend = await open_backend(redis.uri)
        await audit_after_lapse(record, backend.messages)
        await backend.close()


async def kill_worker_under_load(record: Record, server: Victim, chance: random.Random) -> int:
    """Kill one at a random moment, and let the load go on with the others; which it was."""
    at, chosen = chance.randrange(30, 400), chance.choice(sorted(worker_pids(server)))
    load = Load(record, server.port, chance, lasting=True)

    def watch(count: int) -> None:
        if count == at:
            os.kill(chosen, signal.SIGKILL)
        elif count == at + 300:
            load.stop()

    load.watch(watch)
    await load.run()
    return chosen
