"""The arithmetic of the load tool: histograms, objectives, the test for noise, the pacer, bodies."""

import asyncio
import json
import random
import time

import pytest

from sukkal.bench.bodies import LARGEST_POST, Posts, of_sizes
from sukkal.bench.calls import BadTarget, Target
from sukkal.bench.compare import FEWEST, chance
from sukkal.bench.histogram import Histogram
from sukkal.bench.pacer import Pacer
from sukkal.bench.slo import BadObjective, Slo


def histogram_of(*ms: float) -> Histogram:
    histogram = Histogram()
    for each in ms:
        histogram.record(each / 1e3)
    return histogram


@pytest.mark.parametrize("scale", [0.001, 0.07, 1, 33, 9_000])
def test_percentiles_are_off_by_less_than_two_thousandths(scale: float) -> None:
    values = [scale * (1 + number / 1000) for number in range(1, 1001)]
    histogram = histogram_of(*values)
    for percent in (0.1, 50, 99, 99.9, 100):
        exact = values[round(percent * 10) - 1]
        assert histogram.percentile(percent) == pytest.approx(exact, rel=0.002)
    assert histogram.mean == pytest.approx(sum(values) / len(values), rel=0.002)
    assert histogram.most == pytest.approx(values[-1], rel=0.002)


def test_histograms_add_up_also_from_what_was_written() -> None:
    one, other = histogram_of(1, 2, 3), histogram_of(2, 4)
    one.add(Histogram(json.loads(json.dumps(other.buckets()))))
    assert len(one) == 5
    assert one.buckets() == histogram_of(1, 2, 2, 3, 4).buckets()


def test_histogram_without_samples_is_zero() -> None:
    assert Histogram().percentile(99) == Histogram().mean == Histogram().most == 0.0


@pytest.mark.parametrize(
    "text, operation, metric, relation, bound, unit",
    [
        ("p99<10ms", None, "p99", "<", 10, "ms"),
        (" p99.9 <= 1.5 s", None, "p99.9", "<=", 1.5, "s"),
        ("errors=0", None, "errors", "=", 0, ""),
        ("errors<0.1%", None, "errors", "<", 0.1, "%"),
        ("messages.post:rate>=100", "messages.post", "rate", ">=", 100, ""),
        ("whole turn: max<2s", "whole turn", "max", "<", 2, "s"),
    ],
)
def test_objectives_are_read(
    text: str, operation: str, metric: str, relation: str, bound: float, unit: str
) -> None:
    assert Slo.parse(text) == Slo(text, operation, metric, relation, bound, unit)


@pytest.mark.parametrize(
    "text", ["", "p99", "p99<10", "p101<1s", "errors<1ms", "rate>1%", "x:errors=0", "p99<1ms!"]
)
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(BadObjective):
        Slo.parse(text)


# --- noise ---


def series(seed: int, length: int, *, middle: float, likeness: float = 0.0) -> list[float]:
    """Samples around a middle, of which each resembles the one before."""
    source, value, found = random.Random(seed), 0.0, []
    for _ in range(length):
        value = likeness * value + source.gauss(0, 1)
        found.append(middle + value)
    return found


@pytest.mark.parametrize("likeness", [0.0, 0.5])
def test_runs_that_are_alike_are_rarely_told_apart(likeness: float) -> None:
    falsely = sum(
        chance(
            series(seed, 20, middle=50, likeness=likeness),
            series(seed + 9999, 20, middle=50, likeness=likeness),
        )
        < 0.05
        for seed in range(400)
    )
    assert falsely < 0.1 * 400, (
        "one in twenty is what the test promises; resemblance is estimated, so twice that"
    )


def test_runs_that_differ_are_told_apart() -> None:
    found = [chance(series(seed, 20, middle=50), series(seed + 9999, 20, middle=52)) for seed in range(100)]
    assert sum(each < 0.01 for each in found) > 95


def test_large_change_is_seen_beside_small_drift() -> None:
    rising = [30 + number / 100 for number in range(10)]
    assert chance(rising, [2 * value for value in rising]) < 0.001


def test_one_stalled_interval_does_not_decide() -> None:
    calm = series(1, 20, middle=50)
    assert chance(calm, [*series(2, 19, middle=50), 5000.0]) > 0.05


def test_too_few_or_equal_samples_tell_nothing() -> None:
    assert chance([1.0] * (FEWEST - 1), [2.0] * 50) == 1.0
    assert chance([3.0] * 20, [3.0] * 20) == 1.0


# --- pace and bodies ---


async def test_pacer_calls_when_due_and_not_after_it_was_stopped() -> None:
    calls: list[float] = []
    enough = asyncio.Event()

    def tick() -> None:
        calls.append(time.perf_counter())
        if len(calls) == 20:
            pacer.stop()
            enough.set()

    start = time.perf_counter() + 0.02
    pacer = Pacer(start, 0.002, tick)
    async with asyncio.timeout(30):
        await enough.wait()

    assert calls[0] >= start
    assert calls[-1] >= start + 19 * 0.002 * 0.5
    assert len(calls) == 20


@pytest.mark.parametrize("size", [2, 11, 12, 120, 5000])
def test_bodies_have_the_size_asked_for(size: int) -> None:
    (body,) = of_sizes([size])
    assert len(body) == size
    json.loads(body)


def test_posts_take_bodies_in_turn() -> None:
    posts = Posts(["1", "2", "3"], batch=2, ttl=60)
    found = [[entry["body"] for entry in json.loads(posts.next())["messages"]] for _ in range(3)]
    assert found == [[1, 2], [3, 1], [2, 3]]


def test_filling_posts_so_many_in_requests_that_servers_take() -> None:
    posts = Posts(of_sizes([5000, 80]), batch=1, ttl=60)
    bodies = list(posts.filling(300))
    assert sum(count for _, count in bodies) == 300
    assert all(len(json.loads(body)["messages"]) == count for body, count in bodies)
    assert all(len(body) < LARGEST_POST + 100 for body, _ in bodies)


def test_address_may_have_the_version_or_a_prefix() -> None:
    assert Target.parse("http://h:1/v2") == Target.parse("http://h:1/") == Target.parse("http://h:1")
    assert Target.parse("https://h/messaging/v2").prefix == "/messaging"
    assert Target.parse("https://[::1]/").authority == "[::1]:443"
    for wrong in ("h:80", "ftp://h", "http://", "http://h:x"):
        with pytest.raises(BadTarget):
            Target.parse(wrong)
