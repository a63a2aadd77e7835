"""Short bursts of requests, the same for two services that are to be compared."""

import asyncio
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import proc
import wire
from servers import Server

from sukkal.bench.calls import Caller, Request, Target
from sukkal.bench.lines import HttpLine

CLIENT = "3381af92-2b9e-11e3-b191-71861300734c"
QUEUE = "gate"
STOCK = 200  # messages that lists and gets find
CONNECTIONS = 8

Turn = Generator[Request, bytes, None]  # yields a request, is sent the body of its answer


def _post(call: Caller) -> Turn:
    yield call.request("messages.post", QUEUE, body=wire.messages(1))


def _list(call: Caller) -> Turn:
    yield call.request("messages.list", f"{QUEUE}-stock", query="limit=10&echo=true")


def _get(call: Caller) -> Turn:
    queue = f"{QUEUE}-stock"
    listed = yield call.request("messages.list", queue, query="limit=1&echo=true")
    (id_,) = wire.message_ids(listed)
    for _ in range(20):
        yield call.request("messages.get", queue, message_id=id_.decode())


def _cycle(call: Caller) -> Turn:
    queue = f"{QUEUE}-cycle"
    yield call.request("messages.post", queue, body=wire.messages(10))
    claimed = yield call.request("claims.create", queue, query="limit=10", body=b'{"ttl":300,"grace":60}')
    ids = b",".join(wire.message_ids(claimed)).decode()
    yield call.request("messages.delete_many", queue, query=f"ids={ids}")


@dataclass(frozen=True)
class Burst:
    turn: Callable[[Caller], Turn]
    turns: int


BURSTS = {
    "post": Burst(_post, 1500),
    "list": Burst(_list, 1500),
    "get": Burst(_get, 75),
    "cycle": Burst(_cycle, 300),
}


class Asking:
    """One connection's share of a burst."""

    def __init__(self, line: HttpLine, turns: Iterator[Turn]) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._line = line
        self._turns = turns
        self._begin()

    def _begin(self) -> None:
        turn = next(self._turns, None)
        if turn is None:
            self.done.set_result(None)
        else:
            self._turn = turn
            self._send(next(turn))

    def _send(self, request: Request) -> None:
        self._request = request
        self._line.send(request, self)

    def answered(self, status: int, body: bytes) -> None:
        if status not in self._request.expect:
            self.lost(f"{status} {body[:200].decode(errors='replace')}")
            return
        try:
            following = self._turn.send(body)
        except StopIteration:
            self._begin()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is told below
            self.done.set_exception(exc)
        else:
            self._send(following)

    def lost(self, reason: str) -> None:
        self.done.set_exception(RuntimeError(f"{self._request.name}: {reason}"))


@dataclass
class Side:
    """A running service and the connections to it."""

    server: Server
    call: Caller
    lines: list[HttpLine]

    def close(self) -> None:
        for line in self.lines:
            line.close()

    async def burst(self, burst: Burst) -> dict[str, float]:
        """Seconds that it took: of the server's processor, and elapsed."""
        turns = iter([burst.turn(self.call) for _ in range(burst.turns)])  # each for whoever is free
        cpu, start = proc.cpu_seconds(self.server.pid), time.perf_counter()
        await asyncio.gather(*(Asking(line, turns).done for line in self.lines))
        return {"CPU": proc.cpu_seconds(self.server.pid) - cpu, "time": time.perf_counter() - start}


async def open_side(server: Server, connections: int = CONNECTIONS) -> Side:
    target = Target.parse(f"http://127.0.0.1:{server.port}")
    call = Caller(target, CLIENT, "gate", {})
    side = Side(server, call, [HttpLine(target) for _ in range(connections)])
    await asyncio.gather(*(line.open() for line in side.lines))
    await Asking(side.lines[0], iter([_stock(call)])).done
    return side


def _stock(call: Caller) -> Turn:
    yield call.request("messages.post", f"{QUEUE}-stock", body=wire.messages(STOCK))
