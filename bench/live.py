"""Measures what arrives without being asked for again: waiting lists and claims, WebSockets.

`python bench/live.py --port N --script long-poll` prints one JSON object with the figures of one script:

- `long-poll`, `waiting-claim`, `socket`: messages are posted at `--rate` per second for `--seconds`, each
  with the time in its body; `p50_ms`, `p99_ms`, `max_ms` tell how long after that it was in the hands of one
  consumer, who waits by list, waits by claim, or has subscribed a socket
- `pipelined`: posts of 20 messages over one socket in MessagePack, `--window` of them under way;
  `message_rate` is what was acknowledged per second
- `waiters`: `--connections` callers wait on empty queues; `kb_each` of the server's memory and `cores` of its
  CPU time while nothing happens
- `wake-all`: `--connections` lists wait on one queue when one message is posted; `all_ms` until all have it
- `wake-one`: `--connections` claims wait on one queue, messages are posted one at a time; the latencies of
  the claims, and `cpu_us`, the server's CPU time per message

All arrivals are at a fixed rate, whatever the server does (an open loop). Errors and whatever was not
delivered are counted in `errors`.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import struct
import time
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import msgspec
import proc
import uvloop
import wire
from load import percentiles
from wire import Caller

Figures = dict[str, Any]

PATIENCE = 15.0  # seconds until what was posted must have arrived
BATCH = 20  # messages of a pipelined post
CLAIM = b'{"ttl":300,"grace":60}'
STAMP = b'"sent":'
STAMPED = b'{"messages":[{"ttl":600,"body":{%b%.6f,"event":"order.packed"}}]}'


class Http(asyncio.Protocol):
    """One connection that asks one thing at a time."""

    def __init__(self) -> None:
        self._partial = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("closed by the server"))

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """The status and body that answer a request."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        data = self._partial + data
        head = data.find(b"\r\n\r\n")
        if head < 0:
            self._partial = data
            return
        at = data.lower().find(b"\r\ncontent-length: ", 0, head)
        length = int(data[at + 18 : data.index(b"\r\n", at + 18)]) if at >= 0 else 0
        if len(data) < head + 4 + length:
            self._partial = data
            return
        self._partial = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(data[9:12]), data[head + 4 :]))

    def close(self) -> None:
        """Hang up, whether or not there is an answer to come."""
        if self._answer is not None:
            self._answer.cancel()
        self._transport.close()


