"""What connections are told when it takes time to find out whether they want it."""

import asyncio
from itertools import count
from typing import Any

import pytest
from hand_clock import others_go_on

from sukkal.core import backlog, stretch
from sukkal.core.backlog import Backlog
from sukkal.model import Notice, QueueKey

from .processes import Process, Shared, Socket, listening

WANTS_X = {"filter": {"x": [{"exists": True}]}}
X = {"x": 1}
NOTICE = Notice(queue="q", body=b"1", ttl=60)


@pytest.fixture(autouse=True)
def slow_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every listener takes a millisecond and a half, so that two are a stretch."""
    ticks = count()
    monkeypatch.setattr(stretch, "perf_counter", lambda: next(ticks) * 0.0015)


@pytest.fixture
def here() -> Process:
    return Shared().process()


async def listeners(here: Process, amount: int, queue: str = "orders", **options: Any) -> list[Socket]:
    sockets = [here.connect(f"{queue}-{number}") for number in range(amount)]
    for socket in sockets:
        await socket.subscribe(queue, **options)
    await others_go_on()
    return sockets


def told(sockets: list[Socket]) -> int:
    return sum(len(socket.heard) for socket in sockets)


async def test_others_get_their_turn_while_filters_are_asked(here: Process) -> None:
    sockets = await listeners(here, 10, options=WANTS_X)
    await here.post("orders", X)
    seen = []
    while told(sockets) < 10:
        await asyncio.sleep(0)
        seen.append(told(sockets))
    assert all(after - before <= 2 for before, after in zip([0, *seen], seen, strict=False))
    await others_go_on()
    backlog = here.service.subscriptions._notifier._backlog
    assert (backlog._working, backlog._size, len(backlog._projects)) == (None, 0, 0)


async def test_who_listens_to_everything_is_told_at_once(here: Process) -> None:
    (plain,) = await listeners(here, 1)
    filtered = await listeners(here, 1, "returns", options=WANTS_X)
    await here.post("returns", X)
    await here.post("orders", X)
    assert plain.heard == ['{"x":1}']
    await others_go_on()
    assert told(filtered) == 1


async def test_each_hears_in_the_order_of_the_queue(here: Process) -> None:
    filtered = await listeners(here, 5, options=WANTS_X)
    plain = here.connect("plain")
    await plain.subscribe()
    for number in range(5):
        await here.post("orders", {"x": number}, {"y": number})
    await others_go_on()
    wanted = [f'{{"x":{number}}}' for number in range(5)]
    assert [socket.heard for socket in filtered] == [wanted] * 5
    assert plain.heard == [f'{{"{name}":{number}}}' for number in range(5) for name in "xy"]


async def test_who_stops_listening_hears_nothing_of_what_waits(here: Process) -> None:
    first, *_, last = await listeners(here, 5, options=WANTS_X)
    await here.post("orders", X)
    await last.leave()
    await others_go_on()
    assert (len(first.heard), last.heard) == (1, [])


async def test_who_listens_since_is_not_told_of_what_waits(here: Process) -> None:
    sockets = await listeners(here, 20, options=WANTS_X)
    await here.post("orders", X)
    late = here.connect("late")
    await late.subscribe()
    assert told(sockets) < 20
    await here.post("orders", {"x": 2})
    await others_go_on()
    assert (told(sockets), late.heard) == (40, ['{"x":2}'])


async def test_filter_counts_as_it_is_when_it_is_asked(here: Process) -> None:
    sockets = await listeners(here, 20, options=WANTS_X)
    id_ = list(listening(here))[-1]
    await here.post("orders", {"y": 1})
    await here.call("subscriptions.update", queue="orders", subscription_id=id_, document={"options": {}})
    await others_go_on()
    assert (sockets[-1].heard, told(sockets)) == (['{"y":1}'], 1)


async def test_queues_take_turns(here: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "LONGEST_SPELL", -1)
    many = await listeners(here, 50, "busy", options=WANTS_X)
    (one,) = await listeners(here, 1, options=WANTS_X)
    await here.post("busy", X)
    await here.post("orders", X)
    for _ in range(8):
        await asyncio.sleep(0)
    assert (len(one.heard), told(many) < 20) == (1, True)
    await others_go_on()
    assert told(many) == 50


async def test_projects_take_turns_however_many_queues_one_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "LONGEST_SPELL", -1)
    heard: list[str] = []
    waiting = Backlog(lambda key, id_, untold, hurried: heard.append(key.project))
    for number in range(50):
        waiting.add(QueueKey("many", f"q{number}"), NOTICE, ["a", "b"])
    for _ in range(5):
        waiting.add(QueueKey("few", "q"), NOTICE, ["a", "b"])
    while waiting._working is not None:
        await others_go_on()
    assert heard.count("many") == 100
    assert heard[:40].count("few") == 10


async def test_nothing_is_told_any_more_once_the_service_is_closed(here: Process) -> None:
    sockets = await listeners(here, 10, options=WANTS_X)
    await here.post("orders", X)
    await here.service.close()
    before = told(sockets)
    await others_go_on()
    assert told(sockets) == before < 10


async def test_what_nobody_has_time_to_look_at_is_told_to_all(
    here: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_OF_PROJECT", 8 * 1200)
    (socket,) = await listeners(here, 1, options=WANTS_X)
    await here.post("orders", *({"y": number} for number in range(7)))
    await others_go_on()
    assert socket.heard == ['{"y":0}', '{"y":1}'], "until half of it is free again"


@pytest.mark.parametrize("bound", ["MOST_OF_PROJECT", "MOST_IN_ALL"])
async def test_what_there_is_no_room_for_is_dropped_and_counted(
    here: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, bound: str
) -> None:
    monkeypatch.setattr(backlog, bound, 4 * 1200)
    sockets = await listeners(here, 2, options=WANTS_X)
    for _ in range(2):
        await here.post("orders", *({"x": number} for number in range(7)))
        await others_go_on()
    assert [len(socket.heard) for socket in sockets] == [8, 8]
    assert here.service.figures.notifications_dropped == 2 * 2 * 3
    assert caplog.text.count("connections that listen to orders miss messages") == 2


async def test_large_message_is_looked_at_when_nothing_else_waits(
    here: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_OF_PROJECT", 100)
    (socket,) = await listeners(here, 1, options=WANTS_X)
    for body in (X, {"y": 1}):
        await here.post("orders", body)
        await others_go_on()
    assert socket.heard == ['{"x":1}']
