"""A server with many sockets is stopped, or killed, under load: its clients connect again and lose nothing
that was acknowledged.

Short: a hundred sockets. SUKKAL_LONG=1: a thousand.
"""

import asyncio
import contextlib
import json
import random
import resource
import signal
import uuid
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage

from .victim import LONG, Victim, seed, victim

pytestmark = pytest.mark.faults

SOCKETS = 1000 if LONG else 100
QUEUES = 10
WINDOW = 4  # posts a client has under way
RESTARTS = 3
PER_LIFE = 10 * SOCKETS  # acknowledged posts before the server is brought down
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def many_files() -> None:
    """Both ends of each socket need a file; the server inherits the bound."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * SOCKETS + 500
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


class Crowd:
    """Clients that post numbers, and know which of them were acknowledged."""

    def __init__(self) -> None:
        self.port = asyncio.get_running_loop().create_future()
        self.acknowledged: set[str] = set()
        self.reasons: set[tuple[int, str]] = set()
        self.lives = [0] * SOCKETS
        self.next = [0] * SOCKETS  # what each client posts next
        self._awaited = 0
        self._reached = asyncio.Event()
        self.stopping = False

    async def run(self, number: int) -> None:
        """Connect, post until it breaks, and again."""
        while not self.stopping:
            port = await self.port
            with contextlib.suppress(OSError, ConnectionClosed, InvalidMessage, EOFError):
                async with connect(
                    f"ws://127.0.0.1:{port}/", compression=None, open_timeout=PATIENCE
                ) as socket:
                    self.lives[number] += 1
                    try:
                        await self._post(socket, number)
                    finally:
                        self.reasons.add((socket.close_code or 0, socket.close_reason or ""))
            self.next[number] += WINDOW  # whether those under way were stored is not known
            await asyncio.sleep(random.random() * 0.02)  # as a client should, not all at once

    async def _post(self, socket: ClientConnection, number: int) -> None:
        headers = {"Client-ID": str(uuid.UUID(int=number)), "X-Project-ID": "acme"}
        under_way: list[str] = []
        while not self.stopping:
            while len(under_way) < WINDOW:
                name = f"{number}-{self.next[number] + len(under_way)}"
                body = {"queue_name": f"q{number % QUEUES}", "messages": [{"body": name}]}
                under_way.append(name)
                await socket.send(json.dumps({"action": "message_post", "headers": headers, "body": body}))
            reply = json.loads(await socket.recv())
            assert reply["headers"]["status"] == 201, reply
            assert reply["request"]["body"]["messages"][0]["body"] == under_way[0], "replies in order"
            self.acknowledged.add(under_way.pop(0))
            self.next[number] += 1
            if len(self.acknowledged) >= self._awaited:
                self._reached.set()

    async def posted(self, more: int) -> None:
        """Return when so many more posts were acknowledged."""
        self._reached.clear()
        self._awaited = len(self.acknowledged) + more
        await asyncio.wait_for(self._reached.wait(), PATIENCE)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_clients_of_a_restarted_server_lose_nothing_acknowledged(
    how: signal.Signals, tmp_path: Path
) -> None:
    random.seed(seed())
    crowd = Crowd()
    clients = [asyncio.create_task(crowd.run(number)) for number in range(SOCKETS)]
    try:
        for _ in range(RESTARTS):
            with victim(tmp_path) as server:
                crowd.port.set_result(server.port)
                await crowd.posted(PER_LIFE)
                crowd.port = asyncio.get_running_loop().create_future()
                await asyncio.to_thread(end, server, how)
        with victim(tmp_path) as server:
            crowd.port.set_result(server.port)
            await crowd.posted(PER_LIFE)
            crowd.stopping = True
            await asyncio.wait_for(asyncio.gather(*clients), PATIENCE)
            stored = await everything(server.port)
    finally:
        for client in clients:
            client.cancel()
    names = [name for queue in stored.values() for name in queue]
    assert len(names) == len(set(names)), "nothing is stored twice"
    assert crowd.acknowledged <= set(names)
    for queue, kept in stored.items():
        for number in range(SOCKETS):
            mine = [int(name.split("-")[1]) for name in kept if name.startswith(f"{number}-")]
            assert mine == sorted(mine), f"order of client {number} in {queue}"
    assert min(crowd.lives) >= 2, "everybody had to connect again"
    if how is signal.SIGTERM:
        assert (1001, "The server is stopping.") in crowd.reasons


def end(server: Victim, how: signal.Signals) -> None:
    if how is signal.SIGTERM:
        server.stop()
    else:
        server.kill()
        server.bury()


async def everything(port: int) -> dict[str, list[str]]:
    """All that the queues hold, in order."""
    stored: dict[str, list[str]] = {}
    headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "acme"}
    async with connect(f"ws://127.0.0.1:{port}/", compression=None, max_size=None) as socket:
        for queue in (f"q{number}" for number in range(QUEUES)):
            stored[queue] = []
            marker = None
            while True:
                body = {"queue_name": queue, "marker": marker, "limit": 500, "echo": True}
                await socket.send(json.dumps({"action": "message_list", "headers": headers, "body": body}))
                messages = json.loads(await socket.recv())["body"]["messages"]
                if not messages:
                    break
                stored[queue] += [message["body"] for message in messages]
                marker = messages[-1]["id"]
    return stored
