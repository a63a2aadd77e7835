"""The audit notices every kind of broken promise, and nothing where there is none."""

from collections.abc import Callable

import pytest

from sukkal.model import QueueKey

from .audit import Counts, Record, Seen, Violated, audit

pytestmark = pytest.mark.faults

QUEUE = QueueKey("acme", "orders")
NOW = 1_800_000_000.0


class Store:
    """What a store shows; tests tamper with it."""

    def __init__(self) -> None:
        self.shown: list[Seen] = []
        self.miscounted = 0

    async def listing(self, queue: QueueKey, after: str | None = None) -> list[Seen]:
        return [each for each in self.shown if after is None or each.id > after]

    async def held(self, queue: QueueKey, claim: str) -> list[int] | None:
        return [each.number for each in self.shown if each.claim == claim] or None

    async def stats(self, queue: QueueKey) -> Counts:
        claimed = sum(each.claim is not None for each in self.shown)
        return Counts(len(self.shown) - claimed + self.miscounted, claimed)

    def change(self, number: int, **changes: object) -> None:
        self.shown = [each._replace(**changes) if each.number == number else each for each in self.shown]  # type: ignore[arg-type]

    def lose(self, *numbers: int) -> None:
        self.shown = [each for each in self.shown if each.number not in numbers]

    def add(self, number: int, claim: str | None = None) -> None:
        self.shown = sorted([*self.shown, Seen(number, 5, f"id-{number:02}", claim)])


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def record(store: Store) -> Record:
    """Ten messages: 1 and 2 posted as one, 3 and 4 claimed, 5 deleted, 6 popped, 7 released; and doubts.

    In doubt are the posts of 11 and 12 (one request), a claim of at most two, and the deletion of 10.
    """
    record = Record()

    def post(count: int) -> None:
        made = record.begin_post(QUEUE, [5] * count)
        record.posted(made, [f"id-{number:02}" for number in made.numbers])
        for number in made.numbers:
            store.add(number)

    post(2)
    for _ in range(8):
        post(1)
    record.mark(QUEUE, "id-02", [1, 2])

    def claim(id: str, *numbers: int, ttl: int = 60) -> None:
        taken = record.begin_claim(QUEUE, limit=5, ttl=ttl, at=NOW)
        messages = [Seen(number, 5, f"id-{number:02}", id) for number in numbers]
        record.claimed(taken, id, messages, at=NOW + 1)
        for number in numbers:
            store.change(number, claim=id)

    claim("held", 3, 4)
    claim("released", 7)
    record.released(record.begin_release(record.leases["released"], at=NOW))
    store.change(7, claim=None)
    record.deleted(record.begin_delete(QUEUE, [5], at=NOW))
    record.popped(record.begin_pop(QUEUE, limit=1, at=NOW), [Seen(6, 5, "id-06")], at=NOW)
    store.lose(5, 6)
    record.begin_post(QUEUE, [5, 5])
    record.begin_claim(QUEUE, limit=2, ttl=60, at=NOW)
    record.begin_delete(QUEUE, [10], at=NOW)
    return record


async def check(record: Record, store: Store, *, at: float = 2, settle: bool = True) -> None:
    await audit(record, store, clock=lambda: NOW + at, settle=settle)


@pytest.mark.parametrize("settle", [True, False])
@pytest.mark.parametrize(
    "happen",
    [
        lambda store: None,
        lambda store: store.lose(10),
        lambda store: (store.add(11), store.add(12)),
        lambda store: (store.change(8, claim="unknown"), store.change(9, claim="unknown")),
    ],
    ids=["nothing", "deletion", "post", "claim"],
)
async def test_doubts_may_have_happened_or_not(
    record: Record, store: Store, happen: Callable[[Store], None], settle: bool
) -> None:
    happen(store)
    await check(record, store, settle=settle)
    await check(record, store, settle=settle)


