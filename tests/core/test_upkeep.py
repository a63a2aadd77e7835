"""What a connection subscribed to, when another process changes or deletes the record of that."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hand_clock import others_go_on

from sukkal.core.subscribing import filters
from sukkal.core.subscribing.filters import compile_filter
from sukkal.errors import NotFound, StoreUnavailable, Unavailable
from sukkal.model import QueueKey, topic
from sukkal.stores.contract import Shelf

from .pooled import Stores
from .processes import Process, Shared, Socket, listening
from .world import PROJECT, Gate, Turns, count_up, next_schedule

HOOK = "http://hooks.example/in"


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture
def here(shared: Shared) -> Process:
    """The process that has the connections."""
    return shared.process(subscriber_types=["http"])


@pytest.fixture
def elsewhere(shared: Shared) -> Process:
    return shared.process(subscriber_types=["http"])


@pytest.fixture
def socket(here: Process) -> Socket:
    return here.connect("socket")


async def subscribed(socket: Socket, **fields: Any) -> str:
    """Have a connection subscribe, and let its process do what follows from that."""
    id_ = await socket.subscribe(**fields)
    await others_go_on()
    return id_


async def delete(process: Process, id_: str, queue: str = "orders") -> None:
    await process.call("subscriptions.delete", queue=queue, subscription_id=id_)


async def update(process: Process, id_: str, **document: Any) -> None:
    await process.call("subscriptions.update", queue="orders", subscription_id=id_, document=document)


async def purge(process: Process, _id: str, queue: str = "orders") -> None:
    await process.call("queues.purge", queue=queue, resource_types=["subscriptions"])


async def move(process: Process, id_: str) -> None:
    await update(process, id_, subscriber=HOOK)


async def listed(process: Process, queue: str = "orders") -> list[Any]:
    answer = await process.call("subscriptions.list", queue=queue)
    return list(answer.subscriptions)


End = Callable[[Process, str], Coroutine[Any, Any, None]]
every_end = pytest.mark.parametrize("end", [delete, purge, move], ids=lambda end: end.__name__)


# --- ends ----------------------------------------------------------------------------------------------


@every_end
async def test_connection_hears_nothing_once_another_process_has_ended_its_subscription(
    end: End, here: Process, elsewhere: Process, socket: Socket
) -> None:
    id_ = await subscribed(socket)
    await elsewhere.post("orders", 1)
    await end(elsewhere, id_)
    await others_go_on()
    await elsewhere.post("orders", 2)
    assert socket.heard == ["1"]
    assert listening(here) == {}
    assert here.end.idle


@every_end
async def test_it_can_subscribe_again_and_is_told_once(
    end: End, elsewhere: Process, socket: Socket, shared: Shared
) -> None:
    id_ = await subscribed(socket)
    shared.holds = True
    await end(elsewhere, id_)
    again = await socket.subscribe()
    assert again != id_
    for number in range(2):
        await elsewhere.post("orders", number)
        shared.let_through()
        await others_go_on()
    assert socket.heard == ["0", "1"]


async def test_topics_are_no_different(here: Process, elsewhere: Process, socket: Socket) -> None:
    id_ = await subscribed(socket, queue=topic("orders"))
    await delete(elsewhere, id_, topic("orders"))
    await others_go_on()
    assert here.end.idle


async def test_subscription_that_was_handed_over_outlives_the_connection(
    elsewhere: Process, socket: Socket, shared: Shared
) -> None:
    id_ = await subscribed(socket)
    shared.holds = True
    await move(elsewhere, id_)
    await socket.leave()
    (left,) = await listed(elsewhere)
    assert (left.id, left.subscriber) == (id_, HOOK)


async def test_subscription_that_is_handed_over_while_the_connection_ends_outlives_it(
    elsewhere: Process, socket: Socket, shared: Shared
) -> None:
    id_ = await subscribed(socket)
    gate = shared.stage.documents.hold_after("get")
    leaving = asyncio.create_task(socket.leave())
    await gate.reached()
    await update(elsewhere, id_, subscriber=HOOK)
    gate.open()
    await leaving
    there = (await elsewhere.call("subscriptions.list", queue="orders")).subscriptions
    assert [(each.id, each.subscriber) for each in there] == [(id_, HOOK)]


async def test_subscription_that_is_changed_while_the_connection_ends_goes_with_it(
    elsewhere: Process, socket: Socket, shared: Shared
) -> None:
    id_ = await subscribed(socket)
    gate = shared.stage.documents.hold_after("get")
    leaving = asyncio.create_task(socket.leave())
    await gate.reached()
    await update(elsewhere, id_, ttl=90)
    gate.open()
    await leaving
    assert not (await elsewhere.call("subscriptions.list", queue="orders")).subscriptions
    assert await socket._process.connect("socket").subscribe() != id_


async def test_other_subscriptions_go_on_and_are_not_even_read(
    here: Process, elsewhere: Process, shared: Shared
) -> None:
    sockets = [here.connect(str(number)) for number in range(5)]
    ids = [await subscribed(socket) for socket in sockets]
    await sockets[0].subscribe("returns")
    await others_go_on()
    shared.stage.documents.calls.clear()
    await delete(elsewhere, ids[3])
    await others_go_on()
    assert shared.stage.documents.calls == ["get", "delete", "get", "put", "get"]
    await elsewhere.post("orders", 1)
    await elsewhere.post("returns", 2)
    assert [socket.heard for socket in sockets] == [["1", "2"], ["1"], ["1"], [], ["1"]]


async def test_purge_ends_what_any_number_of_connections_subscribed_to(
    here: Process, elsewhere: Process
) -> None:
    sockets = [here.connect(str(number)) for number in range(250)]
    for socket in sockets:
        await subscribed(socket)
    await purge(elsewhere, "")
    await others_go_on()
    assert here.end.idle


async def test_who_asks_again_for_a_deletion_that_nobody_was_told_of_has_it_told(
    here: Process, elsewhere: Process, socket: Socket, shared: Shared
) -> None:
    id_ = await subscribed(socket)
    shared.holds = True
    await delete(elsewhere, id_)
    await others_go_on()
    shared.lose()  # it died before it could tell
    await delete(shared.process(), id_)
    await others_go_on()
    assert listening(here) == {}


async def test_nothing_is_told_of_what_can_be_no_subscription(elsewhere: Process, shared: Shared) -> None:
    for id_ in ("x", "", "é" * 32, "z" * 32, "1" * 5000):
        await delete(elsewhere, id_)
    assert shared.told == []


async def test_connection_that_leaves_tells_nobody(socket: Socket, shared: Shared) -> None:
    await subscribed(socket)
    await socket.leave()
    assert shared.told == []


# --- time ----------------------------------------------------------------------------------------------


async def test_renewal_through_another_process_lets_it_hear_beyond_the_old_time(
    here: Process, elsewhere: Process, socket: Socket
) -> None:
    id_ = await subscribed(socket, ttl=60)
    here.now += 50
    await update(elsewhere, id_, ttl=100)
    await others_go_on()
    here.now += 99
    await elsewhere.post("orders", 1)
    here.now += 1
    await elsewhere.post("orders", 2)
    assert socket.heard == ["1"]


async def test_shorter_time_set_by_another_process_ends_it_earlier(
    here: Process, elsewhere: Process, socket: Socket
) -> None:
    id_ = await subscribed(socket, ttl=600)
    await update(elsewhere, id_, ttl=60)
    await others_go_on()
    here.now += 60
    await elsewhere.post("orders", 1)
    await others_go_on()
    assert socket.heard == []
    assert here.end.idle


async def test_renewal_that_is_heard_of_too_late_is_made_good(
    here: Process, elsewhere: Process, socket: Socket, shared: Shared
) -> None:
    id_ = await subscribed(socket, ttl=60)
    shared.holds = True
    await update(elsewhere, id_, ttl=100)
    here.now += 60
    await elsewhere.post("orders", 1)  # by what is known here, it is over
    await others_go_on()
    await elsewhere.post("orders", 2)
    assert socket.heard == ["2"]


async def test_other_options_change_nothing_for_it(here: Process, elsewhere: Process, socket: Socket) -> None:
    id_ = await subscribed(socket, ttl=60)
    before = listening(here)
    await update(elsewhere, id_, options={"a": 1})
    await others_go_on()
    assert listening(here) == before


async def test_filter_set_by_another_process_counts_from_then_on(
    here: Process, elsewhere: Process, socket: Socket
) -> None:
    id_ = await subscribed(socket, options={"filter": {"x": ["y"]}})
    await elsewhere.post("orders", {"x": "y"}, {"x": "n"}, "no object")
    await update(elsewhere, id_, options={"filter": {"x": ["n"]}})
    await others_go_on()
    await here.post("orders", {"x": "y"}, {"x": "n"})
    await others_go_on()
    await update(here, id_, options={})
    await here.post("orders", 1)
    assert socket.heard == ['{"x":"y"}', '{"x":"n"}', "1"]


async def test_filter_is_compiled_when_it_changes_and_not_when_the_ttl_does(
    monkeypatch: pytest.MonkeyPatch, shared: Shared
) -> None:
    compiled = []
    here = shared.process()

    def counted(given: Any) -> Any:
        compiled.append(given)
        return compile_filter(given)

    monkeypatch.setattr(filters, "compile_filter", counted)
    id_ = await subscribed(here.connect("socket"), options={"filter": {"counted": [1]}})
    await update(here, id_, ttl=90)
    await update(here, id_, options={"filter": {"counted": [True]}})
    await update(here, id_, options={})
    assert compiled == [{"counted": [1]}, {"counted": [True]}]


async def test_filter_of_another_release_lets_everything_through(
    here: Process, shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    id_ = await subscribed(socket := here.connect("socket"))
    shelf = Shelf("subscription/orders", PROJECT)
    there = await shared.stage.documents.get(shelf, id_, now=here.now)
    newer = there.value.replace(b'"options":{}', b'"options":{"filter":{"x":[{"like":"y"}]}}')
    await shared.stage.documents.put(shelf, id_, newer, expect=None, now=here.now)
    here.service.subscriptions._notifier.changed(QueueKey(PROJECT, "orders"), id_)
    await others_go_on()
    await here.post("orders", 1)
    await others_go_on()
    assert socket.heard == ["1"]
    assert "everything matches it" in caplog.text


# --- faults --------------------------------------------------------------------------------------------


async def test_change_while_the_line_is_broken_counts_once_it_is_back(
    here: Process, elsewhere: Process, socket: Socket, shared: Shared
) -> None:
    gone, renewed = await subscribed(socket), await subscribed(here.connect("other"), ttl=60)
    shared.holds = True
    await delete(elsewhere, gone)
    await update(elsewhere, renewed, ttl=100)
    await others_go_on()
    assert len(listening(here)) == 2
    shared.mend()
    await others_go_on()
    assert listening(here) == {renewed: here.now + 100}


async def test_record_that_cannot_be_read_is_read_later(
    here: Process, elsewhere: Process, socket: Socket, shared: Shared
) -> None:
    id_ = await subscribed(socket)
    await here.pass_time(0)
    await delete(elsewhere, id_)
    shared.stage.documents.broken = {"get"}
    await here.pass_time(10)
    assert list(listening(here)) == [id_]
    assert len(here.clock.set_for) == 1
    shared.stage.documents.broken = set()
    await here.pass_time(1)
    assert listening(here) == {}
    assert here.clock.set_for == []


async def test_damaged_record_does_not_keep_others_from_being_read(
    here: Process, elsewhere: Process, socket: Socket, shared: Shared
) -> None:
    damaged, gone = await subscribed(socket), await subscribed(here.connect("other"))
    await others_go_on()
    shared.holds = True
    await delete(elsewhere, gone)
    shelf = Shelf("subscription/orders", PROJECT)
    await shared.stage.documents.put(shelf, damaged, b"{", expect=None, now=here.now)
    shared.mend()
    await others_go_on()
    assert list(listening(here)) == [damaged]


async def test_nothing_is_read_any_more_once_the_service_is_closed(
    here: Process, elsewhere: Process, socket: Socket, shared: Shared
) -> None:
    await delete(elsewhere, await subscribed(socket))
    shared.stage.documents.broken = {"get"}
    await others_go_on()
    assert here.clock.set_for
    await here.service.close()
    assert not here.clock.set_for


async def test_connection_cannot_subscribe_where_it_could_not_hear_of_changes(
    here: Process, elsewhere: Process, socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def watch(_queue: QueueKey) -> None:
        raise StoreUnavailable("no line")

    monkeypatch.setattr(here.end, "watch", watch)
    with pytest.raises(Unavailable):
        await socket.subscribe()
    assert await listed(elsewhere) == []
    assert here.end.idle


# --- races ---------------------------------------------------------------------------------------------


@pytest.fixture
def gate(here: Process, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Where a connection that subscribes waits before it can hear of changes."""
    gate, watch = Gate(), here.end.watch

    async def held(queue: QueueKey) -> None:
        await gate.pass_()
        await watch(queue)

    monkeypatch.setattr(here.end, "watch", held)
    return gate


