"""What happens between a commit that fails and those who wait for it: every order of two requests around it.

A commit fails in a turn of the loop in which others go on before those whose writes it undid are told. Nobody
may take up then what never came to be: not a record in a cache, not a message, not a claim.
"""

import asyncio
import itertools
import shutil
from collections.abc import Awaitable, Callable
from enum import Enum
from pathlib import Path
from typing import Any

import apsw
import pytest
from core.world import World, bodies

from sukkal.errors import Conflict, NotFound, Unavailable
from sukkal.stores.registry import open_backend

from .disk import Fault, FaultyVFS, Weakness

pytestmark = pytest.mark.faults

TURNS = 7  # of the loop by which the second request may come later: more than a commit takes
FULL = Fault("write", apsw.SQLITE_FULL)

Request = Callable[[World], Awaitable[object]]


def post(world: World) -> Awaitable[object]:
    return world.post("q", "new")


def create(world: World) -> Awaitable[object]:
    return world.create("q", team="blue")


def change(world: World) -> Awaitable[object]:
    return world.set("q", team="red")


def remove(world: World) -> Awaitable[object]:
    return world.call("queues.delete", queue="q")


def purge(world: World) -> Awaitable[object]:
    return world.call("queues.purge", queue="q")


def claim(world: World) -> Awaitable[object]:
    return world.call("claims.create", queue="q", ttl=60, grace=60)


def pop(world: World) -> Awaitable[object]:
    return world.call("messages.delete_many", queue="q", pop=10)


def look(world: World) -> Awaitable[object]:
    return world.call("queues.get", queue="q")


async def create_by_use(world: World) -> None:
    """What a post does first."""
    await world.create("q")


async def nothing(_world: World) -> None:
    pass


REQUESTS: list[Request] = [post, create, change, remove, purge, claim, pop, look]


# What a request may have done that was refused: it may be made of several writes.
IN_PART: dict[Request, list[Request]] = {post: [create_by_use], remove: [remove], change: [change]}


async def shown(world: World) -> dict[str, Any]:
    """All there is to see of the queue, but for ids."""
    listed = await world.listed("q")
    stats = await world.call("queues.stats", queue="q")
    return {
        "queues": await world.queues(),
        "metadata": (await world.call("queues.get", queue="q")).stored,
        "messages": [
            (body, message.claim is not None, message.claim_count)
            for body, message in zip(bodies(listed), listed, strict=True)
        ],
        "stats": (stats.exists, stats.free, stats.claimed),
    }


async def prepare(world: World, *, new: bool) -> None:
    await remove(world)
    if not new:
        await world.create("q", team="green")
        await world.post("q", "a")
        await claim(world)
        await world.post("q", "b")


class Outcome(Enum):
    DONE = "done"
    DECLINED = "declined"  # for a reason that may have been in the commit that failed; it changes nothing
    REFUSED = "refused"  # since the store could not


Outcomes = tuple[Outcome, Outcome]


async def outcome(world: World, request: Request) -> Outcome:
    try:
        await request(world)
    except Unavailable:
        return Outcome.REFUSED
    except (Conflict, NotFound):
        return Outcome.DECLINED
    return Outcome.DONE


async def around_a_failed_commit(
    world: World, weakness: Weakness, first: Request, second: Request, turns: int
) -> Outcomes:
    """Make a request whose commit fails, and another so many turns of the loop later."""
    weakness.arm(FULL, 1)
    begun = asyncio.create_task(outcome(world, first))
    for _ in range(turns):
        await asyncio.sleep(0)
    later = await outcome(world, second)
    outcomes = await begun, later
    weakness.mend()
    return outcomes


async def possible(first: Request, second: Request, outcomes: Outcomes, *, new: bool) -> list[Any]:
    """What may be shown then, when they are carried out in one order or the other."""
    found = []
    choices = []
    for request, how in zip((first, second), outcomes, strict=True):
        refused = [nothing, *IN_PART.get(request, [])] if how is Outcome.REFUSED else [nothing]
        choices.append([request] if how is Outcome.DONE else refused)
    for pair in itertools.product(*choices):
        for order in (pair, pair[::-1]):
            model = World()
            await prepare(model, new=new)
            for request in order:
                await outcome(model, request)
            found.append(await shown(model))
    return found


@pytest.mark.parametrize("new", [True, False], ids=["new", "there"])
@pytest.mark.parametrize("first", REQUESTS, ids=lambda request: request.__name__)
async def test_nobody_takes_up_what_a_failed_commit_undid(tmp_path: Path, first: Request, new: bool) -> None:
    weakness = Weakness()
    vfs = FaultyVFS(weakness)
    backend = await open_backend(f"sqlite://{tmp_path}/store.db?vfs={vfs.name}")
    known: dict[tuple[Request, Outcomes], list[Any]] = {}
    failed = 0
    try:
        for second, turns in itertools.product(REQUESTS, range(TURNS)):
            world = World(backend)
            await prepare(world, new=new)
            outcomes = await around_a_failed_commit(world, weakness, first, second, turns)
            failed += weakness.failed
            here, fresh = await shown(world), await shown(World(backend))
            about = f"{first.__name__}, {turns} turns later {second.__name__}: {outcomes}"
            assert here == fresh, f"{about}: something is kept that the store does not hold"
            if (second, outcomes) not in known:
                known[second, outcomes] = await possible(first, second, outcomes, new=new)
            assert here in known[second, outcomes], about
            assert await outcome(world, post) is Outcome.DONE, about
    finally:
        await backend.close()
        vfs.unregister()
    assert failed > TURNS


async def test_numbers_reserved_by_a_failed_commit_are_reserved_anew(tmp_path: Path) -> None:
    """The first write after an opening reserves; when it fails, a crash later must bring no marker again."""
    weakness = Weakness()
    vfs = FaultyVFS(weakness)
    backend = await open_backend(f"sqlite://{tmp_path}/store.db?vfs={vfs.name}")
    try:
        weakness.arm(FULL, 1)
        with pytest.raises(Unavailable):
            await World(backend).post("q", "refused")
        weakness.mend()
        await World(backend).post("q", "kept")
        copy = shutil.copytree(tmp_path, tmp_path / "after a crash")
    finally:
        await backend.close()
        vfs.unregister()
    backend = await open_backend(f"sqlite://{copy}/store.db")
    try:
        await World(backend).post("q", "later")
        kept, later = await World(backend).listed("q")
        assert bodies([kept, later]) == ["kept", "later"]
        assert int(kept.marker) < int(later.marker)
    finally:
        await backend.close()
