"""Waiting for messages: what wakes whom, how many, and that nobody sleeps through an arrival.

Time is the test's: a waiter that nothing wakes ends only when the test reaches its deadline.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest
from hand_clock import others_go_on

from sukkal.core.waiting import RETRY_SECONDS
from sukkal.errors import Invalid, StoreUnavailable, Unavailable
from sukkal.limits import MAX_WAIT, Limits
from sukkal.model import QueueKey
from sukkal.operations import BY_NAME
from sukkal.requests import Claimed, ListMessages, MessageList

from .world import NOW, PROJECT, Stage, Turns, World, bodies, count_up, next_schedule

KEY = QueueKey(PROJECT, "orders")
LONG = 10_000  # seconds, longer than any lease or delay here


class AnyWait(Limits, frozen=True, kw_only=True):
    """Limits under which one may wait for longer than a claim lasts."""

    def check_wait(self, wait: int) -> None:
        pass


def patient(backend: Any = None) -> World:
    return World(backend, limits=AnyWait())


async def claim(world: World, queue: str = "orders", **fields: Any) -> list[Any]:
    """The bodies of what a claim took."""
    claimed: Claimed = await world.call("claims.create", queue=queue, **fields)
    return bodies(claimed.messages)


async def page(world: World, queue: str = "orders", **fields: Any) -> list[Any]:
    found: MessageList = await world.call("messages.list", client="reader", queue=queue, **fields)
    return bodies(found.messages)


def following(
    world: World, *, pause: float = LONG, **fields: Any
) -> aclosing[AsyncGenerator[MessageList, None]]:
    request = ListMessages(queue="orders", **fields)
    row = BY_NAME["messages.list"]
    return aclosing(world.service.follow(row, world.ctx(client="reader"), request, pause=pause))


Call = Callable[..., Coroutine[Any, Any, list[Any]]]

either_way = pytest.mark.parametrize("call", [claim, page], ids=["claimer", "reader"])


class Waiters:
    """Calls that wait, by number, in the order in which they began."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[list[Any]]] = []
        self.ended: list[int] = []

    async def begin(self, *calls: Coroutine[Any, Any, list[Any]]) -> None:
        """Begin to wait, one after the other; return when all of them wait."""
        for call in calls:
            task = asyncio.create_task(call, name=str(len(self.tasks)))
            task.add_done_callback(lambda task: self.ended.append(int(task.get_name())))
            self.tasks.append(task)
            await others_go_on()
            assert not task.done(), "it need not wait"

    async def answers(self) -> dict[int, list[Any]]:
        """What those that ended were answered, in the order in which they ended."""
        await others_go_on()
        return {number: self.tasks[number].result() for number in self.ended}

    async def leave(self, *numbers: int) -> None:
        for number in numbers:
            self.tasks[number].cancel()
        await others_go_on()


@pytest.fixture
def waiters() -> Waiters:
    return Waiters()


def nobody_waits(world: World) -> bool:
    """Nothing is left behind of those who waited."""
    return not world.clock.set_for and not world.backend.waker.wanted(KEY)


# --- what wakes ------------------------------------------------------------------------------------------

# Each begins with a queue that shows nothing, and answers what makes it show one message with the body 1.
Reason = Callable[[World], Awaitable[Callable[[], Awaitable[object]]]]


async def post(world: World) -> Callable[[], Awaitable[object]]:
    return lambda: world.post("orders", 1)


async def release(world: World) -> Callable[[], Awaitable[object]]:
    await world.post("orders", 1)
    claimed = await world.call("claims.create", queue="orders")
    return lambda: world.call("claims.release", queue="orders", claim_id=claimed.id)


async def lapse(world: World) -> Callable[[], Awaitable[object]]:
    await world.post("orders", 1)
    await claim(world, ttl=60)
    return lambda: world.pass_time(60)


