"""Measures deliveries to webhooks: `python bench/webhooks.py --port N --server-pid N --script rate`.

Receivers are in this process. Prints one JSON object with the figures of one script:

- `rate`: `--messages` are posted to a queue with 10 receivers, as fast as 8 connections can; `rate` is
  deliveries per second until the last has arrived
- `ordered`: the same, and each receiver wants them in order
- `hanging`: messages come at a fixed rate to a queue with 100 receivers, first all well, then 20 of them
  hanging; `p99_ms` and `calm_p99_ms` of the 80 others, from the post, and their `ratio`
- `post`: one connection posts by turns to a queue without and one with 10 receivers; `ratio` of the medians
- `pending`: receivers answer every other delivery with a 503 and `Retry-After: 3600` until `--messages` are
  parked; `mb` of memory that the server took for it at most, and the `cores` it keeps busy while they wait
"""

import argparse
import asyncio
import itertools
import json
import re
import statistics
import time
import urllib.request
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, cast

import proc
import uvloop
import wire
from live import Http
from load import percentiles
from wire import Caller

Figures = dict[str, Any]

WARMING = 5  # posts that are not measured
PATIENCE = 60.0  # seconds until everything must have arrived
PENDING_PATIENCE = 300.0  # seconds until all are parked
PENDING = re.compile(r'^sukkal_deliveries_pending{kind="(\w+)"} (\S+)$', re.MULTILINE)
LOOK = 10.0  # seconds of watching what costs something while nothing is due
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
LATER = b"HTTP/1.1 503 Later\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n"
STAMPED = b'{"messages":[{"ttl":3600,"body":{"sent":%.6f,"event":"order.packed"}}]}'
STAMP = b'"sent":'


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.arrived = 0
        self.latencies: list[float] = []
        self.caller = Caller(f"127.0.0.1:{options.port}", str(uuid.uuid4()))

    async def http(self) -> Http:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Http, "127.0.0.1", self.options.port))[1]

    async def receivers(self, count: int, *, answers: Sequence[bytes] = (OK,)) -> list[str]:
        """URIs of so many receivers, which give these answers by turns; none: they hang."""
        loop, uris = asyncio.get_running_loop(), []
        for _ in range(count):
            turns = itertools.cycle(answers) if answers else None
            server = await loop.create_server(lambda turns=turns: Receiver(self, turns), "127.0.0.1", 0)
            uris.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        return uris

    async def subscribe(self, queue: str, uris: list[str], **more: Any) -> None:
        connection = await self.http()
        for uri in uris:
            body = json.dumps({"subscriber": uri, "ttl": 86400, "options": more}).encode()
            path = f"/v2/queues/{queue}/subscriptions"
            status, answer = await connection.ask(wire.request(self.caller, "POST", path, body))
            assert status == 201, answer
        connection.close()

    async def post(self, connection: Http, queue: str) -> float:
        """How long a post took, in seconds."""
        began = time.perf_counter()
        body = STAMPED % began
        path = f"/v2/queues/{queue}/messages"
        status, answer = await connection.ask(wire.request(self.caller, "POST", path, body))
        assert status == 201, answer
        return time.perf_counter() - began

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - nobody tells of it while it is measured
                await asyncio.sleep(0.005)


class Receiver(asyncio.Protocol):
    """Takes one request at a time on each connection, or nothing at all."""

    def __init__(self, bench: Bench, answers: Iterator[bytes] | None) -> None:
        self._bench = bench
        self._answers = answers
        self._partial = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._answers is None:
            return
        data = self._partial + data
        head = data.find(b"\r\n\r\n")
        at = data.lower().find(b"content-length: ", 0, head)
        if head < 0 or len(data) < head + 4 + int(data[at + 16 : data.index(b"\r\n", at)]):
            self._partial = data
            return
        self._partial = b""
        at = data.index(STAMP) + len(STAMP)
        self._bench.latencies.append(time.perf_counter() - float(data[at : data.index(b",", at)]))
        self._bench.arrived += 1
        self._transport.write(next(self._answers))


async def rate(bench: Bench, **wanted: Any) -> Figures:
    """As many as can be."""
    await bench.subscribe("rate", await bench.receivers(10), **wanted)
    left = bench.options.messages
    expected = 10 * left
    cpu, began = proc.cpu_seconds(bench.options.server_pid), time.perf_counter()

    async def client() -> None:
        nonlocal left
        connection = await bench.http()
        while left > 0:
            left -= 1
            await bench.post(connection, "rate")

    await asyncio.gather(*(client() for _ in range(8)))
    await bench.until(lambda: bench.arrived >= expected)
    took = time.perf_counter() - began
    cpu = proc.cpu_seconds(bench.options.server_pid) - cpu
    return {"rate": expected / took, "cpu_us": cpu / expected * 1e6, "repeated": bench.arrived - expected}