class WebSocket(asyncio.Protocol):
    """One WebSocket; frames go to `hear`, without their heads. No extensions, no fragments: ours has none."""

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hear = hear
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        key = b64encode(os.urandom(16)).decode()
        self._transport.write(
            "GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self.opened.done():
            head = self._data.find(b"\r\n\r\n")
            if head < 0:
                return
            if not self._data.startswith(b"HTTP/1.1 101"):
                self.opened.set_exception(ConnectionError(self._data[:head].decode(errors="replace")))
                return
            del self._data[: head + 4]
            self.opened.set_result(None)
        at = 0
        while (frame := _frame(self._data, at)) is not None:
            start, end = frame
            if self._data[at] & 0x0F in (1, 2):  # not a ping
                self._hear(bytes(self._data[start:end]))
            at = end
        del self._data[:at]

    def send(self, frame: bytes) -> None:
        self._transport.write(frame)

    def close(self) -> None:
        self._transport.close()


def _frame(data: bytearray, at: int) -> tuple[int, int] | None:
    """Where the payload of the frame at `at` begins and ends; None when it has not come whole."""
    if len(data) < at + 2:
        return None
    length, start = data[at + 1], at + 2
    if length >= 126:
        size = 2 if length == 126 else 8
        if len(data) < start + size:
            return None
        length, start = int.from_bytes(data[start : start + size]), start + size
    return (start, start + length) if len(data) >= start + length else None


def masked(payload: bytes, *, binary: bool) -> bytes:
    """A client's frame. The mask is zeros, which leaves the payload as it is."""
    first, size = 0x82 if binary else 0x81, len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + payload


class Bench:
    """The server, and connections to it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.queue = f"/v2/queues/{options.queue}"
        self.errors = 0
        self.first_error: str | None = None

    def caller(self) -> Caller:
        return Caller(f"127.0.0.1:{self.options.port}", str(uuid.uuid4()))

    async def http(self) -> Http:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Http, "127.0.0.1", self.options.port)
        return connection

    async def socket(self, hear: Callable[[bytes], None]) -> WebSocket:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: WebSocket(hear), "127.0.0.1", self.options.port)
        await connection.opened
        return connection

    def failed(self, what: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or what

    def cpu(self) -> float:
        return proc.cpu_seconds(self.options.server_pid)

    async def https(self, count: int) -> list[Http]:
        """So many connections, opened some at a time."""
        opened: list[Http] = []
        while len(opened) < count:
            some = min(200, count - len(opened))
            opened += await asyncio.gather(*(self.http() for _ in range(some)))
        return opened


# --- from post to delivery ----------------------------------------------------------------------------------


async def long_poll(bench: Bench) -> Figures:
    """A reader who follows the next links, each with a wait."""
    reader, caller = await bench.http(), bench.caller()
    href = f"{bench.queue}/messages?limit=10&echo=true&wait=20"

    async def receive() -> AsyncIterator[bytes]:
        nonlocal href
        while True:
            status, body = await reader.ask(wire.request(caller, "GET", href))
            if status != 200:
                bench.failed(f"{status} {body[:200]!r}")
            page = msgspec.json.decode(body)
            if page["links"]:
                href = page["links"][0]["href"]
            yield body

    return await _delivered(bench, receive())


async def waiting_claim(bench: Bench) -> Figures:
    """A worker who claims, each time with a wait, and leaves the messages claimed."""
    worker, caller = await bench.http(), bench.caller()
    claim = wire.request(caller, "POST", f"{bench.queue}/claims?limit=10&wait=20", CLAIM)

    async def receive() -> AsyncIterator[bytes]:
        while True:
            status, body = await worker.ask(claim)
            if status not in (201, 204):
                bench.failed(f"{status} {body[:200]!r}")
            yield body

    return await _delivered(bench, receive())


async def socket(bench: Bench) -> Figures:
    """A socket that has subscribed to the queue."""
    frames: asyncio.Queue[bytes] = asyncio.Queue()
    connection = await bench.socket(frames.put_nowait)
    connection.send(masked(_action("subscription_create", {"queue_name": bench.options.queue}), binary=False))
    reply = msgspec.json.decode(await frames.get())
    if reply["headers"]["status"] != 201:
        bench.failed(f"subscription: {reply}")

    async def receive() -> AsyncIterator[bytes]:
        while True:
            yield await frames.get()

    return await _delivered(bench, receive())


async def _delivered(bench: Bench, arrivals: AsyncIterator[bytes]) -> Figures:
    """Post at a fixed rate, and measure what arrives."""
    rate, total = bench.options.rate, round(bench.options.rate * bench.options.seconds)
    latencies: list[float] = []

    async def consume() -> None:
        async for body in arrivals:
            now = time.perf_counter()
            latencies.extend(now - sent for sent in _stamps(body))
            if len(latencies) >= total:
                return

    consumer = asyncio.create_task(consume())
    before, began = bench.cpu(), time.perf_counter()
    try:
        await _post_at(bench, rate, total)
        async with asyncio.timeout(PATIENCE):
            await consumer
    except TimeoutError:
        consumer.cancel()
        bench.failed(f"{total - len(latencies)} of {total} messages did not arrive")
    took = time.perf_counter() - began
    return {
        "messages": len(latencies),
        "rate": len(latencies) / took,
        "cores": (bench.cpu() - before) / took,
        **percentiles(sorted(latencies)),
    }


async def _post_at(bench: Bench, rate: float, total: int) -> None:
    """Post messages when they are due, whether those before are answered or not."""
    loop, caller = asyncio.get_running_loop(), bench.caller()
    idle = await bench.https(8)
    begun: set[asyncio.Task[None]] = set()
    start = loop.time()

    async def post() -> None:
        connection = idle.pop() if idle else await bench.http()
        body = STAMPED % (STAMP, time.perf_counter())
        status, _ = await connection.ask(wire.request(caller, "POST", f"{bench.queue}/messages", body))
        if status != 201:
            bench.failed(f"post: {status}")
        idle.append(connection)

    for number in range(total):
        await asyncio.sleep(start + number / rate - loop.time())
        task = asyncio.create_task(post())
        begun.add(task)
        task.add_done_callback(begun.discard)
    await asyncio.gather(*begun)


def _stamps(body: bytes) -> list[float]:
    """When each message of an answer was sent."""
    parts = body.split(STAMP)[1:]
    return [float(part[: part.index(b",")]) for part in parts]


# --- throughput ---------------------------------------------------------------------------------------------


async def pipelined(bench: Bench) -> Figures:
    """Posts over one socket, each reply making room for the next."""
    window, seconds = bench.options.window, bench.options.seconds
    message = {"ttl": 86400, "body": json.loads(wire.BODY)}
    body = {"queue_name": bench.options.queue, "messages": [message] * BATCH}
    frame = masked(_action("message_post", body, binary=True), binary=True)
    created = b"\xa6status\xcc\xc9"  # 201, in MessagePack
    done, closing = asyncio.Event(), False
    replies, under_way = 0, 0

    def hear(reply: bytes) -> None:
        nonlocal replies, under_way
        if created not in reply[-64:]:
            bench.failed(repr(reply[-300:]))
        replies += 1
        under_way -= 1
        if not closing:
            connection.send(frame)
            under_way += 1
        elif not under_way:
            done.set()

    connection = await bench.socket(hear)
    for _ in range(window):
        connection.send(frame)
        under_way += 1
    await asyncio.sleep(bench.options.warmup)
    first, before, began = replies, bench.cpu(), time.perf_counter()
    load = time.process_time()
    await asyncio.sleep(seconds)
    count, took = replies - first, time.perf_counter() - began
    figures = {
        "messages": count * BATCH,
        "message_rate": count * BATCH / took,
        "cores": (bench.cpu() - before) / took,
        "load_cores": (time.process_time() - load) / took,
        "cpu_us": (bench.cpu() - before) / max(1, count * BATCH) * 1e6,
    }
    closing = True
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    connection.close()
    return figures


def _action(name: str, body: dict[str, Any], *, binary: bool = False) -> bytes:
    headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": wire.PROJECT}
    request = {"action": name, "headers": headers, "body": body}
    return msgspec.msgpack.encode(request) if binary else msgspec.json.encode(request)


# --- many who wait ------------------------------------------------------------------------------------------


async def waiters(bench: Bench) -> Figures:
    """Callers who wait on empty queues, ten on each."""
    count, pid = bench.options.connections, bench.options.server_pid
    before = proc.memory(pid)["rss"]
    connections = await bench.https(count)
    connected = proc.memory(pid)["rss"]
    answers = [
        connection.ask(_wait(bench.caller(), f"{bench.queue}-{number // 10}"))
        for number, connection in enumerate(connections)
    ]
    await _quiet(bench)
    waiting, cpu, began = proc.memory(pid)["rss"], bench.cpu(), time.perf_counter()
    await asyncio.sleep(bench.options.seconds)
    cores = (bench.cpu() - cpu) / (time.perf_counter() - began)
    early = sum(answer.done() for answer in answers)
    if early:
        bench.failed(f"{early} waits ended at once")
    for connection in connections:
        connection.close()
    return {
        "waiters": count,
        "kb_each": (waiting - before) / count * 1e3,
        "kb_connection": (connected - before) / count * 1e3,
        "cores": cores,
    }


async def wake_all(bench: Bench) -> Figures:
    """Lists that wait on one queue, and one post."""
    return await _woken(bench, "GET", "", bench.options.connections, rounds=1)


async def wake_one(bench: Bench) -> Figures:
    """Claims that wait on one queue, and posts of one message, one after the other."""
    return await _woken(bench, "POST", "/claims?limit=1&wait=20", 1, rounds=50)


async def _woken(bench: Bench, method: str, path: str, expected: int, *, rounds: int) -> Figures:
    caller, poster = bench.caller(), await bench.http()
    connections = await bench.https(bench.options.connections)
    request = (
        wire.request(caller, method, f"{bench.queue}{path}", CLAIM) if path else _wait(caller, bench.queue)
    )
    waiting = {connection.ask(request) for connection in connections}
    await _quiet(bench)
    post = wire.request(bench.caller(), "POST", f"{bench.queue}/messages", wire.messages(1))
    latencies, last, cpu = [], [], bench.cpu()
    for _ in range(rounds):
        sent, answered = time.perf_counter(), 0
        await poster.ask(post)
        async with asyncio.timeout(PATIENCE):
            while answered < expected:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                now = time.perf_counter()
                answered += len(done)
                latencies += [now - sent] * len(done)
                for answer in done:
                    status, body = answer.result()
                    if status not in (200, 201) or len(wire.message_ids(body)) != 1:
                        bench.failed(f"{status} {body[:200]!r}")
        last.append(now - sent)
        if answered > expected:
            bench.failed(f"{answered} answers to one post, expected {expected}")
    for connection in connections:
        connection.close()
    return {
        "waiters": len(connections),
        "all_ms": statistics.median(last) * 1e3,
        "cpu_us": (bench.cpu() - cpu) / rounds * 1e6,
        **percentiles(sorted(latencies)),
    }


def _wait(caller: Caller, queue: str) -> bytes:
    return wire.request(caller, "GET", f"{queue}/messages?echo=true&wait=20")


async def _quiet(bench: Bench) -> None:
    """Return when the server has taken up all it was asked, and rests."""
    used = -1.0
    while bench.cpu() - used > 0.002:
        used = bench.cpu()
        await asyncio.sleep(0.25)


SCRIPTS: dict[str, Callable[[Bench], Awaitable[Figures]]] = {
    function.__name__.replace("_", "-"): function
    for function in (long_poll, waiting_claim, socket, pipelined, waiters, wake_all, wake_one)
}


async def run(options: argparse.Namespace) -> Figures:
    bench = Bench(options)
    figures = await SCRIPTS[options.script](bench)
    return {**figures, "errors": bench.errors, "first_error": bench.first_error}


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description="What arrives by itself; prints JSON.")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--server-pid", type=int, required=True, help="whose CPU time and memory to report")
    options.add_argument("--script", choices=sorted(SCRIPTS), required=True)
    options.add_argument("--queue", default="bench", help="a queue that is empty")
    options.add_argument("--rate", type=float, default=500.0, help="messages posted per second")
    options.add_argument("--seconds", type=float, default=5.0, help="measured time")
    options.add_argument("--warmup", type=float, default=0.5, help="seconds before, of `pipelined`")
    options.add_argument("--connections", type=int, default=1000, help="how many wait")
    options.add_argument("--window", type=int, default=64, help="posts under way, of `pipelined`")
    return options.parse_args()


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(uvloop.run(run(_options()))))


if __name__ == "__main__":
    main()
