"""Processes that do the same work, by themselves and as `sukkal serve --workers N` on one Redis."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import redis_servers
from core.processes import Socket as Listening
from core.processes import listening
from core.world import World
from hand_clock import HandClock
from http_caller import Answer, Caller
from raw_socket import Wire, request
from redis_servers import SHARED
from server_process import ServerProcess, running
from until import until as eventually
from worker_processes import PATIENCE, caller_for_each, has_ended, serving, until, worker_pids
from ws_caller import Socket

from sukkal.errors import Unavailable
from sukkal.stores.registry import open_backend

COUNT = 2
MESSAGES = "/v2/queues/q/messages"
ADMIN = {"admin_mode": "true"}

# --- supervision -------------------------------------------------------------------------------------------

SUPERVISED = textwrap.dedent(
    """
    import os, pathlib, select, signal, sys
    from sukkal import workers

    mark, what = pathlib.Path(sys.argv[1]), sys.argv[2]

    def first():
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def work(ready, _place):
        os.write(1, f"worker {os.getpid()}\\n".encode())
        if what == "fail" and first():
            sys.exit(7)
        if what == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if what != "fail":
            ready()
        select.select([workers.supervisor_gone()], [], [])

    patience = 0.2 if what == "stubborn" else 30
    sys.exit(workers.run(3, work, ready=lambda: os.write(1, b"ready\\n"), patience=patience))
    """
)


class Supervised:
    """Three processes that wait for their end, and what they and their supervisor say."""

    def __init__(self, directory: Path, what: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISED, str(directory / "mark"), what],
            stdout=subprocess.PIPE,
            text=True,
        )

    def lines(self, count: int) -> list[str]:
        assert self.process.stdout is not None
        return [self.process.stdout.readline().strip() for _ in range(count)]

    def end(self) -> int:
        """The status, once all of them have ended: the last closes the pipe."""
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as undo:

        def start(what: str) -> Supervised:
            started = Supervised(tmp_path, what)
            undo.callback(started.process.kill)
            return started

        yield start


def pids(lines: list[str]) -> set[int]:
    return {int(line.removeprefix("worker ")) for line in lines}


def test_all_are_ready_before_it_is_announced_once(supervised: Any) -> None:
    steady = supervised("steady")
    *workers, announced = steady.lines(4)
    assert len(pids(workers)) == 3
    assert announced == "ready"
    steady.process.terminate()
    assert steady.process.communicate(timeout=PATIENCE)[0] == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_all_in_good_order(supervised: Any, number: signal.Signals) -> None:
    steady = supervised("steady")
    steady.lines(4)
    steady.process.send_signal(number)
    assert steady.end() == 0


def test_worker_that_fails_before_all_are_ready_ends_them_with_its_status(supervised: Any) -> None:
    assert supervised("fail").end() == 7


def test_killed_worker_is_replaced(supervised: Any) -> None:
    steady = supervised("steady")
    before = pids(steady.lines(4)[:3])
    os.kill(min(before), signal.SIGKILL)
    (newcomer,) = pids(steady.lines(1))
    assert newcomer not in before
    assert not has_ended(max(before))
    steady.process.terminate()
    assert steady.process.communicate(timeout=PATIENCE)[0] == "", "announced once"


def test_workers_end_when_their_supervisor_is_killed(supervised: Any) -> None:
    steady = supervised("steady")
    steady.lines(4)
    steady.process.kill()
    assert steady.end() == -signal.SIGKILL


def test_worker_that_does_not_end_is_killed(supervised: Any) -> None:
    stubborn = supervised("stubborn")
    stubborn.lines(4)
    stubborn.process.terminate()
    assert stubborn.end() == 0


# --- serving -----------------------------------------------------------------------------------------------


def own_store() -> str:
    """A part of a Redis that nobody else uses."""
    return f"{SHARED.server().uri}/?prefix={uuid.uuid4().hex}"


def channels(uri: str, kind: str) -> bytes:
    """Who hears what in a store: the channels of a kind that somebody has subscribed to."""
    prefix = uri.rpartition("=")[2]
    return SHARED.server().ask("PUBSUB", "CHANNELS", f"{prefix}*{kind}:*")


@pytest.fixture(scope="module")
def store() -> str:
    return own_store()


@pytest.fixture(scope="module")
def shared(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Two processes on one port, which all tests here use that do not harm them."""
    place = tmp_path_factory.mktemp("workers")
    with running(place, "--workers", str(COUNT), "--store", store) as server:
        yield server
        server.check()


