"""Real PostgreSQL and MariaDB servers for tests: on free ports of this machine, gone afterwards.

They come from the distribution's packages, and run as these packages' users where tests run as root, since
neither starts as root. Where one is not installed, tests that need it are skipped, and say so; with
NOTHING_IS_MISSING set they fail.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from redis_servers import free_port, missing

USER = "courier"
PASSWORD = "let me/in@once"  # with what has to be written otherwise in a URI
IN_URI = "let%20me%2Fin%40once"
WAIT_SECONDS = 60


class SqlServer:
    """One server process, and its data across restarts."""

    scheme: str
    runs_as: str

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(directory, self.runs_as)
        self._prepare()
        for _ in range(3):  # somebody may take the port between our look and the server's
            self.port = free_port()
            if self._started():
                break
        else:
            pytest.fail(f"the server did not start: {self.log[-2000:]}")
        self._introduce()

    def _prepare(self) -> None:
        """Make the files of a new server."""
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _introduce(self) -> None:
        """Make the user known that stores use."""
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def sql(self, *statements: str, database: str = "") -> str:
        """What the server's own client prints of the answers."""
        raise NotImplementedError

    @property
    def log(self) -> str:
        file = self.directory / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _run(self, *command: str, environment: dict[str, str] | None = None, check: bool = True) -> str:
        done = subprocess.run(
            command,
            user=self.runs_as if os.geteuid() == 0 else None,
            cwd=self.directory,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            capture_output=True,
            text=True,
        )
        if check:
            assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
        return done.stdout if done.returncode == 0 else ""

    def start(self) -> None:
        """Return when it answers, with what it had."""
        if not self._started():
            pytest.fail(f"the server did not start: {self.log[-2000:]}")

    def _started(self) -> bool:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            with (self.directory / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [*self._command(), *self._options],
                    user=self.runs_as if os.geteuid() == 0 else None,
                    cwd=self.directory,
                    env={**os.environ, "LC_ALL": "C"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            while self._process.poll() is None and time.monotonic() < deadline:
                if self._answers():
                    return True
                time.sleep(0.02)
            self.kill()
            if "Address already in use" in self.log:
                return False
            time.sleep(0.1)  # PostgreSQL will not start while processes of the last one are still ending
        return False

    def new_database(self) -> str:
        """The URI of an empty database of its own."""
        name = f"t{uuid.uuid4().hex}"
        self.sql(f"CREATE DATABASE {name}")
        return self.uri(name)

    def uri(self, database: str, *, password: str = IN_URI) -> str:
        return f"{self.scheme}://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let all its processes hang for one `with` block."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        for pid in self._backends():
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in self._backends():
                os.kill(pid, signal.SIGCONT)
            os.killpg(self._process.pid, signal.SIGCONT)

    def _backends(self) -> list[int]:
        """Its processes, each of which may lead a session of its own."""
        assert self._process is not None
        pid = self._process.pid
        with contextlib.suppress(FileNotFoundError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def kill(self) -> None:
        """End it as a crash does, with all its processes."""
        if self._process is not None:
            children = self._backends()
            self._process.kill()
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Postgresql(SqlServer):
    scheme = "postgresql"
    runs_as = "postgres"

    def _prepare(self) -> None:
        secret = self.directory / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            *(_postgresql("initdb"), "-D", str(self.directory / "data"), "-U", USER, "--no-sync"),
            *("-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C.UTF-8"),
        )

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "port": str(self.port),
            "shared_buffers": "16MB",
            "max_connections": "200",
            "autovacuum": "off",
            "dynamic_shared_memory_type": "mmap",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [_postgresql("postgres"), "-D", str(self.directory / "data"), *options]

    def _introduce(self) -> None:
        """The one who made the cluster is the user."""

    def _answers(self) -> bool:
        return bool(self._psql("SELECT 1", database="postgres", check=False))

    def sql(self, *statements: str, database: str = "") -> str:
        return "".join(self._psql(each, database=database or "postgres") for each in statements)

    def _psql(self, statement: str, *, database: str, check: bool = True) -> str:
        address = ("-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database)
        return self._run(
            *(_postgresql("psql"), *address, "-X", "-q", "-A", "-t", "-c", statement),
            environment={"PGPASSWORD": PASSWORD, "PGCONNECT_TIMEOUT": "5"},
            check=check,
        )


class Mariadb(SqlServer):
    scheme = "mysql"
    runs_as = "mysql"

    def _prepare(self) -> None:
        program = shutil.which("mariadb-install-db") or _missing("mariadb-install-db", "mariadb-server")
        self._run(
            *(program, "--no-defaults", f"--datadir={self.directory}/data", "--skip-test-db"),
            *("--auth-root-authentication-method=normal", "--innodb-log-file-size=8M"),
        )

    def _command(self) -> list[str]:
        return [
            shutil.which("mariadbd") or "/usr/sbin/mariadbd",
            "--no-defaults",
            f"--datadir={self.directory}/data",
            f"--socket={self._socket}",
            f"--pid-file={self.directory}/pid",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=8M",
            "--max-connections=200",
        ]

    @property
    def _socket(self) -> str:
        return f"{self.directory}/socket"

    def _introduce(self) -> None:
        user = f"'{USER}'@'127.0.0.1'"
        self.sql(
            f"CREATE USER {user} IDENTIFIED BY '{PASSWORD}'",
            f"GRANT ALL ON `t%`.* TO {user}",
        )

    def _answers(self) -> bool:
        return bool(self._client("SELECT 1", check=False))

    def sql(self, *statements: str, database: str = "") -> str:
        return "".join(self._client(each, database=database) for each in statements)

    def _client(self, statement: str, *, database: str = "", check: bool = True) -> str:
        options = ("--no-defaults", f"--socket={self._socket}", "-u", "root", "-N", "-B", "-e", statement)
        return self._run(
            "mariadb", *options, *([database] if database else []), "--connect-timeout=5", check=check
        )


def _postgresql(name: str) -> str:
    """A program of the newest version there is; Debian keeps them out of the way."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    return str(places[-1]) if places else shutil.which(name) or _missing(name, "postgresql")


def _missing(program: str, package: str) -> NoReturn:
    missing(f"{program} is not installed: apt-get install {package}")


KINDS: dict[str, type[SqlServer]] = {"postgresql": Postgresql, "mariadb": Mariadb}


@contextlib.contextmanager
def started(kind: str, *options: str) -> Iterator[SqlServer]:
    """A server for one `with` block. Its data lie in memory where that can be."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with contextlib.ExitStack() as undo:
        directory = undo.enter_context(tempfile.TemporaryDirectory(prefix="sukkal-sql-", dir=memory))
        Path(directory).chmod(0o755)
        server = KINDS[kind](Path(directory), *options)
        undo.callback(server.kill)
        yield server


class Shared:
    """Servers for all tests of a worker, started by the first that asks. Their tests share no database."""

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()
        self._servers: dict[str, SqlServer] = {}

    def server(self, kind: str) -> SqlServer:
        if kind not in self._servers:
            self._servers[kind] = self._undo.enter_context(started(kind))
        return self._servers[kind]

    def stop(self) -> None:
        self._undo.close()
        self._servers.clear()


SHARED = Shared()
