"""One process of the load: `python -m sukkal.bench.worker`, started by `run`.

It reads a `Task` as a line of JSON, opens its connections, writes `{}`, reads when to start (a time of
time.perf_counter, which on one machine is the same for all processes), and then writes an `Interval` a line
until it is done. What cannot be done at all is written as `{"refused": "why"}`.
"""

import asyncio
import gc
import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import msgspec
import uvloop

from sukkal.bench.bodies import Posts, Stamped
from sukkal.bench.lines import HttpLine, Line, SocketLine
from sukkal.bench.plan import Plan
from sukkal.bench.players import Closed, Conductor, Open, Player
from sukkal.bench.samples import DELIVERY, Interval, Record
from sukkal.bench.scenarios import SCENARIOS, Scenario, Seat, Turn

POSTERS = 4  # connections in all that post where every other one only reads
DRAIN = 10.0  # s, at most, that answers are waited for when the time is up
_SUBSCRIBED = 86400  # s
_OPENING_TOGETHER = 64  # connections


class Task(msgspec.Struct, frozen=True, kw_only=True):
    plan: Plan
    process: int


class Refused(msgspec.Struct, frozen=True):
    refused: str = ""


class Load:
    """The connections of this process and what is measured on them."""

    def __init__(self, task: Task) -> None:
        self._plan, self._process = task.plan, task.process
        self._scenario: Scenario = SCENARIOS[task.plan.scenario]
        self._record: Record | None = None  # until the start
        self._turn_takers: list[tuple[Line, Seat, Callable[[Seat], Turn]]] = []
        self._readers: list[tuple[Line, Seat, Callable[[Seat], Turn]]] = []
        self._lines: list[Line] = []

    async def open(self) -> None:
        """Open every connection. Raises OSError."""
        scenario, plan = self._scenario, self._plan
        posted_beside = scenario.reader is not None or scenario.listeners
        for number in range(self._process, plan.connections, plan.processes):
            seat = self._seat(number)
            if scenario.listeners:
                self._lines.append(self._listening(seat))
            elif scenario.reader is not None:
                self._readers.append((self._http(), seat, scenario.reader))
            elif scenario.socket:
                line = self._socket(seat)
                self._turn_takers += [(line, replace(seat), scenario.turn) for _ in range(plan.pipeline)]
            else:
                self._turn_takers.append((self._http(), seat, scenario.turn))
        if posted_beside:
            for number in range(self._process, max(POSTERS, plan.processes), plan.processes):
                self._turn_takers.append((self._http(), self._seat(number), scenario.turn))
        for first in range(0, len(self._lines), _OPENING_TOGETHER):
            await asyncio.gather(*(line.open() for line in self._lines[first : first + _OPENING_TOGETHER]))

    def _seat(self, number: int) -> Seat:
        plan = self._plan
        return Seat(
            plan=plan,
            number=number,
            random=random.Random(number),  # noqa: S311 - the same load every time
            posts=Posts(plan.bodies, batch=plan.batch, ttl=plan.ttl),
            moved=self._moved,
            delivered=self._delivered,
            failed=self._failed,
        )

    def _http(self) -> Line:
        self._lines.append(HttpLine(self._plan.target))
        return self._lines[-1]

    def _socket(self, seat: Seat) -> Line:
        hello = seat.call.authenticate()
        self._lines.append(SocketLine(self._plan.target, first=(hello,) if hello else ()))
        return self._lines[-1]

    def _listening(self, seat: Seat) -> Line:
        hello = seat.call.authenticate()
        subscribe = seat.call.subscribe(seat.queue, _SUBSCRIBED)
        first = (hello, subscribe) if hello else (subscribe,)
        return SocketLine(self._plan.target, first=first, noticed=self._noticed)

    # --- what scripts and subscribers tell ---

    def _moved(self, messages: int) -> None:
        now = time.perf_counter()
        if self._record is not None and self._opens <= now < self._closes:
            self._record.moved(messages)

    def _delivered(self, due_ns: int) -> None:
        now, due = time.perf_counter(), due_ns / 1e9
        if self._record is not None and self._record.measured(due, now):
            self._record.took(DELIVERY, now - due, counted=False)

    def _noticed(self, frame: bytes) -> None:
        stamp = msgspec.json.decode(frame, type=Stamped).bench_ns
        self._delivered(stamp)
        self._moved(1)

    def _failed(self, what: str) -> None:
        now = time.perf_counter()
        if self._record is not None and self._record.measured(now, now):
            self._record.failed(what)

    # --- the run ---

    async def run(self, start: float, emit: Callable[[Interval], None]) -> None:
        """Load the server from `start` on; hand on what was measured, an interval at a time."""
        plan = self._plan
        self._opens = start + plan.warmup
        self._closes = self._opens + plan.duration
        record = self._record = Record(self._opens, self._closes, by_due=plan.rate is not None)
        turns: Open | Closed
        if plan.rate is None:
            turns = Closed(self._closes)
        else:
            each = 1 / plan.rate
            turns = Open(start + self._process * each, each * plan.processes, self._closes)
        reading = Closed(self._closes)
        players = [self._player(*each, record, turns) for each in self._turn_takers]
        readers = [self._player(*each, record, reading) for each in self._readers]
        gc.collect()
        gc.freeze()
        await asyncio.sleep(start - time.perf_counter())
        reading.start(readers)
        turns.start(players)
        overdue = asyncio.create_task(self._expire([*players, *readers]))
        await self._measure(record, turns, emit)
        await self._drain(turns)
        overdue.cancel()
        turns.stop(record)
        now = time.perf_counter()
        for player in (*players, *readers):
            player.gave_up(now)
        emit(record.cut(now - self._closes, busy=0.0, turns=0))
        for line in self._lines:
            line.close()

    def _player(
        self, line: Line, seat: Seat, turn: Callable[[Seat], Turn], record: Record, conductor: Conductor
    ) -> Player:
        def script(player: Player) -> Turn:
            seat.due = lambda: int(player.due * 1e9)
            return turn(seat)

        return Player(line, script, record, conductor)

    async def _measure(self, record: Record, turns: Open | Closed, emit: Callable[[Interval], None]) -> None:
        """Cut the measured time into intervals."""
        await asyncio.sleep(self._opens - time.perf_counter())
        last, busy, ended = self._opens, time.process_time(), turns.ended
        for number in range(1, self._plan.intervals + 1):
            ends = min(self._closes, self._opens + number * self._plan.interval)
            await asyncio.sleep(ends - time.perf_counter())
            now, spent = time.perf_counter(), time.process_time()
            emit(record.cut(now - last, spent - busy, turns.ended - ended))
            last, busy, ended = now, spent, turns.ended

    async def _drain(self, turns: Open | Closed) -> None:
        end = time.perf_counter() + min(DRAIN, self._plan.timeout)
        while not turns.finished and time.perf_counter() < end:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.01)

    async def _expire(self, players: list[Player]) -> None:
        """Close the lines whose requests are under way for too long, which ends those with an error."""
        while True:
            await asyncio.sleep(min(1.0, self._plan.timeout / 4))
            now = time.perf_counter()
            for player in players:
                request = player.request
                patience = self._plan.timeout + (self._plan.wait if request and request.patient else 0)
                if request is not None and now - player.sent > patience:
                    player.line.close(f"no answer within {self._plan.timeout:g} s")


async def _main() -> None:
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    load = Load(task)
    try:
        await load.open()
    except OSError as exc:
        _say(Refused(f"Connections could not be opened: {str(exc) or type(exc).__name__}."))
        return
    _say(Refused())
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.readline)
    if line:
        await load.run(float(line), _say)


def _say(what: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(_main())
