"""What a process has used, as Linux counts it."""

import os
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_WHOLE_PROCESS = 2  # CPUCLOCK_SCHED without the per-thread bit


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process so far, user and kernel; 0.0 for a process that is gone.

    Reads the process's CPU clock, which counts nanoseconds; /proc/PID/stat has the same sum in steps of 10
    ms.
    """
    try:
        return time.clock_gettime((~pid << 3) | _WHOLE_PROCESS)  # the number clock_getcpuclockid(3) gives
    except OSError:
        return 0.0


def busy_seconds() -> float:
    """CPU time the whole machine has spent on anything so far, what its host took from it included."""
    user, nice, system, _idle, _waiting, interrupts, soft, stolen, *_ = (
        int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + interrupts + soft + stolen) / _TICKS


def memory(pid: int) -> dict[str, float]:
    """Resident memory of a process, in MB of 10^6 bytes.

    `rss` is all of it, `anonymous` its own data, `file` mapped files (libraries, and the store if it maps its
    file), `peak` the largest `rss` so far.
    """
    names = {"VmRSS": "rss", "RssAnon": "anonymous", "RssFile": "file", "VmHWM": "peak"}
    figures = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in names:
            figures[names[key]] = int(value.split()[0]) * 1024 / 1e6
    return figures
