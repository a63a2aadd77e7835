"""What is measured of Redis as a store: one server or a Sentinel group, two workers and the load generator.

All of it is on this machine; skipped, with a word on it, where no redis-server is installed. CPU times are
those of all processes of a kind over a run, warm-up included, for each request of it.
"""

import asyncio
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import proc
import wire
from msgspec import Raw
from scenarios import SHALLOW, Bench, Figures, Measured, Result, store_some
from servers import Redis, SentinelGroup, Server

from sukkal.core.context import Context
from sukkal.core.service import Service
from sukkal.model import Message, QueueKey
from sukkal.operations import BY_NAME
from sukkal.requests import NewMessage, PostMessages
from sukkal.stores.contract import Backend, Shelf
from sukkal.stores.registry import open_backend

MODES = ("everysec", "always")
GROUPS = (  # how many replicas must have a write before it is answered, and how each server syncs its log
    (0, "everysec"),
    (2, "everysec"),
    (2, "always"),
)
_WORKERS = 2
_PAYLOAD = 1024  # bytes of a body, for what an index costs
_BATCH = 500


def _program() -> str:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    assert program is not None
    return program


@contextmanager
def _started(bench: Bench, mode: str = "everysec") -> Iterator[tuple[Server, Redis]]:
    program, options = _program(), ("--appendonly", "yes", "--appendfsync", mode)
    with (
        Redis(program, bench.data(), *options) as redis,
        bench.sukkal("--workers", str(_WORKERS), "--store", redis.uri) as server,
    ):
        yield server, redis


def posts(bench: Bench) -> Iterator[Result]:
    """One message per request, with the log synced each second and before each answer."""
    for mode in MODES:
        with _started(bench, mode) as (server, redis):
            name = "redis-posts" if mode == "everysec" else "redis-posts-always"
            yield _timed(bench, name, f"Redis, {mode}: post 1, 32 connections", server, redis, "post")


def list_ten(bench: Bench) -> Iterator[Result]:
    """The first ten messages of a queue."""
    with _started(bench) as (server, redis):
        store_some(server, 2000)
        path = "/v2/queues/bench/messages?echo=true&limit=10"
        title = "Redis: list 10, 32 connections"
        yield _timed(bench, "redis-list", title, server, redis, "read", path=path)


def cycle(bench: Bench) -> Iterator[Result]:
    """Messages through post, claim and delete by ids, ten at a time, all connections on one queue."""
    for mode in MODES:
        with _started(bench, mode) as (server, redis):
            title = f"Redis, {mode}: post 10 + claim 10 + delete 10, 32 connections"
            name = "redis-cycle" if mode == "everysec" else "redis-cycle-always"
            yield _timed(bench, name, title, server, redis, "cycle")


@contextmanager
def _group(bench: Bench, replicas: int, mode: str) -> Iterator[tuple[Server, SentinelGroup]]:
    options = ("--appendonly", "yes", "--appendfsync", mode)
    with SentinelGroup(_program(), bench.data, *options) as group:
        store = f"{group.uri}?min_replicas={replicas}"
        with bench.sukkal("--workers", str(_WORKERS), "--store", store) as server:
            yield server, group


def ha_posts(bench: Bench) -> Iterator[Result]:
    """One message per request on a Sentinel group, with and without waiting for both replicas."""
    for replicas, mode in GROUPS:
        with _group(bench, replicas, mode) as (server, group):
            name = f"redis-ha-posts-{replicas}" + ("-always" if mode == "always" else "")
            title = f"Redis with Sentinel, {mode}, min_replicas={replicas}: post 1, 32 connections"
            yield _timed(bench, name, title, server, group, "post")


def ha_cycle(bench: Bench) -> Iterator[Result]:
    """Messages through post, claim and delete on a Sentinel group, each step on both replicas."""
    with _group(bench, 2, "everysec") as (server, group):
        title = (
            "Redis with Sentinel, everysec, min_replicas=2: post 10 + claim 10 + delete 10, 32 connections"
        )
        yield _timed(bench, "redis-ha-cycle", title, server, group, "cycle")


