"""Moments in which a delivery could be lost, made for ever, or hold up others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from core.world import Stage, bodies
from hand_clock import others_go_on
from until import until

from sukkal.core.signing import Signer
from sukkal.core.subscribing.confirmation import Terms
from sukkal.core.subscribing.deliveries import PARKED
from sukkal.errors import Unavailable
from sukkal.notify import dispatcher, lines
from sukkal.notify.ledger import LEASE_SECONDS

from .carrier import DELIVERED, LATER, NEVER, ONCE_MORE, Post, dispatching

A, B, C = "http://a.example", "http://b.example", "http://c.example"


async def long_after(post: Post) -> None:
    for _ in range(20):
        await post.pass_time(60)
        await post.settled()


async def test_twenty_queues_of_one_idle_project_are_told_at_once() -> None:
    post = Post()
    for number in range(20):
        await post.subscribe(f"q{number}", A)
        await post.post(f"q{number}", number)
    async with dispatching(post):
        await post.delivered(20)


async def test_parcel_larger_than_all_room_is_tried_all_the_same() -> None:
    post = Post()
    post.carrier.size = lambda _subscription, told: told * 10_000_000  # type: ignore[method-assign]
    post.carrier.outcomes[A] = [NEVER]
    await post.subscribe("q", A, ordered=True, _dead_letter_queue="dead")
    await post.post("q", "x")
    async with dispatching(post):
        await post.delivered(1)
    assert len(await post.listed("dead")) == 1


async def test_two_who_find_no_room_to_go_through_a_line_both_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the first has parked is done, and about to be deleted, when the second parks."""
    monkeypatch.setattr(dispatcher, "MOST_OPEN", 3)  # two at once for one project
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A, ordered=True)
    await post.subscribe("busy", B)
    await post.subscribe("r", C, _retry_policy=ONCE_MORE)
    post.carrier.outcomes[C] = [LATER]
    gate, held = asyncio.Event(), False
    append = stage._inner.messages.append

    async def slow_append(queue: Any, batch: Any, *, noted: str = "") -> Any:
        nonlocal held
        if queue == PARKED and not held and any(b"slow" in m.body for m in batch):
            held = True
            await gate.wait()
        return await append(queue, batch, noted=noted)

    stage._inner.messages.append = slow_append  # type: ignore[method-assign]
    async with dispatching(post) as made:
        first = post.carrier.pausing[B] = asyncio.Event()
        await post.post("busy", 1, 2)
        await until(lambda: len(post.carrier.to(B)) == 2)
        await post.post("q", "m1")
        await until(lambda: not made._ledger._parked and made._asleep == 2)
        await others_go_on()
        post.carrier.pausing[B] = asyncio.Event()
        first.set()
        await until(lambda: not made.open)
        await post.post("r", "slow")  # what the ledger writes now
        await until(lambda: held)
        await post.pass_time(1.2)
        await until(lambda: "m1" in post.carrier.to(A))
        await until(lambda: not made.open)
        await post.post("busy", 3, 4)
        await until(lambda: len(post.carrier.to(B)) == 4)
        await post.post("q", "m2")
        await until(lambda: len(made._ledger._parked) == 1)
        gate.set()
        await until(lambda: not made._ledger._parked)
        post.carrier.pausing[B].set()
        await long_after(post)
    assert post.carrier.to(A) == ["m1", "m2"]


async def test_clock_that_is_set_back_has_no_series_forgotten() -> None:
    """By a second, between the time when the look at a turn comes due and that look."""
    stage = Stage()
    post = Post(stage)
    await post.subscribe("q", A, ordered=True, _retry_policy=ONCE_MORE)
    post.carrier.outcomes[A] = [LATER, DELIVERED]
    async with dispatching(post):
        await post.post("q", 1)
        await post.delivered(1)
        claim, done = stage._inner.messages.claim, False

        async def claiming(queue: Any, lease: Any, **options: Any) -> Any:
            nonlocal done
            taken = await claim(queue, lease, **options)
            if queue == PARKED and taken and not done:
                done = True
                post.now -= 1
            return taken

        stage._inner.messages.claim = claiming  # type: ignore[method-assign]
        await long_after(post)
        assert done
    assert post.carrier.to(A) == [1, 1]


