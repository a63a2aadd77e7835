"""Redis servers that take over from each other: a Sentinel group and a cluster, with real processes."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from redis_servers import DURABLE, Group, RedisServer, cluster, sentinel_group, until

from sukkal.errors import StoreUnavailable
from sukkal.model import QueueKey
from sukkal.stores.contract import Backend, Trait
from sukkal.stores.redis.layout import Layout
from sukkal.stores.registry import open_backend

from .samples import NOW, QUEUE, ids, lease, message, walk

QUEUES = [QueueKey("acme", f"q{number}") for number in range(30)]  # some on each node of a cluster
QUICK = "timeout=1&connect_timeout=1"
PATIENT = "timeout=30&connect_timeout=30&min_replicas=1&replica_timeout=30"


@pytest.fixture(params=[sentinel_group, cluster])
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    """A group that this test alone may break."""
    with request.param(*DURABLE, patience=1.2) as group:
        yield group


@contextlib.asynccontextmanager
async def opened(group: Group, options: str = "") -> AsyncIterator[Backend]:
    """The store. Unless options say otherwise all replicas have a write before it is acknowledged.

    With fewer, a failover may promote one that does not have it: sentinels and nodes prefer the replica that
    has received most, but what they know of that may be a second old.
    """
    options = options or f"{QUICK}&min_replicas={group.replicas}&replica_timeout=1"
    backend = await open_backend(f"{group.uri}?{options}")
    try:
        yield backend
    finally:
        await backend.close()


async def until_done(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat what is refused for the time being; each refusal comes within seconds."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with asyncio.timeout(8):
                    await call()
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def until_refused(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat what is done as yet."""
    async with asyncio.timeout(20):
        while True:
            await call()


async def fail_over(group: Group) -> None:
    """Kill a primary; it comes back as a replica, which the new one needs before it can acknowledge."""
    killed = group.primary()
    killed.kill()
    await asyncio.to_thread(until, group.takes_writes)
    if group.uri.startswith("redis+cluster:"):
        killed.start()
    else:
        killed.start("--replicaof", "127.0.0.1", str(group.primary().port))


async def test_acknowledged_messages_outlive_their_primary(group: Group) -> None:
    async with opened(group) as backend:
        assert Trait.DURABLE in backend.traits
        one_at_a_time = not group.uri.startswith("redis+cluster:")  # writes for all queues
        assert (Trait.IN_ORDER in backend.traits) is one_at_a_time
        acknowledged: dict[QueueKey, list[str]] = {queue: [] for queue in QUEUES}
        stop, progress = asyncio.Event(), asyncio.Event()

        async def produce(queue: QueueKey) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    await backend.messages.append(queue, [message(f"{number}")])
                    acknowledged[queue].append(f"{number}")
                    progress.set()
                except StoreUnavailable:
                    await asyncio.sleep(0.02)

        producers = [asyncio.create_task(produce(queue)) for queue in QUEUES]
        await until_done(backend.ping)
        held = await backend.messages.claim(QUEUES[0], lease("c1"), limit=1, now=NOW)
        await fail_over(group)
        before = {queue: len(acknowledged[queue]) for queue in QUEUES}
        async with asyncio.timeout(60):
            while any(len(acknowledged[queue]) < before[queue] + 5 for queue in QUEUES):
                progress.clear()
                await progress.wait()
        stop.set()
        await asyncio.gather(*producers)
        for queue in QUEUES:
            kept = ids(await walk(backend.messages, queue, limit=1000))
            assert len(set(kept)) == len(kept)
            assert [id for id in kept if id in set(acknowledged[queue])] == acknowledged[queue]
        if held:
            answer = await backend.messages.held(QUEUES[0], "c1", now=NOW)
            assert answer is not None
            assert answer[1] == held


