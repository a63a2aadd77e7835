"""A real server as a process of its own, for tests that talk to it through sockets."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

READY = re.compile(r"http://127\.0\.0\.1:(\d+)")
START_SECONDS = 30.0  # generous: a loaded test machine, not a promise of the server
STOP_SECONDS = 30.0


class ServerDied(AssertionError):
    """The server ended, or never got ready; the message carries its log."""


class ServerProcess:
    """`sukkal serve` on a free port of the loopback interface, ready when the constructor returns."""

    def __init__(
        self,
        directory: Path,
        *flags: str,
        settings: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """Settings are given without their prefix, in lower case: `{"max_queue_metadata": "64"}`.

        `under` is a command that runs the rest of its arguments in its own place.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SUKKAL_")}
        for name, value in (settings or {}).items():
            environment[f"SUKKAL_{name.upper()}"] = value
        command = [sys.executable, "-m", "sukkal.cli", "serve", "--host", "127.0.0.1", "--port", "0"]
        directory.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [*under, *command, "--data-dir", str(directory / "data"), *flags],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._lines: list[str] = []
        self._checked = 0  # lines of the log that a check has seen
        self._found: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.host = "127.0.0.1"
        self.port = self._wait_until_ready()
        self.url = f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def _read(self) -> None:
        assert self._process.stdout is not None
        named = False
        for line in self._process.stdout:
            self._lines.append(line)
            if not named and (match := READY.search(line)):
                named = True
                self._found.put(int(match[1]))
        self._found.put(None)

    def _wait_until_ready(self) -> int:
        try:
            port = self._found.get(timeout=START_SECONDS)
        except queue.Empty:
            port = None
        if port is None:
            self._process.kill()
            self._process.wait()
            raise ServerDied(f"The server did not get ready. Its log:\n{self.log}")
        return port

    def check(self) -> None:
        """Fail when the server is gone, or has met a fault it did not expect."""
        if (code := self._process.poll()) is not None:
            raise ServerDied(f"The server ended with {code}. Its log:\n{self.log}")
        seen, self._checked = self._checked, len(self._lines)
        if any("Traceback (most recent call last)" in line for line in self._lines[seen:]):
            raise ServerDied(f"The server met a fault it did not expect:\n{''.join(self._lines[seen:])}")

    def bury(self) -> None:
        """Wait until a killed server is gone."""
        assert self._process.wait() == -signal.SIGKILL, self.log
        self._reader.join()

    def stop(self) -> None:
        """Ask it to end, and insist that it ends well."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise ServerDied(f"The server did not end on SIGTERM. Its log:\n{self.log}") from None
        self._reader.join(STOP_SECONDS)
        if code != 0:
            raise ServerDied(f"The server ended with {code} instead of 0. Its log:\n{self.log}")


@contextlib.contextmanager
def running(
    directory: Path, *flags: str, settings: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    server = ServerProcess(directory, *flags, settings=settings)
    try:
        yield server
    finally:
        server.stop()


class ServerPool:
    """Servers with different settings, each started when first asked for and shared until the end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._servers: dict[tuple[object, ...], ServerProcess] = {}

    def get(self, *flags: str, **settings: str) -> ServerProcess:
        key = (flags, tuple(sorted(settings.items())))
        if key not in self._servers:
            place = self._directory / str(len(self._servers))
            self._servers[key] = ServerProcess(place, *flags, settings=settings)
        self._servers[key].check()
        return self._servers[key]

    def check(self) -> None:
        for server in self._servers.values():
            server.check()

    def stop(self) -> None:
        faults = []
        for server in self._servers.values():
            try:
                server.stop()
            except ServerDied as fault:
                faults.append(str(fault))
        assert not faults, "\n".join(faults)
