"""What is measured, by name. Each scenario gives results; `report.FLOORS` says what they must reach.

The machine under a benchmark is never quiet, so a scenario that is compared runs both sides in turn (A B A B
…), each idle while the other is measured, and reports the median of the rounds. A ratio is the median of the
ratios within the rounds: neighbours in time saw the same machine.
"""

import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import proc
import wire
from servers import Server, ServerFailed, free_port, start_echo, start_sukkal

Figures = dict[str, float]
Measured = dict[str, Any]  # what load.py prints

_LOAD = Path(__file__).with_name("load.py")
_LIVE = Path(__file__).with_name("live.py")
_WEBHOOKS = Path(__file__).with_name("webhooks.py")
SHALLOW = 1000  # messages of the backlog that the deep one is compared with
_PATIENCE = 900.0  # seconds one run of the load generator may take
_DISTURBING = 0.2  # cores busy with something else, from which on a round is marked
_LISTED = 2000  # messages in the queue that is listed and got from


class BenchFailed(Exception):
    """A scenario could not be measured as meant; the figures would not be worth printing."""


@dataclass(frozen=True)
class Scale:
    """How long and how large. The floors are meant for the defaults."""

    rounds: int = 5
    seconds: float = 5.0  # measured time of each run
    warmup: float = 1.0  # seconds before, not counted
    messages: int = 1_000_000
    in_flight: int = 100_000
    queues: int = 100_000
    shared_queues: int = 1_000_000  # in Redis
    settle: float = 10.0  # seconds of rest before memory is read again
    starts: int = 5
    waiters: int = 10_000
    webhooks: int = 2_000  # messages, each to 10 receivers


QUICK = Scale(
    rounds=3,
    webhooks=500,
    seconds=1.5,
    warmup=0.5,
    messages=100_000,
    in_flight=10_000,
    queues=10_000,
    shared_queues=10_000,
    settle=2.0,
    starts=3,
    waiters=1000,
)


@dataclass(frozen=True)
class Result:
    """The figures of one scenario at one setting, and the rounds behind them."""

    name: str  # as in `report.FLOORS`: "posts-32"
    title: str  # for people
    figures: Figures
    rounds: list[Measured] = field(default_factory=list)


@dataclass
class Bench:
    """The means of a run: servers that end with it, the load generator, a voice."""

    command: str  # how to run sukkal
    folder: Path  # for data and logs; its owner deletes it
    scale: Scale
    say: Callable[[str], None]
    servers: ExitStack = field(default_factory=ExitStack)
    _started: int = 0

    @cached_property
    def echo(self) -> Server:
        return self.servers.enter_context(start_echo(self.folder / "echo.log"))

    def data(self) -> Path:
        """A fresh place for data, and a name for its log."""
        self._started += 1
        return self.folder / f"data-{self._started}"

    def sukkal(self, *options: str, data: Path | None = None) -> Server:
        data = data or self.data()
        return start_sukkal(self.command, data, data.with_suffix(".log"), *options)

    def load(self, server: Server, script: str, **options: object) -> Measured:
        """Run the load generator against a server; its options are those of load.py."""
        measured = self._run(_LOAD, server, script, options)
        if not measured["requests"]:
            raise BenchFailed(f"{server.name} answered nothing as expected: {measured['first_error']}")
        return measured

    def live(self, server: Server, script: str, *, program: Path = _LIVE, **options: object) -> Measured:
        """The same for live.py, or a program like it."""
        measured = self._run(program, server, script, options)
        if measured["errors"]:
            raise BenchFailed(f"{script}: {measured['errors']} errors, the first: {measured['first_error']}")
        return measured

    def _run(self, program: Path, server: Server, script: str, options: dict[str, object]) -> Measured:
        command = [sys.executable, str(program), "--script", script]
        for name, value in {"port": server.port, "server_pid": server.pid, **options}.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=_PATIENCE)
        if done.returncode:
            raise BenchFailed(f"The load generator failed on {server.name}:\n{server.last_words()}")
        measured: Measured = json.loads(done.stdout)
        return measured

    def timed(self, server: Server, script: str, **options: object) -> Measured:
        """Load for the time of one round."""
        return self.load(server, script, seconds=self.scale.seconds, warmup=self.scale.warmup, **options)

    def whole(self, server: Server, script: str, **options: object) -> Measured:
        """Load until the script's work is done, all of it."""
        measured = self.load(server, script, **options)
        if measured["errors"]:
            raise BenchFailed(f"{script}: {measured['errors']} errors, the first: {measured['first_error']}")
        return measured

    @cached_property
    def deep(self) -> "Deep":
        """The service with a large backlog, made once for all scenarios that need it."""
        return Deep(self)