@pytest.fixture
def both(shared: ServerProcess, project: str) -> Iterator[list[Caller]]:
    """A caller for each of the two processes."""
    with caller_for_each(shared, project, COUNT) as callers:
        yield list(callers.values())


def bodies(answer: Answer) -> list[Any]:
    return [message["body"] for message in answer.json["messages"]]


def post(caller: Caller, *contents: Any) -> None:
    answer = caller("POST", MESSAGES, {"messages": [{"body": content} for content in contents]})
    assert answer.status == 201, answer


def test_what_one_process_stores_the_other_shows(both: list[Caller]) -> None:
    one, other = both
    post(one, 1)
    post(other, 2)
    assert bodies(one("GET", f"{MESSAGES}?echo=true")) == [1, 2]
    claim = other("POST", "/v2/queues/q/claims?limit=1", {"ttl": 60, "grace": 60})
    assert bodies(claim) == [1]
    assert bodies(one("GET", claim.headers["location"])) == [1]
    assert one("DELETE", claim.json["messages"][0]["href"]).status == 204
    assert one("GET", "/v2/queues/q/stats").json["messages"]["total"] == 1


def test_start_says_where_and_how(shared: ServerProcess) -> None:
    assert shared.log.count("Sukkal is serving") == 1
    assert "workers     2" in shared.log
    assert "durability  full" in shared.log


def test_waiting_list_is_answered_by_a_post_through_the_other_process(both: list[Caller], store: str) -> None:
    one, other = both
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one, "GET", f"{MESSAGES}?echo=true&wait=20")
        until(lambda: one.project.encode() in channels(store, "w"))
        assert not waiting.done()
        post(other, "here")
        assert bodies(waiting.result(PATIENCE)) == ["here"]


def test_waiting_claim_is_answered_by_a_post_and_by_a_release_elsewhere(
    both: list[Caller], store: str
) -> None:
    one, other = both
    post(other, "first")
    taken = other("POST", "/v2/queues/q/claims", {"ttl": 300, "grace": 60})
    for act in (lambda: other("DELETE", taken.headers["location"]), lambda: post(other, "second")):
        with ThreadPoolExecutor(1) as pool:
            until(lambda: one.project.encode() not in channels(store, "w"))
            waiting = pool.submit(
                one, "POST", "/v2/queues/q/claims?limit=1&wait=20", {"ttl": 60, "grace": 60}
            )
            until(lambda: one.project.encode() in channels(store, "w"))
            assert not waiting.done()
            act()
            assert waiting.result(PATIENCE).status == 201


def test_event_stream_shows_posts_through_the_other_process(
    shared: ServerProcess, both: list[Caller]
) -> None:
    with socket.create_connection((shared.host, shared.port), timeout=PATIENCE) as stream:
        path = f"{MESSAGES}?echo=true"
        stream.sendall(request("GET", path, both[0].project, "Accept: text/event-stream"))
        lines = stream.makefile("rb")
        assert b"200" in lines.readline()
        here = serving(shared, stream)
        (other,) = [each for each in both if serving(shared, each.socket) != here]
        for number in range(5):
            post(other, number)
            while not (line := lines.readline()).startswith(b"data: "):
                assert line, "the stream has ended"
            assert json.loads(line.removeprefix(b"data: "))["body"] == number


def test_subscribed_connection_is_told_of_posts_through_any_process(
    shared: ServerProcess, both: list[Caller]
) -> None:
    project = both[0].project
    with contextlib.ExitStack() as opened:
        sockets: dict[int, Socket] = {}
        while len(sockets) < COUNT:
            each = opened.enter_context(Socket(shared.host, shared.port, project=project))
            assert each("queue_list").status == 200
            sockets.setdefault(serving(shared, each.wire.socket), each)
        for each in sockets.values():
            assert each("subscription_create", {"queue_name": "q"}).status == 201
        for number in range(20):
            post(both[number % 2], {"number": number, "text": "é" * number})
        for each in sockets.values():
            told = [each.receive().document["body"]["number"] for _ in range(20)]
            assert told == list(range(20))


