"""The power goes at random moments: what was not synced is gone, or there in part.

Short: some cuts. SUKKAL_LONG=1: many thousand.

The same seed makes the same calls; the power does not go at the same places, since the log is moved in a
thread. So when something is lost, what the cut left is put aside, with the calls made until then.
"""

import asyncio
import itertools
import random
import shutil
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from sukkal.errors import StoreUnavailable
from sukkal.model import Message
from sukkal.stores.contract import Backend, Trait
from sukkal.stores.registry import open_backend
from sukkal.stores.sqlite import database

from .power import Disk, Image, RecordingVFS
from .script import QUEUES, Call, Model, Picture, Script, difference, marked, markers, picture, take_turn
from .victim import LONG, seed

pytestmark = pytest.mark.faults

CUTS = 20_000 if LONG else 150  # of a durable store; half as many of a relaxed one
TURNS = 40  # of the loop, in one life, with some two thousand changes of files
RATE = 0.006  # chance of a cut at each change
RATE_WHILE_NEW = 0.1
NAME = "store.db"


@pytest.fixture(autouse=True)
def _small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the log often, in the thread and inline, and let transactions spill from the cache."""
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 60)
    monkeypatch.setattr(database, "INLINE_PAGES", 25)
    monkeypatch.setattr(database, "PAGE_CACHE_KIB", 64)


class Cut(NamedTuple):
    image: Image
    acknowledged: int  # the index of the last call that was, when the power went


class Life(NamedTuple):
    """What happened between a start and the end of the last cut."""

    script: Script
    calls: list[Call]  # since the store was new
    cuts: list[Cut]
    places: dict[str, int]
    shortened: set[str]  # files whose size was cut


class Lost(AssertionError):
    """What was acknowledged, or more, is gone."""

    def __init__(self, what: str, cut: Cut) -> None:
        super().__init__(what)
        self.cut = cut


async def live(
    directory: Path, chance: random.Random, *, durable: bool, before: Life | None = None, lying: bool = False
) -> Life:
    """Work on a store and cut the power now and then: a new one, or what some cut of `before` left."""
    image: Image = {}
    script, calls = Script(random.Random(chance.random())), list[Call]()  # what is called, cuts do not touch
    if before is not None:
        image = chance.choice(before.cuts).image
        kept = await survived(directory / "image", image, durable=durable)
        script, calls = before.script, before.calls[:kept]
    lay_out(directory, image)
    disk = Disk(image, lying=lying)
    vfs = RecordingVFS(disk)
    cuts: list[Cut] = []
    acknowledged = len(calls) - 1

    def maybe_cut() -> None:
        if chance.random() < (RATE if acknowledged >= 0 else RATE_WHILE_NEW):
            cuts.append(Cut(disk.after_a_cut(chance), acknowledged))

    disk.on_change = maybe_cut
    try:
        backend = await open_backend(f"sqlite://{directory / NAME}?vfs={vfs.name}", durable=durable)
        assert (Trait.DURABLE in backend.traits) == durable
        for _ in range(TURNS):
            turn = script.calls(4)
            calls += turn
            assert all(await take_turn(backend, turn, len(calls) - len(turn)))
            acknowledged = len(calls) - 1
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        places = await markers(backend, script)
        disk.on_change = lambda: None
        cuts.append(Cut(disk.after_a_cut(chance), acknowledged))
        disk.on_change = maybe_cut
        await backend.close()
        cuts.append(Cut(disk.after_a_cut(chance), acknowledged))
    finally:
        disk.on_change = lambda: None
        vfs.unregister()
    return Life(script, calls, cuts, places, disk.shortened)


async def survived(directory: Path, image: Image, *, durable: bool) -> int:
    """How many calls an image has kept."""
    backend = await reopened(directory, image, durable=durable)
    count = await marked(backend) + 1
    await backend.close()
    return count


def lay_out(directory: Path, image: Image) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in image.items():
        (directory / name).write_bytes(content)


async def reopened(directory: Path, image: Image, *, durable: bool) -> Backend:
    lay_out(directory, image)
    return await open_backend(f"sqlite://{directory / NAME}", durable=durable)


async def check(directory: Path, life: Life, *, durable: bool) -> int:
    """Reopen what each cut left; how many cuts lost something acknowledged. Raises Lost when none may."""
    lost = 0
    found = []
    for number, cut in enumerate(life.cuts):
        try:
            count, shown = await look(directory / f"cut-{number}", life, cut, durable=durable)
        except (AssertionError, StoreUnavailable) as exc:
            raise Lost(f"cut {number}: {exc}", cut) from exc
        if count <= cut.acknowledged:
            lost += 1
            if durable:
                raise Lost(f"cut {number}: {cut.acknowledged + 1} calls acknowledged, {count} kept", cut)
        found.append((number, cut, count, shown))
    model = await Model(life.script).after_each(life.calls, {count for _, _, count, _ in found})
    for number, cut, count, shown in found:
        if shown != model[count]:
            raise Lost(f"cut {number}, {count} calls kept: {difference(shown, model[count])}", cut)
    return lost


async def look(place: Path, life: Life, cut: Cut, *, durable: bool) -> tuple[int, Picture]:
    """How many calls a cut has kept, and what the store shows; it must be whole and go on as it should."""
    backend = await reopened(place, cut.image, durable=durable)
    count = await marked(backend) + 1
    shown, places = await picture(backend, life.script), await markers(backend, life.script)
    changed = {id for id in places.keys() & life.places.keys() if places[id] != life.places[id]}
    assert not changed, f"other markers than before: {changed}"
    now = life.script.now
    added = Message(id="added", body=b"1", ttl=9999, created=now, visible=now, expires=now + 9999)
    await backend.messages.append(QUEUES[0], [added])
    after = await markers(backend, life.script)
    assert all(after["added"] > each for each in places.values()), "an old marker again"
    await backend.close()
    check_integrity(place / NAME)
    shutil.rmtree(place)
    return count, shown


def check_integrity(path: Path) -> None:
    connection = apsw.Connection(str(path))
    try:
        found = connection.execute("PRAGMA integrity_check").fetchall()
    finally:
        connection.close()
    assert found == [("ok",)], found


def keep(directory: Path, life: Life, lost: Lost) -> str:
    """Put aside what is needed to look into a loss; the text says where."""
    lay_out(directory, lost.cut.image)
    (directory / "calls.txt").write_text(
        "".join(f"{index} {call}\n" for index, call in enumerate(life.calls))
    )
    return f"what was left, and calls.txt: {directory}"


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "relaxed"])
async def test_power_cuts(tmp_path: Path, durable: bool) -> None:
    """Durable: nothing acknowledged is lost. Relaxed: what is lost is the end, in whole calls."""
    start = seed()
    cuts = lost = 0
    life: Life | None = None
    for number in itertools.count():
        before = life if number % 3 else None
        chance = random.Random(f"{start} {number}")
        directory = tmp_path / f"{number}-life"
        life = await live(directory, chance, durable=durable, before=before)
        try:
            lost += await check(directory, life, durable=durable)
        except Lost as exc:
            kept = keep(tmp_path / "lost", life, exc)
            raise Lost(f"life {number} of SUKKAL_TEST_SEED={start}, {exc}\n{kept}", exc.cut) from exc
        cuts += len(life.cuts)
        shutil.rmtree(directory)
        if cuts >= (CUTS if durable else CUTS // 2):
            break
    assert bool(lost) != durable  # the cuts bite


async def test_log_of_a_closed_store_is_deleted_and_never_emptied_by_cutting_its_size(tmp_path: Path) -> None:
    """The beginning of a log that was emptied only in part would be replayed over what is newer."""
    life = await live(tmp_path, random.Random(seed()), durable=True)
    assert not (tmp_path / f"{NAME}-wal").exists()
    assert any(f"{NAME}-wal" in cut.image for cut in life.cuts)
    assert f"{NAME}-wal" not in life.shortened


async def test_disk_that_only_claims_to_sync_is_found_out(tmp_path: Path) -> None:
    """The check would notice a store that does not sync before it acknowledges."""
    start = seed()
    for number in itertools.count():
        chance = random.Random(f"{start} {number}")
        life = await live(tmp_path / str(number), chance, durable=True, lying=True)
        try:
            await check(tmp_path / str(number), life, durable=True)
        except Lost:
            break
        assert number < 20
