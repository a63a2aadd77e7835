"""Who takes turns, and who says when: as soon as the last turn ended, or at a fixed rate."""

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from sukkal.bench.calls import Answer, Request
from sukkal.bench.lines import Line
from sukkal.bench.pacer import Pacer
from sukkal.bench.samples import WHOLE_TURN, Record
from sukkal.bench.scenarios import Turn

_LONGEST_REASON = 200


class Conductor(Protocol):
    def idle(self, player: "Player") -> None:
        """A player's turn has ended."""


class Player:
    """Takes one turn at a time over a line, and measures each answer.

    A turn's first request is measured from when it was due, not from when it could be sent: what the server
    kept waiting behind slow answers counts as what it is. Later requests of a turn are due when the one
    before was answered.
    """

    def __init__(
        self, line: Line, script: Callable[["Player"], Turn], record: Record, conductor: Conductor
    ) -> None:
        self.due = 0.0  # when the present turn was, of time.perf_counter
        self.sent = 0.0  # when its present request was
        self.request: Request | None = None  # under way
        self.line = line
        self._script = script
        self._record = record
        self._conductor = conductor
        self._since = 0.0  # when the present request was due
        self._requests = 0  # of this turn

    def begin(self, due: float) -> None:
        self.due = self._since = due
        self._requests = 0
        self._turn = self._script(self)
        self._send(next(self._turn))

    def _send(self, request: Request) -> None:
        self.request = request
        self._requests += 1
        self.sent = time.perf_counter()
        self.line.send(request, self)

    def answered(self, status: int, body: bytes) -> None:
        now, request, record = time.perf_counter(), self.request, self._record
        assert request is not None
        self.request = None
        if status not in request.expect:
            text = bytes(body)[:_LONGEST_REASON].decode(errors="replace")
            self._failed(f"{request.name}: {status} {text}".rstrip())
            return
        if record.measured(self.due, now):
            record.took(request.name, now - self._since, counted=request.counted)
        self._since = now
        try:
            following = self._turn.send(Answer(status, body))
        except StopIteration:
            if self._requests > 1 and record.measured(self.due, now):
                record.took(WHOLE_TURN, now - self.due, counted=False)
            self._conductor.idle(self)
        except msgspec.MsgspecError as exc:
            self._failed(f"{request.name}: an answer that cannot be read: {exc}")
        else:
            self._send(following)

    def lost(self, reason: str) -> None:
        request, self.request = self.request, None
        assert request is not None
        self._failed(f"{request.name}: {reason}")

    def _failed(self, what: str) -> None:
        if self._record.measured(self.due, time.perf_counter()):
            self._record.failed(what)
        self._turn.close()
        self._conductor.idle(self)

    def gave_up(self, now: float) -> None:
        """The run is over and no answer came: at least so long it would have taken."""
        if self.request is None or self.request.patient or not self._record.measured(self.due, now):
            return
        self._record.took(self.request.name, now - self._since, counted=self.request.counted)
        self._record.failed(f"{self.request.name}: not answered by the end")


class Closed:
    """The next turn begins when the last one ended, until the time is up."""

    def __init__(self, closes: float) -> None:
        self._closes = closes
        self.playing: set[Player] = set()
        self.ended = 0  # turns

    def start(self, players: list[Player]) -> None:
        for player in players:
            self.playing.add(player)
            player.begin(time.perf_counter())

    def idle(self, player: Player) -> None:
        self.ended += 1
        now = time.perf_counter()
        if now < self._closes:
            player.begin(now)
        else:
            self.playing.discard(player)

    @property
    def finished(self) -> bool:
        return not self.playing

    def stop(self, record: Record) -> None:
        """Nothing was ever due that has not begun."""


class Open:
    """Turns begin when they are due, whether or not others have ended, as long as a player is free.

    When none is, they wait, and their time runs.
    """

    def __init__(self, start: float, interval: float, closes: float) -> None:
        """The first turn is due at `start`, the others every `interval` seconds until `closes`."""
        self._start, self._interval, self._closes = start, interval, closes
        self._turns = 0  # that have been due so far
        self.ended = 0
        self._free: deque[Player] = deque()
        self._overdue: deque[float] = deque()
        self.playing: set[Player] = set()
        self._pacer: Pacer | None = None

    def start(self, players: list[Player]) -> None:
        self._free.extend(players)
        self._pacer = Pacer(self._start, self._interval, self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        while (due := self._start + self._turns * self._interval) <= now:
            if due >= self._closes:
                self._end()
                return
            self._turns += 1
            if self._free:
                player = self._free.popleft()
                self.playing.add(player)
                player.begin(due)
            else:
                self._overdue.append(due)

    def idle(self, player: Player) -> None:
        self.ended += 1
        if self._overdue:
            player.begin(self._overdue.popleft())
        else:
            self.playing.discard(player)
            self._free.append(player)

    @property
    def finished(self) -> bool:
        return self._pacer is None and not self.playing and not self._overdue

    def _end(self) -> None:
        if self._pacer is not None:
            self._pacer.stop()
            self._pacer = None

    def stop(self, record: Record) -> None:
        """Count what was due and never began as what it is: slower than all the rest."""
        self._end()
        now = time.perf_counter()
        while self._overdue:
            due = self._overdue.popleft()
            if record.measured(due, now):
                record.took("not begun", now - due)
                record.failed("not begun by the end: every connection was busy")
