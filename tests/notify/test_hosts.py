"""Limits on deliveries under way, and hosts that are left alone."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hand_clock import others_go_on
from hypothesis import given
from hypothesis import strategies as st

from sukkal.notify.hosts import FIRST_PAUSE, FIRST_PLACES, LATE_PROBE, LONGEST_PAUSE, STALLED, Closed, Hosts

NOW = 1_800_000_000.0


class Delivery:
    """One that goes to a slot and stays there until it is told to end."""

    def __init__(self, hosts: Hosts, host: str, project: str = "p") -> None:
        self.began = False
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._run(hosts, host, project))

    async def _run(self, hosts: Hosts, host: str, project: str) -> None:
        async with hosts.slot(host, project):
            self.began = True
            await self._end.wait()

    async def end(self) -> None:
        self._end.set()
        await self.task


async def started(hosts: Hosts, count: int, host: str = "h", project: str = "p") -> list[Delivery]:
    deliveries = [Delivery(hosts, host, project) for _ in range(count)]
    await others_go_on()
    return deliveries


def begun(deliveries: list[Delivery]) -> list[bool]:
    return [delivery.began for delivery in deliveries]


async def ended(*deliveries: Delivery) -> None:
    for delivery in deliveries:
        await delivery.end()
    await others_go_on()


def report(hosts: Hosts, ok: bool, now: float = NOW, *, host: str = "h", project: str = "p") -> None:
    """Say how an attempt ended that began just before."""
    hosts.report(host, project, ok, now, since=hosts._lane(host, project).turns)


def close(hosts: Hosts, host: str = "h", now: float = NOW) -> None:
    for _ in range(5):
        report(hosts, False, now, host=host)


async def test_host_has_so_many_places_and_the_rest_come_in_turn() -> None:
    hosts = Hosts(per_host=2)
    deliveries = await started(hosts, 4)
    assert begun(deliveries) == [True, True, False, False]
    await ended(deliveries[1])
    assert begun(deliveries) == [True, True, True, False]
    await ended(deliveries[0])
    assert all(begun(deliveries))
    await ended(*deliveries[2:])


async def test_new_host_gets_more_places_with_each_success_up_to_the_limit() -> None:
    hosts = Hosts(per_host=FIRST_PLACES + 2)
    deliveries = await started(hosts, 20)
    assert sum(begun(deliveries)) == FIRST_PLACES
    for done in range(1, 4):
        report(hosts, True, NOW)
        await ended(deliveries[done - 1])
        under_way = sum(begun(deliveries)) - done
        assert under_way == FIRST_PLACES + min(done, 2)
    await ended(*deliveries[3:])


async def test_project_has_so_many_places_at_all_hosts_and_others_are_not_held_up() -> None:
    hosts = Hosts(per_project=2)
    mine = [*await started(hosts, 2, "one"), *await started(hosts, 1, "two")]
    others = await started(hosts, 2, "two", "q")
    assert begun(mine) == [True, True, False]
    assert begun(others) == [True, True]
    await ended(mine[0])
    assert begun(mine) == [True, True, True], "a place that is free at another host is taken"
    await ended(*mine[1:], *others)


async def test_project_with_fewest_under_way_gets_the_next_place_at_a_host() -> None:
    hosts = Hosts(per_host=FIRST_PLACES)
    first = await started(hosts, 10, "h", "p")
    second = await started(hosts, 2, "h", "q")
    assert sum(begun(first)) == FIRST_PLACES
    await ended(*first[:2])
    assert begun(second) == [True, True]
    assert sum(begun(first)) == FIRST_PLACES
    await ended(*first[2:4], *second)
    assert sum(begun(first)) == 2 * FIRST_PLACES
    await ended(*first[4:])


async def test_who_waits_for_the_project_lets_others_of_the_same_host_pass() -> None:
    hosts = Hosts(per_host=1, per_project=1)
    (elsewhere,) = await started(hosts, 1, "elsewhere", "p")
    (first,) = await started(hosts, 1, "h", "q")
    held_up = await started(hosts, 1, "h", "p")
    behind = await started(hosts, 1, "h", "r")
    await ended(first)
    assert begun(held_up + behind) == [False, True]
    await ended(*behind, elsewhere)
    assert begun(held_up) == [True]
    await ended(*held_up)


async def test_full_line_sends_askers_away() -> None:
    hosts = Hosts(per_host=1, line=2)
    deliveries = await started(hosts, 2)
    assert hosts.delay("h", "p", NOW) is None
    deliveries += await started(hosts, 1)
    assert hosts.delay("h", "p", NOW) is not None
    assert hosts.delay("other", "p", NOW) is None
    await ended(*deliveries)
    assert hosts.delay("h", "p", NOW) is None


async def test_nobody_joins_the_line_of_a_host_that_hangs() -> None:
    hosts = Hosts(per_host=1)
    assert hosts.delay("h", "p", NOW) is None
    deliveries = await started(hosts, 1)
    assert hosts.delay("h", "p", NOW + STALLED) is None
    assert hosts.delay("h", "p", NOW + STALLED + 0.1) is not None
    report(hosts, True, NOW + STALLED + 0.2)
    assert hosts.delay("h", "p", NOW + STALLED + 0.3) is None
    await ended(*deliveries)


async def test_host_is_closed_after_failures_in_a_row_only() -> None:
    hosts = Hosts(failures=3)
    for ok in (False, False, True, False, False):
        report(hosts, ok, NOW)
    assert hosts.delay("h", "p", NOW) is None
    report(hosts, False, NOW)
    assert hosts.delay("h", "p", NOW) == FIRST_PAUSE
    assert hosts.delay("h", "p", NOW + 1) == FIRST_PAUSE - 1
    assert hosts.delay("other", "p", NOW) is None
    assert hosts.delay("h", "another", NOW) is None, "its receivers there may be well"
    assert hosts.closed == 1


async def test_one_probe_goes_out_after_the_pause_and_its_success_opens_the_host() -> None:
    hosts = Hosts()
    close(hosts)
    later = NOW + FIRST_PAUSE
    assert hosts.delay("h", "p", later) is None
    assert hosts.delay("h", "p", later) is not None, "one at a time"
    report(hosts, True, later)
    assert hosts.delay("h", "p", later) is None
    assert hosts.delay("h", "p", later) is None
    assert hosts.closed == 0


async def test_failed_probe_closes_the_host_for_twice_as_long_up_to_the_longest() -> None:
    hosts = Hosts()
    close(hosts)
    now, pauses = NOW, []
    for _ in range(10):
        pause = hosts.delay("h", "p", now)
        assert pause is not None
        pauses.append(pause)
        now += pause
        assert hosts.delay("h", "p", now) is None
        report(hosts, False, now)
    assert pauses == [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in range(10)]


async def test_probe_that_is_never_heard_of_is_sent_again() -> None:
    hosts = Hosts()
    close(hosts)
    later = NOW + FIRST_PAUSE
    assert hosts.delay("h", "p", later) is None
    assert hosts.delay("h", "p", later + LATE_PROBE - 1) is not None
    assert hosts.delay("h", "p", later + LATE_PROBE) is None


async def test_those_in_line_are_sent_away_when_the_host_is_closed() -> None:
    hosts = Hosts(per_host=1)
    deliveries = await started(hosts, 3)
    close(hosts)
    for waiting in deliveries[1:]:
        with pytest.raises(Closed) as closed:
            await waiting.task
        assert closed.value.delay == FIRST_PAUSE
    await ended(deliveries[0])


async def test_attempts_that_began_before_the_host_was_closed_do_not_prolong_the_pause() -> None:
    hosts = Hosts()
    async with hosts.slot("h", "p") as since:
        close(hosts)
        hosts.report("h", "p", False, NOW + 1, since=since)
        assert hosts.delay("h", "p", NOW + 1) == FIRST_PAUSE - 1
        assert hosts.delay("h", "p", NOW + FIRST_PAUSE) is None  # the probe
        hosts.report("h", "p", False, NOW + FIRST_PAUSE, since=since)
        assert hosts.closed == 1
        report(hosts, True, NOW + FIRST_PAUSE)
    assert hosts.closed == 0


async def test_failures_of_attempts_that_hung_while_others_succeeded_close_nothing() -> None:
    hosts = Hosts(failures=2)
    async with AsyncExitStack() as stack:
        hung = [await stack.enter_async_context(hosts.slot("h", "p")) for _ in range(4)]
        report(hosts, True)
        for since in hung:
            hosts.report("h", "p", False, NOW, since=since)
        assert hosts.closed == 0
    for _ in range(2):
        report(hosts, False)
    assert hosts.closed == 1


async def test_one_who_gives_up_waiting_leaves_the_line() -> None:
    hosts = Hosts(per_host=1)
    deliveries = await started(hosts, 3)
    deliveries[1].task.cancel()
    await others_go_on()
    await ended(deliveries[0])
    assert begun(deliveries) == [True, False, True]
    await ended(deliveries[2])


async def test_one_cancelled_just_as_its_turn_came_passes_the_place_on() -> None:
    hosts = Hosts(per_host=1)
    async with AsyncExitStack() as first:
        await first.enter_async_context(hosts.slot("h", "p"))
        deliveries = await started(hosts, 2)
        await first.aclose()  # gives the place to the first of the line, who has not run yet
        deliveries[0].task.cancel()
    await others_go_on()
    assert begun(deliveries) == [False, True]
    await ended(deliveries[1])


async def test_idle_hosts_are_forgotten_and_busy_ones_are_not() -> None:
    hosts = Hosts(remembered=3)
    busy = await started(hosts, 1, "busy")
    for number in range(100):
        hosts.delay(f"host-{number}", "p", NOW)
    assert len(hosts._lanes) == len(hosts._hosts) == 3
    assert "busy" in hosts._hosts
    await ended(*busy)
    for number in range(3):
        hosts.delay("h", f"project-{number}", NOW)
    assert list(hosts._hosts) == ["h"]
    assert len(hosts._projects) == 3


@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "end", "cancel", "ok", "fail"]), st.integers(0, 5)), max_size=60
    ),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_limits_hold_and_nobody_is_left_waiting(
    steps: list[tuple[str, int]], per_host: int, per_project: int
) -> None:
    async def play() -> None:
        hosts = Hosts(per_host=per_host, per_project=per_project, failures=2)
        going: list[tuple[Delivery, str, str]] = []

        async def settle() -> None:
            await others_go_on()
            await asyncio.gather(
                *(one.task for one, _, _ in going if one.task.done()), return_exceptions=True
            )  # those sent away have an exception to be looked at
            going[:] = [one for one in going if not one[0].task.done()]
            under_way = [(host, project) for one, host, project in going if one.began]
            for name in "ab":
                assert sum(host == name for host, _ in under_way) <= per_host
                assert sum(project == name for _, project in under_way) <= per_project

        for act, number in steps:
            host, project = "ab"[number % 2], "ab"[number // 2 % 2]
            if act == "start":
                going.append((Delivery(hosts, host, project), host, project))
            elif act in ("ok", "fail"):
                report(hosts, act == "ok", host=host, project=project)
            elif going:
                delivery = going[number % len(going)][0]
                if act == "cancel":
                    delivery.task.cancel()
                elif delivery.began:
                    delivery._end.set()
            await settle()
        for _ in range(len(going)):
            for delivery, _, _ in going:
                if delivery.began:
                    delivery._end.set()
            await settle()
        assert not going, "somebody waits for a place that nobody has"
        assert all(not lane.active and not lane.line for lane in hosts._lanes.values())
        assert all(not host.active and not host.waiting for host in hosts._hosts.values())
        assert all(not owner.active and not owner.waiting for owner in hosts._projects.values())

    asyncio.run(play())
