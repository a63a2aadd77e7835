"""The power goes at random moments: what was not synced is gone, or there in part.

Short: some cuts. SUKKAL_LONG=1: more than a thousand.
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
from .script import QUEUES, Call, Model, Script, difference, marked, markers, picture, take_turn
from .victim import LONG, seed

pytestmark = pytest.mark.faults

CUTS = 3000 if LONG else 150  # of a durable store; half as many of a relaxed one
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


class Lost(AssertionError):
    """What was acknowledged, or more, is gone."""


async def live(
    directory: Path, chance: random.Random, *, durable: bool, before: Life | None = None, lying: bool = False
) -> Life:
    """Work on a store and cut the power now and then: a new one, or what some cut of `before` left."""
    image: Image = {}
    script, calls = Script(chance), list[Call]()
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
    return Life(script, calls, cuts, places)


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
        place = directory / f"cut-{number}"
        try:
            backend = await reopened(place, cut.image, durable=durable)
        except StoreUnavailable as exc:
            raise Lost(f"the store does not open after cut {number}: {exc}") from exc
        count = await marked(backend) + 1
        if count <= cut.acknowledged:
            lost += 1
            if durable:
                raise Lost(f"cut {number}: {cut.acknowledged + 1} calls were acknowledged, {count} are kept")
        shown, places = await picture(backend, life.script), await markers(backend, life.script)
        changed = {id for id in places.keys() & life.places.keys() if places[id] != life.places[id]}
        assert not changed, f"cut {number}: other markers than before: {changed}"
        added = Message(
            id="added", body=b"1", ttl=9999, created=life.script.now, visible=life.script.now, expires=9e9
        )
        await backend.messages.append(QUEUES[0], [added])
        after = await markers(backend, life.script)
        assert all(after["added"] > each for each in places.values()), f"cut {number}: an old marker again"
        await backend.close()
        check_integrity(place / NAME)
        shutil.rmtree(place)
        found.append((number, count, shown))
    model = await Model(life.script).after_each(life.calls, {count for _, count, _ in found})
    for number, count, shown in found:
        if shown != model[count]:
            raise Lost(f"cut {number}, {count} calls kept: {difference(shown, model[count])}")
    return lost


def check_integrity(path: Path) -> None:
    connection = apsw.Connection(str(path))
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "relaxed"])
async def test_power_cuts(tmp_path: Path, durable: bool) -> None:
    """Durable: nothing acknowledged is lost. Relaxed: what is lost is the end, in whole calls."""
    chance = random.Random(seed())
    cuts = lost = 0
    life: Life | None = None
    for number in itertools.count():
        before = life if number % 3 else None
        life = await live(tmp_path / f"{number}-life", chance, durable=durable, before=before)
        lost += await check(tmp_path / f"{number}-life", life, durable=durable)
        cuts += len(life.cuts)
        shutil.rmtree(tmp_path / f"{number}-life")
        if cuts >= (CUTS if durable else CUTS // 2):
            break
    assert bool(lost) != durable  # the cuts bite


async def test_disk_that_only_claims_to_sync_is_found_out(tmp_path: Path) -> None:
    """The check would notice a store that does not sync before it acknowledges."""
    chance = random.Random(seed())
    for number in itertools.count():
        life = await live(tmp_path / str(number), chance, durable=True, lying=True)
        try:
            await check(tmp_path / str(number), life, durable=True)
        except Lost:
            break
        assert number < 20
