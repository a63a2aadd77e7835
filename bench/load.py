"""A lean closed-loop load generator: each of N connections sends its next request once the last was answered.

`python bench/load.py --port N --script post --connections 32 --seconds 5` prints one JSON object:

- `requests`, `rate`: answered as expected within the measured time, and that per second; the warm-up is not
  counted
- `p50_ms`, `p99_ms`, `max_ms`: from handing a request to the socket until its answer was read, in
  milliseconds
- `messages`, `message_rate`: messages the script moved (posted; for `cycle`: posted, claimed and deleted)
- `steps`: the same latencies for each kind of request in the script
- `errors`, `first_error`: answers with another status than expected, and lost connections, warm-up included
- `server_cpu_us`, `server_cores`: CPU time of the server per request (with `--server-pid`), and the cores it
  kept busy
- `load_cores`: the cores this process kept busy; near 1 the figures measure the load generator, not the
  server
- `others_cores`: the cores that were busy with anything else; much of it, and the figures are not worth much

Closed loop means a slow server is asked less often: latencies are those of N patient callers, not of an open
crowd.
"""

import argparse
import asyncio
import gc
import json
import math
import time
import uuid
from array import array
from itertools import count
from typing import Any, cast

import proc
import uvloop
from scripts import SCRIPTS, Answer, Job, Script, Step
from wire import Caller