async def lapse_of_a_claim_taken_meanwhile(world: World) -> Callable[[], Awaitable[object]]:
    await world.post("orders", 1, delay=10)

    async def act() -> None:
        world.now += 10  # though no timer has gone off yet
        assert await claim(world, ttl=60) == [1]
        await world.pass_time(59)
        assert await claim(world) == []
        await world.pass_time(1)

    return act


async def lapse_of_a_renewed_claim(world: World) -> Callable[[], Awaitable[object]]:
    await world.post("orders", 1)
    claimed = await world.call("claims.create", queue="orders", ttl=600)

    async def act() -> None:
        await world.call("claims.renew", queue="orders", claim_id=claimed.id, ttl=60)
        await world.pass_time(60)

    return act


async def lapse_of_a_claim_that_was_renewed_once_more(world: World) -> Callable[[], Awaitable[object]]:
    await world.post("orders", 1)
    claimed = await world.call("claims.create", queue="orders", ttl=60)

    async def act() -> None:
        await world.pass_time(30)
        await world.call("claims.renew", queue="orders", claim_id=claimed.id, ttl=60)
        await world.pass_time(59)
        assert await page(world) == []
        await world.pass_time(1)

    return act


async def end_of_a_delay(world: World) -> Callable[[], Awaitable[object]]:
    await world.post("orders", 1, delay=10)
    return lambda: world.pass_time(10)


async def end_of_a_delay_posted_meanwhile(world: World) -> Callable[[], Awaitable[object]]:
    async def act() -> None:
        await world.post("orders", 1, delay=10)
        await world.pass_time(10)

    return act


async def end_of_the_second_delay(world: World) -> Callable[[], Awaitable[object]]:
    (first,) = await world.post("orders", 2, delay=10)
    await world.post("orders", 1, delay=20)

    async def act() -> None:
        await world.call("messages.delete", queue="orders", id=first)
        await world.pass_time(20)

    return act


async def end_of_all_delays(world: World) -> Callable[[], Awaitable[object]]:
    await world.create("orders", _default_message_delay=900)
    await world.post("orders", 1)
    return lambda: world.set("orders", _default_message_delay=0)


async def dead_letter(world: World) -> Callable[[], Awaitable[object]]:
    await world.create("jobs", _max_claim_count=1, _dead_letter_queue="orders")
    await world.post("jobs", 1)
    claimed = await world.call("claims.create", queue="jobs")
    await world.call("claims.release", queue="jobs", claim_id=claimed.id)
    return lambda: claim(world, "jobs")


# Those that ask the store for nothing that a waiter asks for.
APART: list[Reason] = [
    post,
    release,
    lapse,
    lapse_of_a_renewed_claim,
    end_of_a_delay,
    end_of_a_delay_posted_meanwhile,
    end_of_the_second_delay,
    end_of_all_delays,
    dead_letter,
]
REASONS = [*APART, lapse_of_a_claim_taken_meanwhile, lapse_of_a_claim_that_was_renewed_once_more]

every_reason = pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.__name__)


@every_reason
@either_way
async def test_waiter_is_woken_by(reason: Reason, call: Call, waiters: Waiters) -> None:
    world = patient()
    act = await reason(world)
    await waiters.begin(call(world, wait=LONG))
    await act()
    assert await waiters.answers() == {0: [1]}
    assert world.now < NOW + 1000, "not by its deadline"
    assert nobody_waits(world)


@every_reason
async def test_stream_is_woken_by(reason: Reason) -> None:
    world = World()
    act = await reason(world)
    async with following(world) as pages:
        assert (await anext(pages)).messages == []
        coming = asyncio.ensure_future(anext(pages))
        await others_go_on()
        assert not coming.done()
        await act()
        await others_go_on()
        assert bodies((await coming).messages) == [1]
    assert nobody_waits(world)


async def test_readers_are_all_woken_by_one_message(world: World, waiters: Waiters) -> None:
    await waiters.begin(*(page(world, wait=20) for _ in range(50)))
    await world.post("orders", 1)
    assert await waiters.answers() == {number: [1] for number in range(50)}
    assert nobody_waits(world)