async def ordered(bench: Bench) -> Figures:
    return await rate(bench, ordered=True)


async def hanging(bench: Bench) -> Figures:
    """The others' latencies, with and without those that hang."""
    calm = await _latencies(bench, "calm", await bench.receivers(100))
    uris = [*await bench.receivers(80), *await bench.receivers(20, answers=())]
    found = await _latencies(bench, "hanging", uris, hanging=20)
    ratio = found["p99_ms"] / calm["p99_ms"]
    return {**found, "calm_p50_ms": calm["p50_ms"], "calm_p99_ms": calm["p99_ms"], "ratio": ratio}


async def _latencies(bench: Bench, queue: str, uris: list[str], hanging: int = 0) -> Figures:
    await bench.subscribe(queue, uris)
    connection = await bench.http()
    bench.latencies.clear()
    for number in range(WARMING):  # connections are made
        await bench.post(connection, queue)
        await bench.until(lambda: len(bench.latencies) >= (number + 1) * (len(uris) - hanging))  # noqa: B023
    bench.latencies.clear()
    loop = asyncio.get_running_loop()
    start, posts = loop.time(), round(bench.options.rate * bench.options.seconds)
    for number in range(posts):
        await asyncio.sleep(start + number / bench.options.rate - loop.time())
        await bench.post(connection, queue)
    await bench.until(lambda: len(bench.latencies) >= posts * (len(uris) - hanging))
    return percentiles(sorted(bench.latencies))


async def post(bench: Bench) -> Figures:
    """What it costs a poster that there are receivers. What is delivered meanwhile is not its cost."""
    await bench.subscribe("told", await bench.receivers(10))
    connection = await bench.http()
    took: dict[str, list[float]] = {"plain": [], "told": []}
    for _ in range(bench.options.messages):
        for queue, seconds in took.items():
            seconds.append(await bench.post(connection, queue))
            arrived = 10 * len(took["told"])
            await bench.until(lambda: bench.arrived >= arrived)  # noqa: B023
    plain, told = (statistics.median(seconds) * 1e3 for seconds in took.values())
    return {"plain_ms": plain, "told_ms": told, "ratio": told / plain}


async def pending(bench: Bench) -> Figures:
    """What parked deliveries cost while they wait, none of them due for an hour."""
    # Every other one is taken: receivers that fail all the time are left alone, and looked at again sooner.
    await bench.subscribe("pending", await bench.receivers(100, answers=(LATER, OK)))
    connection = await bench.http()
    pid, wanted = bench.options.server_pid, bench.options.messages
    before, parked = proc.memory(pid)["rss"], 0
    async with asyncio.timeout(PENDING_PATIENCE):
        while parked < wanted:
            for _ in range(max(1, 2 * (wanted - parked) // 100)):
                await bench.post(connection, "pending")
            parked = await _parked(bench)
        used = 0.0
        while proc.cpu_seconds(pid) - used > 0.01:  # until all is written
            used = proc.cpu_seconds(pid)
            await asyncio.sleep(1)
    used = proc.cpu_seconds(pid)
    await asyncio.sleep(LOOK)
    cores = (proc.cpu_seconds(pid) - used) / LOOK
    parked = await _parked(bench)
    assert parked >= wanted, f"{parked} are parked"
    return {"parked": parked, "mb": proc.memory(pid)["peak"] - before, "cores": cores}


async def _parked(bench: Bench) -> int:
    """How many deliveries are to be tried again, once each has been tried."""
    while True:
        waiting = await asyncio.to_thread(_pending, bench.options.admin_port)
        if not waiting["new"]:
            return waiting["parked"]
        await asyncio.sleep(0.5)


def _pending(port: int) -> dict[str, int]:
    """What the service says is pending, by kind."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        told = answer.read().decode()
    return {kind: int(float(count)) for kind, count in PENDING.findall(told)}


SCRIPTS: dict[str, Callable[[Bench], Awaitable[Figures]]] = {
    function.__name__: function for function in (rate, ordered, hanging, post, pending)
}


async def run(options: argparse.Namespace) -> Figures:
    return {**await SCRIPTS[options.script](Bench(options)), "errors": 0, "first_error": None}


def main() -> None:
    options = argparse.ArgumentParser(description="Deliveries to webhooks; prints JSON.")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--admin-port", type=int, default=0, help="where `pending` reads metrics")
    options.add_argument("--server-pid", type=int, required=True, help="whose CPU time and memory to report")
    options.add_argument("--script", choices=sorted(SCRIPTS), required=True)
    options.add_argument("--queue", default="", help="not used")
    options.add_argument("--messages", type=int, default=1000)
    options.add_argument("--rate", type=float, default=10.0, help="posts per second, of `hanging`")
    options.add_argument("--seconds", type=float, default=5.0, help="of each part of `hanging`")
    print(json.dumps(uvloop.run(run(options.parse_args()))))


if __name__ == "__main__":
    main()
