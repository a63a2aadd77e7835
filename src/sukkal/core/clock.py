"""What time it is, and being called at a time."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    def cancel(self) -> object: ...


class Clock(Protocol):
    """Times are seconds since the epoch."""

    def now(self) -> float: ...

    def call_at(self, when: float, act: Callable[[], None]) -> Timer:
        """Have `act` called at that time, or soon when it is over. It may come a little early or late."""
        ...


class SystemClock:
    """The machine's clock, and timers of the running event loop.

    A timer counts off the seconds until its time: when the machine's clock is set meanwhile, it is as wrong.
    """

    def now(self) -> float:
        return time.time()

    def call_at(self, when: float, act: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(max(0.0, when - time.time()), act)