async def test_reader_that_shows_delayed_messages_is_woken_when_one_is_posted(
    world: World, waiters: Waiters
) -> None:
    await waiters.begin(page(world, wait=20, include_delayed=True), page(world, wait=20))
    await world.post("orders", 1, delay=10)
    assert await waiters.answers() == {0: [1]}
    await world.pass_time(10)
    assert await waiters.answers() == {0: [1], 1: [1]}


async def test_reader_behind_a_marker_waits_for_what_comes_behind_it(world: World, waiters: Waiters) -> None:
    await world.post("orders", 1)
    (first,) = await world.listed("orders")
    await waiters.begin(page(world, wait=20, marker=first.marker), page(world, wait=20, marker=first.id))
    claimed = await world.call("claims.create", queue="orders")
    await world.call("claims.release", queue="orders", claim_id=claimed.id)
    assert await waiters.answers() == {}, "what it has passed is no news"
    await world.post("orders", 2)
    assert await waiters.answers() == {0: [2], 1: [2]}


async def test_reader_without_echo_goes_on_waiting_when_its_own_message_comes(
    world: World, waiters: Waiters
) -> None:
    await waiters.begin(page(world, wait=20), page(world, wait=20, echo=True))
    await world.post("orders", "mine", client="reader")
    assert await waiters.answers() == {1: ["mine"]}
    await world.post("orders", "theirs")
    assert await waiters.answers() == {1: ["mine"], 0: ["theirs"]}


async def test_waiters_of_another_queue_or_project_sleep_on(
    staged: World, stage: Stage, waiters: Waiters
) -> None:
    await waiters.begin(claim(staged, wait=20), page(staged, wait=20))
    before = len(stage.messages.calls)
    await staged.post("invoices", 1)
    await staged.post("orders", 1, project="umbrella")
    assert await waiters.answers() == {}
    assert stage.messages.calls[before:] == ["append", "append"]


@either_way
async def test_deleting_and_purging_wakes_nobody_and_a_later_post_does(
    call: Call, world: World, waiters: Waiters
) -> None:
    await world.create("orders")
    await waiters.begin(call(world, wait=20))
    await world.call("queues.purge", queue="orders")
    await world.call("queues.delete", queue="orders")
    assert await waiters.answers() == {}
    await world.post("orders", 1)
    assert await waiters.answers() == {0: [1]}


# --- when nothing comes ----------------------------------------------------------------------------------


@either_way
async def test_deadline_brings_the_ordinary_empty_answer(call: Call, world: World, waiters: Waiters) -> None:
    await waiters.begin(call(world, wait=20), call(world, wait=3))
    await world.pass_time(2.75)
    assert await waiters.answers() == {}
    await world.pass_time(0.25)
    assert await waiters.answers() == {1: []}
    await world.pass_time(16.75)
    assert await waiters.answers() == {1: []}
    await world.pass_time(0.25)
    assert await waiters.answers() == {1: [], 0: []}
    assert nobody_waits(world)


@either_way
async def test_nobody_waits_where_there_is_something_or_where_nobody_asked_to(
    call: Call, staged: World, stage: Stage
) -> None:
    assert await call(staged) == []
    await staged.post("orders", 1)
    assert await call(staged, wait=20) == [1]
    assert "next_due" not in stage.messages.calls
    assert nobody_waits(staged)


async def test_idle_waiters_never_touch_the_store(staged: World, stage: Stage, waiters: Waiters) -> None:
    await waiters.begin(*(call(staged, wait=20) for call in (claim, page) for _ in range(5)))
    async with following(staged) as pages:
        await anext(pages)
        coming = asyncio.ensure_future(anext(pages))
        await others_go_on()
        before = stage.messages.calls + stage.documents.calls
        for _ in range(19):
            await staged.pass_time(1)
        assert stage.messages.calls + stage.documents.calls == before
        assert before.count("next_due") == 1, "one for all of them"
        await waiters.leave(*range(10))
        coming.cancel()
        await asyncio.wait([coming])
    assert nobody_waits(staged)


