"""What is Redis's own about that store: lost connections, lost scripts, servers that promise too little."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from redis_servers import DURABLE, SHARED, RedisServer, started, until

from sukkal.errors import StoreUnavailable
from sukkal.model import ANYONE, Holder, QueueKey, Stats
from sukkal.stores.contract import Backend, Shelf, Trait
from sukkal.stores.redis.link import Link
from sukkal.stores.registry import open_backend

from .samples import NOW, QUEUE, ids, lease, message, numbered, walk

QUICK = "timeout=1&connect_timeout=1"
SHELF = Shelf("queue", "acme")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that this test alone may stop."""
    with started(*DURABLE) as server:
        yield server


@asynccontextmanager
async def opened(server: RedisServer, options: str = QUICK) -> AsyncIterator[Backend]:
    backend = await open_backend(f"{server.uri}/?{options}")
    try:
        yield backend
    finally:
        await backend.close()


async def unavailable(call: Callable[[], Awaitable[object]], *, within: float) -> str:
    """The words of the refusal, which comes in time."""
    async with asyncio.timeout(within):
        with pytest.raises(StoreUnavailable) as caught:
            await call()
    return str(caught.value)


async def until_available(call: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await call()
            except StoreUnavailable:
                await asyncio.sleep(0.01)
            else:
                return


# Connections


async def test_calls_of_one_turn_leave_together(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(server) as backend:
        leaving: list[int] = []
        flush = Link._flush

        def counted(link: Link) -> None:
            leaving.append(len(link._leaving))
            flush(link)

        monkeypatch.setattr(Link, "_flush", counted)
        await asyncio.gather(
            *(backend.messages.append(QueueKey("acme", f"q{n}"), numbered(1)) for n in range(50))
        )
        assert leaving == [50]


async def test_acknowledged_messages_outlive_a_crash_of_the_server(server: RedisServer) -> None:
    async with opened(server) as backend:
        await backend.messages.append(QUEUE, numbered(50))
        held = await backend.messages.claim(QUEUE, lease("c1"), limit=10, now=NOW)
        server.kill()
        server.start()
        await until_available(backend.ping)
        assert ids(await walk(backend.messages)) == ids(numbered(50))
        assert await backend.messages.held(QUEUE, "c1", now=NOW) == (lease("c1"), held)


async def test_call_fails_at_once_while_the_server_is_known_to_be_away(server: RedisServer) -> None:
    async with opened(server) as backend:
        server.kill()
        await unavailable(lambda: backend.messages.append(QUEUE, numbered(1)), within=3)
        said = await unavailable(lambda: backend.messages.append(QUEUE, numbered(1)), within=0.05)
        assert f"127.0.0.1:{server.port}" in said
        server.start()
        await until_available(lambda: backend.messages.append(QUEUE, numbered(1)))
        assert ids(await walk(backend.messages)) == ["m00000"]


async def test_server_that_hangs_holds_nobody_up_for_long(server: RedisServer) -> None:
    async with opened(server) as backend:
        with server.stopped():
            calls = [unavailable(lambda: walk(backend.messages), within=5) for _ in range(100)]
            calls.append(unavailable(lambda: backend.messages.append(QUEUE, numbered(1)), within=5))
            await asyncio.gather(*calls)
            await unavailable(backend.ping, within=0.5)
        await until_available(lambda: backend.messages.append(QUEUE, numbered(1)))
        assert ids(await walk(backend.messages)) == ["m00000"]


async def test_calls_under_way_are_bounded(server: RedisServer) -> None:
    async with opened(server, "timeout=5") as backend:
        with server.stopped():
            large = [message("m", body=b"x" * 1_000_000)]
            calls = [asyncio.ensure_future(backend.messages.append(QUEUE, large)) for _ in range(80)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            said = await unavailable(lambda: backend.messages.append(QUEUE, large), within=0.1)
            assert "keep up" in said
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers.count(None) > 0


async def test_call_whose_answer_was_lost_is_done_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has done it, but its answer is thrown away with the connection: the call is repeated."""
    async with opened(server) as backend:
        messages, documents = backend.messages, backend.documents
        lose = [False]
        receive = Link.data_received

        def receive_or_lose(link: Link, data: bytes) -> None:
            if lose[0]:
                lose[0] = False
                link.close()
            else:
                receive(link, data)

        monkeypatch.setattr(Link, "data_received", receive_or_lose)

        lose[0] = True
        await messages.append(QUEUE, numbered(6))
        assert not lose[0]
        assert ids(await walk(messages)) == ids(numbered(6))

        lose[0] = True
        taken = await messages.claim(QUEUE, lease("c1"), limit=2, now=NOW)
        assert [(each.id, each.claim_count) for each in taken] == [("m00000", 1), ("m00001", 1)]
        assert (await messages.stats(QUEUE, now=NOW)).claimed == 2
        more = await messages.claim(QUEUE, lease("c1"), limit=1, now=NOW)
        assert ids(more) == ["m00002"]

        lose[0] = True
        assert ids(await messages.pop(QUEUE, limit=2, now=NOW)) == ["m00003", "m00004"]
        assert (await messages.stats(QUEUE, now=NOW)).total == 4

        lose[0] = True
        assert await documents.put(SHELF, "a", b"1", expect=0, now=NOW) is not None
        found = await documents.get(SHELF, "a", now=NOW)
        lose[0] = True
        assert found is not None
        assert await documents.put(SHELF, "a", b"2", expect=found.version, now=NOW) == found.version + 1

        lose[0] = True
        await messages.delete(QUEUE, ["m00000"], holder=ANYONE, now=NOW)
        lose[0] = True
        await messages.release(QUEUE, "c1", now=NOW)
        assert await messages.claim(QUEUE, lease("c2"), limit=9, now=NOW) != []
        assert (await messages.volume(now=NOW)) == Stats(free=0, claimed=3)


async def test_scripts_that_the_server_has_lost_are_loaded_again(server: RedisServer) -> None:
    async with opened(server) as backend:
        for number in range(3):
            server.ask("SCRIPT", "FLUSH")
            calls = [backend.messages.append(QUEUE, [message(f"{number}-{n}")]) for n in range(20)]
            await asyncio.gather(*calls)
        assert (await backend.messages.stats(QUEUE, now=NOW)).total == 60


async def test_first_start_without_a_server_is_refused() -> None:
    with started() as server:
        pass
    with pytest.raises(StoreUnavailable, match=r"Redis at 127\.0\.0\.1:\d+ cannot be reached"):
        await open_backend(f"{server.uri}/?{QUICK}")


# Promises


@pytest.mark.parametrize(
    "options, durable, warning",
    [
        ((*DURABLE, "--aof-load-truncated", "no"), True, None),
        (DURABLE, True, "Set aof-load-truncated no"),
        (("--appendonly", "yes", "--appendfsync", "everysec"), False, "last second or two"),
        (("--appendonly", "yes", "--appendfsync", "no"), False, "last half minute"),
        (("--appendonly", "no", "--appendfsync", "always"), False, "keeps no log"),
        (("--appendonly", "yes", "--rename-command", "CONFIG", ""), False, "CONFIG is not permitted"),
    ],
)
async def test_durability_is_claimed_where_it_is_so(
    options: tuple[str, ...], durable: bool, warning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with started(*options) as server, caplog.at_level(logging.WARNING):
        async with opened(server) as backend:
            assert (Trait.DURABLE in backend.traits) is durable
            assert Trait.SHARED in backend.traits
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (0 if warning is None else 1)
    assert warning is None or warning in warnings[0]


async def test_server_that_would_evict_is_refused() -> None:
    refused = pytest.raises(StoreUnavailable, match=r"allkeys-lru.*Set it to noeviction")
    with started("--maxmemory-policy", "allkeys-lru") as server, refused:
        await open_backend(server.uri)


async def test_full_server_takes_no_messages_but_can_be_read_and_emptied(server: RedisServer) -> None:
    async with opened(server) as backend:
        messages, later = backend.messages, NOW + 60
        await messages.append(QUEUE, [*numbered(6), message("later", delay=30), message("short", ttl=30)])
        await messages.claim(QUEUE, lease("c1", ttl=60), limit=2, now=NOW)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        said = await unavailable(lambda: messages.append(QUEUE, numbered(3, first=6)), within=1)
        assert "OOM" in said
        assert ids(await walk(messages, now=later)) == [*ids(numbered(6)), "later"]
        taken = await messages.claim(QUEUE, lease("c2", since=later), limit=2, now=later)
        mine = Holder(claims=frozenset({"c2"}))
        assert await messages.delete(QUEUE, ids(taken), holder=mine, now=later) == ids(numbered(2))
        await messages.claim(QUEUE, lease("c3", since=later), limit=1, now=later)
        assert await messages.release(QUEUE, "c3", now=later)
        assert len(await messages.pop(QUEUE, limit=2, now=later)) == 2
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await messages.append(QUEUE, numbered(1, first=6))
        assert ids(await walk(messages, now=later)) == ["m00004", "m00005", "later", "m00006"]


async def test_write_that_too_few_replicas_have_is_not_acknowledged(server: RedisServer) -> None:
    async with opened(server, "min_replicas=1&replica_timeout=0.1") as backend:
        assert Trait.DURABLE in backend.traits
        said = await unavailable(lambda: backend.messages.append(QUEUE, numbered(1)), within=1)
        assert "Only 0 of 1 replicas" in said
        with started("--replicaof", "127.0.0.1", str(server.port)):
            await until_available(lambda: backend.messages.append(QUEUE, numbered(2)))
        assert ids(await walk(backend.messages)) == ids(numbered(2))


async def test_replicas_do_not_stand_in_for_a_log(caplog: pytest.LogCaptureFixture) -> None:
    """A server without one comes back empty, and its replicas follow it."""
    with started("--appendonly", "no") as server, caplog.at_level(logging.WARNING):
        async with opened(server, "min_replicas=1") as backend:
            assert Trait.DURABLE not in backend.traits
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "keeps no log" in warning


async def test_write_whose_server_becomes_a_replica_is_refused_and_not_a_fault(server: RedisServer) -> None:
    with started("--replicaof", "127.0.0.1", str(server.port)) as replica:
        until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
        async with opened(server, "min_replicas=1&replica_timeout=30") as backend:
            with replica.stopped():
                posting = asyncio.create_task(backend.messages.append(QUEUE, numbered(1)))
                async with asyncio.timeout(20):
                    while b"blocked_clients:1" not in server.ask("INFO", "clients"):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                server.ask("REPLICAOF", "127.0.0.1", "1")
                with pytest.raises(StoreUnavailable):
                    await asyncio.wait_for(posting, 20)
    server.ask("REPLICAOF", "NO", "ONE")


async def test_password_is_needed_and_never_told() -> None:
    with started("--requirepass", "secret&word") as server:
        async with opened_at(f"redis://:secret%26word@127.0.0.1:{server.port}/2") as backend:
            await backend.messages.append(QUEUE, numbered(1))
        for uri in (f"redis://127.0.0.1:{server.port}", f"redis://:secret-other@127.0.0.1:{server.port}"):
            with pytest.raises(StoreUnavailable) as caught:
                await open_backend(uri)
            assert "secret" not in str(caught.value)


@asynccontextmanager
async def opened_at(uri: str) -> AsyncIterator[Backend]:
    backend = await open_backend(uri)
    try:
        yield backend
    finally:
        await backend.close()


# Space


async def test_nothing_but_tallies_lasts_when_all_is_done(server: RedisServer) -> None:
    """Each key that is left behind has a time to live, but for the counters of partitions."""
    async with opened(server) as backend:
        messages = backend.messages
        for number in range(4):
            queue = QueueKey("acme", f"q{number}")
            await messages.append(queue, [*numbered(5), message("later", delay=30, claim_count=2)])
            await messages.claim(queue, lease("c1"), limit=3, now=NOW)
        await backend.documents.put(SHELF, "passing", b"1", expect=None, now=NOW, expires=NOW + 60)
        await backend.documents.put(SHELF, "a", b"1", expect=None, now=NOW)
        await backend.documents.delete(SHELF, "a")
        await messages.mark(QueueKey("acme", "q1"), "s1")
        await messages.unmark(QueueKey("acme", "q1"), "s1")
        await messages.purge(QueueKey("acme", "q1"))
        while await messages.pop(QueueKey("acme", "q2"), limit=2, now=NOW + 100):
            pass
        await backend.ping()  # the receipts are unlinked by now
        while await messages.sweep(now=NOW + 9000):
            pass
        left = server.ask("KEYS", "*").decode().split("\r\n")[2::2]
        lasting = [key for key in left if server.ask("TTL", key) == b":-1\r\n"]
        assert lasting
        assert all(key.endswith("tally") for key in lasting)
        assert await messages.volume(now=NOW + 9000) == Stats()


async def test_message_of_a_kilobyte_costs_little_more_than_itself(server: RedisServer) -> None:
    async with opened(server) as backend:

        def used() -> int:
            answer = server.ask("INFO", "memory").decode()
            return int(answer.split("used_memory_dataset:")[1].split("\r\n")[0])

        before = used()
        for first in range(0, 10_000, 500):
            batch = [
                message(f"{number:032x}", body=b"x" * 1024, client=f"{number % 9:036}")
                for number in range(first, first + 500)
            ]
            await backend.messages.append(QUEUE, batch)
        assert (used() - before) / 10_000 < 2 * 1024
        await backend.messages.claim(QUEUE, lease("c" * 32), limit=5000, now=NOW)
        assert (used() - before) / 10_000 < 2.5 * 1024


# Two processes


async def test_two_who_have_the_store_open_see_and_wake_each_other(server: RedisServer) -> None:
    async with opened(server) as one, opened(server) as other:
        woken = asyncio.Event()
        heard = []

        def hear(queue: QueueKey, count: int | None, due: float) -> None:
            heard.append((queue, count, due))
            woken.set()

        one.waker.listen(hear)
        await one.waker.watch(QUEUE)
        await other.messages.append(QUEUE, numbered(2))
        other.waker.tell(QUEUE, 2)
        async with asyncio.timeout(5):
            await woken.wait()
        assert heard == [(QUEUE, 2, 0.0)]
        assert len(await one.messages.claim(QUEUE, lease("c1"), limit=5, now=NOW)) == 2
        assert await other.messages.claim(QUEUE, lease("c2"), limit=5, now=NOW) == []


async def test_line_that_was_lost_wakes_everybody_once_it_is_back(server: RedisServer) -> None:
    async with opened(server) as backend:
        woken = asyncio.Event()
        backend.waker.listen(
            lambda queue, count, due: woken.set() if (queue, count) == (QUEUE, None) else None
        )
        await backend.waker.watch(QUEUE)
        server.kill()
        server.start()
        async with asyncio.timeout(20):
            await woken.wait()


async def test_followers_are_told_of_appends_by_others_also_after_the_line_was_lost(
    server: RedisServer,
) -> None:
    async with opened(server) as one, opened(server) as other:
        told: asyncio.Queue[tuple[QueueKey, str]] = asyncio.Queue()
        one.waker.listen_to_messages(lambda queue, message: told.put_nowait((queue, message.id)))
        again = asyncio.Event()
        one.waker.listen(lambda *_: again.set())
        await one.waker.follow(QUEUE)
        await one.waker.watch(QUEUE)
        async with asyncio.timeout(20):
            await other.messages.append(QUEUE, numbered(1))
            assert await told.get() == (QUEUE, "m00000")
            server.kill()
            server.start()
            await again.wait()  # what follows the queue is sent before
            await one.ping()
            await other.messages.append(QUEUE, numbered(1, first=1))
            assert await told.get() == (QUEUE, "m00001")


async def test_nothing_is_published_where_nobody_follows(server: RedisServer) -> None:
    async with opened(server) as backend:
        await backend.messages.append(QUEUE, numbered(3))
        other = QueueKey("acme", "followed")
        await backend.waker.follow(other)
        await backend.messages.append(QUEUE, numbered(3, first=3))
        assert b"cmdstat_publish" not in server.ask("INFO", "commandstats")
        await backend.messages.append(other, numbered(3))
        assert b"cmdstat_publish:calls=3" in server.ask("INFO", "commandstats")


async def test_who_follows_is_forgotten_when_that_is_not_said_again(server: RedisServer) -> None:
    async with opened(server) as backend:
        await backend.waker.follow(QUEUE)
    (key,) = server.ask("KEYS", "*f:*").decode().split("\r\n")[2::2]
    assert 0 < int(server.ask("TTL", key)[1:]) <= 60


async def test_stores_with_different_prefixes_do_not_touch() -> None:
    server = SHARED.server()
    async with opened(server, "prefix=one-") as one, opened(server, "prefix=two-") as two:
        await one.messages.append(QUEUE, numbered(2))
        assert await walk(two.messages) == []
        await two.messages.purge(QUEUE)
        assert ids(await walk(one.messages)) == ids(numbered(2))
        await one.messages.purge(QUEUE)