def _timed(
    bench: Bench,
    name: str,
    title: str,
    server: Server,
    redis: Redis | SentinelGroup,
    script: str,
    **options: object,
) -> Result:
    rounds: list[Measured] = []
    for number in range(bench.scale.rounds):
        before = _cpu(server, redis)
        measured = bench.timed(server, script, connections=32, **options)
        spent = [after - was for was, after in zip(before, _cpu(server, redis), strict=True)]
        requests = measured["rate"] * (bench.scale.seconds + bench.scale.warmup)
        measured |= {"service_us": spent[0] / requests * 1e6, "redis_us": spent[1] / requests * 1e6}
        measured["others_cores"] = max(0.0, measured["others_cores"] - sum(spent) / measured["seconds"])
        bench.say(
            f"{title} · round {number + 1} · {measured['rate']:,.0f}/s, "
            f"{measured['message_rate']:,.0f} messages/s, p50 {measured['p50_ms']:.2f} p99 "
            f"{measured['p99_ms']:.2f} ms, CPU per request: "
            f"workers {measured['service_us']:.0f} µs, Redis {measured['redis_us']:.0f} µs"
        )
        rounds.append(measured)
    keys = (
        "rate",
        "message_rate",
        "p50_ms",
        "p99_ms",
        "service_us",
        "redis_us",
        "load_cores",
        "others_cores",
    )
    figures: Figures = {key: statistics.median(each[key] for each in rounds) for key in keys}
    figures["max_ms"] = max(each["max_ms"] for each in rounds)
    figures["errors"] = sum(each["errors"] for each in rounds)
    return Result(name, title, figures, rounds)


def _cpu(server: Server, redis: Redis | SentinelGroup) -> tuple[float, float]:
    return sum(map(proc.cpu_seconds, server.pids)), sum(map(proc.cpu_seconds, redis.pids))


def where(bench: Bench) -> Iterator[Result]:
    """Where the CPU time of a post goes. Differences between runs: on Redis, in memory, and without HTTP."""
    core = asyncio.run(_core_us())
    with bench.sukkal("--store", "memory:") as server:
        rounds = [bench.timed(server, "post", connections=32) for _ in range(bench.scale.rounds)]
        in_memory = statistics.median(each["server_cpu_us"] for each in rounds)
    with _started(bench) as (server, redis):
        title = "Redis, everysec: CPU time of a post"
        shared = _timed(bench, "redis-where", title, server, redis, "post").figures
    parts = {
        "HTTP": in_memory - core,
        "core": core,
        "driver": shared["service_us"] - in_memory,
        "Redis": shared["redis_us"],
    }
    bench.say(", ".join(f"{name} {spent:.1f} µs" for name, spent in parts.items()))
    yield Result("redis-where", title, parts)


async def _core_us(count: int = 20_000) -> float:
    """CPU time of a post without a transport, on the store in memory, in µs."""
    service = Service(await open_backend("memory:"))
    operation, request = BY_NAME["messages.post"], PostMessages
    messages = [NewMessage(body=Raw(wire.BODY))]
    begun = 0.0
    for number in range(2 * count):
        if number == count:  # warm by now
            begun = time.process_time()
        ctx = Context(project="bench", client="c", request_id="r", now=time.time())
        await service.call(operation, ctx, request(queue="bench", messages=messages))
    return (time.process_time() - begun) / count * 1e6


def depth(bench: Bench) -> Iterator[Result]:
    """A claim of ten on a small backlog and on a large one with many in flight: latency, and Redis's CPU."""
    scale = bench.scale
    with _started(bench) as (server, redis):
        store_some(server, SHALLOW)
        bench.say(f"storing {scale.messages:,} messages in Redis")
        bench.whole(server, "fill", queue="deep", total=scale.messages, connections=4)
        bench.whole(server, "hold", queue="deep", total=scale.in_flight, connections=16)
        pairs = []
        for number in range(scale.rounds + 1):
            pair = [_claims(bench, server, redis, queue) for queue in ("bench", "deep")]
            costs = [f"{each['p50_ms']:.3f} ms, Redis {each['cpu_us']:.0f} µs" for each in pair]
            bench.say(f"Redis: claim 10 · round {number} · {' · '.join(costs)}")
            pairs.append(pair)
    figures: Figures = {}
    for place, side in enumerate(("shallow", "deep")):
        for key in ("p50_ms", "p99_ms", "max_ms", "cpu_us"):
            figures[f"{side}_{key}"] = statistics.median(pair[place][key] for pair in pairs[1:])
    figures["cost_ratio"] = max(
        statistics.median(deep[key] / shallow[key] for shallow, deep in pairs[1:])
        for key in ("p50_ms", "cpu_us")
    )
    title = f"Redis: {scale.messages:,} messages, {scale.in_flight:,} in flight"
    yield Result("redis-depth", title, figures, [{"shallow": a, "deep": b} for a, b in pairs])


