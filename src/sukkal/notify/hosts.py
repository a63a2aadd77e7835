"""How many deliveries are under way to whom, and who is left alone for a while.

Each project has a lane to each host: so many deliveries at once, and a line of those who wait for that. One
project's receivers that fail or hang do not show what others' are like, though they have the same host, so
limits are learned and hosts are closed for one project at a time. All lanes of a host together have so many
places, of which a lane with fewer under way gets the next; a project has so many at all its hosts. Whoever
waits holds none.

A lane that is new gets few places, one more with each success up to the host's, and half of them with each
failure. One that fails several times in a row is closed: nothing is tried for a while. Then one probe at a
time goes out; a success opens it again, a failure closes it for twice as long. What began before the last
success, or before it was closed, and fails now, may have hung for long and says nothing of that.

    open ── failures in a row ──▶ closed ── the pause is over ──▶ probing ── success ──▶ open
                                     ◀────────────── failure ─────────┘

Times are seconds since the epoch and come in as arguments.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

FIRST_PLACES = 4  # of a lane nothing is known of
FIRST_PAUSE = 5.0  # seconds a lane is closed for the first time
LONGEST_PAUSE = 300.0
STALLED = 2.0  # seconds without any end of an attempt, after which nobody joins the line
ASK_AGAIN = 1.0  # seconds until a full line is worth another look
LATE_PROBE = 120.0  # seconds; a probe that has not been heard of for so long was lost

Turn = asyncio.Future[None]


class Closed(Exception):
    """The lane was closed while one waited for a place; `delay` seconds later it may be tried."""

    def __init__(self, delay: float) -> None:
        super().__init__(delay)
        self.delay = delay


class _Project:
    __slots__ = ("active", "held_up", "lanes", "waiting")

    def __init__(self) -> None:
        self.active = 0
        self.waiting = 0
        self.lanes = 0  # that are remembered
        self.held_up: OrderedDict[_Host, None] = OrderedDict()  # where it waits for places of its own


class _Host:
    __slots__ = ("active", "lanes", "waiting")

    def __init__(self) -> None:
        self.active = 0
        self.lanes = 0  # that are remembered
        self.waiting: OrderedDict[_Lane, None] = (
            OrderedDict()
        )  # those with a line, the first that had one first


class _Lane:
    __slots__ = (
        *("active", "closed_until", "failures", "host", "key", "line", "moved"),
        *("owner", "pause", "places", "probe", "turns"),
    )

    def __init__(self, key: tuple[str, str], host: _Host, owner: _Project, places: int) -> None:
        self.key = key
        self.host = host
        self.owner = owner
        self.places = places
        self.active = 0
        self.line: deque[Turn] = deque()
        self.moved: float | None = None  # when an attempt last ended, or the first one began
        self.failures = 0  # in a row
        self.turns = 0  # of its fortune: how often it had a success, or was closed
        self.pause = 0.0  # seconds it was last closed for; 0 when it is open
        self.closed_until = 0.0
        self.probe: float | None = None  # when the probe was let out

    @property
    def is_full(self) -> bool:
        return self.active >= (1 if self.pause else self.places)


class Hosts:
    """Limits and circuit breakers of all deliveries of a process."""

    def __init__(
        self,
        *,
        per_host: int = 16,
        per_project: int = 512,
        line: int = 128,
        failures: int = 5,
        remembered: int = 10_000,
    ) -> None:
        """At most so many attempts at once to a host and of a project, and so many that wait in a lane.

        A lane is closed after so many `failures` in a row. Of more lanes than are `remembered`, those idle
        the longest start anew.
        """
        self._per_host = per_host
        self._per_project = per_project
        self._line = line
        self._failures = failures
        self._remembered = remembered
        self._lanes: OrderedDict[tuple[str, str], _Lane] = OrderedDict()
        self._hosts: dict[str, _Host] = {}
        self._projects: dict[str, _Project] = {}

    def delay(self, host: str, project: str, now: float) -> float | None:
        """None when a delivery may go to `slot` now; else the seconds after which to ask again.

        Of a lane that is probed, one asker hears None, who has to go there and to `report`.
        """
        lane = self._lane(host, project)
        if lane.pause:
            if now < lane.closed_until:
                return lane.closed_until - now
            if lane.probe is not None and now < lane.probe + LATE_PROBE:
                return ASK_AGAIN
            lane.probe = now
            return None
        if lane.owner.waiting >= self._per_project or len(lane.line) >= self._line:
            return ASK_AGAIN
        if lane.moved is None or not (lane.active or lane.line):
            lane.moved = now
        elif now - lane.moved > STALLED and (lane.is_full or lane.host.active >= self._per_host):
            return ASK_AGAIN
        return None

    @asynccontextmanager
    async def slot(self, host: str, project: str) -> AsyncIterator[int]:
        """Hold a place at the host, and one of the project's; those who wait come in turn.

        Raises Closed when the lane is closed before the turn comes; it is not to be reported then. Otherwise
        `report` before leaving, with what this gives.
        """
        lane = self._lane(host, project)
        if not lane.line and self._has_place(lane) and lane.owner.active < self._per_project:
            self._enter(lane)
        else:
            await self._turn(lane)
        try:
            yield lane.turns
        finally:
            self._leave(lane)

    def report(self, host: str, project: str, ok: bool, now: float, *, since: int) -> None:
        """Say how an attempt ended: whether the host answers for itself, were it with a refusal.

        `since`: what `slot` gave when it began.
        """
        lane = self._lane(host, project)
        lane.moved = now
        if ok:
            lane.turns += 1
            lane.failures = 0
            if lane.pause:
                lane.pause = 0.0
                lane.probe = None
                lane.places = FIRST_PLACES
            lane.places = min(lane.places + 1, self._per_host)
            return
        lane.places = max(lane.places // 2, 1)
        if since != lane.turns:
            return
        lane.failures += 1
        if lane.pause:
            self._close(lane, min(lane.pause * 2, LONGEST_PAUSE), now)
        elif lane.failures >= self._failures:
            self._close(lane, FIRST_PAUSE, now)

    @property
    def closed(self) -> int:
        """How many lanes are left alone now, or only probed."""
        return sum(1 for lane in self._lanes.values() if lane.pause)

    # --- lanes ---------------------------------------------------------------------------------------

    def _lane(self, host: str, project: str) -> _Lane:
        key = host, project
        lane = self._lanes.get(key)
        if lane is not None:
            self._lanes.move_to_end(key)
            return lane
        while len(self._lanes) >= self._remembered and self._forget_one():
            pass
        its_host = self._hosts.setdefault(host, _Host())
        owner = self._projects.setdefault(project, _Project())
        its_host.lanes += 1
        owner.lanes += 1
        lane = self._lanes[key] = _Lane(key, its_host, owner, min(FIRST_PLACES, self._per_host))
        return lane

    def _forget_one(self) -> bool:
        for key, lane in self._lanes.items():
            if lane.active or lane.line:
                continue
            del self._lanes[key]
            host, project = key
            lane.host.lanes -= 1
            lane.owner.lanes -= 1
            if not lane.host.lanes:
                del self._hosts[host]
            if not lane.owner.lanes:
                del self._projects[project]
            return True
        return False

    def _close(self, lane: _Lane, pause: float, now: float) -> None:
        """Leave the lane alone, and send away who waits in it."""
        lane.turns += 1
        lane.pause = pause
        lane.closed_until = now + pause
        lane.probe = None
        for turn in lane.line:
            if not turn.done():
                turn.set_exception(Closed(pause))
        lane.line.clear()
        lane.host.waiting.pop(lane, None)

    # --- places --------------------------------------------------------------------------------------

    def _has_place(self, lane: _Lane) -> bool:
        return not lane.is_full and lane.host.active < self._per_host

    @staticmethod
    def _enter(lane: _Lane) -> None:
        lane.active += 1
        lane.host.active += 1
        lane.owner.active += 1

    async def _turn(self, lane: _Lane) -> None:
        """Return when the place is taken."""
        turn: Turn = asyncio.get_running_loop().create_future()
        lane.line.append(turn)
        lane.host.waiting.setdefault(lane)
        lane.owner.waiting += 1
        self._advance(lane.host)  # others of the host may only wait for places of their projects
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and not turn.exception():
                self._leave(lane)  # it had just been given the place, and is cancelled
            else:
                with suppress(ValueError):  # a lane that is closed has no line
                    lane.line.remove(turn)
                if not lane.line:
                    lane.host.waiting.pop(lane, None)
                lane.owner.waiting -= 1
            raise

    def _leave(self, lane: _Lane) -> None:
        lane.active -= 1
        lane.host.active -= 1
        lane.owner.active -= 1
        self._advance(lane.host)
        while lane.owner.held_up and lane.owner.active < self._per_project:
            other, _ = lane.owner.held_up.popitem(last=False)
            self._advance(other)

    def _advance(self, host: _Host) -> None:
        """Give the host's free places to those who wait, of lanes with few under way first."""
        while host.active < self._per_host and (lane := self._next(host)) is not None:
            turn = lane.line.popleft()
            if not lane.line:
                del host.waiting[lane]
            if turn.done():  # it was cancelled, and has not run yet
                continue
            lane.owner.waiting -= 1
            self._enter(lane)
            turn.set_result(None)

    def _next(self, host: _Host) -> _Lane | None:
        """The lane whose turn it is."""
        best: _Lane | None = None
        for lane in host.waiting:
            if lane.is_full or (best is not None and lane.active >= best.active):
                continue
            if lane.owner.active >= self._per_project:
                lane.owner.held_up[host] = None
            else:
                best = lane
        return best