@pytest.mark.parametrize("same_process", [False, True])
@every_end
async def test_end_before_changes_can_be_heard_of_is_not_missed(
    end: End, same_process: bool, here: Process, elsewhere: Process, socket: Socket, gate: Gate
) -> None:
    subscribing = asyncio.create_task(socket.subscribe())
    await gate.reached()
    (there,) = await listed(elsewhere)
    await end(here if same_process else elsewhere, there.id)
    await others_go_on()
    gate.open()
    assert await subscribing == there.id
    await others_go_on()
    assert here.end.idle


async def test_connection_that_closes_before_it_can_hear_of_changes_leaves_nothing(
    here: Process, elsewhere: Process, socket: Socket, gate: Gate
) -> None:
    subscribing = asyncio.create_task(socket.subscribe())
    await gate.reached()
    await socket.leave()
    gate.open()
    await subscribing
    assert await listed(elsewhere) == []
    assert here.end.idle


async def renew(process: Process, id_: str) -> None:
    await update(process, id_, ttl=900)


every_change = pytest.mark.parametrize(
    "change", [delete, purge, move, renew], ids=lambda change: change.__name__
)


async def in_every_order(
    prepare: Callable[[Process, Socket], Awaitable[str]],
    here: Callable[[Process, Socket, str], Coroutine[Any, Any, Any]],
    elsewhere: Callable[[Process, str], Coroutine[Any, Any, Any]],
) -> None:
    """Have two processes do something in every order that the store and the line can take it.

    In the end the connection listens until when its record says, if there is one.
    """
    schedule: list[int] | None = []
    for _ in count_up(20_000):
        turns = Turns(schedule)
        shared = Shared(turns.wait)
        one, other = shared.process(subscriber_types=["http"]), shared.process(subscriber_types=["http"])
        socket = one.connect("socket")
        id_ = await prepare(one, socket)
        await turns.run(here(one, socket, id_), elsewhere(other, id_))
        own = {each.id: each.expires for each in await listed(other) if each.connection}
        assert listening(one) == own, schedule
        assert one.end.idle == (not own), schedule
        schedule = next_schedule(schedule, turns.choices)
        if schedule is None:
            return