async def test_one_timer_serves_a_queue_however_many_wait(world: World, waiters: Waiters) -> None:
    await world.post("orders", 1, delay=300)
    await waiters.begin(*(page(world, wait=20) for _ in range(5)))
    assert world.clock.set_for == [NOW + 20] * 5 + [NOW + 300]


@either_way
@pytest.mark.parametrize("wait", [-1, MAX_WAIT + 1, 10**30])
async def test_wait_out_of_bounds_is_refused(call: Call, world: World, wait: int) -> None:
    await world.post("orders", 1)
    with pytest.raises(Invalid, match="Wait must be at least 0 and may not be greater than 20 seconds"):
        await call(world, wait=wait)


@either_way
async def test_other_faults_are_told_at_once(call: Call, world: World) -> None:
    with pytest.raises(Invalid, match="Limit"):
        await call(world, wait=20, limit=21)


@either_way
async def test_when_waiting_is_stopped_all_are_answered_and_nobody_waits_any_more(
    call: Call, world: World, waiters: Waiters
) -> None:
    await waiters.begin(*(call(world, wait=20) for _ in range(3)))
    world.service.stop_waiting()
    assert await waiters.answers() == {0: [], 1: [], 2: []}
    assert await call(world, wait=20) == []
    await world.post("orders", 1)
    assert await call(world, wait=20) == [1]
    assert nobody_waits(world)


# --- timers ----------------------------------------------------------------------------------------------


@either_way
async def test_timer_that_goes_off_early_is_set_again(call: Call, world: World, waiters: Waiters) -> None:
    await world.post("orders", 1, delay=10)
    await waiters.begin(call(world, wait=20))
    await world.clock.fire_early(NOW + 10, at=NOW + 9.75)
    assert await waiters.answers() == {}
    await world.clock.reach(NOW + 10)
    assert await waiters.answers() == {0: [1]}


@either_way
async def test_what_comes_due_between_finding_out_and_looking_is_not_slept_through(
    call: Call, staged: World, stage: Stage, waiters: Waiters
) -> None:
    await staged.post("orders", 1, delay=10)
    finding = stage.messages.hold_before("next_due")
    await waiters.begin(call(staged, wait=20))
    await finding.reached()
    staged.now += 12
    finding.open()
    assert await waiters.answers() == {0: [1]}


async def test_second_waiter_is_woken_in_time_when_the_first_leaves_before_the_timer_is_set(
    staged: World, stage: Stage, waiters: Waiters
) -> None:
    await staged.post("orders", 1, delay=10)
    finding = stage.messages.hold_before("next_due")
    await waiters.begin(claim(staged, wait=20), claim(staged, wait=20))
    await finding.reached()
    await waiters.leave(0)
    finding.open()
    await staged.pass_time(10)
    waiters.ended.remove(0)
    assert await waiters.answers() == {1: [1]}


@either_way
async def test_store_that_does_not_say_what_comes_due_is_asked_again(
    call: Call, staged: World, stage: Stage, waiters: Waiters
) -> None:
    await staged.post("orders", 1, delay=10)
    stage.messages.fail_once("next_due")
    await waiters.begin(call(staged, wait=20))
    await staged.pass_time(RETRY_SECONDS)
    assert stage.messages.calls.count("next_due") == 2
    await staged.pass_time(10 - RETRY_SECONDS)
    assert await waiters.answers() == {0: [1]}


# --- how many are woken ----------------------------------------------------------------------------------


async def claims_made(stage: Stage, act: Coroutine[Any, Any, object]) -> int:
    """How often the store is asked to claim in consequence."""
    await others_go_on()
    before = stage.messages.calls.count("claim")
    await act
    for _ in range(5):
        await others_go_on()
    return stage.messages.calls.count("claim") - before


