"""What a crash of Redis and a loss of its power leave under each setting, with services under load.

Short: a few of each. SUKKAL_LONG=1: many, and a disk that is slow.
"""

import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis_servers import DURABLE, RedisServer, started

from sukkal.stores.registry import open_backend

from .audit import Record
from .lapse import audit_after_lapse
from .outage import Loss, audited, service, under_load
from .redis_power import Mains, built, on_mains
from .victim import LONG, seed

pytestmark = pytest.mark.faults

log = logging.getLogger(__name__)

ROUNDS = 15 if LONG else 2
ANSWERS = (
    range(200, 5000) if LONG else range(200, 1500)
)  # until the power is cut: more than a second in the long form
OLDEST_LOSS = 2.0  # seconds; Redis's promise for everysec
LATE = 3.0  # seconds that a loaded test machine may be late

EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")
NO = ("--appendonly", "yes", "--appendfsync", "no")
OFF = ("--appendonly", "no")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("synced"))


async def lose_again_and_again(
    directory: Path,
    name: str,
    redis: RedisServer,
    strike: Callable[[random.Random], None],
    restore: Callable[[], None],
    record: Record,
) -> list[tuple[Loss, float]]:
    """What each strike has lost, and the time of the strike."""
    chance = random.Random(seed())
    losses = []
    async with service(directory, redis.uri) as server:
        for _ in range(ROUNDS):
            lost, struck = len(record.lost), []

            def end(struck: list[float] = struck) -> None:
                strike(chance)
                struck.append(time.time())

            await under_load(record, server, chance, end, restore, answers=ANSWERS)
            await audited(record, server)
            loss = Loss.of(record.lost[lost:])
            losses.append((loss, struck[0]))
            log.warning("%s: lost %s", name, loss)
    backend = await open_backend(redis.uri)
    await audit_after_lapse(record, backend.messages)
    await backend.close()
    return losses


async def cut_again_and_again(
    directory: Path, name: str, mains: Mains, record: Record
) -> list[tuple[Loss, float]]:
    return await lose_again_and_again(directory, name, mains.server, mains.cut, mains.restore, record)


async def kill_again_and_again(directory: Path, name: str, redis: RedisServer, record: Record) -> None:
    await lose_again_and_again(directory, name, redis, lambda chance: redis.kill(), redis.start, record)


async def test_acknowledged_messages_outlive_the_power_when_always_synced(
    tmp_path: Path, library: Path
) -> None:
    with on_mains(library, *DURABLE) as mains:
        await cut_again_and_again(tmp_path, "always, power", mains, Record())


async def test_disk_that_lies_is_found_out(tmp_path: Path, library: Path) -> None:
    """The same with a disk that has not synced when it says so: the cuts do cut something."""
    record = Record(forgives=True)
    with on_mains(library, *DURABLE, lying=True) as mains:
        await cut_again_and_again(tmp_path, "always on a disk that lies, power", mains, record)
        assert mains.unsynced
    assert record.lost


@pytest.mark.parametrize("milliseconds", [0, 1500] if LONG else [0])
async def test_power_takes_the_last_seconds_when_synced_every_second(
    tmp_path: Path, library: Path, milliseconds: int
) -> None:
    """When a sync has not ended, Redis puts off the next write, for two seconds at most."""
    record = Record(forgives=True)
    with on_mains(library, *EVERYSEC, milliseconds=milliseconds) as mains:
        name = f"everysec, syncs of {milliseconds} ms, power"
        losses = await cut_again_and_again(tmp_path, name, mains, record)
        assert mains.unsynced
    assert record.lost
    longest = OLDEST_LOSS + 2 * milliseconds / 1000 + LATE
    assert max(at - loss.first for loss, at in losses) < longest


async def test_power_takes_what_the_system_has_not_written_when_never_synced(
    tmp_path: Path, library: Path
) -> None:
    record = Record(forgives=True)
    with on_mains(library, *NO) as mains:
        await cut_again_and_again(tmp_path, "no, power", mains, record)
    assert record.lost


@pytest.mark.parametrize("options", [DURABLE, EVERYSEC, NO], ids=["always", "everysec", "no"])
async def test_crash_of_the_server_alone_takes_nothing_from_a_log(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    with started(*options) as redis:
        await kill_again_and_again(tmp_path, f"{options[-1]}, kill", redis, Record())


async def test_crash_of_a_server_without_a_log_takes_all(tmp_path: Path) -> None:
    record = Record(forgives=True)
    with started(*OFF) as redis:
        await kill_again_and_again(tmp_path, "no log, kill", redis, record)
    assert record.lost
