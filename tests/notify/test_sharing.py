"""Projects and the memory and time they share: none is held up by what another does."""

import asyncio
from typing import Any

import pytest
from core.world import Stage
from until import until

from sukkal.core.subscribing.deliveries import JOBS, Job, Parked
from sukkal.model import QueueKey
from sukkal.notify import dispatcher, ledger, lines
from sukkal.notify.ledger import Hold, Ledger, Work

from .carrier import ONCE_MORE, Post, dispatching

A, B = "http://a.example", "http://b.example"


async def subscribe(post: Post, project: str, queue: str, subscriber: str, **options: Any) -> None:
    await post.call(
        "subscriptions.create", project=project, queue=queue, subscriber=subscriber, options=options
    )


async def test_others_go_on_while_a_message_is_held_against_many_filters() -> None:
    post = Post()
    for number in range(300):
        await post.subscribe("q", f"http://{number}.example", filter={"kind": [{"prefix": f"no-{number}"}]})
    await post.subscribe("q", A)
    for _ in range(5):
        await post.post("q", *({"kind": "yes"} for _ in range(100)))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with dispatching(post):
        await until(lambda: len(post.dispatchers[0]._handed_out))
        counting = asyncio.create_task(count_turns())
        await until(lambda: not len(post.dispatchers[0]._handed_out))
        counting.cancel()
        await until(lambda: len(post.carrier.parcels) >= 100)
    assert turns > 20, "150,000 looks take far longer than this many stretches"


async def test_project_with_many_jobs_under_way_has_others_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its subscriptions cannot be read for a while; those of another project can."""
    monkeypatch.setattr(dispatcher, "MOST_HANDED_OUT", 4)
    stage = Stage()
    post = Post(stage)
    gates = []
    for number in range(5):
        await subscribe(post, "acme", f"q{number}", A)
        await post.post(f"q{number}", number)
    await subscribe(post, "other", "q", B)
    await post.post("q", "mine", project="other")
    gates = [stage.documents.hold_before("scan") for _ in range(2)]
    async with dispatching(post):
        await until(lambda: post.carrier.to(B) == ["mine"])
        assert post.carrier.to(A) == []
        assert len(post.dispatchers[0]._handed_out) == 2
        for gate in gates:
            gate.open()
        await until(lambda: len(post.carrier.to(A)) == 2)
        await post.settled()
        for _ in range(5):
            await post.pass_time(2)
            await post.settled()
        assert sorted(post.carrier.to(A)) == list(range(5))
        assert await post.pending() == (0, 0)


async def test_job_keeps_its_id_however_often_it_is_put_off() -> None:
    post = Post()
    job = Job("acme", "q", "n1", [])
    deliveries = post.service.deliveries
    await deliveries.put_jobs_off([("job", job, post.now)], now=post.now)
    await deliveries.put_jobs_off([("job.1", Job("acme", "q", "n1", [], put_off=1), post.now)], now=post.now)
    stored = await post.backend.messages.fetch(JOBS, ["job.1", "job.2"], now=post.now)
    assert [message.id for message in stored] == ["job.1", "job.2"]


@pytest.mark.parametrize("compress_above", [0, 100])
async def test_parcel_is_no_larger_than_it_may_be(
    compress_above: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "PARCEL_BYTES", 2000)
    post = Post(compress_above=compress_above)
    await post.subscribe("q", A, batch=30)
    await post.post("q", *("x" * 500 for _ in range(20)), "y" * 5000, "z")
    async with dispatching(post):
        await until(lambda: len(post.carrier.to(A)) == 22)
    assert [len(parcel.notices) for parcel in post.carrier.parcels] == [3] * 6 + [2, 1, 1]


async def test_series_of_a_project_without_room_is_looked_at_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "MOST_BYTES", 3000)
    post = Post()
    await post.subscribe("q", A, batch=10, _retry_policy=ONCE_MORE)
    await post.subscribe("q", B, batch=10)
    answers = post.carrier.pausing[A] = asyncio.Event()
    post.carrier.pausing[B] = answers
    await post.post("q", *("x" * 500 for _ in range(5)))
    async with dispatching(post):
        await until(lambda: post.carrier.parcels)
        await post.pass_time(1)
        assert len(post.carrier.parcels) == 1
        answers.set()
        await until(lambda: len(post.carrier.parcels[0].notices) == 5)
        for _ in range(10):
            await post.pass_time(2)
        await until(lambda: len(post.carrier.to(A)) == len(post.carrier.to(B)) == 5)
        await post.settled()
        assert await post.pending() == (0, 0)
    assert {parcel.attempt for parcel in post.carrier.parcels} == {0}


async def test_fewer_parked_deliveries_are_taken_at_once_when_they_are_large() -> None:
    made = Post().dispatcher()
    sizes = []
    for size in [dispatcher.PARKED_BYTES + 1] * 10 + [0] * 10:
        made._adapt(size)
        sizes.append(made._parked_at_once)
    assert sizes[:3] == [128, 64, 32]
    assert min(sizes) == 1
    assert sizes[-1] == dispatcher.PARKED_AT_ONCE


async def test_large_deliveries_are_parked_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "BYTES_AT_ONCE", 1000)
    stage = Stage()
    post = Post(stage)
    written = Ledger(post.service.deliveries, post.clock, lambda: None)
    work = Work(Hold(QueueKey("", "retries"), lease=None), "w")  # type: ignore[arg-type]
    for number, size in enumerate([600, 300, 200, 5000, 10]):
        row = Parked(
            id=f"{number}", project="p", queue="q", subscription="s", since=post.now, text=b"x" * size
        )
        work.left += 1
        written.park(work, row, post.now)
    await written._write_all()
    assert stage.messages.calls.count("append") == 4
    assert written.unwritten == written.unwritten_bytes == 0