@every_change
async def test_subscribing_and_a_change_elsewhere_in_every_order(change: End) -> None:
    async def prepare(process: Process, _socket: Socket) -> str:
        await process.create("orders")
        return ""

    async def change_what_is_there(process: Process, _id: str) -> None:
        for there in await listed(process):
            await change(process, there.id)

    await in_every_order(prepare, lambda _, socket, _id: socket.subscribe(ttl=600), change_what_is_there)


async def test_renewal_here_and_deletion_elsewhere_in_every_order() -> None:
    async def prepare(_process: Process, socket: Socket) -> str:
        return await subscribed(socket, ttl=600)

    async def renew_here(process: Process, _socket: Socket, id_: str) -> None:
        with contextlib.suppress(NotFound):
            await renew(process, id_)

    await in_every_order(prepare, renew_here, delete)


async def test_record_read_before_a_renewal_here_does_not_undo_it(
    here: Process, elsewhere: Process, socket: Socket, shared: Shared
) -> None:
    id_ = await subscribed(socket)
    await update(elsewhere, id_, ttl=60)
    read = shared.stage.documents.hold_after("get")
    await read.reached()
    await renew(here, id_)
    read.open()
    await others_go_on()
    assert listening(here) == {id_: here.now + 900}


# --- pools ---------------------------------------------------------------------------------------------


async def test_pools_make_no_difference(shared: Shared) -> None:
    stores = Stores()
    here, elsewhere = (shared.process(opener=stores) for _ in range(2))
    pool = {"uri": "test://p1", "weight": 1}
    await here.call("pools.put", pool="p1", document=pool)
    gone, stays = here.connect("gone"), here.connect("stays")
    id_ = await gone.subscribe()
    await stays.subscribe(ttl=60)
    await here.post("orders", 1)
    await update(elsewhere, (await listed(elsewhere))[1].id, ttl=100)
    await delete(elsewhere, id_)
    await others_go_on()
    here.now += 60
    await here.post("orders", 2)
    assert (gone.heard, stays.heard) == (["1"], ["1", "2"])
    await purge(elsewhere, "")
    await others_go_on()
    assert here.end.idle
    assert here.service._pools.waker._interests == {}  # type: ignore[union-attr]
