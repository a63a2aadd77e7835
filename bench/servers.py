"""Starts and stops the servers that are measured, each a process of its own on a free port."""

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from wire import Caller, request

PATIENCE = 60.0  # seconds a server may take to start or to stop
_CLIENT = "3381af92-2b9e-11e3-b191-71861300734c"
_HERE = Path(__file__).parent


class ServerFailed(Exception):
    """A server did not start, or is gone; the text ends with the last lines it wrote."""


class Server:
    """One running server process.

    `ready_after` is the time in seconds from starting the process until `/v2/ping` had its first answer.
    """

    def __init__(self, name: str, command: Sequence[str], port: int, log: Path) -> None:
        self.name = name
        self.port = port
        self._log = log
        with log.open("wb") as output:
            started = time.perf_counter()
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=_environment()
            )
        try:
            self._wait(started)
        except BaseException:
            self.kill()
            raise
        self.ready_after = time.perf_counter() - started

    @property
    def pid(self) -> int:
        return self._process.pid

    def _wait(self, started: float) -> None:
        ping = request(Caller(f"127.0.0.1:{self.port}", _CLIENT), "GET", "/v2/ping")
        while not _answers(self.port, ping):
            if self._process.poll() is not None:
                status = self._process.returncode
                raise ServerFailed(f"{self.name} ended with status {status}:\n{self.last_words()}")
            if time.perf_counter() - started > PATIENCE:
                raise ServerFailed(f"{self.name} not ready after {PATIENCE:.0f} s:\n{self.last_words()}")
            time.sleep(0.002)

    def last_words(self, lines: int = 15) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End it as an operator does, with SIGTERM; by force when that takes too long."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def start_echo(log: Path) -> Server:
    """The bare app everything is compared with."""
    port = _free_port()
    return Server("echo", [sys.executable, str(_HERE / "echo.py"), "--port", str(port)], port, log)


def start_sukkal(command: str, data: Path, log: Path, *options: str) -> Server:
    """Our service on a data directory, with everything else at its defaults but for `options`."""
    port = _free_port()
    where = ["serve", "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data)]
    return Server("sukkal", [*shlex.split(command), *where, *options], port, log)


def sukkal_command() -> str:
    """How to run `sukkal` from the environment this runs in."""
    script = Path(sys.executable).with_name("sukkal")
    return shlex.join([str(script)] if script.exists() else [sys.executable, "-m", "sukkal.cli"])


def _answers(port: int, ping: bytes) -> bool:
    """Whether a ping gets a success. The echo says 201, the service 204; 503 is not ready yet."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            connection.sendall(ping)
            return connection.recv(4096)[9:12] in (b"201", b"204")
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment() -> Mapping[str, str]:
    """Ours, without settings that would make the service another than the one documented."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SUKKAL_")}