class Deep:
    """The service with `scale.messages` stored in one queue. `filled` is its memory when they were in."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._data = bench.data()
        self._held = False
        self.server = bench.sukkal(data=self._data)
        bench.servers.callback(self._stop)
        bench.say(f"storing {bench.scale.messages:,} messages")
        total = bench.scale.messages
        self.filling = bench.whole(self.server, "fill", queue="deep", total=total, connections=4)
        self.filled = proc.memory(self.server.pid)
        bench.say(f"  {self.filling['message_rate']:,.0f} messages/s, {self.filled['rss']:.0f} MB resident")

    def _stop(self) -> None:
        self.server.stop()

    def hold(self) -> None:
        """Put `scale.in_flight` of the messages under claims that outlast the run."""
        if self._held:
            return
        total = self._bench.scale.in_flight
        self._bench.say(f"claiming {total:,} messages, to stay in flight")
        held = self._bench.whole(self.server, "hold", queue="deep", total=total, connections=16)
        self._held = True
        self._bench.say(f"  {held['message_rate']:,.0f} messages/s")

    def restart(self, *, killed: bool = False) -> float:
        """Stop (or kill) the service, start it again, and give the seconds until it answered."""
        if killed:
            self.server.kill()
        else:
            self.server.stop()
        self.server = self._bench.sukkal(data=self._data)
        return self.server.ready_after


def posts(bench: Bench) -> Iterator[Result]:
    """One message per request, on disk before the answer."""
    yield from _posts(bench, "posts", "post 1")


def posts_relaxed(bench: Bench) -> Iterator[Result]:
    """The same without waiting for the disk."""
    yield from _posts(bench, "posts-relaxed", "post 1, relaxed", "--durability", "relaxed")


def _posts(bench: Bench, name: str, title: str, *options: str) -> Iterator[Result]:
    with bench.sukkal(*options) as server:
        for connections in (32, 128):
            label = f"{title}, {connections} connections"
            yield _compared(bench, f"{name}-{connections}", label, server, "post", connections=connections)


def list_ten(bench: Bench) -> Iterator[Result]:
    """The first ten messages of a queue, the caller's own included."""
    with bench.sukkal() as server:
        store_some(server, _LISTED)
        path = "/v2/queues/bench/messages?echo=true&limit=10"
        title = "list 10, 32 connections"
        yield _compared(bench, "list-32", title, server, "read", connections=32, path=path)


def get_one(bench: Bench) -> Iterator[Result]:
    """One message by its id, in turn over a thousand and more."""
    with bench.sukkal() as server:
        paths = bench.folder / "paths"
        paths.write_text("\n".join(store_some(server, _LISTED)))
        yield _compared(bench, "get-32", "get 1, 32 connections", server, "read", connections=32, paths=paths)


def cycle(bench: Bench) -> Iterator[Result]:
    """Messages through post, claim and delete by ids, ten at a time, all connections on one queue."""
    with bench.sukkal() as server:
        for connections in (16, 32):
            title = f"post 10 + claim 10 + delete 10, {connections} connections"
            rounds = []
            for number in range(bench.scale.rounds):
                measured = bench.timed(server, "cycle", connections=connections)
                bench.say(f"{title} · round {number + 1} · {_brief(measured)}")
                if not measured["messages"]:
                    raise BenchFailed(f"No message came through the cycle: {measured['first_error']}")
                rounds.append(measured)
            figures = _medians(rounds) | {"message_rate": _median(rounds, "message_rate")}
            figures["server_cpu_us_per_message"] = statistics.median(
                each["server_cores"] / each["message_rate"] * 1e6 for each in rounds
            )
            for step in ("post", "claim", "delete"):
                for key in ("p50_ms", "p99_ms"):
                    figures[f"{step}_{key}"] = statistics.median(each["steps"][step][key] for each in rounds)
            yield Result(f"cycle-{connections}", title, figures, rounds)


