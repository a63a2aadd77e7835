"""Starts and stops the servers that are measured, each a process of its own on a free port."""

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from wire import Caller, request

PATIENCE = 60.0  # seconds a server may take to start or to stop
_GROUP = "main"  # what the sentinels call theirs
_CLIENT = "3381af92-2b9e-11e3-b191-71861300734c"
_HERE = Path(__file__).parent


class ServerFailed(Exception):
    """A server did not start, or is gone; the text ends with the last lines it wrote."""


class Server:
    """One running server process.

    `ready_after` is the time in seconds from starting the process until `/v2/ping` had its first answer.
    """

    def __init__(
        self, name: str, command: Sequence[str], port: int, log: Path, *, patience: float = PATIENCE
    ) -> None:
        self.name = name
        self.port = port
        self._patience = patience
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

    @property
    def pids(self) -> list[int]:
        """Itself and the workers it has."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def _wait(self, started: float) -> None:
        ping = request(Caller(f"127.0.0.1:{self.port}", _CLIENT), "GET", "/v2/ping")
        while not _answers(self.port, ping):
            if self._process.poll() is not None:
                status = self._process.returncode
                raise ServerFailed(f"{self.name} ended with status {status}:\n{self.last_words()}")
            if time.perf_counter() - started > self._patience:
                raise ServerFailed(
                    f"{self.name} not ready after {self._patience:.0f} s:\n{self.last_words()}"
                )
            time.sleep(0.002)

    def last_words(self, lines: int = 15) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End it as an operator does, with SIGTERM; by force when that takes too long."""
        self._process.terminate()
        try:
            self._process.wait(self._patience)
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
    port = free_port()
    return Server("echo", [sys.executable, str(_HERE / "echo.py"), "--port", str(port)], port, log)


def start_sukkal(command: str, data: Path, log: Path, *options: str, patience: float = PATIENCE) -> Server:
    """Our service on a data directory, with everything else at its defaults but for `options`."""
    port = free_port()
    where = ["serve", "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data)]
    return Server("sukkal", [*shlex.split(command), *where, *options], port, log, patience=patience)


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment() -> Mapping[str, str]:
    """Ours, without settings that would make the service another than the one documented."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SUKKAL_")}
    return ours | {"SUKKAL_WEBHOOK_ALLOW": "127.0.0.0/8"}  # receivers are on this machine


class Redis:
    """A redis-server of its own on a free port, its log in a directory of its own; gone with the block."""

    def __init__(self, program: str, directory: Path, *options: str, config: Path | None = None) -> None:
        """`config` is a file it may write to, which sentinels need."""
        directory.mkdir()
        self.port = free_port()
        command = [program] if config is None else [program, str(config)]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory)]
        command += ["--save", "", "--logfile", "log", "--auto-aof-rewrite-percentage", "0", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        begun = time.perf_counter()
        while not self._answers():
            if self._process.poll() is not None or time.perf_counter() - begun > PATIENCE:
                self._process.kill()
                raise ServerFailed(f"redis-server did not start:\n{(directory / 'log').read_text()[-1000:]}")
            time.sleep(0.005)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        return [self.pid]

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def used(self) -> int:
        """Bytes of memory its data takes."""
        facts = self.ask("INFO", "memory").decode().split("\r\n")
        return next(
            int(fact.removeprefix("used_memory:")) for fact in facts if fact.startswith("used_memory:")
        )

    def ask(self, *command: str) -> bytes:
        """The beginning of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            parts = "".join(f"${len(part)}\r\n{part}\r\n" for part in command)
            connection.sendall(f"*{len(command)}\r\n{parts}".encode())
            return connection.recv(1 << 16)

    def _answers(self) -> bool:
        try:
            return self.ask("PING") == b"+PONG\r\n"
        except OSError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


class SentinelGroup:
    """A primary and two replicas, watched by three sentinels: the least that bears the loss of any one."""

    def __init__(self, program: str, folder: Callable[[], Path], *options: str) -> None:
        """`folder` names a fresh directory with each call; `options` are of the servers."""
        self._members = ExitStack()
        self._sentinels: list[Redis] = []
        try:
            self.primary = self._add(Redis(program, folder(), *options))
            of = ("--replicaof", "127.0.0.1", str(self.primary.port), "--repl-diskless-sync-delay", "0")
            self._data = [
                self.primary,
                *(self._add(Redis(program, folder(), *options, *of)) for _ in range(2)),
            ]
            for _ in range(3):
                directory = folder()
                config = directory.with_suffix(".conf")
                config.write_text(f"sentinel monitor {_GROUP} 127.0.0.1 {self.primary.port} 2\n")
                self._sentinels.append(self._add(Redis(program, directory, "--sentinel", config=config)))
            self._wait()
        except BaseException:
            self._members.close()
            raise

    def _add(self, member: Redis) -> Redis:
        return self._members.enter_context(member)

    def _wait(self) -> None:
        """Return when the replicas follow, and each sentinel knows of all."""
        known = (b"num-slaves", b"$1", b"2", b"num-other-sentinels", b"$1", b"2")
        begun = time.perf_counter()
        while True:
            linked = all(
                b"master_link_status:up" in replica.ask("INFO", "replication") for replica in self._data[1:]
            )
            facts = [each.ask("SENTINEL", "MASTER", _GROUP).split(b"\r\n") for each in self._sentinels]
            if linked and all(_follow(known[:3], fact) and _follow(known[3:], fact) for fact in facts):
                return
            if time.perf_counter() - begun > PATIENCE:
                raise ServerFailed("The servers of the Sentinel group did not come together.")
            time.sleep(0.02)

    @property
    def pids(self) -> list[int]:
        return [each.pid for each in (*self._data, *self._sentinels)]

    @property
    def uri(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self._sentinels)
        return f"redis+sentinel://{hosts}/{_GROUP}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._members.close()


def _follow(wanted: Sequence[bytes], parts: Sequence[bytes]) -> bool:
    """Whether these parts of an answer come one after the other."""
    count = len(wanted)
    return any(tuple(parts[at : at + count]) == tuple(wanted) for at in range(len(parts)))
