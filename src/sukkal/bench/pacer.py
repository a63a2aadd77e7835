"""Calls at a fixed rate, to some tens of microseconds.

Event loops round timers to milliseconds, which would be counted as the server's time: so long a due request
would wait for the load tool to notice. Linux has timers that are files, which wake a loop when they are due.
"""

import asyncio
import contextlib
import ctypes
import os
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1  # that of time.perf_counter
_NONBLOCK = os.O_NONBLOCK
_ABSOLUTE = 1
_SHORTEST = 100e-6  # s between calls: whoever is called catches up with what is due


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    @classmethod
    def of(cls, seconds: float) -> "_Timespec":
        whole, rest = divmod(round(seconds * 1e9), 10**9)
        return cls(whole, rest)


class _Schedule(ctypes.Structure):
    _fields_ = (("every", _Timespec), ("first", _Timespec))


class Pacer:
    """Calls `tick` at `start` (of time.perf_counter) and every `interval` seconds thereafter, until stopped.

    Calls that are late may be merged; the callee does all that is due.
    """

    def __init__(self, start: float, interval: float, tick: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick = tick
        self._interval = max(interval, _SHORTEST)
        self._due = start
        self._file = _timer(start, self._interval)
        self._handle: asyncio.TimerHandle | None = None
        if self._file is not None:
            self._loop.add_reader(self._file, self._fired)
        else:
            self._wait()

    def _fired(self) -> None:
        assert self._file is not None
        with contextlib.suppress(BlockingIOError):
            os.read(self._file, 8)
        self._tick()

    def _wait(self) -> None:
        self._handle = self._loop.call_later(max(0.0, self._due - time.perf_counter()), self._late)

    def _late(self) -> None:
        self._due += self._interval
        self._tick()
        self._wait()

    def stop(self) -> None:
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = None
        elif self._handle is not None:
            self._handle.cancel()


def _timer(start: float, interval: float) -> int | None:
    """A timer as a file; None where there is no such thing."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        create, settime = libc.timerfd_create, libc.timerfd_settime
    except (OSError, AttributeError):
        return None
    file: int = create(_CLOCK_MONOTONIC, _NONBLOCK)
    schedule = _Schedule(_Timespec.of(interval), _Timespec.of(start))
    if file < 0 or settime(file, _ABSOLUTE, ctypes.byref(schedule), None) != 0:
        return None
    return file
