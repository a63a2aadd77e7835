"""Real pools behind real servers: files and Redis side by side, several processes, and pools that fail."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from http_caller import PATCH_TYPE, Answer, Caller
from redis_servers import DURABLE, SHARED, RedisServer, started
from server_process import ServerProcess

Start = Callable[..., ServerProcess]
POOLED = {"admin_mode": "true", "pooling": "true"}
ADMIN = {"X-Roles": "admin"}


class Operator(Caller):
    def pool(self, name: str, uri: str, weight: int = 1, **fields: Any) -> Answer:
        document = {"uri": uri, "weight": weight, **fields}
        return self("PUT", f"/v2/pools/{name}", document, headers=ADMIN)

    def flavor(self, name: str, *pools: str) -> Answer:
        return self("PUT", f"/v2/flavors/{name}", {"pool_list": list(pools)}, headers=ADMIN)

    def health(self) -> dict[str, Any]:
        answer = self("GET", "/v2/health", headers=ADMIN)
        assert answer.status == 200
        document: dict[str, Any] = answer.json
        return document

    def create(self, queue: str, **metadata: Any) -> None:
        assert self("PUT", f"/v2/queues/{queue}", metadata).status == 201

    def post(self, queue: str, *bodies: Any, **times: int) -> int:
        messages = [{"body": body, **times} for body in bodies]
        return self("POST", f"/v2/queues/{queue}/messages", {"messages": messages}).status

    def listed(self, queue: str) -> list[Any]:
        answer = self("GET", f"/v2/queues/{queue}/messages?echo=true&include_claimed=true&limit=20")
        assert answer.status == 200, answer
        return [message["body"] for message in answer.json["messages"]]

    def volumes(self) -> dict[str, int]:
        health = self.health()
        assert health.pop("catalog_reachable")
        return {name: pool["message_volume"]["total"] for name, pool in health.items()}


@pytest.fixture
def apart() -> str:
    """A part of the shared Redis that nobody else uses."""
    return f"{SHARED.server().uri}?prefix={uuid.uuid4().hex}&timeout=30&connect_timeout=30"


@pytest.fixture
def flaky() -> Iterator[RedisServer]:
    """A Redis that a test may stop."""
    with started(*DURABLE) as server:
        yield server


def callers(*servers: ServerProcess) -> list[Operator]:
    project = f"project-{uuid.uuid4().hex}"
    return [Operator(server.host, server.port, project=project) for server in servers]


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def test_queues_lie_in_files_and_redis_and_stay_there_over_a_restart(
    tmp_path: Path, start_server: Start, apart: str
) -> None:
    server = ServerProcess(tmp_path / "one", settings=POOLED)
    (we,) = callers(server)
    assert we.pool("file", f"sqlite://{tmp_path}/pool.db").status == 201
    assert we.pool("redis", apart).status == 201
    assert we.flavor("quick", "redis").status == 201
    flavor = we("GET", "/v2/flavors/quick").json
    assert flavor["capabilities"] == ["FIFO", "CLAIMS", "DURABILITY", "AOD", "HIGH_THROUGHPUT"]
    we.create("slow")
    we.create("fast", _flavor="quick")
    assert we.post("slow", 1, 2) == 201
    assert we.post("fast", 3) == 201
    assert we.volumes() == {"file": 2, "redis": 1}
    server.stop()

    server = ServerProcess(tmp_path / "one", settings=POOLED)
    try:
        again = Operator(server.host, server.port, project=we.project)
        assert again.listed("slow") == [1, 2]
        assert again.listed("fast") == [3]
        claim = again("POST", "/v2/queues/fast/claims", {"ttl": 60})
        assert [message["body"] for message in claim.json["messages"]] == [3]
        assert again("DELETE", claim.json["messages"][0]["href"]).status == 204
        assert again.volumes() == {"file": 2, "redis": 0}
        server.check()
    finally:
        server.stop()


def test_store_of_a_pool_is_nobody_elses(tmp_path: Path, start_server: Start) -> None:
    server = start_server(**POOLED)
    (we,) = callers(server)
    own = next(tmp_path.rglob("sukkal.db"))
    for uri in (f"sqlite://{own}", "sqlite:", f"sqlite://{own.parent}/../data/sukkal.db"):
        answer = we.pool("own", uri)
        assert answer.status == 400
        assert "records of pools" in answer.json["description"]
    (tmp_path / "link.db").symlink_to(own)
    assert we.pool("own", f"sqlite://{tmp_path}/link.db").status == 400
    assert we.pool("one", f"sqlite://{tmp_path}/one.db").status == 201
    assert we.pool("two", f"sqlite://{tmp_path}/./one.db").status == 409
    other = start_server(**POOLED, max_queue_metadata="1000")
    (they,) = callers(other)
    answer = they.pool("one", f"sqlite://{tmp_path}/one.db")
    assert answer.status == 400
    assert "in use by process" in answer.json["description"]
    assert we("DELETE", "/v2/pools/one", headers=ADMIN).status == 204
    assert they.pool("one", f"sqlite://{tmp_path}/one.db").status == 201


def test_credentials_are_nowhere_to_be_seen(start_server: Start, apart: str) -> None:
    server = start_server("--store", "memory:", **POOLED)
    (we,) = callers(server)
    where = apart.removeprefix("redis://")
    answers = [
        we.pool("wrong", f"redis://ann:secret@{where}"),
        we.pool("away", "redis://ann:secret@127.0.0.1:1"),
        we.pool("odd", "nosql://ann:secret@host"),
        we.pool("odd", f"redis://ann:se?cret@{where}"),
        we.pool("fine", f"{apart}&sentinel_password=secret"),
        we("GET", "/v2/pools/fine?detailed=true", headers=ADMIN),
        we("GET", "/v2/pools?detailed=true", headers=ADMIN),
        we("GET", "/v2/health", headers=ADMIN),
    ]
    assert [answer.status for answer in answers] == [400, 400, 400, 400, 201, 200, 200, 200]
    shown = b"".join(answer.body for answer in answers).decode() + server.log
    assert "secret" not in shown
    assert "cret@" not in shown


def test_pool_that_goes_away_takes_its_queues_only_and_comes_back(
    start_server: Start, flaky: RedisServer
) -> None:
    server = start_server("--store", "memory:", **POOLED)
    (we,) = callers(server)
    assert we.pool("steady", "memory:///steady").status == 201
    assert we.pool("flaky", f"{flaky.uri}?timeout=1&connect_timeout=1").status == 201
    assert we.flavor("bad", "flaky").status == 201
    we.create("good")
    we.create("poor", _flavor="bad")
    assert we.post("poor", 1) == 201
    flaky.kill()
    assert we.post("poor", 2) == 503
    assert we.post("good", 1) == 201
    assert we("GET", "/v2/ping").status == 204
    health = we.health()
    assert health["steady"]["storage_reachable"]
    assert not health["flaky"]["storage_reachable"]
    assert not health["flaky"]["operation_status"]["post_messages"]["succeeded"]
    flaky.start()
    until(lambda: we.post("poor", 3) == 201)
    assert we.listed("poor")[:1] == [1]
    assert we.health()["flaky"]["storage_reachable"]


def test_service_starts_while_a_pool_is_away(tmp_path: Path, flaky: RedisServer) -> None:
    server = ServerProcess(tmp_path, settings=POOLED)
    (we,) = callers(server)
    assert we.pool("steady", "memory:///steady").status == 201
    assert we.pool("flaky", f"{flaky.uri}?timeout=1&connect_timeout=1").status == 201
    assert we.flavor("bad", "flaky").status == 201
    we.create("poor", _flavor="bad")
    assert we.post("poor", 1) == 201
    server.stop()
    flaky.kill()
    server = ServerProcess(tmp_path, settings=POOLED)
    try:
        again = Operator(server.host, server.port, project=we.project)
        assert again.post("poor", 2) == 503
        assert again.post("good", 1) == 201
        flaky.start()
        until(lambda: again.post("poor", 3) == 201)
        assert again.listed("poor") == [1, 3]
    finally:
        server.stop()


def test_full_pool_refuses_its_own_messages_only(start_server: Start, flaky: RedisServer) -> None:
    server = start_server("--store", "memory:", **POOLED)
    (we,) = callers(server)
    assert we.pool("roomy", "memory:///roomy").status == 201
    assert we.pool("tight", flaky.uri).status == 201
    assert we.flavor("small", "tight").status == 201
    we.create("fits")
    we.create("full", _flavor="small")
    assert we.post("full", 1) == 201
    flaky.ask("CONFIG", "SET", "maxmemory", "1")
    assert we.post("full", 2) == 503
    assert we.post("fits", 1) == 201
    assert we.listed("full") == [1]
    flaky.ask("CONFIG", "SET", "maxmemory", "0")
    assert we.post("full", 3) == 201
    assert we.listed("full") == [1, 3]


def test_processes_agree_where_queues_lie_and_tell_each_other(
    tmp_path: Path, start_server: Start, apart: str
) -> None:
    """Two servers over one Redis of records, and two pools in others' parts of it."""
    one, two = (
        start_server("--store", apart, **POOLED, max_queue_metadata=str(60000 + number)) for number in (1, 2)
    )
    here, there = callers(one, two)
    pool = apart.replace("prefix=", "prefix=pool-{}-")
    assert here.pool("a", pool.format("a")).status == 201
    assert there.pool("b", pool.format("b")).status == 201
    assert there.pool("c", pool.format("b")).status == 409
    assert here.pool("g", pool.format("g")).status == 201
    assert here.flavor("gold", "g").status == 201
    with ThreadPoolExecutor(2) as both:
        for number in range(8):
            posts = both.map(lambda we, number=number: we.post(f"q{number}", we is here), (here, there))
            assert list(posts) == [201, 201]
            assert sorted(here.listed(f"q{number}")) == [False, True]
            assert there.listed(f"q{number}") == here.listed(f"q{number}")
    with ThreadPoolExecutor(1) as waiting:
        claim = waiting.submit(here, "POST", "/v2/queues/later/claims?wait=20", {"ttl": 60})
        until(claim.running)
        there.create("later", _flavor="gold")
        assert there.post("later", "hello") == 201
        assert [message["body"] for message in claim.result(30).json["messages"]] == ["hello"]


