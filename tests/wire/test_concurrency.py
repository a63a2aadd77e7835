"""Many clients at once: nothing is handed out twice, nothing is lost, order holds."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from http_caller import Caller
from server_process import ServerPool, ServerProcess

CLIENTS = 8
MESSAGES = 240


@pytest.fixture(params=["memory:", None], ids=["memory", "embedded"])
def shared(request: pytest.FixtureRequest, servers: ServerPool) -> Iterator[ServerProcess]:
    server = servers.get(*(["--store", request.param] if request.param else []))
    yield server
    server.check()


def at_once(server: ServerProcess, project: str, act: Callable[[Caller, int], list[int]]) -> list[list[int]]:
    """Let every client act at the same time; what each came back with."""
    start = threading.Barrier(CLIENTS)

    def run(number: int) -> list[int]:
        caller = Caller(server.host, server.port, project=project)
        try:
            start.wait()
            return act(caller, number)
        finally:
            caller.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(run, range(CLIENTS)))


def fill(caller: Caller) -> None:
    for start in range(0, MESSAGES, 60):
        batch = {"messages": [{"body": n} for n in range(start, start + 60)]}
        assert caller("POST", "/v2/queues/q/messages", batch).status == 201


def test_concurrent_claims_share_the_messages_and_take_each_once(shared: ServerProcess, project: str) -> None:
    fill(Caller(shared.host, shared.port, project=project))

    def work(caller: Caller, _: int) -> list[int]:
        done: list[int] = []
        while (claim := caller("POST", "/v2/queues/q/claims?limit=3")).status == 201:
            for message in claim.json["messages"]:
                assert caller("DELETE", message["href"]).status == 204
                done.append(message["body"])
        return done

    done = at_once(shared, project, work)

    assert all(each == sorted(each) for each in done)
    assert sorted(itertools.chain(*done)) == list(range(MESSAGES))


def test_pops_and_claims_never_hand_out_the_same_message(shared: ServerProcess, project: str) -> None:
    fill(Caller(shared.host, shared.port, project=project))

    def work(caller: Caller, number: int) -> list[int]:
        got: list[int] = []
        while True:
            if number % 2:
                taken = caller("DELETE", "/v2/queues/q/messages?pop=3").json["messages"]
            else:
                claim = caller("POST", "/v2/queues/q/claims?limit=3")
                taken = claim.json["messages"] if claim.status == 201 else []
            if not taken:
                return got
            got += [message["body"] for message in taken]

    assert sorted(itertools.chain(*at_once(shared, project, work))) == list(range(MESSAGES))


def test_concurrent_posts_are_all_kept_each_batch_together(shared: ServerProcess, project: str) -> None:
    def post(caller: Caller, number: int) -> list[int]:
        for batch in range(5):
            bodies = [number * 100 + batch * 10 + n for n in range(4)]
            answer = caller(
                "POST", "/v2/queues/q/messages", {"messages": [{"body": body} for body in bodies]}
            )
            assert answer.status == 201
        return []

    at_once(shared, project, post)

    caller, path, listed = (
        Caller(shared.host, shared.port, project=project),
        "/v2/queues/q/messages?limit=7",
        [],
    )
    while messages := (page := caller("GET", path).json)["messages"]:
        listed += [message["body"] for message in messages]
        path = page["links"][0]["href"]
    assert sorted(listed) == [
        c * 100 + b * 10 + n for c in range(CLIENTS) for b in range(5) for n in range(4)
    ]
    for number in range(CLIENTS):
        own = [body for body in listed if body // 100 == number]
        assert own == sorted(own), "one client's posts keep their order"
    for first in range(0, len(listed), 4):
        assert [body % 10 for body in listed[first : first + 4]] == [0, 1, 2, 3], "a batch stays together"


def test_only_one_of_many_creates_a_queue(shared: ServerProcess, project: str) -> None:
    answers = at_once(shared, project, lambda caller, _: [caller("PUT", "/v2/queues/q", {"a": 1}).status])

    assert sorted(itertools.chain(*answers)) == [201] + [204] * (CLIENTS - 1)


def test_concurrent_patches_all_apply(shared: ServerProcess, project: str) -> None:
    caller = Caller(shared.host, shared.port, project=project)
    caller("PUT", "/v2/queues/q")
    media = {"Content-Type": "application/openstack-messaging-v2.0-json-patch"}

    def patch(caller: Caller, number: int) -> list[int]:
        for n in range(10):
            change = [{"op": "add", "path": f"/metadata/k{number}-{n}", "value": n}]
            assert caller("PATCH", "/v2/queues/q", change, headers=media).status == 200
        return []

    at_once(shared, project, patch)

    stored = caller("GET", "/v2/queues/q").json
    assert {f"k{c}-{n}" for c in range(CLIENTS) for n in range(10)} <= stored.keys()
