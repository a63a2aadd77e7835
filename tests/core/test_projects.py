"""Two projects on one service: whatever they do, in whatever order, each sees what it would see alone."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from sukkal.errors import ServiceError
from sukkal.requests import NewMessage

from .world import World

PROJECTS = ("ours", "theirs")
Request = tuple[str, dict[str, Any]]  # an operation and its fields; `Made` stands for an id


class Made(msgspec.Struct, frozen=True):
    """The id of a message or claim that a project made: its own one, or the other's."""

    kind: str
    number: int
    foreign: bool


def made(kind: str) -> st.SearchStrategy[Made]:
    return st.builds(Made, st.just(kind), st.integers(0, 5), st.booleans())


def asked(operation: str, **fields: Any) -> st.SearchStrategy[Request]:
    drawn = {
        name: value if isinstance(value, st.SearchStrategy) else st.just(value)
        for name, value in fields.items()
    }
    return st.tuples(st.just(operation), st.fixed_dictionaries(drawn))


queue = st.sampled_from(("orders", "dead"))
delay = st.sampled_from((0, 30))
metadata = st.fixed_dictionaries(
    {"_default_message_delay": delay},
    optional={"_dead_letter_queue": st.just("dead"), "_max_claim_count": st.just(1)},
)
change = st.fixed_dictionaries(
    {"op": st.just("add"), "path": st.just("/metadata/_default_message_delay"), "value": delay}
)
requests = st.one_of(
    asked("messages.post", queue=queue, messages=st.integers(1, 3)),
    asked("messages.list", queue=queue, echo=True, include_claimed=st.booleans(), marker=st.none()),
    asked("messages.list", queue=queue, echo=st.booleans(), marker=made("message")),
    asked("messages.get", queue=queue, id=made("message")),
    asked("messages.get_many", queue=queue, ids=st.lists(made("message"), min_size=1, max_size=3)),
    asked("messages.delete", queue=queue, id=made("message"), claim_id=st.none() | made("claim")),
    asked("messages.delete_many", queue=queue, ids=st.lists(made("message"), min_size=1, max_size=3)),
    asked("messages.delete_many", queue=queue, pop=st.integers(1, 2)),
    asked("claims.create", queue=queue, limit=st.integers(1, 3), ttl=60),
    asked("claims.get", queue=queue, claim_id=made("claim")),
    asked("claims.renew", queue=queue, claim_id=made("claim"), ttl=60),
    asked("claims.release", queue=queue, claim_id=made("claim")),
    asked("queues.create", queue=queue, metadata=metadata),
    asked("queues.update", queue=queue, changes=st.tuples(change)),
    asked("queues.delete", queue=queue),
    asked("queues.purge", queue=queue),
    asked("queues.get", queue=queue),
    asked("queues.stats", queue=queue),
    asked("queues.list", detailed=True, with_count=True),
)


class Tenant:
    """A project, and what it has seen: ids by the order it made them in, whoever else made some meanwhile."""

    def __init__(self, world: World, project: str) -> None:
        self._world = world
        self._project = project
        self.made: dict[str, list[str]] = {"message": [], "claim": []}
        self.seen: list[str] = []

    async def ask(self, request: Request, other: "Tenant") -> None:
        operation, fields = request
        fields = {name: self._filled(value, other) for name, value in fields.items()}
        if operation == "messages.post":
            body = Raw(b'"of %s"' % self._project.encode())
            fields["messages"] = [NewMessage(body=body)] * fields["messages"]
        try:
            answer = await self._world.call(operation, project=self._project, client=self._project, **fields)
        except ServiceError as error:
            self.seen.append(self._shown(f"{error!r} {error.message}", other))
            return
        if operation == "messages.post":
            self.made["message"] += answer.ids
        if operation == "claims.create" and answer.id is not None:
            self.made["claim"].append(answer.id)
        self.seen.append(self._shown(repr(_without_inner_values(msgspec.to_builtins(answer))), other))

    def _filled(self, value: Any, other: "Tenant") -> Any:
        if isinstance(value, list | tuple):
            return [self._filled(item, other) for item in value]
        if not isinstance(value, Made):
            return value
        known = (other if value.foreign else self).made[value.kind]
        absent = "foreign" if value.foreign else "unknown"
        return known[value.number % len(known)] if known else absent

    def _shown(self, text: str, other: "Tenant") -> str:
        for kind, ids in self.made.items():
            for number, id in enumerate(ids):
                text = text.replace(id, f"{kind} {number}")
        for id in (*other.made["message"], *other.made["claim"]):
            text = text.replace(id, "foreign")
        return text


def _without_inner_values(document: Any) -> Any:
    """An answer without what the store chooses freely: markers and versions."""
    if isinstance(document, dict):
        return {
            name: _without_inner_values(value)
            for name, value in document.items()
            if name not in ("marker", "version")
        }
    if isinstance(document, list):
        return [_without_inner_values(item) for item in document]
    return document


Script = Sequence[tuple[int, Request, int]]  # whose turn, what it asks, seconds that pass before


def play(script: Script, turns: Sequence[int]) -> list[list[str]]:
    """What each project sees when those whose turn it may be do their part of the script."""

    async def run() -> list[list[str]]:
        world = World()
        tenants = [Tenant(world, project) for project in PROJECTS]
        for turn, request, seconds in script:
            world.now += seconds
            if turn in turns:
                await tenants[turn].ask(request, tenants[1 - turn])
        return [tenant.seen for tenant in tenants]

    return asyncio.run(run())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), requests, st.sampled_from((0, 0, 1, 20, 60))), max_size=40))
def test_each_project_sees_what_it_would_see_alone(script: Script) -> None:
    ours, theirs = play(script, (0, 1))
    assert ours == play(script, (0,))[0]
    assert theirs == play(script, (1,))[1]
    assert "of theirs" not in "".join(ours)
    assert "of ours" not in "".join(theirs)