@pytest.mark.parametrize("short_of", [0, 1, 2])
async def test_durability_is_claimed_when_all_who_may_take_over_have_a_write(
    short_of: int, group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    """One that lacks a write may be the one that takes over, however well the others keep it."""
    wanted = max(0, group.replicas - short_of)
    with caplog.at_level(logging.WARNING):
        async with opened(group, f"{QUICK}&min_replicas={wanted}") as backend:
            assert (Trait.DURABLE in backend.traits) is (wanted == group.replicas)
    warnings = [record.getMessage() for record in caplog.records]
    weak = f"Set min_replicas={group.replicas} in the store's URI"
    advice = weak if wanted < group.replicas else "Set aof-load-truncated no"  # as the tests' servers do not
    assert warnings
    assert all(advice in warning for warning in warnings)


async def test_waiter_is_woken_after_a_failover_too(group: Group) -> None:
    async with opened(group) as backend:
        heard: list[int | None] = []
        news = asyncio.Event()

        def hear(queue: QueueKey, count: int | None, due: float) -> None:
            heard.append(count)
            news.set()

        backend.waker.listen(hear)
        await backend.waker.watch(QUEUE)
        await fail_over(group)
        await until_done(lambda: backend.messages.append(QUEUE, [message("m1")]))
        async with asyncio.timeout(60):
            while 7 not in heard:
                backend.waker.tell(QUEUE, 7)
                news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), 0.2)


async def test_primary_that_hangs_is_replaced(group: Group) -> None:
    async with opened(group) as backend:
        await asyncio.gather(*(backend.messages.append(queue, [message("m1")]) for queue in QUEUES))
    async with opened(group, QUICK) as backend:
        with group.primary().stopped():
            for queue in QUEUES:
                await until_done(lambda queue=queue: backend.messages.append(queue, [message("m2")]))
        for queue in QUEUES:
            await until_done(lambda queue=queue: backend.messages.append(queue, [message("m3")]))
            assert ids(await walk(backend.messages, queue)) == ["m1", "m2", "m3"]


async def test_master_that_is_replaced_alive_is_left_at_once() -> None:
    """It hears of that some ten seconds later, and what it takes until then is lost."""
    with sentinel_group(*DURABLE, patience=30) as group:
        old = group.primary()
        async with opened(group, QUICK) as backend:
            await backend.messages.append(QUEUE, [message("m1")])
            assert group.sentinels[2].ask("SENTINEL", "FAILOVER", "main") == b"+OK\r\n"
            primaries: list[RedisServer] = []
            async with asyncio.timeout(30):
                while len(primaries) < 2:
                    primaries = [each for each in group.members if b"role:master" in each.ask("INFO")]
                    await asyncio.sleep(0.02)
            (new,) = [server for server in primaries if server is not old]
            kept = f"{Layout('sukkal').queue(QUEUE).tag.decode()}c:{QUEUE.project}/{QUEUE.name}"
            async with asyncio.timeout(5):
                number = 1
                while new.ask("HEXISTS", kept, f"m{number}") != b":1\r\n" or number == 1:
                    number += 1
                    await until_done(
                        lambda number=number: backend.messages.append(QUEUE, [message(f"m{number}")])
                    )
            assert b"role:master" in old.ask("INFO")


async def test_failover_is_noticed_also_when_nothing_is_asked() -> None:
    with cluster(*DURABLE, patience=1.2) as group:
        async with opened(group, QUICK) as backend:
            await asyncio.gather(*(backend.messages.append(queue, [message("m1")]) for queue in QUEUES))
            group.primary().kill()
            await asyncio.to_thread(until, group.takes_writes)
            new = group.primary()
            async with asyncio.timeout(30):
                while b"name=sukkal" not in new.ask("CLIENT", "LIST"):  # noqa: ASYNC110 - nobody tells us when
                    await asyncio.sleep(0.02)
            await backend.ping()


async def test_node_that_serves_no_keys_is_not_well() -> None:
    with cluster(*DURABLE) as group:
        async with opened(group, QUICK) as backend:
            await backend.ping()
            for server in group.members[:3]:
                server.ask("CLUSTER", "DELSLOTS", "0")
            with pytest.raises(StoreUnavailable, match="CLUSTERDOWN"):
                await until_refused(backend.ping)


async def test_slot_that_moves_away_is_followed() -> None:
    with cluster(*DURABLE, patience=5) as group:
        async with opened(group, PATIENT) as backend:
            await asyncio.gather(*(backend.messages.append(queue, [message("m1")]) for queue in QUEUES))
            for replica in group.members[3:]:
                assert replica.ask("CLUSTER", "FAILOVER") == b"+OK\r\n"
            for queue in QUEUES:
                await until_done(lambda queue=queue: backend.messages.append(queue, [message("m2")]))
                assert ids(await walk(backend.messages, queue)) == ["m1", "m2"]
            await until_done(backend.ping)