def memory(bench: Bench) -> Iterator[Result]:
    """Resident memory of the server process: many messages, then (another process) many queues."""
    deep = bench.deep
    time.sleep(bench.scale.settle)
    title = f"{bench.scale.messages:,} stored messages"
    yield _memory(bench, "memory-messages", title, deep.filled, proc.memory(deep.server.pid), deep.filling)
    with bench.sukkal() as server:
        title = f"{bench.scale.queues:,} queues, one message each"
        bench.say(f"creating {title}")
        filling = bench.whole(server, "queues", total=bench.scale.queues, connections=32)
        filled = proc.memory(server.pid)
        time.sleep(bench.scale.settle)
        yield _memory(bench, "memory-queues", title, filled, proc.memory(server.pid), filling)


def depth(bench: Bench) -> Iterator[Result]:
    """A claim of ten on a small backlog and on a large one with many in flight, one at a time, two servers.

    The cost is compared twice: as latency, which holds the disk's sync, and as CPU time of the server, which
    does not. The ratio that counts is the larger.
    """
    deep = bench.deep
    deep.hold()
    with bench.sukkal() as server:
        store_some(server, SHALLOW)
        pairs = []
        for number in range(bench.scale.rounds + 1):
            pair = (_claims(bench, server, "bench"), _claims(bench, deep.server, "deep"))
            what = "warm-up" if number == 0 else f"round {number}"
            sides = zip((SHALLOW, bench.scale.messages), pair, strict=True)
            costs = (f"{size:,}: {it['p50_ms']:.3f} ms, {it['cpu_us']:.0f} µs CPU" for size, it in sides)
            bench.say(f"claim 10 · {what} · {' · '.join(costs)}")
            pairs.append(pair)
    yield _depth_result(bench, pairs[1:])


def _claims(bench: Bench, server: Server, queue: str) -> Figures:
    blocks = max(2, round(bench.scale.seconds * 2))
    measured = bench.whole(server, "claims", queue=queue, total=blocks * 20, connections=1)
    claim: Figures = measured["steps"]["claim"]
    return {**claim, "cpu_us": measured["notes"]["claim_cpu"] / (blocks * 20) * 1e6}


def _depth_result(bench: Bench, pairs: list[tuple[Figures, Figures]]) -> Result:
    figures: Figures = {}
    for side, place in (("shallow", 0), ("deep", 1)):
        for key in ("p50_ms", "p99_ms", "max_ms", "cpu_us"):
            figures[f"{side}_{key}"] = statistics.median(pair[place][key] for pair in pairs)
        figures[f"{side}_rate"] = 1e3 / figures[f"{side}_p50_ms"]
    for name, key in (("latency_ratio", "p50_ms"), ("cpu_ratio", "cpu_us")):
        figures[name] = statistics.median(deep[key] / shallow[key] for shallow, deep in pairs)
    figures["cost_ratio"] = max(figures["latency_ratio"], figures["cpu_ratio"])
    scale = bench.scale
    title = f"{scale.messages:,} messages, {scale.in_flight:,} in flight"
    return Result("depth", title, figures, [{"shallow": shallow, "deep": deep} for shallow, deep in pairs])


def startup(bench: Bench) -> Iterator[Result]:
    """From starting the process to the first 204 of a ping: empty, full, and full after a kill -9."""
    times = []
    for _ in range(bench.scale.starts):
        with bench.sukkal() as server:
            times.append(server.ready_after)
    yield _startup(bench, "startup-empty", "start with an empty store", times)
    deep = bench.deep
    title = f"start with {bench.scale.messages:,} messages"
    yield _startup(bench, "startup-full", title, [deep.restart() for _ in range(bench.scale.starts)])
    times = []
    for _ in range(bench.scale.starts):
        store_some(deep.server, 500, queue="deep")
        times.append(deep.restart(killed=True))
    yield _startup(bench, "startup-killed", f"{title}, after kill -9", times)


