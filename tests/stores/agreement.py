"""Random calls on a store and on a model of it, compared answer by answer.

Beside the comparison the machine keeps small books of its own, from the answers of the store under test
alone, and checks with them what must hold even if the model were wrong too:

    I2  no message is under two live leases
    I3  a deleted message never returns
    I6  nothing is handed out before it is visible
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from sukkal.model import ANYONE, UNCLAIMED, Holder, Lease, Message, QueueKey, View
from sukkal.stores.contract import Backend, Messages, Trait

from .samples import ALL, NOW, ids, walk

LONG = os.environ.get("SUKKAL_LONG") == "1"
PROFILE = settings(
    max_examples=1200 if LONG else 100,
    stateful_step_count=100 if LONG else 40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

Answer = TypeVar("Answer")
Opener = Callable[[Path], Coroutine[Any, Any, Backend]]

QUEUES = [QueueKey("acme", "orders"), QueueKey("acme", "invoices"), QueueKey("umbrella", "orders")]
CLIENTS = ["", "ann", "bob"]

queues = st.sampled_from([QUEUES[0], *QUEUES])
limits = st.integers(1, 6)
views = st.builds(
    View,
    include_claimed=st.booleans(),
    include_delayed=st.booleans(),
    without_client=st.sampled_from([None, *CLIENTS]),
)
spans = st.sampled_from([13, 2, 5, 8, 30])  # seconds, short enough for much to end in one run
posts = st.tuples(spans, st.sampled_from([0, 0, 0, 1, 5]), st.sampled_from(CLIENTS), st.integers(0, 2))
pick = st.integers(0, 30)  # which of the ids or claims known so far, latest first
picks = st.lists(pick, min_size=1, max_size=6)


class Agreement(RuleBasedStateMachine):
    """Drives two stores with the same calls."""

    def __init__(self, open_subject: Opener, open_model: Opener) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory(prefix="sukkal-agreement-")
        self.open_subject = open_subject
        self.subject_backend = self.finish(open_subject(Path(self.directory.name)))
        self.model_backend = self.finish(open_model(Path(self.directory.name)))
        self.subject: Messages = self.subject_backend.messages
        self.model: Messages = self.model_backend.messages
        self.now = NOW
        self.minted = 0
        # What is known, so that calls can be aimed at it; of markers the subject's and the model's.
        self.ids: dict[QueueKey, list[str]] = {queue: [] for queue in QUEUES}
        self.claims: list[tuple[QueueKey, str]] = [(QUEUES[0], "never-taken")]
        self.markers: dict[QueueKey, list[tuple[str, str]]] = {queue: [] for queue in QUEUES}
        # The books on the subject's answers.
        self.posted: dict[tuple[QueueKey, str], Message] = {}
        self.gone: set[tuple[QueueKey, str]] = set()
        self.holder: dict[tuple[QueueKey, str], str] = {}
        self.due: dict[tuple[QueueKey, str], float] = {}
        self.notes: dict[QueueKey, str] = {}

    def teardown(self) -> None:
        self.finish(self.subject_backend.close())
        self.finish(self.model_backend.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.directory.cleanup()

    def finish(self, call: Coroutine[Any, Any, Answer]) -> Answer:
        return self.loop.run_until_complete(call)

    def both(self, call: Callable[[Messages], Coroutine[Any, Any, Answer]]) -> tuple[Answer, Answer]:
        """The answers of the subject and of the model."""
        return self.finish(call(self.subject)), self.finish(call(self.model))

    # Aiming

    def new_message(self, queue: QueueKey, post: tuple[int, int, str, int]) -> Message:
        ttl, delay, client, claim_count = post
        self.minted += 1
        made = Message(
            id=f"{self.minted * 7919 % 1009}-{self.minted}",  # sorts unlike the queue
            body=b"%d" % self.minted,
            ttl=ttl,
            created=self.now,
            visible=self.now + delay,
            expires=self.now + ttl,
            client=client,
            claim_count=claim_count,
        )
        self.ids[queue].append(made.id)
        self.posted[queue, made.id] = made
        return made

    def known_ids(self, queue: QueueKey, chosen: Sequence[int]) -> list[str]:
        known = ["never-posted", *self.ids[queue]]
        return [known[-1 - number % len(known)] for number in chosen]

    def known_claim(self, chosen: int) -> tuple[QueueKey, str]:
        return self.claims[-1 - chosen % len(self.claims)]

    def live_claim(self, chosen: int) -> tuple[QueueKey, Lease, list[Message]] | None:
        """A known claim, if the model says that it is live, and what it holds."""
        queue, claim = self.known_claim(chosen)
        answer = self.finish(self.model.held(queue, claim, now=self.now))
        return None if answer is None else (queue, *answer)

    def due_times(self) -> list[float]:
        """When something ends or begins by itself, soonest first."""
        times = set(self.due.values())
        for queue in QUEUES:
            for shown in self.finish(walk(self.model, queue, now=self.now, limit=100)):
                times |= {shown.visible, shown.expires}
        return sorted(time for time in times if time > self.now)

    def bare(self, shown: Sequence[Message]) -> list[Message]:
        """What two stores must agree on: all but the markers, and how long ago a message became visible.

        The latter because `end_delays` knows no time: it may or may not reach delays that are over.
        """
        return [replace(each, marker="", visible=max(each.visible, self.now)) for each in shown]

    # Books

    def check_shown(self, queue: QueueKey, shown: Sequence[Message]) -> None:
        for each in shown:
            assert (queue, each.id) not in self.gone, f"I3: {each.id} was deleted and came back"

    def check_handed_out(self, queue: QueueKey, handed_out: Sequence[Message]) -> None:
        self.check_shown(queue, handed_out)
        for each in handed_out:
            visible = self.posted[queue, each.id].visible
            assert visible <= self.now, f"I6: {each.id} was handed out {visible - self.now} s early"
            holder = self.holder.get((queue, each.id))
            if holder is not None:
                assert self.due[queue, holder] <= self.now, f"I2: {each.id} is under two live leases"

    # Rules

    @initialize(
        filled=st.tuples(*[st.lists(posts, min_size=1, max_size=6) for _ in QUEUES]), thorough=st.booleans()
    )
    def fill(self, filled: tuple[list[tuple[int, int, str, int]], ...], thorough: bool) -> None:
        for queue, batch in zip(QUEUES, filled, strict=True):
            self.append(queue, batch, twice=False)
        self.thorough = thorough

    @invariant()
    def look_after_each_step(self) -> None:
        """In every second run; in the others whatever looking might set right stays as it is."""
        if self.thorough:
            self.look_at_everything()

    @rule(queue=queues, batch=st.lists(posts, min_size=1, max_size=5), twice=st.booleans())
    def append(self, queue: QueueKey, batch: list[tuple[int, int, str, int]], twice: bool) -> None:
        posted = [self.new_message(queue, post) for post in batch]
        if twice:
            posted.append(replace(posted[0], body=b"repeated"))
        self.append_to_both(queue, posted)

    def append_to_both(self, queue: QueueKey, posted: list[Message]) -> None:
        note = self.notes.get(queue)
        answer, expected = self.both(lambda store: store.append(queue, posted, noted=(note or "")[:1]))
        assert answer == expected == note

    @rule(queue=queues, noted=st.sampled_from(["", "s", "t"]))
    def append_without_seeing_to_the_note(self, queue: QueueKey, noted: str) -> None:
        note = self.notes.get(queue)
        if note is not None and note[0] != noted:
            refused = Message(
                id="refused", body=b"1", ttl=60, created=self.now, visible=self.now, expires=self.now + 60
            )
            answer, expected = self.both(lambda store: store.append(queue, [refused], noted=noted))
            assert answer == expected == note
            assert not self.finish(self.subject.fetch(queue, ["refused"], now=self.now))

    @rule(queue=queues, chosen=picks, post=posts)
    def append_again(self, queue: QueueKey, chosen: list[int], post: tuple[int, int, str, int]) -> None:
        """Repeat live messages, as a producer does that saw no answer; others are never posted again."""
        asked = self.known_ids(queue, chosen)
        live = ids(self.finish(self.model.fetch(queue, asked, now=self.now)))
        repeated = [replace(self.posted[queue, id], body=b"repeated") for id in live]
        repeated.insert(len(repeated) // 2, self.new_message(queue, post))
        self.append_to_both(queue, repeated)

    def turn_page(
        self, queue: QueueKey, view: View, after: tuple[str | None, str | None], limit: int
    ) -> tuple[str | None, str | None]:
        """Compare one page; the markers to go on with."""
        answer, expected = (
            self.finish(store.page(queue, view=view, after=marker, limit=limit, now=self.now))
            for store, marker in zip((self.subject, self.model), after, strict=True)
        )
        self.check_shown(queue, answer)
        assert self.bare(answer) == self.bare(expected)
        for one, other in zip(answer, expected, strict=True):
            if (one.marker, other.marker) not in self.markers[queue]:
                self.markers[queue].append((one.marker, other.marker))
        return (answer[-1].marker, expected[-1].marker) if answer else (None, None)

    @rule(queue=queues, view=views, limit=limits)
    def read_from_the_beginning(self, queue: QueueKey, view: View, limit: int) -> None:
        after = self.turn_page(queue, view, (None, None), limit)
        while after != (None, None):
            after = self.turn_page(queue, view, after, limit)

    @rule(queue=queues, view=views, limit=limits, chosen=picks)
    def read_behind_markers(self, queue: QueueKey, view: View, limit: int, chosen: list[int]) -> None:
        """Go on behind messages listed at any time before, whatever has become of them."""
        known = [*self.markers[queue]]
        for number in chosen if known else []:
            self.turn_page(queue, view, known[-1 - number % len(known)], limit)

    @rule(queue=queues, chosen=picks)
    def fetch(self, queue: QueueKey, chosen: list[int]) -> None:
        asked = self.known_ids(queue, chosen)
        answer, expected = self.both(lambda store: store.fetch(queue, asked, now=self.now))
        self.check_shown(queue, answer)
        assert self.bare(answer) == self.bare(expected)

    def take(self, queue: QueueKey, lease: Lease, limit: int) -> None:
        answer, expected = self.both(lambda store: store.claim(queue, lease, limit=limit, now=self.now))
        self.check_handed_out(queue, answer)
        for each in answer:
            self.holder[queue, each.id] = lease.id
            self.due[queue, lease.id] = lease.due
        assert self.bare(answer) == self.bare(expected)

    @rule(queue=queues, ttl=spans, grace=spans, limit=limits)
    def claim(self, queue: QueueKey, ttl: int, grace: int, limit: int) -> None:
        self.minted += 1
        lease = Lease(id=f"claim-{self.minted}", ttl=ttl, grace=grace, since=self.now)
        self.take(queue, lease, limit)
        if (queue, lease.id) in self.due:
            self.claims.append((queue, lease.id))

    @rule(chosen=pick, limit=limits)
    def claim_more(self, chosen: int, limit: int) -> None:
        """Add to a live lease."""
        if live := self.live_claim(chosen):
            queue, lease, _ = live
            self.take(queue, lease, limit)

    @rule(chosen=picks)
    def held(self, chosen: Sequence[int]) -> None:
        for number in chosen:
            self.compare_held(*self.known_claim(number))

    def compare_held(self, queue: QueueKey, claim: str) -> None:
        answer, expected = self.both(lambda store: store.held(queue, claim, now=self.now))
        if answer is None or expected is None:
            assert answer == expected
        else:
            self.check_shown(queue, answer[1])
            assert answer[0] == expected[0]
            assert self.bare(answer[1]) == self.bare(expected[1])

    @rule(chosen=pick, ttl=spans, grace=spans)
    def renew(self, chosen: int, ttl: int, grace: int) -> None:
        queue, claim = self.known_claim(chosen)
        lease = Lease(id=claim, ttl=ttl, grace=grace, since=self.now)
        answer, expected = self.both(lambda store: store.renew(queue, lease, now=self.now))
        if answer:
            self.due[queue, claim] = lease.due
        assert answer == expected

    @rule(chosen=pick)
    def release(self, chosen: int) -> None:
        queue, claim = self.known_claim(chosen)
        answer, expected = self.both(lambda store: store.release(queue, claim, now=self.now))
        if answer:
            self.due[queue, claim] = self.now
        assert answer == expected

    def remove(self, queue: QueueKey, asked: list[str], holder: Holder) -> None:
        answer, expected = self.both(lambda store: store.delete(queue, asked, holder=holder, now=self.now))
        assert not {(queue, id) for id in answer} & self.gone, "I3: a message was deleted twice"
        self.gone |= {(queue, id) for id in answer}
        assert sorted(answer) == sorted(expected)

    @rule(queue=queues, chosen=picks, by=st.lists(pick, max_size=3), unclaimed=st.booleans())
    def delete(self, queue: QueueKey, chosen: list[int], by: list[int], unclaimed: bool) -> None:
        claims = frozenset(self.known_claim(number)[1] for number in by)
        self.remove(queue, self.known_ids(queue, chosen), Holder(claims=claims, unclaimed=unclaimed))

    @rule(queue=queues, chosen=picks, holder=st.sampled_from([ANYONE, UNCLAIMED, Holder()]))
    def delete_without_claim(self, queue: QueueKey, chosen: list[int], holder: Holder) -> None:
        self.remove(queue, self.known_ids(queue, chosen), holder)

    @rule(chosen=pick, keep=st.integers(0, 2))
    def delete_held(self, chosen: int, keep: int) -> None:
        """Acknowledge what a claim holds, often all of it."""
        if live := self.live_claim(chosen):
            queue, lease, holding = live
            self.remove(queue, ids(holding)[keep:], Holder(claims=frozenset({lease.id})))

    @rule(queue=queues, limit=limits)
    def pop(self, queue: QueueKey, limit: int) -> None:
        answer, expected = self.both(lambda store: store.pop(queue, limit=limit, now=self.now))
        self.check_handed_out(queue, answer)
        self.gone |= {(queue, each.id) for each in answer}
        assert self.bare(answer) == self.bare(expected)

    @rule(queue=queues, chance=st.integers(0, 3))
    def purge(self, queue: QueueKey, chance: int) -> None:
        if chance:
            return  # a run that purges all the time finds little else
        self.both(lambda store: store.purge(queue))
        self.gone |= {(queue, id) for id in self.ids[queue]}

    @rule(queue=queues, note=st.sampled_from(["s1", "s2", "t3"]))
    def mark(self, queue: QueueKey, note: str) -> None:
        self.both(lambda store: store.mark(queue, note))
        self.notes[queue] = max(note[0], self.notes.get(queue, note)[0]) + note[1:]

    @rule(queue=queues, note=st.sampled_from(["s1", "s2", "t3"]))
    def unmark(self, queue: QueueKey, note: str) -> None:
        answer, expected = self.both(lambda store: store.unmark(queue, note))
        assert answer == expected == (self.notes.get(queue) == note)
        if answer:
            del self.notes[queue]

    @rule(queue=queues)
    def end_delays(self, queue: QueueKey) -> None:
        self.both(lambda store: store.end_delays(queue))
        for id in self.ids[queue]:
            posted = self.posted[queue, id]
            self.posted[queue, id] = replace(posted, visible=posted.created)

    @rule()
    def look_at_everything(self) -> None:
        for queue in QUEUES:
            self.compare_stats(queue)
            self.compare_next_due(queue)
            for after in [(None, None), *self.markers[queue][-4:]]:
                self.turn_page(queue, ALL, after, 100)
        self.held(range(min(4, len(self.claims))))

    def compare_stats(self, queue: QueueKey) -> None:
        answer, expected = self.both(lambda store: store.stats(queue, now=self.now))
        assert answer == expected

    def compare_next_due(self, queue: QueueKey) -> None:
        """A store may name an earlier time, but only one of a message that ends before it is visible."""
        answer, expected = self.both(lambda store: store.next_due(queue, now=self.now))
        if answer != expected:
            assert answer is not None
            assert self.now < answer
            assert expected is None or answer < expected
            live = self.finish(walk(self.model, queue, now=self.now, limit=100))
            dues = [(self.due[queue, each.claim] if each.claim else each.visible, each) for each in live]
            dues += [(each.visible, each) for each in (self.posted[queue, id] for id in self.ids[queue])]
            assert any(due == answer >= each.expires for due, each in dues)

    @rule()
    def volume_once_swept(self) -> None:
        for store in (self.subject, self.model):
            while self.finish(store.sweep(now=self.now)):
                pass
        answer, expected = self.both(lambda store: store.volume(now=self.now))
        assert answer == expected

    @rule(subject=st.booleans())
    def sweep(self, subject: bool) -> None:
        self.finish((self.subject if subject else self.model).sweep(now=self.now))

    @precondition(lambda self: Trait.DURABLE in self.subject_backend.traits)
    @rule(chance=st.integers(0, 3))
    def restart(self, chance: int) -> None:
        if chance:
            return  # it takes long
        self.finish(self.subject_backend.close())
        self.subject_backend = self.finish(self.open_subject(Path(self.directory.name)))
        self.subject = self.subject_backend.messages

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 7.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(chosen=st.integers(0, 3), short_of_it=st.booleans())
    def reach_a_due_time(self, chosen: int, short_of_it: bool) -> None:
        times = self.due_times()
        if times:
            due = times[chosen % len(times)]
            self.now = max(self.now, due - 0.25) if short_of_it else due