@pytest.mark.parametrize(
    "limit, messages, woken", [(1, 1, 1), (1, 3, 3), (10, 1, 1), (10, 10, 1), (10, 11, 2), (5, 18, 4)]
)
async def test_post_wakes_no_more_claimers_than_it_needs_the_first_in_line_first(
    staged: World, stage: Stage, waiters: Waiters, limit: int, messages: int, woken: int
) -> None:
    await waiters.begin(*(claim(staged, wait=20, limit=limit) for _ in range(30)))
    assert await claims_made(stage, staged.post("orders", *range(messages))) == woken
    answers = await waiters.answers()
    assert list(answers) == list(range(woken))
    assert [body for taken in answers.values() for body in taken] == list(range(messages))
    await waiters.leave(*range(woken, 30))


async def test_posts_of_one_moment_wake_one_claimer_that_can_take_them_all(
    staged: World, stage: Stage, waiters: Waiters
) -> None:
    await waiters.begin(*(claim(staged, wait=20, limit=10) for _ in range(5)))

    async def post_ten() -> None:
        await asyncio.gather(*(staged.post("orders", number) for number in range(10)))

    assert await claims_made(stage, post_ten()) == 1
    assert {number: sorted(taken) for number, taken in (await waiters.answers()).items()} == {
        0: list(range(10))
    }


async def test_uncounted_arrival_wakes_one_and_each_full_claim_the_next(
    staged: World, stage: Stage, waiters: Waiters
) -> None:
    await staged.post("orders", *range(7))
    claimed = await staged.call("claims.create", queue="orders")
    await waiters.begin(*(claim(staged, wait=20, limit=3) for _ in range(10)))
    freeing = staged.call("claims.release", queue="orders", claim_id=claimed.id)
    assert await claims_made(stage, freeing) == 3
    assert await waiters.answers() == {0: [0, 1, 2], 1: [3, 4, 5], 2: [6]}


async def test_claims_that_lapse_together_go_to_as_many_as_they_need(
    staged: World, stage: Stage, waiters: Waiters
) -> None:
    await staged.post("orders", *range(4))
    for _ in range(4):
        await claim(staged, limit=1, ttl=60)
    staged.now += 50
    await waiters.begin(*(claim(staged, wait=20, limit=1) for _ in range(10)))
    assert await claims_made(stage, staged.pass_time(10)) == 5, "the fifth finds that it was all"
    assert await waiters.answers() == {0: [0], 1: [1], 2: [2], 3: [3]}


async def test_delayed_post_wakes_no_claimer_before_its_time(
    staged: World, stage: Stage, waiters: Waiters
) -> None:
    await waiters.begin(*(claim(staged, wait=20) for _ in range(3)))
    assert await claims_made(stage, staged.post("orders", 1, delay=10)) == 0
    assert await claims_made(stage, staged.pass_time(10)) == 1
    assert await waiters.answers() == {0: [1]}


async def test_mixed_post_wakes_for_what_is_visible_now_and_again_for_the_rest(
    staged: World, stage: Stage, waiters: Waiters
) -> None:
    await staged.create("orders", _default_message_delay=10)
    await waiters.begin(*(claim(staged, wait=20, limit=1) for _ in range(3)))
    assert await claims_made(stage, staged.post("orders", "now", delay=0)) == 1
    await staged.post("orders", "later")
    assert await waiters.answers() == {0: ["now"]}
    await staged.pass_time(10)
    assert await waiters.answers() == {0: ["now"], 1: ["later"]}


async def test_claimer_that_comes_too_late_waits_on_at_its_old_place(
    staged: World, stage: Stage, waiters: Waiters
) -> None:
    await waiters.begin(*(claim(staged, wait=20, limit=1) for _ in range(3)))
    late = stage.messages.hold_before("claim")
    await staged.post("orders", "snatched")
    await late.reached()
    assert await claim(staged) == ["snatched"]
    late.open()
    assert await waiters.answers() == {}
    await staged.post("orders", "next")
    assert await waiters.answers() == {0: ["next"]}


