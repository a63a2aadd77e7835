"""The SMTP server of the tests as a process, and what arrived there."""

import contextlib
import itertools
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import smtp_server
from msgspec.structs import replace
from smtp_server import Close, Mail, Open, Rule

ANSWER_SECONDS = 30.0  # generous: a loaded test machine
STOP_SECONDS = 10.0

_read_mail = msgspec.json.Decoder(Mail).decode


class MailServer:
    """A process with any number of mailboxes, each at a port of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._numbers = itertools.count()
        self._open: dict[int, Open] = {}  # by port
        self._process = self._started()

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, smtp_server.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self) -> None:
        """Start it after a `kill`: on the same ports, with the rules and the mail that it had."""
        self._process = self._started()
        for order in self._open.values():
            self.told(order)

    def kill(self) -> None:
        """End it at once: whoever speaks with it is cut off."""
        self._process.kill()
        self._let_go()

    def stop(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._let_go()

    def _let_go(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    @contextlib.contextmanager
    def mailbox(self, *rules: Rule, **options: Any) -> Iterator["Mailbox"]:
        """A new one, which nobody reaches afterwards. The options are those of `Open`."""
        file = self._directory / f"{next(self._numbers)}.mails"
        order = Open(file=str(file), rules=list(rules), **options)
        port = self.told(order)
        self._open[port] = replace(order, port=port)
        try:
            yield Mailbox(port, file)
        finally:
            del self._open[port]
            if self._process.poll() is None:
                self.told(Close(port))

    def told(self, order: Open | Close) -> int:
        """Return when it has done so."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order).decode() + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_SECONDS)
        assert ready, "the mail server does not answer"
        answer = self._process.stdout.readline()
        assert answer, f"the mail server ended with {self._process.wait()}"
        return int(answer)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[MailServer]:
    server = MailServer(directory)
    try:
        yield server
    finally:
        server.stop()


class Mailbox:
    def __init__(self, port: int, file: Path) -> None:
        self.port = port
        self._file = file
        self._read = 0  # bytes of the file
        self._kept: list[Mail] = []

    @property
    def kept(self) -> list[Mail]:
        """All that arrived, the oldest first."""
        with self._file.open("rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        self._kept += map(_read_mail, whole.splitlines())
        return self._kept
