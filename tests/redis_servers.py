"""Real Redis servers for tests: on free ports of this machine, in a directory of their own, gone afterwards.

Where no redis-server is installed, tests that need one are skipped, and say so; with CI set they fail.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BINARIES = ("redis-server", "valkey-server")
WAIT_SECONDS = 20
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def binary() -> str:
    """The server's program; skips the test where there is none."""
    for name in BINARIES:
        if path := shutil.which(name):
            return path
    reason = "redis-server is not installed: apt-get install redis-server"
    if os.environ.get("NOTHING_IS_MISSING"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class RedisServer:
    """One server process, and its data across restarts."""

    def __init__(self, directory: Path, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return when it answers, with its data loaded."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        command += ["--save", "", "--logfile", "log", "--repl-diskless-sync-delay", "0", *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + WAIT_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"redis-server did not start: {(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            return self.ask("PING") in (b"+PONG\r\n", b"-NOAUTH Authentication required.\r\n")
        except OSError:
            return False

    def ask(self, *command: str) -> bytes:
        """The first bytes of the answer to a command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            parts = [f"${len(part.encode())}\r\n{part}\r\n" for part in command]
            connection.sendall(f"*{len(command)}\r\n{''.join(parts)}".encode())
            return connection.recv(65536)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def started(*options: str) -> Iterator[RedisServer]:
    """A server for one `with` block. Its data go with it; they lie in memory where that can be."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="sukkal-redis-", dir=memory) as directory:
        server = RedisServer(Path(directory), *options)
        try:
            yield server
        finally:
            server.kill()


class SharedServer:
    """One server for all tests of a worker, started by the first that asks. Its tests share no key prefix."""

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()
        self._server: RedisServer | None = None

    def get(self) -> RedisServer:
        if self._server is None:
            self._server = self._undo.enter_context(started(*DURABLE))
        return self._server

    def stop(self) -> None:
        self._undo.close()
        self._server = None


SHARED = SharedServer()