def test_subscribed_connection_is_told_also_of_what_another_consumer_takes_at_once(
    shared: ServerProcess, both: list[Caller]
) -> None:
    with Socket(shared.host, shared.port, project=both[0].project) as subscriber:
        assert subscriber("subscription_create", {"queue_name": "q"}).status == 201
        for number in range(10):
            post(both[0], number)
            assert bodies(both[1]("DELETE", f"{MESSAGES}?pop=1")) == [number]
        assert [subscriber.receive().document["body"] for _ in range(10)] == list(range(10))


def handed_over(caller: Caller, id_: str) -> Answer:
    return caller("PATCH", f"/v2/queues/q/subscriptions/{id_}", {"subscriber": "queue:r"})


def deleted(caller: Caller, id_: str) -> Answer:
    return caller("DELETE", f"/v2/queues/q/subscriptions/{id_}")


def purged(caller: Caller, _id: str) -> Answer:
    return caller("POST", "/v2/queues/q/purge", {"resource_types": ["subscriptions"]})


@pytest.mark.parametrize("end", [deleted, purged, handed_over], ids=lambda end: end.__name__)
def test_connection_is_told_nothing_more_once_its_subscription_was_ended_through_the_other_process(
    end: Callable[[Caller, str], Answer], shared: ServerProcess, both: list[Caller], store: str
) -> None:
    project = both[0].project
    with Socket(shared.host, shared.port, project=project) as subscriber:
        id_ = subscriber("subscription_create", {"queue_name": "q"}).body["subscription_id"]
        assert subscriber("subscription_create", {"queue_name": "other"}).status == 201
        here = serving(shared, subscriber.wire.socket)
        (elsewhere,) = [each for each in both if serving(shared, each.socket) != here]
        post(elsewhere, 1)
        assert subscriber.receive().document["body"] == 1
        assert end(elsewhere, id_).status == 204
        until(lambda: f"/{project}/q".encode() not in channels(store, "w"))
        post(elsewhere, 2)
        assert elsewhere("POST", "/v2/queues/other/messages", {"messages": [{"body": 3}]}).status == 201
        assert subscriber.receive().document["body"] == 3
        assert subscriber("subscription_create", {"queue_name": "q"}).status == 201
        post(elsewhere, 4)
        assert subscriber.receive().document["body"] == 4


def test_ping_and_health_answer_in_each(both: list[Caller]) -> None:
    for caller in both:
        assert caller("GET", "/v2/ping").status == 204


def test_stop_answers_what_is_in_flight_in_every_process(tmp_path: Path) -> None:
    body = b'{"messages": [{"body": "kept"}]}'
    head = request(
        *("POST", MESSAGES, "acme", "Content-Type: application/json"),
        *(f"Content-Length: {len(body)}", "Expect: 100-continue"),
    )
    store = own_store()
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(running(tmp_path, "--workers", str(COUNT), "--store", store))
        slow = [opened.enter_context(Wire(server.host, server.port)) for _ in range(20)]
        for wire in slow:
            wire.send(head)
            assert wire.status() == 100, "its body is being waited for"
        assert {serving(server, wire.socket) for wire in slow} == worker_pids(server), "both have some"
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: server.log.count("stopping: ") == COUNT)
        for wire in slow:
            wire.send(body)
            assert wire.status() == 201
        server.stop()
    with running(tmp_path, "--store", store) as server:
        caller = Caller(server.host, server.port, project="acme")
        assert caller("GET", "/v2/queues/q/stats").json["messages"]["total"] == len(slow)
        caller.close()