def delivery(bench: Bench) -> Iterator[Result]:
    """From the post of a message until a consumer who waits has it, at 500 messages a second."""
    for script, title in (
        ("long-poll", "a list that waits"),
        ("waiting-claim", "a claim that waits"),
        ("socket", "a WebSocket that has subscribed"),
    ):
        with bench.sukkal() as server:
            yield _live(bench, server, f"delivery-{script}", title, script, seconds=bench.scale.seconds)


def pipelined(bench: Bench) -> Iterator[Result]:
    """Posts of 20 messages over one WebSocket in MessagePack, on disk before the answer."""
    with bench.sukkal() as server:
        title = "post 20, one WebSocket, MessagePack, 64 under way"
        yield _live(bench, server, "pipelined", title, "pipelined", seconds=bench.scale.seconds)


def webhooks(bench: Bench) -> Iterator[Result]:
    """Deliveries to receivers on this machine, of messages that are on disk."""
    for script, title, rounds, options in (
        ("rate", "10 receivers, as fast as can be", None, {"messages": bench.scale.webhooks}),
        ("ordered", "10 receivers that want order", None, {"messages": bench.scale.webhooks}),
        ("hanging", "100 receivers, 20 of them hang", None, {"seconds": bench.scale.seconds}),
        ("post", "posts by turns to a queue without and one with 10 receivers", None, {"messages": 300}),
        ("pending", "100,000 deliveries to be tried again", 1, {"messages": 100_000}),
    ):
        measured = []
        for _ in range(rounds or bench.scale.rounds):
            data, options["admin_port"] = bench.data(), free_port()
            config = data.with_suffix(".toml")
            config.write_text(f'webhook_allow = ["127.0.0.0/8"]\nadmin_port = {options["admin_port"]}\n')
            with bench.sukkal("--config", str(config), data=data) as server:
                measured.append(_webhooks_round(bench, server, title, script, options))
        figures = {key: _median(measured, key) for key in measured[0]}
        yield Result(f"webhooks-{script}", title, figures, measured)


def _webhooks_round(
    bench: Bench, server: Server, title: str, script: str, options: dict[str, object]
) -> Measured:
    figures = bench.live(server, script, program=_WEBHOOKS, **options)
    for key in ("errors", "first_error"):
        del figures[key]
    bench.say(f"{title} · " + ", ".join(f"{key} {value:,.2f}" for key, value in figures.items()))
    return figures


def waiting(bench: Bench) -> Iterator[Result]:
    """What it costs that many wait, and how soon they are woken."""
    with bench.sukkal() as server:
        count = bench.scale.waiters
        title = f"{count:,} lists that wait"
        yield _live(bench, server, "waiters", title, "waiters", rounds=1, connections=count)
    for script, title in (
        ("wake-all", "1,000 lists wait, one message is posted"),
        ("wake-one", "1,000 claims wait, messages are posted one at a time"),
    ):
        with bench.sukkal() as server:
            yield _live(bench, server, script, title, script, connections=1000)


def _live(
    bench: Bench,
    server: Server,
    name: str,
    title: str,
    script: str,
    *,
    rounds: int | None = None,
    **options: object,
) -> Result:
    measured = []
    for number in range(rounds or bench.scale.rounds):
        figures = bench.live(server, script, queue=f"bench-{number}", **options)
        for key in ("errors", "first_error"):
            del figures[key]
        brief = ", ".join(f"{key} {value:,.2f}" for key, value in figures.items())
        bench.say(f"{title} · round {number + 1} · {brief}")
        measured.append(figures)
    return Result(name, title, {key: _median(measured, key) for key in measured[0]}, measured)


SCENARIOS: dict[str, Callable[[Bench], Iterator[Result]]] = {
    "posts": posts,
    "posts-relaxed": posts_relaxed,
    "list": list_ten,
    "get": get_one,
    "cycle": cycle,
    "delivery": delivery,
    "pipelined": pipelined,
    "waiting": waiting,
    "webhooks": webhooks,
    "memory": memory,  # before depth and startup: its process must be the one that stored the messages
    "depth": depth,
    "startup": startup,
}


