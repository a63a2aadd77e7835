"""Real Redis servers for tests: on free ports of this machine, in a directory of their own, gone afterwards.

Where no redis-server is installed, tests that need one are skipped, and say so; with NOTHING_IS_MISSING set
they fail. SUKKAL_REDIS_SERVER=valkey-server runs all of them on Valkey.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

PROGRAM = os.environ.get("SUKKAL_REDIS_SERVER", "redis-server")
WAIT_SECONDS = 40
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def binary(name: str = PROGRAM) -> str:
    """The server's program; skips the test where there is none. Not every distribution has Valkey."""
    program = shutil.which(name)
    if program is None:
        reason = f"{name} is not installed: apt-get install {name}"
        pytest.skip(reason) if name == "valkey-server" else missing(reason)
    return program


def missing(reason: str) -> NoReturn:
    """Skip the test for that reason; fail it where everything ought to be there."""
    if os.environ.get("NOTHING_IS_MISSING"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class RedisServer:
    """One server process, and its data across restarts."""

    def __init__(self, directory: Path, *options: str, program: Sequence[str] = ()) -> None:
        """`program` is what to start when that is not the plain server."""
        self.port = free_port()
        self.directory = directory
        self._program = program or (binary(),)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self, *options: str) -> None:
        """Return when it answers, with its data loaded; further options are for this time."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            *self._program,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.directory),
        ]
        command += [
            "--save",
            "",
            "--logfile",
            "log",
            "--repl-diskless-sync-delay",
            "0",
            *self._options,
            *options,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + WAIT_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"redis-server did not start: {(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.01)

    def option(self, name: str) -> str:
        return self._options[self._options.index(name) + 1]

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

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it hang for one `with` block."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def started(*options: str, program: Sequence[str] = ()) -> Iterator[RedisServer]:
    """A server for one `with` block. Its data go with it; they lie in memory where that can be."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="sukkal-redis-", dir=memory) as directory:
        server = RedisServer(Path(directory), *options, program=program)
        try:
            yield server
        finally:
            server.kill()


class Group:
    """Servers that belong together: `uri` names all of them; each primary has that many `replicas`."""

    def __init__(
        self,
        uri: str,
        members: Sequence[RedisServer],
        *,
        replicas: int,
        sentinels: Sequence[RedisServer] = (),
    ) -> None:
        self.uri = uri
        self.members = list(members)
        self.replicas = replicas
        self.sentinels = list(sentinels)

    def primary(self, key: str = "any") -> RedisServer:
        """The one that takes writes to this key."""
        for server in self.members:
            with contextlib.suppress(OSError):  # of those that are down
                if b"master" in server.ask("ROLE") and not server.ask("EXISTS", key).startswith(b"-"):
                    return server
        raise AssertionError("no primary answers")

    def takes_writes(self, key: str = "any") -> bool:
        try:
            self.primary(key)
        except AssertionError:
            return False
        return True


@contextlib.contextmanager
def sentinel_group(*options: str, patience: float = 30) -> Iterator[Group]:
    """A primary with two replicas, watched by three sentinels, as the service `main`.

    `patience` is how many seconds a server may be silent before another takes over.
    """
    with contextlib.ExitStack() as undo:
        primary = undo.enter_context(started(*options))
        of = ("--replicaof", "127.0.0.1", str(primary.port))
        servers = [primary, *(undo.enter_context(started(*options, *of)) for _ in range(2))]
        sentinels = [undo.enter_context(_sentinel(primary, patience)) for _ in range(3)]
        for server in servers[1:]:
            until(lambda server=server: b"master_link_status:up" in server.ask("INFO", "replication"))
        for sentinel in sentinels:
            until(lambda sentinel=sentinel: _knows_all(sentinel))
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        yield Group(f"redis+sentinel://{hosts}/main", servers, replicas=2, sentinels=sentinels)


def _knows_all(sentinel: RedisServer) -> bool:
    known = sentinel.ask("SENTINEL", "MASTER", "main").split(b"\r\n")
    facts = dict(zip(known[2::4], known[4::4], strict=False))
    return facts.get(b"num-slaves") == b"2" and facts.get(b"num-other-sentinels") == b"2"


@contextlib.contextmanager
def _sentinel(primary: RedisServer, patience: float) -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="sukkal-sentinel-") as directory:
        file = Path(directory) / "sentinel.conf"
        file.write_text(
            f"sentinel monitor main 127.0.0.1 {primary.port} 2\n"
            f"sentinel down-after-milliseconds main {patience * 1000:.0f}\n"
            "sentinel failover-timeout main 3000\n"
        )
        server = RedisServer(Path(directory), program=(binary(), str(file), "--sentinel"))
        try:
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def cluster(*options: str, patience: float = 30) -> Iterator[Group]:
    """Three primaries with a replica each, which share all slots; `patience` as above."""
    with contextlib.ExitStack() as undo:
        servers = [
            undo.enter_context(
                started(
                    *("--cluster-enabled", "yes", "--cluster-node-timeout", f"{patience * 1000:.0f}"),
                    *("--cluster-port", str(free_port()), *options),
                )
            )
            for _ in range(6)
        ]
        for number, server in enumerate(servers[:3]):
            first, last = number * 16384 // 3, (number + 1) * 16384 // 3 - 1
            _insist(server, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            _insist(server, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        bus = servers[0].option("--cluster-port")
        for server in servers[1:]:
            _insist(server, "CLUSTER", "MEET", "127.0.0.1", str(servers[0].port), bus)
        for server in servers:
            until(lambda server=server: b"cluster_known_nodes:6" in server.ask("CLUSTER", "INFO"))
        for primary, replica in zip(servers[:3], servers[3:], strict=True):
            name = primary.ask("CLUSTER", "MYID").split(b"\r\n")[1].decode()
            until(lambda replica=replica, name=name: replica.ask("CLUSTER", "REPLICATE", name) == b"+OK\r\n")
        for server in servers:
            until(lambda server=server: b"cluster_state:ok" in server.ask("CLUSTER", "INFO"))
        for server in servers[3:]:
            until(lambda server=server: b"master_link_status:up" in server.ask("INFO", "replication"))
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        yield Group(f"redis+cluster://{hosts}", servers, replicas=1)


def _insist(server: RedisServer, *command: str) -> None:
    answer = server.ask(*command)
    assert answer == b"+OK\r\n", answer


def until(condition: Callable[[], bool]) -> None:
    """Return when it is so; fails the test when that takes too long."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the servers do not come together"
        time.sleep(0.02)


class Shared:
    """Servers for all tests of a worker, started by the first that asks. Its tests share no key prefix."""

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()
        self._servers: dict[str, RedisServer] = {}
        self._groups: dict[str, Group] = {}

    def server(self, program: str = PROGRAM) -> RedisServer:
        if program not in self._servers:
            server = started(*DURABLE, program=(binary(program),))
            self._servers[program] = self._undo.enter_context(server)
        return self._servers[program]

    def sentinel_group(self) -> Group:
        if "sentinel" not in self._groups:
            self._groups["sentinel"] = self._undo.enter_context(sentinel_group(*DURABLE))
        return self._groups["sentinel"]

    def cluster(self) -> Group:
        if "cluster" not in self._groups:
            self._groups["cluster"] = self._undo.enter_context(cluster(*DURABLE))
        return self._groups["cluster"]

    def stop(self) -> None:
        self._undo.close()
        self._servers.clear()
        self._groups.clear()


SHARED = Shared()
