"""The agreement test fails where it should: on stores that are broken on purpose."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from msgspec.structs import replace

from sukkal.model import ANYONE, Holder, Lease, Message, QueueKey, View
from sukkal.stores.contract import Backend, Messages
from sukkal.stores.memory import MemoryBackend

from .agreement import PROFILE, Agreement, Opener
from .samples import ALL, walk

# The first failure is enough: nothing is shrunk, and nothing is kept for the next run.
SEARCH = settings(
    PROFILE,
    max_examples=1000,
    stateful_step_count=40,
    phases=[Phase.generate],
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    print_blob=False,
)


class Broken:
    """A store that works, but for the verbs a subclass breaks."""

    def __init__(self, intact: Messages) -> None:
        self.intact = intact

    def __getattr__(self, verb: str) -> Any:
        return getattr(self.intact, verb)


class StealsLiveLeases(Broken):
    async def claim(self, queue: QueueKey, lease: Lease, *, limit: int, now: float) -> list[Message]:
        for held in await walk(self.intact, queue, now=now):
            if held.claim not in (None, lease.id):
                await self.intact.release(queue, held.claim, now=now)
                break
        return await self.intact.claim(queue, lease, limit=limit, now=now)


class HandsOutDelayedMessages(Broken):
    async def claim(self, queue: QueueKey, lease: Lease, *, limit: int, now: float) -> list[Message]:
        for delayed in await walk(self.intact, queue, view=View(include_delayed=True), now=now):
            if delayed.visible > now:
                await self.intact.delete(queue, [delayed.id], holder=ANYONE, now=now)
                await self.intact.append(queue, [replace(delayed, visible=now)])
        return await self.intact.claim(queue, lease, limit=limit, now=now)


class KeepsWhatWasDeleted(Broken):
    async def delete(self, queue: QueueKey, ids: Sequence[str], *, holder: Holder, now: float) -> list[str]:
        kept = await self.intact.fetch(queue, ids, now=now)
        deleted = await self.intact.delete(queue, ids, holder=holder, now=now)
        await self.intact.append(queue, [message for message in kept if message.id in deleted])
        return deleted


class LosesThePlaceOfReleasedMessages(Broken):
    async def release(self, queue: QueueKey, claim: str, *, now: float) -> bool:
        holding = await self.intact.held(queue, claim, now=now)
        if holding is None:
            return False
        released = [message.id for message in holding[1]]
        await self.intact.delete(queue, released, holder=ANYONE, now=now)
        await self.intact.append(queue, holding[1])
        return True


class RestartsWhenTheMarkersMessageHasGone(Broken):
    async def page(
        self, queue: QueueKey, *, view: View, after: str | None, limit: int, now: float
    ) -> list[Message]:
        everything = await self.intact.page(queue, view=ALL, after=None, limit=1000, now=now)
        known = after if after in {message.marker for message in everything} else None
        return await self.intact.page(queue, view=view, after=known, limit=limit, now=now)


class HandsOutAQuarterSecondLate(Broken):
    async def claim(self, queue: QueueKey, lease: Lease, *, limit: int, now: float) -> list[Message]:
        return await self.intact.claim(queue, lease, limit=limit, now=now - 0.25)


class ListsTheExpiredAQuarterSecondLonger(Broken):
    async def page(
        self, queue: QueueKey, *, view: View, after: str | None, limit: int, now: float
    ) -> list[Message]:
        return await self.intact.page(queue, view=view, after=after, limit=limit, now=now - 0.25)


class GrantsRenewalsInNameOnly(Broken):
    async def renew(self, queue: QueueKey, lease: Lease, *, now: float) -> bool:
        return await self.intact.held(queue, lease.id, now=now) is not None


class StoresRepeatedMessagesAnew(Broken):
    async def append(self, queue: QueueKey, batch: Sequence[Message], *, noted: str = "") -> str | None:
        for message in batch:
            await self.intact.delete(queue, [message.id], holder=ANYONE, now=message.created)
        return await self.intact.append(queue, batch, noted=noted)


class StoresWhatItRefuses(Broken):
    async def append(self, queue: QueueKey, batch: Sequence[Message], *, noted: str = "") -> str | None:
        note = await self.intact.append(queue, ())
        return await self.intact.append(queue, batch, noted=(note or "")[:1])


class LetsPurgedMessagesLinger(Broken):
    async def purge(self, queue: QueueKey) -> None:
        """Do nothing."""


def opener(kind: type[Broken] | None) -> Opener:
    async def open_it(directory: Path) -> Backend:
        backend = MemoryBackend()
        if kind is not None:
            backend.messages = kind(backend.messages)
        return backend

    return open_it


@pytest.mark.parametrize(
    "kind",
    [
        StealsLiveLeases,
        HandsOutDelayedMessages,
        KeepsWhatWasDeleted,
        LosesThePlaceOfReleasedMessages,
        RestartsWhenTheMarkersMessageHasGone,
        HandsOutAQuarterSecondLate,
        ListsTheExpiredAQuarterSecondLonger,
        GrantsRenewalsInNameOnly,
        StoresRepeatedMessagesAnew,
        LetsPurgedMessagesLinger,
    ],
)
def test_broken_store_is_noticed(kind: type[Broken]) -> None:
    with pytest.raises(AssertionError):
        run_state_machine_as_test(lambda: Agreement(opener(kind), opener(None)), settings=SEARCH)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (StealsLiveLeases, "I2: .* is under two live leases"),
        (HandsOutDelayedMessages, "I6: .* was handed out .* early"),
        (KeepsWhatWasDeleted, "I3: "),
    ],
)
def test_broken_store_is_noticed_even_when_the_model_is_broken_alike(
    kind: type[Broken], complaint: str
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        run_state_machine_as_test(lambda: Agreement(opener(kind), opener(kind)), settings=SEARCH)


def test_wrapper_that_breaks_nothing_passes() -> None:
    run_state_machine_as_test(
        lambda: Agreement(opener(Broken), opener(None)), settings=settings(SEARCH, max_examples=30)
    )