async def test_series_that_is_retried_without_delay_is_not_forgotten() -> None:
    post = Post()
    await post.subscribe("q", A, ordered=True, _retry_policy={"retries_with_no_delay": 3})
    post.carrier.outcomes[A] = [LATER, LATER, DELIVERED]
    async with dispatching(post):
        await post.post("q", 1)
        await post.delivered(2)
        await long_after(post)
    assert post.carrier.to(A) == [1, 1, 1]


async def test_turn_that_lapsed_puts_nothing_off() -> None:
    """What is delivered meanwhile by who came after fails in the end for who had the turn before."""
    stage = Stage()
    post = Post(stage)
    policy = ONCE_MORE | {"minimum_delay_retries": 3, "minimum_delay": 3600, "maximum_delay": 7200}
    await post.subscribe("q", A, ordered=True, _retry_policy=policy)
    first = post.carrier.pausing[A] = asyncio.Event()
    post.carrier.outcomes[A] = [DELIVERED, LATER, DELIVERED]
    await post.post("q", 1)
    async with dispatching(post):
        await until(lambda: len(post.carrier.parcels) == 1)
        await others_go_on()
        stage.messages.broken = {"renew"}
        del post.carrier.pausing[A]
        await post.pass_time(LEASE_SECONDS)
        await until(lambda: len(post.carrier.parcels) == 2)
        await others_go_on()
        stage.messages.broken = set()
        first.set()
        await post.settled()
        await post.post("q", 2)
        await post.settled()
        await post.pass_time(2 * LEASE_SECONDS)
    assert post.carrier.to(A)[-1] == 2


async def test_what_comes_for_one_who_confirms_just_then_is_not_thrown_away() -> None:
    stage = Stage()
    post = Post(stage, terms=Terms(required=True), signer=Signer("0123456789abcdef0123456789abcdef"))
    id_ = await post.subscribe("q", A, ordered=True)

    async def confirm(yes: bool) -> None:
        await post.call("subscriptions.confirm", queue="q", subscription_id=id_, document={"confirmed": yes})

    await confirm(True)
    first = post.carrier.pausing[A] = asyncio.Event()
    async with dispatching(post):
        await post.post("q", "m1", "m2")
        await until(lambda: "m1" in post.carrier.to(A))
        await confirm(False)
        looked = stage.documents.hold_after("get")  # that nobody has confirmed
        first.set()
        await looked.reached()
        await confirm(True)
        await post.post("q", "m3")
        looked.open()
        await until(lambda: post.carrier.to(A)[-1] == "m3")


async def test_series_of_one_who_has_not_confirmed_ends() -> None:
    post = Post(terms=Terms(required=True), signer=Signer("0123456789abcdef0123456789abcdef"))
    id_ = await post.subscribe("q", A, ordered=True)
    document = {"confirmed": True}
    await post.call("subscriptions.confirm", queue="q", subscription_id=id_, document=document)
    answers = post.carrier.pausing[A] = asyncio.Event()
    async with dispatching(post):
        await post.post("q", *range(25))
        await until(lambda: 0 in post.carrier.to(A))
        document = {"confirmed": False}
        await post.call("subscriptions.confirm", queue="q", subscription_id=id_, document=document)
        answers.set()
        await long_after(post)
        assert await post.pending() == (0, 0)
    assert [body for body in post.carrier.to(A) if isinstance(body, int)] == [0]
    assert post.service.figures.deliveries_dropped == 24


# --- faults ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def delivering_but(post: Post, damaged: bytes) -> AsyncIterator[None]:
    """Deliver, while messages that hold this cannot be read."""
    body = post.service.recipients.body

    def reading(told: Any) -> bytes:
        if damaged in told.body:
            raise Unavailable("It cannot be read.")
        return body(told)

    post.service.recipients.body = reading  # type: ignore[method-assign]
    async with dispatching(post):
        yield


@pytest.mark.parametrize("options", [{}, {"ordered": True}, {"batch": 10}, {"filter": {"a": [1]}}])
async def test_message_that_cannot_be_read_is_one_dead_letter(options: dict[str, Any]) -> None:
    post = Post()
    await post.subscribe("q", A, _dead_letter_queue="dead", **options)
    await post.post("q", {"a": 1}, {"a": 1, "b": "damaged"}, {"a": 1, "c": 2})
    async with delivering_but(post, b"damaged"):
        await until(lambda: len(post.carrier.to(A)) == 2)
        await until(lambda: post.service.figures.deliveries_dead_lettered)
        await long_after(post)
        assert await post.pending() == (0, 0)
    assert post.carrier.to(A) == [{"a": 1}, {"a": 1, "c": 2}]
    (letter,) = bodies(await post.listed("dead"))
    assert letter["reason"] == "its message cannot be read any more"
    assert letter["notification"] is None