def test_killed_worker_takes_nothing_acknowledged_with_it_and_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", str(COUNT), "--store", own_store()) as server:
        before = worker_pids(server)
        acknowledged: list[int] = []
        stop = threading.Event()

        def produce(first: int) -> int:
            """Post numbers until told to stop; how often the connection was lost."""
            losses = 0
            caller = Caller(server.host, server.port, project="acme")
            for number in range(first, first + 1_000_000):
                if stop.is_set():
                    return losses
                try:
                    post(caller, number)
                    acknowledged.append(number)
                except (OSError, HTTPException):
                    losses += 1
            return losses

        with ThreadPoolExecutor(8) as pool:
            producers = [pool.submit(produce, n * 1_000_000) for n in range(8)]
            try:
                until(lambda: len(acknowledged) > 200)
                os.kill(min(before), signal.SIGKILL)
                until(lambda: len(worker_pids(server) - before) == 1)
                enough = len(acknowledged) + 200
                until(lambda: len(acknowledged) > enough)
            finally:
                stop.set()
            assert sum(producer.result(PATIENCE) for producer in producers), "the kill has hit nobody"
        with caller_for_each(server, "acme", COUNT) as callers:
            assert set(callers) == worker_pids(server), "the new one serves too"
            stored: set[int] = set()
            path = f"{MESSAGES}?echo=true&limit=20"
            while page := callers[min(callers)]("GET", path).json:
                if not page["messages"]:
                    break
                stored |= {message["body"] for message in page["messages"]}
                path = page["links"][0]["href"]
        assert set(acknowledged) <= stored


def test_workers_end_with_a_service_that_is_killed(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--workers", str(COUNT), "--store", own_store())
    workers = worker_pids(server)
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: all(map(has_ended, workers)))
    server.bury()


# --- two services, whose clock stands still ----------------------------------------------------------------


@contextlib.asynccontextmanager
async def two_services(uri: str) -> AsyncIterator[tuple[World, World]]:
    """Each with a store of its own to the same Redis."""
    async with contextlib.AsyncExitStack() as opened:
        backends = [await open_backend(uri, durable=False) for _ in range(2)]
        for backend in backends:
            opened.push_async_callback(backend.close)
        clock = HandClock()
        worlds = [World(backend, clock=clock) for backend in backends]
        for world in worlds:
            opened.push_async_callback(world.service.close)
        yield worlds[0], worlds[1]


async def update(world: World, id_: str, **document: Any) -> None:
    await world.call("subscriptions.update", queue="orders", subscription_id=id_, document=document)


async def delete(world: World, id_: str) -> None:
    await world.call("subscriptions.delete", queue="orders", subscription_id=id_)


async def test_connection_listens_as_long_as_another_process_says() -> None:
    async with two_services(own_store()) as (here, elsewhere):
        sockets = [Listening(here, name) for name in ("stays", "renewed", "shortened", "deleted")]
        stays, renewed, shortened, deleted = [await socket.subscribe(ttl=80) for socket in sockets]
        start = here.now
        here.now += 10
        await update(elsewhere, renewed, ttl=100)
        await update(elsewhere, shortened, ttl=60)
        await delete(elsewhere, deleted)
        until_when = {stays: start + 80, renewed: start + 110, shortened: start + 70}
        await eventually(lambda: listening(here) == until_when)
        witness = Listening(here, "witness")  # the last to be told
        remains = await witness.subscribe()
        for time in (69, 70, 79, 80, 109, 110):
            here.now = start + time
            await elsewhere.post("orders", time)
            await eventually(lambda time=time: str(time) in witness.heard)
        await eventually(lambda: list(listening(here)) == [remains])
        assert [socket.heard for socket in sockets] == [
            ["69", "70", "79"],
            ["69", "70", "79", "80", "109"],
            ["69"],
            [],
        ]


async def test_deletion_by_another_process_is_heard_of_though_the_line_is_lost() -> None:
    with redis_servers.started(*redis_servers.DURABLE) as server:
        async with two_services(server.uri) as (here, elsewhere):
            sockets = [Listening(here, name) for name in ("gone", "stays")]
            gone, stays = [await socket.subscribe(ttl=10**9) for socket in sockets]
            server.kill()
            with pytest.raises(Unavailable):
                await delete(elsewhere, gone)
            server.start()
            async with asyncio.timeout(PATIENCE):
                while list(listening(here)) != [stays]:
                    with contextlib.suppress(Unavailable):
                        await delete(elsewhere, gone)
                    await here.pass_time(1)  # after which a read that failed is repeated