@pytest.mark.parametrize("metadata", [{}, {"_dead_letter_queue": "failed", "_max_claim_count": 5}])
async def test_claimer_that_comes_too_late_gets_the_message_when_the_other_lets_it_lapse(
    stage: Stage, waiters: Waiters, metadata: dict[str, Any]
) -> None:
    world = patient(stage)
    await world.create("orders", **metadata)
    await waiters.begin(claim(world, wait=LONG))
    late = stage.messages.hold_before("claim")
    await world.post("orders", 1)
    await late.reached()
    assert await claim(world, ttl=60) == [1]
    late.open()
    await world.pass_time(59)
    assert await waiters.answers() == {}
    await world.pass_time(1)
    assert await waiters.answers() == {0: [1]}


async def test_claimers_and_readers_are_both_served(world: World, waiters: Waiters) -> None:
    await waiters.begin(claim(world, wait=20), page(world, wait=20, include_claimed=True))
    await world.post("orders", 1)
    assert await waiters.answers() == {0: [1], 1: [1]}


async def test_spent_messages_do_not_end_the_wait(world: World, waiters: Waiters) -> None:
    await world.create("orders", _max_claim_count=1, _dead_letter_queue="failed")
    await world.post("orders", 1)
    claimed = await world.call("claims.create", queue="orders")
    await waiters.begin(claim(world, wait=20))
    await world.call("claims.release", queue="orders", claim_id=claimed.id)
    assert await waiters.answers() == {}
    assert bodies(await world.listed("failed")) == [1]
    await world.post("orders", 2)
    assert await waiters.answers() == {0: [2]}


# --- who leaves ------------------------------------------------------------------------------------------


@either_way
async def test_waiter_that_goes_away_leaves_nothing_behind(
    call: Call, world: World, waiters: Waiters
) -> None:
    await waiters.begin(*(call(world, wait=20) for _ in range(3)))
    await waiters.leave(1)
    assert len(world.clock.set_for) == 2
    await waiters.leave(0, 2)
    assert nobody_waits(world)


async def test_claimer_that_goes_away_just_after_it_was_woken_passes_that_on(
    staged: World, stage: Stage, waiters: Waiters
) -> None:
    await waiters.begin(*(claim(staged, wait=20, limit=1) for _ in range(4)))
    told = stage.messages.hold_after("append")
    posting = asyncio.create_task(staged.post("orders", 1, 2))
    await told.reached()
    told.open()
    while not posting.done():  # noqa: ASYNC110  # when it is, those it woke have not run yet
        await asyncio.sleep(0)
    for number in (0, 1):
        waiters.tasks[number].cancel()
    await others_go_on()
    waiters.ended = [number for number in waiters.ended if number > 1]
    assert await waiters.answers() == {2: [1], 3: [2]}
    assert nobody_waits(staged)


async def test_claimer_that_goes_away_while_it_claims_gives_back_what_it_gets(
    staged: World, stage: Stage, waiters: Waiters
) -> None:
    await waiters.begin(claim(staged, wait=20), claim(staged, wait=20))
    committing = stage.messages.hold_after("claim")
    await staged.post("orders", 1)
    await committing.reached()
    await waiters.leave(0)
    assert waiters.ended == [0]
    assert waiters.tasks[0].cancelled()
    waiters.ended.clear()
    assert await waiters.answers() == {}, "the message is not free yet"
    committing.open()
    assert await waiters.answers() == {1: [1]}
    assert nobody_waits(staged)


async def test_first_look_of_a_caller_that_goes_away_gives_back_what_it_gets(
    staged: World, stage: Stage
) -> None:
    await staged.post("orders", 1)
    committing = stage.messages.hold_after("claim")
    claiming = asyncio.create_task(claim(staged, wait=20))
    await committing.reached()
    claiming.cancel()
    committing.open()
    await others_go_on()
    assert claiming.cancelled()
    assert await claim(staged) == [1]


