"""A clock that moves only when the test moves it."""

import asyncio
from collections.abc import Callable

NOW = 1_800_000_000.0


class HandTimer:
    """Does something at a time, once."""

    def __init__(self, when: float, act: Callable[[], None]) -> None:
        self.when = when
        self.act: Callable[[], None] | None = act

    def cancel(self) -> None:
        self.act = None

    def fire(self) -> None:
        act, self.act = self.act, None
        if act is not None:
            act()


class HandClock:
    """A `Clock` that moves only when the test moves it: `now` by setting it, timers by `reach` too."""

    def __init__(self, start: float = NOW) -> None:
        self.time = start
        self._timers: list[HandTimer] = []

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, act: Callable[[], None]) -> HandTimer:
        timer = HandTimer(when, act)
        if when > self.time:
            self._timers.append(timer)
        else:
            asyncio.get_running_loop().call_soon(timer.fire)
        return timer

    @property
    def set_for(self) -> list[float]:
        """When timers are going to go off."""
        self._timers = [timer for timer in self._timers if timer.act is not None]
        return sorted(timer.when for timer in self._timers)

    async def fire_early(self, when: float, *, at: float) -> None:
        """Have the timers set for one moment go off before it."""
        self.time = at
        for timer in [timer for timer in self._timers if timer.when == when]:
            timer.fire()
        await others_go_on()

    async def reach(self, time: float) -> None:
        """Let time pass until then; at each moment for which a timer is set, all do what they can."""
        await others_go_on()
        while self.set_for and self.set_for[0] <= time:
            self.time = self.set_for[0]
            for timer in [timer for timer in self._timers if timer.when <= self.time]:
                timer.fire()
            await others_go_on()
        self.time = time
        await others_go_on()


async def others_go_on() -> None:
    """Let other tasks run as far as they can."""
    for _ in range(40):
        await asyncio.sleep(0)