async def test_fault_of_one_project_repeats_nothing_of_others() -> None:
    """One that takes longer than a lease; it was taken up together with one that always has a fault."""
    stage = Stage()
    post = Post(stage)
    await post.create("q", _retry_policy=ONCE_MORE)
    await post.subscribe("q", A)
    await post.call("subscriptions.create", project="other", queue="p", subscriber=B, options={})
    post.carrier.outcomes[A] = [LATER]
    answers = post.carrier.pausing[B] = asyncio.Event()
    await post.post("q", "x")
    await post.post("p", "slow", project="other")

    async def fault(*_args: Any, **_options: Any) -> Any:
        raise RuntimeError("not to be explained")

    post.service.recipients.metadata = fault  # type: ignore[method-assign]
    async with dispatching(post):
        await until(lambda: len(post.carrier.parcels) == 2)
        for _ in range(5):
            await post.pass_time(LEASE_SECONDS)
        assert post.carrier.to(B) == ["slow"]
        answers.set()
        await long_after(post)
    assert post.carrier.to(B) == ["slow"]
    assert 2 < len(post.carrier.to(A)) < 12, "it comes back, and more and more seldom"


async def test_fault_with_one_of_several_jobs_has_the_others_done(monkeypatch: pytest.MonkeyPatch) -> None:
    post = Post()
    await post.subscribe("q", A)
    for number in range(3):
        await post.post("q", number)
    async with dispatching(post) as made:
        size = made._attempts.size

        def sized(subscription: Any, notices: Any) -> int:
            if b'"body":1,' in notices[0]:
                raise RuntimeError("not to be explained")
            return size(subscription, notices)

        monkeypatch.setattr(made._attempts, "size", sized)
        await until(lambda: {0, 2} <= set(post.carrier.to(A)))
        await post.settled()
        monkeypatch.undo()
        await long_after(post)
        assert await post.pending() == (0, 0)
    assert 1 in post.carrier.to(A)


# --- memory and ends -------------------------------------------------------------------------------------


async def test_lines_hold_no_more_in_memory_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "MOST_HANDED_OUT_BYTES", 1_000_000)
    monkeypatch.setattr(lines, "READ_AT_ONCE", 2)
    stage = Stage()
    post = Post(stage)
    for number in range(20):
        await post.subscribe(f"q{number}", A, ordered=True)
        for _ in range(10):
            await post.post(f"q{number}", "x" * 1000)
    page, gate, read = stage._inner.messages.page, asyncio.Event(), 0

    async def counted(queue: Any, **options: Any) -> Any:
        nonlocal read
        found = await page(queue, **options)
        if queue.name.startswith("line/"):
            read += sum(len(message.body) for message in found)
        return found

    stage._inner.messages.page = counted  # type: ignore[method-assign]
    stage.documents.before("scan", gate.wait)
    async with dispatching(post) as made:
        await until(lambda: read)
        await others_go_on()
        assert made._handed_out._room._used["acme"].size <= 600_000
        gate.set()
        await until(lambda: len(post.carrier.parcels) > 20)


async def test_stop_begins_no_further_parcel() -> None:
    post = Post()
    await post.subscribe("q", A, ordered=True)
    await post.post("q", *range(50))
    made = post.dispatcher()
    made.start()
    await until(lambda: post.carrier.parcels)
    begun = len(post.carrier.parcels)
    await made.stop(5)
    post.dispatchers.remove(made)
    assert len(post.carrier.parcels) <= begun + 1
    async with dispatching(post):
        await until(lambda: post.carrier.to(A)[-1] == 49)
    assert post.carrier.to(A) == list(range(50))


async def test_series_is_another_processes_as_soon_as_one_stops() -> None:
    post = Post()
    await post.subscribe("q", A, ordered=True)
    post.carrier.hanging.add(A)
    await post.post("q", 1, 2)
    one = post.dispatcher()
    one.start()
    await until(lambda: post.carrier.parcels)
    await others_go_on()
    async with dispatching(post):
        await others_go_on()
        post.carrier.hanging.clear()
        await one.stop(0.0)
        post.dispatchers.remove(one)
        await until(lambda: post.carrier.to(A) == [1, 1, 2])
