"""The disk fills up, or fails, under a server at work.

A server's disk is "filled" by lowering the limit on its file sizes, which needs no rights and can be lifted
again; the store itself meets each kind of failure at each point through a file system shim.
"""

import asyncio
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from server_process import STOP_SECONDS

from .audit import Record, audit
from .load import Load
from .victim import LONG, Victim, seed, victim
from .wire import Connection, ServerReader

pytestmark = pytest.mark.faults

ROUNDS = 25 if LONG else 4
READS = {"list"}


def limit_files(server: Victim, size: int | None) -> None:
    """Let no file of the server grow beyond `size`, nor be written there; None lifts the limit."""
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


async def at_work(record: Record, server: Victim, chance: random.Random, answers: int) -> Load:
    """A load that was stopped after so many answers."""

    def watch(count: int) -> None:
        if count == answers:
            load.stop()

    load = Load(record, server.port, chance, watch)
    await load.run()
    return load


async def test_full_disk_is_answered_503_and_nothing_is_lost(tmp_path: Path) -> None:
    chance = random.Random(seed())
    record = Record()
    for number in range(ROUNDS):
        with victim(tmp_path) as server:
            reader = ServerReader(server.port)
            await audit(record, reader, clock=time.time, settle=True)
            await at_work(record, server, chance, 150)
            log_size = (tmp_path / "data" / "sukkal.db-wal").stat().st_size
            # None at all, none for the log, some more for the log: in the midst of a commit.
            limits = [
                0,
                log_size // 2,
                log_size + chance.randrange(400_000),
                log_size + chance.randrange(4_000),
            ]
            limit = limits[number % len(limits)]
            limit_files(server, limit)
            load = await at_work(record, server, chance, 400)
            refused = {kind for kind, status in load.answers if status == 503}
            assert refused
            assert not refused & READS
            if limit <= log_size // 2:
                # Renewals and deletions of what is not there change nothing, and may say so. Neither does
                # a claim or a pop that finds nothing; the audit below would miss what it took.
                nothing = {("claim", 204), ("pop", 200)}
                changed = {s for k, s in load.answers if k not in READS and (k, s) not in nothing}
                assert changed <= {503, 400, 403, 404}, load.answers
            await audit(record, reader, clock=time.time, settle=False)
            end = chance.choice(["recover", "recover", "stop", "kill"])
            if end == "recover":
                limit_files(server, None)
                load = await at_work(record, server, chance, 150)
                assert not {kind for kind, status in load.answers if status == 503}
                await audit(record, reader, clock=time.time, settle=False)
            reader.close()
            if end == "kill":
                server.kill()
                server.bury()
            else:
                server.stop()
    with victim(tmp_path) as server:
        reader = ServerReader(server.port)
        await audit(record, reader, clock=time.time, settle=True)
        reader.close()


async def test_disk_that_fills_and_empties_under_load(tmp_path: Path) -> None:
    chance = random.Random(seed())
    record = Record()
    with victim(tmp_path) as server:
        log = tmp_path / "data" / "sukkal.db-wal"
        full, changes, change_at = False, 0, 40

        def watch(count: int) -> None:
            nonlocal full, changes, change_at
            if count < change_at or load.stopping:
                return
            full, changes, change_at = not full, changes + 1, count + chance.randrange(5, 60)
            room = chance.choice([0, log.stat().st_size + chance.randrange(100_000)])
            limit_files(server, room if full else None)
            if changes >= ROUNDS * 8 and not full:
                load.stop()

        load = Load(record, server.port, chance, watch)
        await load.run()
        assert {status for _, status in load.answers} >= {201, 204, 503}
        reader = ServerReader(server.port)
        await audit(record, reader, clock=time.time, settle=False)
        load = await at_work(record, server, chance, 100)
        assert not {kind for kind, status in load.answers if status == 503}
        await audit(record, reader, clock=time.time, settle=False)
        reader.close()
    with victim(tmp_path) as server:
        reader = ServerReader(server.port)
        await audit(record, reader, clock=time.time, settle=True)
        reader.close()


async def test_queue_that_could_not_be_created_is_created_by_the_next_post(tmp_path: Path) -> None:
    """Posts that fail together leave no trace of the queue, in memory neither."""
    with victim(tmp_path) as server:
        connections = [Connection(server.port) for _ in range(8)]
        document = {"messages": [{"ttl": 600, "body": {"number": 1, "padding": ""}}]}
        names = [f"new-{number}" for number in range(20)]

        async def post(connection: Connection, name: str) -> int:
            answer = await connection.call("acme", "POST", f"/v2/queues/{name}/messages", document)
            return answer.status

        limit_files(server, 0)
        for name in names:
            assert set(await asyncio.gather(*[post(each, name) for each in connections])) == {503}
        limit_files(server, None)
        assert [await post(connections[0], name) for name in names] == [201] * len(names)
        reader = ServerReader(server.port)
        assert sorted(await reader.queues("acme")) == sorted(names)
        reader.close()
        for each in connections:
            each.close()


async def test_start_on_a_full_disk_serves_reads_or_says_why_not(tmp_path: Path) -> None:
    record = Record()
    with victim(tmp_path) as server:
        await at_work(record, server, random.Random(1), 50)
    process = start_limited(tmp_path / "data")
    assert process.stdout is not None
    try:
        first = await asyncio.to_thread(process.stdout.readline)
        if first:
            reader = ServerReader(int(first.rsplit(":", 1)[1]))
            await audit(record, reader, clock=time.time, settle=True)
            reader.close()
    finally:
        process.terminate()
        try:
            _, said = process.communicate(timeout=STOP_SECONDS)
        finally:
            process.kill()
    assert "Traceback" not in said, said
    if first:
        assert process.returncode == 0, said
    else:
        assert process.returncode == 1, said
        assert said.startswith("sukkal: "), said
    with victim(tmp_path) as server:
        reader = ServerReader(server.port)
        await audit(record, reader, clock=time.time, settle=True)
        reader.close()


def start_limited(data: Path) -> subprocess.Popen[str]:
    """A server that may not write to any file from its first moment on."""
    limited = (
        "import os, resource, sys;"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1];"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard));"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-m", "sukkal.cli", "serve", "--port", "0", "--data-dir", str(data)]
    return subprocess.Popen(
        [sys.executable, "-c", limited, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