class Record:
    """What is being measured, between `opens` and `closes` (of the performance counter)."""

    def __init__(self) -> None:
        self.opens = self.closes = math.inf
        self.latencies: dict[str, array[float]] = {}
        self.notes: dict[str, float] = {}
        self.messages = 0
        self.errors = 0
        self.first_error: str | None = None

    def answered(self, step: Step, seconds: float) -> None:
        try:
            self.latencies[step.name].append(seconds)
        except KeyError:
            self.latencies[step.name] = array("d", [seconds])

    def moved(self, messages: int) -> None:
        if self.opens <= time.perf_counter() < self.closes:
            self.messages += messages

    def note(self, name: str, value: float) -> None:
        self.notes[name] = self.notes.get(name, 0.0) + value

    def failed(self, what: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or what


class Connection(asyncio.Protocol):
    """Plays one script over one connection, and measures each answer."""

    def __init__(self, script: Script, record: Record) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._script = script
        self._record = record
        self._partial = b""
        self._finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases

    def begin(self) -> None:
        self._send(next(self._script))

    def _send(self, step: Step) -> None:
        self._step = step
        self._sent = time.perf_counter()
        self._transport.write(step.wire)

    def data_received(self, data: bytes) -> None:
        """Complete an answer: status line, length of body, body. A closed loop has one under way."""
        if self._partial:
            data = self._partial + data
        head = data.find(b"\r\n\r\n")
        if head < 0:
            self._partial = data
            return
        status = int(data[9:12])
        length = _content_length(data, head, status)
        if length is None:
            self._record.failed(f"{self._step.name}: answer without Content-Length")
            self._finish()
            return
        if len(data) < head + 4 + length:
            self._partial = data
            return
        self._partial = b""
        self._complete(status, data[head + 4 :])

    def _complete(self, status: int, body: bytes) -> None:
        now, record, step = time.perf_counter(), self._record, self._step
        if status not in step.expect:
            record.failed(f"{step.name}: {status} {body[:300].decode(errors='replace')}")
        elif record.opens <= now < record.closes:
            record.answered(step, now - self._sent)
        if now >= record.closes:
            self._finish()
            return
        try:
            following = self._script.send(Answer(status, body))
        except StopIteration:
            self._finish()
        else:
            self._send(following)

    def _finish(self) -> None:
        self._finished = True
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._finished:
            self._record.failed(f"connection lost: {exc or 'closed by the server'}")
        if not self.done.done():
            self.done.set_result(None)


def _content_length(data: bytes, head: int, status: int) -> int | None:
    start = data.find(b"\r\ncontent-length: ", 0, head)
    if start < 0:
        start = data[:head].lower().find(b"\r\ncontent-length: ")
    if start >= 0:
        return int(data[start + 18 : data.index(b"\r\n", start + 18)])
    return 0 if status in (204, 304) else None


class Meter:
    """Wall clock and CPU times between two moments."""

    def __init__(self, server_pid: int) -> None:
        self._pid = server_pid
        self.start()

    def start(self) -> None:
        self._wall, self._load = time.perf_counter(), time.process_time()
        self._server = proc.cpu_seconds(self._pid) if self._pid else 0.0
        self._busy = proc.busy_seconds()

    def stop(self) -> None:
        self.wall = time.perf_counter() - self._wall
        self.load = time.process_time() - self._load
        self.server = proc.cpu_seconds(self._pid) - self._server if self._pid else 0.0
        self.others = max(0.0, proc.busy_seconds() - self._busy - self.load - self.server)


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Open the connections, play the scripts, and give the figures."""
    record, meter = Record(), Meter(options.server_pid)
    connections = await _connect(options, record)
    gc.collect()
    gc.freeze()
    if options.seconds:
        await _measure_for(connections, record, meter, options.warmup, options.seconds)
    else:
        await _measure_all(connections, record, meter)
    return _figures(record, meter)


async def _connect(options: argparse.Namespace, record: Record) -> list[Connection]:
    loop = asyncio.get_running_loop()
    job = Job(
        queue=options.queue,
        paths=_lines(options.paths) if options.paths else [options.path],
        total=options.total,
        server_pid=options.server_pid,
        moved=record.moved,
        note=record.note,
        offset=count(),
    )
    script = SCRIPTS[options.script]

    def connection() -> Connection:
        caller = Caller(f"127.0.0.1:{options.port}", str(uuid.uuid4()))
        return Connection(script(caller, job), record)

    connections = []
    for _ in range(options.connections):
        _, each = await loop.create_connection(connection, "127.0.0.1", options.port)
        connections.append(each)
    return connections


async def _measure_for(
    connections: list[Connection], record: Record, meter: Meter, warmup: float, seconds: float
) -> None:
    """Run for a time. The meter's readings lie within a millisecond or so of the record's."""
    begin = time.perf_counter()
    record.opens, record.closes = begin + warmup, begin + warmup + seconds
    for connection in connections:
        connection.begin()
    await asyncio.sleep(warmup)
    meter.start()
    await asyncio.sleep(record.closes - time.perf_counter())
    meter.stop()
    await asyncio.wait([connection.done for connection in connections], timeout=10)


async def _measure_all(connections: list[Connection], record: Record, meter: Meter) -> None:
    """Run until every script has returned."""
    record.opens = 0.0
    meter.start()
    for connection in connections:
        connection.begin()
    await asyncio.wait([connection.done for connection in connections])
    meter.stop()


def _figures(record: Record, meter: Meter) -> dict[str, Any]:
    latencies = sorted(seconds for each in record.latencies.values() for seconds in each)
    requests = len(latencies)
    return {
        "seconds": meter.wall,
        "requests": requests,
        "rate": requests / meter.wall,
        **percentiles(latencies),
        "messages": record.messages,
        "message_rate": record.messages / meter.wall,
        "steps": {name: percentiles(sorted(each)) for name, each in record.latencies.items()},
        "errors": record.errors,
        "first_error": record.first_error,
        "server_cpu_us": meter.server / requests * 1e6 if requests else 0.0,
        "server_cores": meter.server / meter.wall,
        "load_cores": meter.load / meter.wall,
        "others_cores": meter.others / meter.wall,
        "notes": record.notes,
    }


def percentiles(ordered: list[float]) -> dict[str, float]:
    if not ordered:
        return {"p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
    last = len(ordered) - 1
    return {
        "p50_ms": ordered[last // 2] * 1e3,
        "p99_ms": ordered[math.ceil(last * 0.99)] * 1e3,
        "max_ms": ordered[last] * 1e3,
    }


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return file.read().split()


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description="Closed-loop load on one server; prints JSON.")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--script", choices=sorted(SCRIPTS), required=True)
    options.add_argument("--connections", type=int, default=32)
    options.add_argument("--seconds", type=float, default=0.0, help="measured time; 0: until the script ends")
    options.add_argument("--warmup", type=float, default=0.5, help="seconds before, not counted")
    options.add_argument("--queue", default="bench")
    options.add_argument("--path", default="/v2/ping", help="what `read` gets")
    options.add_argument("--paths", help="file with what `read` gets, one path per line")
    options.add_argument("--total", type=int, default=1000, help="how much the bounded scripts do")
    options.add_argument("--server-pid", type=int, default=0, help="whose CPU time to report")
    return options.parse_args()


def main() -> None:
    print(json.dumps(uvloop.run(run(_options()))))


if __name__ == "__main__":
    main()