async def test_what_cannot_be_given_back_comes_back_when_the_claim_lapses(
    staged: World, stage: Stage
) -> None:
    await staged.post("orders", 1)
    committing = stage.messages.hold_after("claim")
    claiming = asyncio.create_task(claim(staged, wait=20, ttl=60))
    await committing.reached()
    claiming.cancel()
    stage.messages.fail_once("release")
    committing.open()
    await others_go_on()
    assert stage.messages.calls[-1] == "release"
    assert await claim(staged) == []
    staged.now += 60
    assert await claim(staged) == [1]


async def test_store_that_fails_a_woken_claimer_wakes_the_next(
    staged: World, stage: Stage, waiters: Waiters
) -> None:
    await waiters.begin(*(claim(staged, wait=20) for _ in range(3)))
    stage.messages.fail_once("claim")
    await staged.post("orders", 1)
    await others_go_on()
    assert isinstance(waiters.tasks[0].exception(), Unavailable)
    assert waiters.ended == [0, 1]
    assert waiters.tasks[1].result() == [1]


@either_way
async def test_line_that_cannot_be_watched_makes_the_call_unavailable(
    call: Call, staged: World, stage: Stage
) -> None:
    async def watch(_queue: QueueKey) -> None:
        raise StoreUnavailable("no line")

    stage.waker.watch = watch  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await call(staged, wait=20)
    assert nobody_waits(staged)


# --- between the look and the sleep ----------------------------------------------------------------------


@pytest.mark.parametrize("skip", [0, 1], ids=["first-look", "look-from-its-place"])
@pytest.mark.parametrize("when", ["hold_before", "hold_after"])
@pytest.mark.parametrize("call, verb", [(claim, "claim"), (page, "page")], ids=["claimer", "reader"])
@pytest.mark.parametrize("reason", APART, ids=lambda reason: reason.__name__)
async def test_arrival_during_a_look_is_not_slept_through(
    reason: Reason, call: Call, verb: str, when: str, skip: int, stage: Stage, waiters: Waiters
) -> None:
    world = patient(stage)
    act = await reason(world)
    gate = getattr(stage.messages, when)(verb, skip=skip)
    await waiters.begin(call(world, wait=LONG))
    await gate.reached()
    await act()
    gate.open()
    assert await waiters.answers() == {0: [1]}
    assert world.now < NOW + 1000, "not by its deadline"


async def in_every_order(
    prepare: Callable[[World], Awaitable[object]],
    *steps: Callable[[World], Coroutine[Any, Any, Any]],
    answers_wait: bool = True,
    limit: int = 60_000,
) -> None:
    """Run the steps in every order their calls to the store can take. One that sleeps for ever is a fault."""
    schedule: list[int] | None = []
    for _ in count_up(limit):
        turns = Turns(schedule)
        world = World(Stage(turns.wait, answers_wait=answers_wait))
        await prepare(world)
        await turns.run(*(step(world) for step in steps))
        await others_go_on()
        assert nobody_waits(world)
        schedule = next_schedule(schedule, turns.choices)
        if schedule is None:
            break


def waits(call: Call, **fields: Any) -> Callable[[World], Coroutine[Any, Any, Any]]:
    async def step(world: World) -> None:
        assert await call(world, wait=20, **fields)

    return step


def posts(*numbers: int) -> Callable[[World], Coroutine[Any, Any, Any]]:
    return lambda world: world.post("orders", *numbers)


async def made(world: World) -> None:
    await world.create("orders")
    await world.post("orders", 0)
    await claim(world)


@either_way
async def test_waiter_and_post_in_every_order(call: Call) -> None:
    await in_every_order(made, waits(call), posts(1))


