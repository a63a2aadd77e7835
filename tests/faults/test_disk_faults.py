"""The store meets each kind of disk fault at each point of commits and of moves of the log.

Short: some points. SUKKAL_LONG=1: many more.
"""

import asyncio
import contextlib
import random
import shutil
from pathlib import Path

import pytest

from sukkal.errors import StoreUnavailable
from sukkal.model import QueueKey
from sukkal.stores.contract import Backend
from sukkal.stores.registry import open_backend
from sukkal.stores.sqlite import database

from .disk import FAULTS, Fault, FaultyVFS, Weakness
from .script import ALL, QUEUES, Call, Model, Script, difference, marked, picture, take_turn
from .test_power import check_integrity
from .victim import LONG, seed

pytestmark = pytest.mark.faults

POINTS = 120 if LONG else 12  # of each fault, spread over all there are
TURNS = 25
NAME = "store.db"


@pytest.fixture(autouse=True)
def _small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the log often, in the thread and inline; let transactions spill, and reads reach the file."""
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 60)
    monkeypatch.setattr(database, "INLINE_PAGES", 25)
    monkeypatch.setattr(database, "PAGE_CACHE_KIB", 64)


class Trial:
    """A store at work on a file system that fails."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        directory.mkdir()
        self.directory = directory
        self.weakness = Weakness()
        self.script = Script(chance)
        self.kept: list[Call] = []  # what was acknowledged, in order
        self.failed: list[tuple[int, list[Call]]] = []  # by turn, since the last that was; with their index
        self.refused = 0
        self._vfs = FaultyVFS(self.weakness)
        self._index = 0
        self._backend: Backend | None = None

    @property
    def backend(self) -> Backend:
        assert self._backend is not None
        return self._backend

    async def open(self) -> None:
        self._backend = await open_backend(f"sqlite://{self.directory / NAME}?vfs={self._vfs.name}")

    @property
    def is_open(self) -> bool:
        return self._backend is not None

    @property
    def has_log(self) -> bool:
        return (self.directory / f"{NAME}-wal").exists()

    async def crash(self, directory: Path) -> None:
        """Go on with the files as they are now; the process that had them open is gone."""
        shutil.copytree(self.directory, directory)
        await self.backend.close()
        self.directory, self._backend = directory, None

    async def close(self) -> None:
        self.weakness.mend()
        if self._backend is not None:
            await self._backend.close()
        self._vfs.unregister()

    async def work(self, turns: int) -> None:
        for _ in range(turns):
            calls = self.script.calls(4)
            answers = await take_turn(self.backend, calls, self._index)
            for call, acknowledged in zip(calls, answers, strict=True):
                if acknowledged:
                    self.kept.append(call)
            self.refused += answers.count(False)
            if any(answers):
                self.failed.clear()
            last = len(answers) - [*reversed(answers), True].index(True)  # those after the last that was kept
            self.failed.append((self._index + last, calls[last:]))
            self._index += len(calls)
            await self._look()
            await asyncio.sleep(0)  # let a move of the log end, now and then in the midst of the next turn

    async def _look(self) -> None:
        """Reads too answer, or say that the store cannot be reached."""
        for queue in QUEUES:
            for look in (self._page, self._stats):
                try:
                    await look(queue)
                except StoreUnavailable:
                    self.refused += 1

    async def _page(self, queue: QueueKey) -> None:
        await self.backend.messages.page(queue, view=ALL, after=None, limit=20, now=self.script.now)

    async def _stats(self, queue: QueueKey) -> None:
        await self.backend.messages.stats(queue, now=self.script.now)

    async def check(self) -> None:
        """The store holds what it acknowledged, and nothing of what it refused."""
        shown = await picture(self.backend, self.script)
        expected = await Model(self.script).after(self.kept)
        assert shown == expected, difference(shown, expected)

    async def check_after_a_crash(self) -> None:
        """A refused turn may have got into the log whole, with only its sync failing; none else may show."""
        copy = self.directory / "copy"
        copy.mkdir()
        for suffix in ("", "-wal"):
            if (self.directory / (NAME + suffix)).exists():
                shutil.copy(self.directory / (NAME + suffix), copy)
        backend = await open_backend(f"sqlite://{copy / NAME}")
        mark = await marked(backend)
        shown = await picture(backend, self.script)
        await backend.close()
        check_integrity(copy / NAME)
        shutil.rmtree(copy)
        expected = await Model(self.script).after(self.kept)
        for first, calls in self.failed:
            refused = calls[: max(0, mark - first + 1)]
            for start in range(len(refused)):
                if shown != expected:
                    expected = await Model(self.script).after(self.kept + refused[start:])
        assert shown == expected, difference(shown, expected)


async def trial(directory: Path, number: int, fault: Fault, at: int) -> Trial:
    """Work, meet the fault, be mended, work on; checks all the way. The same number is the same work."""
    attempt = Trial(directory, random.Random(number))
    try:
        await attempt.open()
        await attempt.work(8)
        attempt.weakness.calls.clear()
        attempt.weakness.arm(fault, at)
        await attempt.work(TURNS)
        attempt.weakness.mend()
        await attempt.check_after_a_crash()
        await attempt.check()
        refused = attempt.refused
        await attempt.work(6)
        assert attempt.refused == refused, "it does not recover by itself"
        await attempt.check()
        await attempt.check_after_a_crash()
    finally:
        await attempt.close()
    check_integrity(directory / NAME)
    shutil.rmtree(directory)
    return attempt


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_store_survives_faults_at_any_point(tmp_path: Path, fault: Fault) -> None:
    number = seed()
    quiet = await trial(tmp_path / "quiet", number, fault, 1 << 60)
    total = quiet.weakness.calls[fault.call]
    chance = random.Random(number)
    points = sorted(chance.sample(range(1, total + 1), min(total, POINTS)))
    assert points
    refused = struck = 0
    for at in points:
        try:
            attempt = await trial(tmp_path / str(at), number, fault, at)
        except AssertionError as exc:
            raise AssertionError(f"{fault} at {at} of {total}: {exc}") from exc
        refused += attempt.refused
        struck += bool(attempt.weakness.failed)
    assert struck  # not always: moves of the log end sooner or later, so the calls vary in number
    if fault.call in ("write", "sync"):
        assert refused


# SQLite keeps some failures to itself, such as those of a change of the journal mode.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if not fault.torn], ids=str)
@pytest.mark.parametrize("new", [True, False], ids=["new", "left"])
async def test_store_that_cannot_be_opened_says_so(tmp_path: Path, fault: Fault, new: bool) -> None:
    """At any point of opening, a new store or one left with a log to read, it opens or is unavailable."""
    met = at = 1
    while met and at < 60:
        attempt = Trial(tmp_path / str(at), random.Random(1))
        try:
            if not new:
                await attempt.open()
                await attempt.work(3)
                await attempt.crash(tmp_path / f"{at}-left")
            attempt.weakness.arm(fault, at)
            with contextlib.suppress(StoreUnavailable):
                await attempt.open()
                await attempt.check()
            attempt.weakness.mend()
            met = attempt.weakness.failed
            if not attempt.is_open:
                await attempt.open()
            await attempt.work(2)
            await attempt.check()
            assert attempt.has_log, f"at {at} it fell back to another way of keeping the file whole"
        finally:
            await attempt.close()
        at += 1
    assert at > 2 or not new or fault.call == "truncate"