def _claims(bench: Bench, server: Server, redis: Redis, queue: str) -> Figures:
    total = max(2, round(bench.scale.seconds * 2)) * 20
    measured = bench.whole(server, "claims", queue=queue, total=total, connections=1, server_pid=redis.pid)
    return {**measured["steps"]["claim"], "cpu_us": measured["notes"]["claim_cpu"] / total * 1e6}


def memory(bench: Bench) -> Iterator[Result]:
    """What Redis holds for messages of 1 KB, and for many queues; and what a page of queues costs then."""
    with _started(bench) as (_, redis):
        figures = asyncio.run(_fill(bench, redis))
    bench.say(
        f"Redis: {figures['overhead']:.2f} bytes for each of a message of 1 KB, "
        f"{figures['queue_bytes']:,.0f} bytes for each of {bench.scale.shared_queues:,} queues, "
        f"page of 20 {figures['page_ms']:.2f} ms"
    )
    title = f"Redis: {bench.scale.shared_queues:,} queues with a message each"
    yield Result("redis-memory", title, figures)


async def _fill(bench: Bench, redis: Redis) -> Figures:
    backend = await open_backend(redis.uri, durable=False)
    count, now = max(_BATCH, bench.scale.messages // 10), time.time()
    before = redis.used()
    for first in range(0, count, _BATCH):
        await backend.messages.append(QueueKey("bench", "memory"), _messages(first, _BATCH, _PAYLOAD, now))
    overhead = (redis.used() - before) / count / _PAYLOAD
    before, queues = redis.used(), bench.scale.shared_queues
    for first in range(0, queues, _BATCH):
        await asyncio.gather(*(_queue(backend, number, now) for number in range(first, first + _BATCH)))
    each = (redis.used() - before) / queues
    spent = []
    shelf = Shelf("queue", "bench")
    for number in range(100):
        begun = time.perf_counter()
        await backend.documents.scan(shelf, after=f"queue-{queues // 100 * number:07}", limit=20, now=now)
        spent.append(time.perf_counter() - begun)
    await backend.close()
    return {"overhead": overhead, "queue_bytes": each, "page_ms": statistics.median(spent) * 1e3}


async def _queue(backend: Backend, number: int, now: float) -> None:
    name = f"queue-{number:07}"
    await backend.documents.put(Shelf("queue", "bench"), name, b"{}", expect=0, now=now)
    await backend.messages.append(QueueKey("bench", name), _messages(number, 1, 120, now))


def _messages(first: int, count: int, size: int, now: float) -> list[Message]:
    return [
        Message(
            id=f"{number:032x}",
            body=b"x" * size,
            ttl=86400,
            created=now,
            visible=now,
            expires=now + 86400,
            client="7c2b3f0e-5a1d-4e0b-9a55-6d0f0b8f1a11",
        )
        for number in range(first, first + count)
    ]


Scenario = Callable[[Bench], Iterator[Result]]


def _where_there_is_one(scenario: Scenario) -> Scenario:
    def run(bench: Bench) -> Iterator[Result]:
        if shutil.which("redis-server") or shutil.which("valkey-server"):
            yield from scenario(bench)
        else:
            bench.say("skipped: redis-server is not installed (apt-get install redis-server)")

    return run


SCENARIOS: dict[str, Scenario] = {
    f"redis-{name}": _where_there_is_one(scenario)
    for name, scenario in {
        "posts": posts,
        "list": list_ten,
        "cycle": cycle,
        "ha-posts": ha_posts,
        "ha-cycle": ha_cycle,
        "depth": depth,
        "memory": memory,
        "where": where,
    }.items()
}