async def test_claimers_and_one_post_for_all_in_every_order() -> None:
    await in_every_order(made, waits(claim, limit=1), waits(claim, limit=1), posts(1, 2), answers_wait=False)


async def test_claimers_and_a_post_for_each_in_every_order() -> None:
    await in_every_order(
        made, waits(claim, limit=1), waits(claim, limit=1), posts(1), posts(2), answers_wait=False
    )


async def test_claimer_and_release_in_every_order() -> None:
    claims: list[str] = []

    async def held(world: World) -> None:
        await world.create("orders")
        await world.post("orders", 1, 2)
        claims.append((await world.call("claims.create", queue="orders")).id)

    async def frees(world: World) -> None:
        await world.call("claims.release", queue="orders", claim_id=claims[-1])

    await in_every_order(held, waits(claim, limit=1), waits(claim, limit=1), frees, answers_wait=False)


async def test_claimer_that_goes_away_at_any_moment_takes_nothing_with_it() -> None:
    """One of two claimers is cancelled between any two calls; the other gets the message."""

    async def gives_up(world: World) -> None:
        claiming = asyncio.create_task(world.call("claims.create", queue="orders", wait=20))
        for _ in range(2):  # so that the calls of others may come in between
            await world.backend.messages.fetch(KEY, ["none"], now=NOW)
        claiming.cancel()
        await asyncio.wait([claiming])
        if not claiming.cancelled():
            await world.call("claims.release", queue="orders", claim_id=claiming.result().id)

    await in_every_order(made, waits(claim), gives_up, posts(1), answers_wait=False)


# --- streams ---------------------------------------------------------------------------------------------


async def test_stream_gives_page_after_page_and_then_what_comes(world: World) -> None:
    await world.post("orders", *range(5))
    async with following(world, limit=2) as pages:
        assert [bodies((await anext(pages)).messages) for _ in range(3)] == [[0, 1], [2, 3], [4]]
        coming = asyncio.ensure_future(anext(pages))
        await others_go_on()
        assert not coming.done()
        await world.post("orders", 5, 6, 7)
        assert bodies((await coming).messages) == [5, 6]
        assert bodies((await anext(pages)).messages) == [7]
    assert nobody_waits(world)


async def test_stream_says_after_each_pause_that_nothing_came(staged: World, stage: Stage) -> None:
    async with following(staged, pause=15) as pages:
        assert (await anext(pages)).messages == []
        for _ in range(4):
            coming = asyncio.ensure_future(anext(pages))
            await staged.pass_time(14.75)
            assert not coming.done()
            await staged.pass_time(0.25)
            assert (await coming).messages == []
        assert stage.messages.calls.count("page") == 2, "silence asks the store nothing"


async def test_stream_ends_when_waiting_is_stopped(world: World) -> None:
    async with following(world) as pages:
        await anext(pages)
        coming = asyncio.ensure_future(anext(pages))
        await others_go_on()
        world.service.stop_waiting()
        with pytest.raises(StopAsyncIteration):
            await coming
    async with following(world) as pages:
        assert [page.messages async for page in pages] == [[]]
    assert nobody_waits(world)


async def test_stream_whose_reader_goes_away_leaves_nothing_behind(world: World) -> None:
    async with following(world) as pages:
        await anext(pages)
        coming = asyncio.ensure_future(anext(pages))
        await others_go_on()
        assert world.backend.waker.wanted(KEY)
        coming.cancel()
        await others_go_on()
        assert nobody_waits(world)


async def test_stream_that_is_refused_is_refused_at_once(world: World) -> None:
    async with following(world, limit=21) as pages:
        with pytest.raises(Invalid):
            await anext(pages)


async def test_stream_of_a_failing_store_says_so(staged: World, stage: Stage) -> None:
    async with following(staged) as pages:
        await anext(pages)
        stage.messages.fail_once("page")
        with pytest.raises(Unavailable):
            await anext(pages)
    assert nobody_waits(staged)
