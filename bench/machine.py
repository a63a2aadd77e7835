"""What the figures were measured on: enough to judge them by, nothing that names the machine."""

import os
import platform
import sqlite3
import statistics
import subprocess
import time
from pathlib import Path

_HERE = Path(__file__).parent


def describe(data: Path) -> dict[str, str | int | float]:
    """Processor, memory, system and library versions, and what a synced write costs where the data goes."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _first_value("/proc/cpuinfo", "model name"),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": _sqlite(),
        "filesystem": filesystem(data),
        "fdatasync_ms": round(fdatasync_ms(data), 3),
    }


def filesystem(path: Path) -> str:
    """Type of the file system a path is on: `ext4`, `tmpfs`, …"""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mounted, name, *_ = line.split()
        if path.resolve().is_relative_to(mounted) and len(mounted) >= len(best):
            best, kind = mounted, name
    return kind


def fdatasync_ms(folder: Path, times: int = 100) -> float:
    """Median time of appending 4 KiB to a file and syncing it, in ms: the floor under every durable write."""
    path = folder / "fdatasync.probe"
    spent = []
    with path.open("wb", buffering=0) as file:
        for _ in range(times):
            start = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            spent.append(time.perf_counter() - start)
    path.unlink()
    return statistics.median(spent) * 1e3


def commit() -> str:
    """The commit measured, with a `+` when the working tree differs from it."""
    name = _git("rev-parse", "--short", "HEAD")
    return "unknown" if not name else name + ("+" if _git("status", "--porcelain") else "")


def _git(*arguments: str) -> str:
    try:
        command = ["git", "-C", str(_HERE), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _sqlite() -> str:
    try:
        import apsw
    except ImportError:
        return f"{sqlite3.sqlite_version} (sqlite3)"
    return f"{apsw.sqlite_lib_version()} (apsw), {sqlite3.sqlite_version} (sqlite3)"


def _first_value(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return platform.machine()
