"""Services whose records are in a database that is killed and restarted under load; messages are on Redis.

Short: a few of each. SUKKAL_LONG=1: many.
"""

import asyncio
import itertools
import random
from pathlib import Path

import pytest
import redis_servers
import sql_servers

from sukkal.stores.registry import open_backend

from .audit import Record
from .lapse import audit_after_lapse
from .outage import WORKERS, audited, under_load
from .victim import LONG, seed, victim
from .wire import Connection

pytestmark = pytest.mark.faults

RESTARTS = 20 if LONG else 2
PROJECT = "builders"


class Builder:
    """Creates queue after queue, each with a number of its own among its metadata, and deletes some again."""

    def __init__(self, port: int) -> None:
        self.kept: dict[str, int] = {}  # what was acknowledged
        self.deleted: set[str] = set()
        self.refusals = 0
        self._connection = Connection(port)
        self._numbers = itertools.count()

    async def work(self) -> None:
        """For as long as the task lives. A refused request may have been served, so it is said again."""
        for number in self._numbers:
            name = f"q{number}"
            await self._insist("PUT", name, {"number": number})
            self.kept[name] = number
            if number % 3 == 0:
                del self.kept[name]  # from now on it may be there or not
                await self._insist("DELETE", name)
                self.deleted.add(name)

    async def _insist(self, method: str, name: str, metadata: dict[str, int] | None = None) -> None:
        while True:
            answer = await self._connection.call(PROJECT, method, f"/v2/queues/{name}", metadata)
            if answer.status in (201, 204):
                return
            assert answer.status == 503, answer
            assert answer.retry_after is not None
            self.refusals += 1
            await asyncio.sleep(0.01)

    async def audit(self) -> None:
        listed = await self._listed()
        assert {name: listed.get(name) for name in self.kept} == self.kept
        assert not self.deleted & set(listed)

    async def _listed(self) -> dict[str, int]:
        found: dict[str, int] = {}
        path: str | None = "/v2/queues?detailed=true&limit=20"
        while path is not None:
            answer = await self._connection.call(PROJECT, "GET", path)
            assert answer.status == 200, answer
            page = answer.document["queues"]
            found |= {queue["name"]: queue["metadata"]["number"] for queue in page}
            path = answer.document["links"][0]["href"] if page else None
        return found

    def close(self) -> None:
        self._connection.close()


@pytest.mark.parametrize("kind", sql_servers.KINDS)
async def test_killed_database_keeps_what_was_acknowledged(tmp_path: Path, kind: str) -> None:
    chance = random.Random(seed())
    record = Record()
    with redis_servers.started(*redis_servers.DURABLE) as redis, sql_servers.started(kind) as database:
        uri = f"{database.new_database()}?timeout=2&connect_timeout=2"
        flags = ("--store", redis.uri, "--control-store", uri, "--workers", str(WORKERS))
        with victim(tmp_path, *flags) as server:
            builder = Builder(server.port)
            for _ in range(RESTARTS):
                refused, built = builder.refusals, len(builder.kept)
                building = asyncio.create_task(builder.work())
                load = await under_load(record, server, chance, database.kill, database.start)
                building.cancel()
                await asyncio.wait({building})
                assert building.cancelled(), building.exception()
                builder.close()
                assert load.slowest < 15
                assert builder.refusals > refused, "the kill has hit nothing"
                assert len(builder.kept) > built
                await audited(record, server)
                await builder.audit()
            builder.close()
            server.check()
        backend = await open_backend(redis.uri)
        await audit_after_lapse(record, backend.messages)
        await backend.close()
