"""A service of several processes as tests see it: which they are, and which of them has a connection."""

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from http_caller import Caller
from server_process import ServerProcess

PATIENCE = 20.0  # seconds; a loaded machine, not a promise of the server
MOST_CONNECTIONS = 400  # until each worker must have got one


def worker_pids(server: ServerProcess) -> set[int]:
    return set(map(int, Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()))


def has_ended(pid: int) -> bool:
    """Whether a process is no more, or nothing but a line in its parent's book."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def serving(server: ServerProcess, connection: socket.socket) -> int:
    """The worker that has this connection, over which something was answered before."""
    inode = _inode(server.port, connection.getsockname()[1])
    for pid in worker_pids(server):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(file) == f"socket:[{inode}]":
                    return pid
    raise AssertionError("no worker has the connection")


def _inode(local: int, remote: int) -> str:
    row = rf"\n *\d+: \w+:{local:04X} \w+:{remote:04X} (?:\S+ +){{6}}(\d+)"
    found = re.search(row, Path("/proc/net/tcp").read_text())
    assert found, "the kernel knows of no such connection"
    return found[1]


@contextlib.contextmanager
def caller_for_each(server: ServerProcess, project: str, count: int) -> Iterator[dict[int, Caller]]:
    """By process, a caller whose connection that process has."""
    found: dict[int, Caller] = {}
    with contextlib.ExitStack() as opened:
        for _ in range(MOST_CONNECTIONS):
            caller = Caller(server.host, server.port, project=project)
            opened.callback(caller.close)
            assert caller("GET", "/v2/ping").status == 204
            found.setdefault(serving(server, caller.socket), caller)
            if len(found) == count:
                break
        assert len(found) == count, f"all connections went to {len(found)} of {count} workers"
        yield found


def until(condition: Callable[[], bool]) -> None:
    """Return when it is so; fails when that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.01)