def test_queue_gets_another_flavor_while_it_is_used(start_server: Start, apart: str) -> None:
    """Posts go on while the queue is placed anew: each is there once, and in order."""
    server = start_server("--store", "memory:", **POOLED)
    we, worker = callers(server, server)
    assert we.pool("old", "memory:///old").status == 201
    assert we.pool("new", apart).status == 201
    assert we.flavor("gold", "new").status == 201
    we.create("orders")
    posted = 0

    def some(count: int) -> None:
        nonlocal posted
        for _ in range(count):
            assert worker.post("orders", posted) == 201
            posted += 1

    some(5)
    change = [{"op": "add", "path": "/metadata/_flavor", "value": "gold"}]
    answer = we("PATCH", "/v2/queues/orders", change, headers={"Content-Type": PATCH_TYPE})
    assert answer.status == 200
    until(lambda: some(1) is None and we.volumes()["new"] > 0)
    some(5)
    assert we.volumes()["old"] > 5
    taken: list[int] = []
    while (claim := we("POST", "/v2/queues/orders/claims?limit=20", {"ttl": 60})).status == 201:
        taken += [message["body"] for message in claim.json["messages"]]
    assert taken == list(range(posted))


def test_workers_share_pools_that_can_be_shared_only(tmp_path: Path, start_server: Start, apart: str) -> None:
    server = start_server("--store", apart, "--workers", "2", **POOLED)
    (we,) = callers(server)
    answer = we.pool("file", f"sqlite://{tmp_path}/pool.db")
    assert answer.status == 400
    assert "2 processes" in answer.json["description"]
    assert we.pool("shared", apart.replace("prefix=", "prefix=pool-")).status == 201
    many = callers(*[server] * 6)
    for number, each in enumerate(many):
        assert each.post("orders", number) == 201
    assert many[0].listed("orders") == list(range(6))