@pytest.mark.parametrize(
    "tamper, fault",
    [
        (lambda store: store.lose(1), "I1: message 1 is lost"),
        (lambda store: store.lose(3), "I1: message 3 is lost"),
        (lambda store: store.add(11), "I1: message 12 of a batch"),
        (lambda store: store.change(3, claim=None), "I2: message 3"),
        (lambda store: store.change(4, claim="unknown"), "I2: message 4"),
        (lambda store: [store.change(n, claim="unknown") for n in (7, 8, 9)], "I2: 3 messages"),
        (lambda store: [store.change(n, claim=f"unknown-{n}") for n in (8, 9)], "I2: 1 messages"),
        (lambda store: store.add(5), "I3: message 5"),
        (lambda store: store.add(6), "I3: message 6"),
        (lambda store: store.shown.insert(0, store.shown.pop()), "I4: message 1"),
        (lambda store: store.change(7, claim="released"), "I5: message 7"),
        (lambda store: store.change(1, id="id-00"), "shows as id-00"),
        (lambda store: store.change(1, size=6), "had 5 bytes"),
        (lambda store: store.shown.append(store.shown[-1]), "shows twice"),
        (lambda store: store.add(99), "never posted"),
        (lambda store: setattr(store, "miscounted", 1), "I8"),
        (lambda store: store.change(8, id="id-01"), "I9"),
    ],
)
async def test_broken_promise_is_noticed(
    record: Record, store: Store, tamper: Callable[[Store], None], fault: str
) -> None:
    tamper(store)
    with pytest.raises(Violated, match=fault):
        await check(record, store)


@pytest.mark.parametrize(
    "go_back, forgiven",
    [
        (lambda store: store.lose(8, 9), {"I1": 2}),
        (lambda store: store.lose(1, 2), {"I1": 2}),
        (lambda store: (store.change(3, claim=None), store.change(4, claim=None)), {"I2": 2}),
        (lambda store: (store.add(5), store.add(6)), {"I3": 2}),
        (lambda store: store.change(7, claim="released"), {"I5": 2}),
    ],
)
async def test_last_writes_may_be_lost_where_that_is_forgiven(
    record: Record, store: Store, go_back: Callable[[Store], None], forgiven: dict[str, int]
) -> None:
    record.forgives = True
    record.markers.clear()
    go_back(store)
    await check(record, store)
    assert record.forgiven == forgiven
    assert len(record.lost) == forgiven.get("I1", 0)
    await check(record, store)  # what is there now, stays
    record.forgives = False
    store.lose(7)
    with pytest.raises(Violated, match="I1: message 7"):
        await check(record, store)


@pytest.mark.parametrize(
    "tamper, fault",
    [
        (lambda store: store.lose(1), "I1: message 1 is lost"),  # and 2, of the same batch, is not
        (lambda store: store.add(11), "I1: message 12 of a batch"),
        (lambda store: [store.change(n, claim="unknown") for n in (7, 8, 9)], "I2: 3 messages"),
        (lambda store: store.shown.insert(0, store.shown.pop()), "I4: message 1"),
        (lambda store: store.change(1, size=6), "had 5 bytes"),
        (lambda store: store.shown.append(store.shown[-1]), "shows twice"),
        (lambda store: store.add(99), "never posted"),
        (lambda store: setattr(store, "miscounted", 1), "I8"),
    ],
)
async def test_what_does_not_come_of_lost_writes_is_not_forgiven(
    record: Record, store: Store, tamper: Callable[[Store], None], fault: str
) -> None:
    record.forgives = True
    tamper(store)
    with pytest.raises(Violated, match=fault):
        await check(record, store)


async def test_lapsed_claim_that_still_holds_is_noticed(record: Record, store: Store) -> None:
    with pytest.raises(Violated, match="I5: message 3"):
        await check(record, store, at=70)
    store.change(3, claim=None)
    store.change(4, claim=None)
    await check(record, store, at=70)


async def test_what_was_settled_stays(record: Record, store: Store) -> None:
    await check(record, store)  # the post in doubt did not happen, the deletion neither
    store.add(11)
    store.add(12)
    with pytest.raises(Violated, match="message 11 was not accepted"):
        await check(record, store)
    store.lose(10, 11, 12)
    with pytest.raises(Violated, match="I1: message 10"):
        await check(record, store)


async def test_message_handed_out_twice_is_noticed(record: Record) -> None:
    claim = record.begin_claim(QUEUE, limit=1, ttl=60, at=NOW + 3)
    with pytest.raises(Violated, match="I2: message 3"):
        record.claimed(claim, "second", [Seen(3, 5, "id-03", "second")], at=NOW + 4)
    pop = record.begin_pop(QUEUE, limit=1, at=NOW + 3)
    with pytest.raises(Violated, match="I3: message 5"):
        record.popped(pop, [Seen(5, 5, "id-05")], at=NOW + 4)


async def test_ids_that_do_not_grow_over_a_restart_are_noticed(record: Record, store: Store) -> None:
    await check(record, store)
    post = record.begin_post(QUEUE, [5])
    with pytest.raises(Violated, match="not greater"):
        record.posted(post, ["id-01"])
