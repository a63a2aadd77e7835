"""What pools cost: instructions of a post and of a claim with its deletes, with pools and without.

    python bench/pools.py

The application is asked in process, on a store of its own in the temporary directory, without syncs. Each way
runs under valgrind's cachegrind with two numbers of rounds; the difference is what the further rounds took,
free of start-up, and the same on a busy machine as on an idle one.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sukkal.core.pooling.backends import Site
from sukkal.core.service import Service
from sukkal.http.app import HttpApp
from sukkal.stores.contract import Backend
from sukkal.stores.registry import located, open_backend

ROUNDS = (150, 650)
HEADERS = [
    (b"client-id", b"3381af92-2b9e-11e3-b191-71861300734c"),
    (b"x-project-id", b"bench"),
    (b"content-type", b"application/json"),
]
POST = json.dumps({"messages": [{"body": {"event": "measured", "number": 12345}, "ttl": 300}]}).encode()
CLAIM = json.dumps({"ttl": 300, "grace": 60}).encode()
COUNTED = re.compile(r"I\s+refs:\s+([\d,]+)")


class Stores:
    """Opens pools as the service's own store is opened: an `Opener`."""

    def site(self, uri: str, options: Mapping[str, Any]) -> Site:
        return Site(*located(uri, options))

    async def open(self, site: Site) -> Backend:
        return await open_backend(site.uri, durable=False)


class Application:
    def __init__(self, service: Service) -> None:
        self._app = HttpApp(service, clock=lambda: 1_800_000_000.0, admin_mode=True)

    async def ask(self, method: str, path: str, body: bytes = b"", *, query: bytes = b"") -> Any:
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": [*HEADERS, (b"content-length", str(len(body)).encode()), (b"x-roles", b"admin")],
        }
        answers: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(event: Any) -> None:
            answers.append(event)

        await self._app(scope, receive, send)
        assert answers[0]["status"] < 300, answers
        return answers[1]["body"]


class Clock:
    """Stands still, so that nothing expires however slow the machine is made."""

    def now(self) -> float:
        return 1_800_000_000.0

    def call_at(self, when: float, act: Any) -> Any:
        raise NotImplementedError


async def work(what: str, rounds: int, *, pooled: bool, directory: str) -> None:
    """`rounds` times a post; of `cycle` also a claim, and a delete under it."""
    own = await open_backend(f"sqlite://{directory}/own.db", durable=False)
    service = Service(own, clock=Clock(), opener=Stores() if pooled else None)
    app = Application(service)
    if pooled:
        pool = json.dumps({"uri": f"sqlite://{directory}/pool.db", "weight": 1}).encode()
        await app.ask("PUT", "/v2/pools/one", pool)
    gc.collect()
    gc.disable()  # how often it runs depends on more than is measured
    for _ in range(rounds):
        await app.ask("POST", "/v2/queues/q/messages", POST)
        if what == "cycle":
            found = json.loads(await app.ask("POST", "/v2/queues/q/claims", CLAIM))
            for message in found["messages"]:
                path, _, query = message["href"].partition("?")
                await app.ask("DELETE", path, query=query.encode())
    await service.close()
    await own.close()


@contextlib.contextmanager
def fresh() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="sukkal-bench-pools-") as directory:
        yield directory


def instructions(what: str, rounds: int, *, pooled: bool) -> int:
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command += [sys.executable, __file__, "--work", what, "--rounds", str(rounds)]
    ended = subprocess.run(
        [*command, *(["--pooled"] if pooled else [])],
        capture_output=True,
        text=True,
        check=True,
        env={
            "PYTHONPATH": str(Path(__file__).parents[1] / "src"),
            "PYTHONHASHSEED": "0",
            "PATH": "/usr/bin:/bin",
        },
    )
    counted = COUNTED.search(ended.stderr)
    assert counted is not None, ended.stderr
    return int(counted[1].replace(",", ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", choices=("post", "cycle"), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--pooled", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        with fresh() as directory:
            asyncio.run(work(asked.work, asked.rounds, pooled=asked.pooled, directory=directory))
        return
    instructions("post", 1, pooled=True)  # so that no run that counts has to compile what was edited
    print("| requests | direct | in a pool | more |\n| --- | --- | --- | --- |")
    for what, label in (("post", "post"), ("cycle", "post, claim, delete")):
        few, many = ROUNDS
        direct, pooled = (
            (instructions(what, many, pooled=way) - instructions(what, few, pooled=way)) / (many - few)
            for way in (False, True)
        )
        print(f"| {label} | {direct / 1000:.1f} k | {pooled / 1000:.1f} k | {pooled / direct - 1:+.1%} |")


if __name__ == "__main__":
    main()
