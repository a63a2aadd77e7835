"""A headless Chromium, driven through its DevTools protocol: pages are opened and asked for values."""

import contextlib
import http.client
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_SECONDS = 60.0  # generous: for a loaded test machine
ANSWER_SECONDS = 60.0

FLAGS = [
    "--headless",
    "--no-sandbox",  # tests run as root in containers, where the sandbox cannot be had
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
]


def found() -> str | None:
    """Where Chromium is, if it is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One open page."""

    def __init__(self, line: ClientConnection) -> None:
        self._line = line
        self._numbers = itertools.count(1)

    def open(self, url: str) -> None:
        """Go there; return when it is loaded."""
        self._call("Page.enable")
        self._call("Page.navigate", url=url)
        while json.loads(self._line.recv(ANSWER_SECONDS)).get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; of a promise, when it has one."""
        answer = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._line.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._line.recv(ANSWER_SECONDS))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]


class Chromium:
    def __init__(self, port: int) -> None:
        self._port = port

    @contextlib.contextmanager
    def page(self, url: str) -> Iterator[Page]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        try:
            connection.request("PUT", "/json/new?about:blank")
            target = json.loads(connection.getresponse().read())
            with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None) as line:
                page = Page(line)
                page.open(url)
                yield page
            connection.request("GET", f"/json/close/{target['id']}")
            connection.getresponse().read()
        finally:
            connection.close()


@contextlib.contextmanager
def running(path: str, directory: Path) -> Iterator[Chromium]:
    """A browser with a new profile in the directory."""
    log = directory / "chromium.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={directory / 'profile'}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HOME": str(directory)},
            start_new_session=True,  # its children end with it
        )
    try:
        yield Chromium(_port(process, directory / "profile" / "DevToolsActivePort", log))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def _port(process: subprocess.Popen[bytes], file: Path, log: Path) -> int:
    """The port it listens on, which it writes into a file when it is ready."""
    latest = time.monotonic() + START_SECONDS
    while time.monotonic() < latest and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            lines = file.read_text().splitlines()
            if len(lines) == 2:  # whole
                return int(lines[0])
        time.sleep(0.05)
    raise AssertionError(f"Chromium did not get ready. Its log:\n{log.read_text(errors='replace')}")