def _compared(bench: Bench, name: str, title: str, server: Server, script: str, **options: object) -> Result:
    """Echo and service in turn. Both get the same requests, to the byte but for port and Client-ID."""
    rounds: list[Measured] = []
    for number in range(bench.scale.rounds):
        echo = bench.timed(bench.echo, script, **options)
        ours = bench.timed(server, script, **options)
        ratio = ours["rate"] / echo["rate"]
        bench.say(
            f"{title} · round {number + 1} · {ratio:.0%} of echo's {echo['rate']:,.0f}/s · {_brief(ours)}"
        )
        rounds.append({"echo": echo, "sukkal": ours})
    echoes, services = [each["echo"] for each in rounds], [each["sukkal"] for each in rounds]
    figures = _medians(services)
    figures["echo_rate"] = _median(echoes, "rate")
    figures["echo_server_cpu_us"] = _median(echoes, "server_cpu_us")
    figures["ratio"] = statistics.median(
        ours["rate"] / echo["rate"] for echo, ours in zip(echoes, services, strict=True)
    )
    figures["cpu_ratio"] = figures["echo_server_cpu_us"] / figures["server_cpu_us"]
    figures["errors"] += sum(each["errors"] for each in echoes)
    return Result(name, title, figures, rounds)


def _medians(rounds: list[Measured]) -> Figures:
    keys = ("rate", "p50_ms", "p99_ms", "server_cpu_us", "server_cores", "load_cores", "others_cores")
    return {
        **{key: _median(rounds, key) for key in keys},
        "max_ms": max(each["max_ms"] for each in rounds),
        "errors": sum(each["errors"] for each in rounds),
    }


def _median(rounds: list[Measured], key: str) -> float:
    figure: float = statistics.median(each[key] for each in rounds)
    return figure


def _brief(measured: Measured) -> str:
    text = f"{measured['rate']:,.0f}/s"
    if measured["messages"] > 2 * measured["requests"]:
        text += f" ({measured['message_rate']:,.0f} messages/s)"
    text += f", p50 {measured['p50_ms']:.2f} p99 {measured['p99_ms']:.2f} max {measured['max_ms']:.0f} ms"
    text += f", {measured['server_cpu_us']:.0f} µs CPU"
    if measured["others_cores"] > _DISTURBING:
        text += f" (others kept {measured['others_cores']:.1f} cores busy)"
    if measured["errors"]:
        text += f", {measured['errors']} ERRORS: {measured['first_error']}"
    return text


def _memory(
    bench: Bench, name: str, title: str, filled: Figures, settled: Figures, filling: Measured
) -> Result:
    figures = {**filled, **{f"settled_{key}": value for key, value in settled.items()}}
    figures["message_rate"] = filling["message_rate"]
    bench.say(f"memory · {title}: {filled['rss']:.0f} MB, {settled['rss']:.0f} MB after a rest")
    return Result(name, title, figures)


def _startup(bench: Bench, name: str, title: str, times: list[float]) -> Result:
    figures = {"seconds": statistics.median(times), "max_seconds": max(times)}
    bench.say(f"{title}: {figures['seconds']:.2f} s, at most {figures['max_seconds']:.2f} s")
    return Result(name, title, figures, [{"seconds": each} for each in times])


def store_some(server: Server, count: int, queue: str = "bench") -> list[str]:
    """Post messages with an ordinary HTTP client, and give their paths."""
    headers = {
        "Client-ID": "7c2b3f0e-5a1d-4e0b-9a55-6d0f0b8f1a11",
        "X-Project-Id": wire.PROJECT,
        "Content-Type": "application/json",
        "Accept": "application/json",
    }
    paths: list[str] = []
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    while len(paths) < count:
        # Location lists all ids, and this client takes no longer header than 64 KiB
        body = wire.messages(min(500, count - len(paths)))
        connection.request("POST", f"/v2/queues/{queue}/messages", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            raise BenchFailed(f"{server.name} answered a post with {answer.status}: {text[:300]!r}")
        paths += json.loads(text)["resources"]
    connection.close()
    return paths


FAILURES = (BenchFailed, ServerFailed, OSError, subprocess.SubprocessError)