# --- refusals ----------------------------------------------------------------------------------------------


def refused(*flags: str) -> subprocess.CompletedProcess[str]:
    """Start a service that is expected not to start."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SUKKAL_")}
    return subprocess.run(
        [sys.executable, "-m", "sukkal.cli", "serve", "--host", "127.0.0.1", *flags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("store", ["sqlite:", "memory:"])
def test_store_that_cannot_be_shared_is_refused_in_a_sentence(tmp_path: Path, store: str) -> None:
    done = refused("--port", "0", "--data-dir", str(tmp_path), "--workers", "2", "--store", store)
    assert done.returncode == 2
    assert f"workers is 2, but one process only can use the store {store}" in done.stderr
    assert "redis://" in done.stderr
    assert "Traceback" not in done.stderr


def test_control_store_that_cannot_be_shared_is_named(tmp_path: Path) -> None:
    flags = ("--store", own_store(), "--control-store", "memory:", "--workers", "2")
    done = refused("--port", "0", "--data-dir", str(tmp_path), *flags)
    assert done.returncode == 2
    assert "one process only can use the store memory:" in done.stderr


def test_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = refused("--port", port, "--data-dir", str(tmp_path), "--workers", "2", "--store", own_store())
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_port_of_another_service_with_workers_is_not_joined(tmp_path: Path, shared: ServerProcess) -> None:
    flags = ("--data-dir", str(tmp_path), "--workers", "2", "--store", own_store())
    done = refused("--port", str(shared.port), *flags)
    assert done.returncode == 1
    assert f"127.0.0.1:{shared.port}" in done.stderr


# --- records of queues apart from messages -----------------------------------------------------------------


@pytest.fixture(params=["redis", "sqlite"])
def parted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ServerProcess, Any]]:
    """A service whose records of queues are on a Redis of their own, which may be killed."""
    messages = own_store() if request.param == "redis" else "sqlite:"
    with (
        redis_servers.started(*redis_servers.DURABLE) as control,
        running(tmp_path, "--store", messages, "--control-store", control.uri, settings=ADMIN) as server,
    ):
        yield server, control


def test_records_and_messages_lie_apart(parted: tuple[ServerProcess, Any]) -> None:
    server, control = parted
    caller = Caller(server.host, server.port, project="acme")
    assert caller("PUT", "/v2/queues/q", {"team": "blue"}).status == 201
    post(caller, 1)
    assert caller("GET", "/v2/queues/q").json["team"] == "blue"
    assert bodies(caller("GET", f"{MESSAGES}?echo=true")) == [1]
    assert f"control     {control.uri}" in server.log
    kept = control.ask("KEYS", "*")
    assert b"R:" in kept, "records"
    assert b"}c:" not in kept, "no messages"
    caller.close()


def test_ping_and_health_cover_both(parted: tuple[ServerProcess, Any]) -> None:
    server, control = parted
    caller = Caller(server.host, server.port, project="acme")

    def health() -> dict[str, Any]:
        document: dict[str, Any] = caller("GET", "/v2/health", headers={"X-Roles": "admin"}).json
        return document

    assert caller("GET", "/v2/ping").status == 204
    well = health()
    assert well["storage_reachable"] is True
    assert all(found["succeeded"] for found in well["operation_status"].values())
    control.kill()
    assert caller("GET", "/v2/ping").status == 503
    ill = health()
    assert ill["storage_reachable"] is False
    assert not ill["operation_status"]["create_queue"]["succeeded"]
    control.start()
    until(lambda: caller("GET", "/v2/ping").status == 204)
    assert health()["storage_reachable"] is True
    caller.close()


@pytest.mark.parametrize("uri", ["carrier-pigeon://loft", "redis://localhost:high"])
def test_wrong_uri_of_the_control_store_names_the_setting(tmp_path: Path, uri: str) -> None:
    done = refused("--port", "0", "--data-dir", str(tmp_path), "--control-store", uri)
    assert done.returncode == 2
    assert "control_store" in done.stderr
    assert "Traceback" not in done.stderr
