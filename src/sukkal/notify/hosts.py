"""How many deliveries are under way to whom, and who is left alone for a while.

Each host has a number of places and a line of those who wait for one; each project has places at all hosts
together. Whoever waits holds nothing, so a host that hangs holds up its own line and no more than its places
of the project's. A host that is new gets few places, and one more with each success, up to its limit.

A host that fails several times in a row is closed: nothing is tried for a while. Then one probe at a time
goes out; a success opens the host again, a failure closes it for twice as long.

    open ── failures in a row ──▶ closed ── the pause is over ──▶ probing ── success ──▶ open
                                     ◀────────────── failure ─────────┘

Times are seconds since the epoch and come in as arguments.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

FIRST_PLACES = 4  # of a host nothing is known of
FIRST_PAUSE = 5.0  # seconds a host is closed for the first time
LONGEST_PAUSE = 300.0
STALLED = 2.0  # seconds without any end of an attempt, after which nobody joins the line
ASK_AGAIN = 1.0  # seconds until a full line is worth another look
LATE_PROBE = 120.0  # seconds; a probe that has not been heard of for so long was lost


class Closed(Exception):
    """The host was closed while one waited for a place; `delay` seconds later it may be tried."""

    def __init__(self, delay: float) -> None:
        super().__init__(delay)
        self.delay = delay


class _Project:
    __slots__ = ("active", "held_up", "waiting")

    def __init__(self) -> None:
        self.active = 0
        self.waiting = 0
        self.held_up: OrderedDict[str, None] = OrderedDict()  # hosts in whose lines it waits for itself


class _Waiting:
    __slots__ = ("project", "turn")

    def __init__(self, project: _Project) -> None:
        self.project = project
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Host:
    __slots__ = ("active", "closed_until", "failures", "line", "moved", "pause", "places", "probe")

    def __init__(self, places: int) -> None:
        self.places = places
        self.active = 0
        self.line: deque[_Waiting] = deque()
        self.moved: float | None = None  # when an attempt last ended, or the first one began
        self.failures = 0  # in a row
        self.pause = 0.0  # seconds it was last closed for; 0 when it is open
        self.closed_until = 0.0
        self.probe: float | None = None  # when the probe was let out


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
        """At most so many attempts at once to a host and of a project, and so many that wait for a host.

        A host is closed after so many `failures` in a row. Of more hosts than are `remembered`, those idle
        the longest start anew.
        """
        self._per_host = per_host
        self._per_project = per_project
        self._line = line
        self._failures = failures
        self._remembered = remembered
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._projects: dict[str, _Project] = {}

    def delay(self, host: str, project: str, now: float) -> float | None:
        """None when a delivery may go to `slot` now; else the seconds after which to ask again.

        Of a host that is probed, one asker hears None, who has to go there and to `report`.
        """
        state = self._state(host)
        if state.pause:
            if now < state.closed_until:
                return state.closed_until - now
            if state.probe is not None and now < state.probe + LATE_PROBE:
                return ASK_AGAIN
            state.probe = now
            return None
        owner = self._projects.get(project)
        if owner is not None and owner.waiting >= self._per_project:
            return ASK_AGAIN
        if not state.active or state.moved is None:
            state.moved = now
        elif state.active >= state.places and now - state.moved > STALLED:
            return ASK_AGAIN
        return None if len(state.line) < self._line else ASK_AGAIN

    @asynccontextmanager
    async def slot(self, host: str, project: str) -> AsyncIterator[None]:
        """Hold a place at the host, and one of the project's; those who wait come in turn.

        Raises Closed when the host is closed before the turn comes; it is not to be reported then. Otherwise
        `report` before leaving.
        """
        state = self._state(host)
        owner = self._projects.setdefault(project, _Project())
        if state.line or state.active >= self._places(state) or owner.active >= self._per_project:
            await self._turn(host, project, _Waiting(owner))
        else:
            state.active += 1
            owner.active += 1
        try:
            yield
        finally:
            self._leave(host, project, owner)

    def report(self, host: str, ok: bool, now: float) -> None:
        """Say how an attempt ended: whether the host answers for itself, were it with a refusal."""
        state = self._state(host)
        state.moved = now
        if ok:
            state.failures = 0
            if state.pause:
                state.pause = 0.0
                state.probe = None
                state.places = FIRST_PLACES
            state.places = min(state.places + 1, self._per_host)
            return
        state.failures += 1
        state.places = max(state.places // 2, 1)
        if state.pause:
            # Attempts that began before it was closed say nothing of the probe.
            if state.probe is not None:
                self._close(state, min(state.pause * 2, LONGEST_PAUSE), now)
        elif state.failures >= self._failures:
            self._close(state, FIRST_PAUSE, now)

    @property
    def closed(self) -> int:
        """How many hosts are left alone now, or only probed."""
        return sum(1 for state in self._hosts.values() if state.pause)

    # --- inside --------------------------------------------------------------------------------------

    def _state(self, host: str) -> _Host:
        state = self._hosts.get(host)
        if state is None:
            while len(self._hosts) >= self._remembered and self._forget_one():
                pass
            state = self._hosts[host] = _Host(min(FIRST_PLACES, self._per_host))
        else:
            self._hosts.move_to_end(host)
        return state

    def _forget_one(self) -> bool:
        for host, state in self._hosts.items():
            if not state.active and not state.line:
                del self._hosts[host]
                return True
        return False

    def _places(self, state: _Host) -> int:
        return 1 if state.pause else state.places

    async def _turn(self, host: str, project: str, waiting: _Waiting) -> None:
        """Return when the place is taken."""
        state, owner = self._hosts[host], waiting.project
        state.line.append(waiting)
        owner.waiting += 1
        self._advance(host, state)  # those before it may only wait for places of their projects
        try:
            await waiting.turn
        except BaseException:
            if waiting.turn.done() and not waiting.turn.cancelled() and not waiting.turn.exception():
                self._leave(host, project, owner)  # it had just been given the place, and is cancelled
            else:
                with suppress(ValueError):  # a host that is closed has no line
                    state.line.remove(waiting)
                owner.waiting -= 1
                self._tidy(project, owner)
            raise

    def _leave(self, host: str, project: str, owner: _Project) -> None:
        state = self._hosts[host]  # not forgotten while there is somebody
        state.active -= 1
        owner.active -= 1
        self._advance(host, state)
        while owner.held_up and owner.active < self._per_project:
            other, _ = owner.held_up.popitem(last=False)
            if other in self._hosts:
                self._advance(other, self._hosts[other])
        self._tidy(project, owner)

    def _tidy(self, project: str, owner: _Project) -> None:
        if not owner.active and not owner.waiting:
            self._projects.pop(project, None)

    def _advance(self, host: str, state: _Host) -> None:
        """Give the host's free places to the first in its line whose projects have places too."""
        for waiting in list(state.line):
            if state.active >= self._places(state):
                return
            owner = waiting.project
            if owner.active >= self._per_project:
                owner.held_up[host] = None
            elif not waiting.turn.done():
                state.line.remove(waiting)
                state.active += 1
                owner.active += 1
                owner.waiting -= 1
                waiting.turn.set_result(None)

    def _close(self, state: _Host, pause: float, now: float) -> None:
        """Leave the host alone, and send away who waits for it."""
        state.pause = pause
        state.closed_until = now + pause
        state.probe = None
        for waiting in state.line:
            if not waiting.turn.done():
                waiting.turn.set_exception(Closed(pause))
        state.line.clear()
