"""Each store of records agrees with the memory store, call by call, over random sequences."""

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sukkal.stores.contract import Document, Documents, Shelf
from sukkal.stores.registry import open_control

from .agreement import PROFILE
from .candidates import RECORDS, STORES, open_records
from .samples import NOW

NEVER = (1 << 40, 1 << 40)  # a version that no record comes to have
NAMES = ["a", "a ", "A", "b", "é", "\U0001f600", "\uffff"]
names = st.sampled_from(NAMES)
lives = st.sampled_from([None, 0.0, 1.0, 3.0, 30.0])  # seconds
expects = st.sampled_from(["any", "absent", "current", "current", "former"])
steps = st.one_of(
    st.tuples(st.just("put"), names, expects, lives),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("scan"), st.sampled_from(["", *NAMES]), st.integers(1, 9)),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 10.0])),
)


class Play:
    """One sequence, on a shelf of each store that nobody else uses."""

    def __init__(self, subject: Documents, model: Documents, shelf: Shelf) -> None:
        self.stores = (subject, model)
        self.shelf = shelf
        self.now = NOW
        self.versions: dict[str, list[tuple[int, int]]] = {name: [] for name in NAMES}  # as each store says

    async def run(self, sequence: Sequence[Any]) -> None:
        for step in sequence:
            await getattr(self, step[0])(*step[1:])
            await self.look()

    async def put(self, name: str, expect: str, life: float | None) -> None:
        known = self.versions[name]
        last = known[-1] if known else NEVER
        former = known[-2] if len(known) > 1 else NEVER
        asked = {"any": (None, None), "absent": (0, 0), "current": last, "former": former}[expect]
        value = b"%d" % len(known)
        expires = None if life is None else self.now + life
        answers = [
            await store.put(self.shelf, name, value, expect=version, now=self.now, expires=expires)
            for store, version in zip(self.stores, asked, strict=True)
        ]
        one, other = answers
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert not known or one > known[-1][0]
            known.append((one, other))

    async def delete(self, name: str) -> None:
        live = await self.stores[1].get(self.shelf, name, now=self.now) is not None
        answers = [await store.delete(self.shelf, name) for store in self.stores]
        if live:  # of one that has expired a store may know or not
            assert answers == [True, True]

    async def scan(self, after: str, limit: int) -> None:
        one, other = [
            await store.scan(self.shelf, after=after, limit=limit, now=self.now) for store in self.stores
        ]
        self.compare(one, other)

    async def wait(self, seconds: float) -> None:
        self.now += seconds

    async def look(self) -> None:
        await self.scan("", 100)
        counts = [await store.count(self.shelf, now=self.now) for store in self.stores]
        assert counts[0] == counts[1]

    def compare(self, one: list[Document], other: list[Document]) -> None:
        assert [(each.name, each.value) for each in one] == [(each.name, each.value) for each in other]
        for mine, theirs in zip(one, other, strict=True):
            assert (mine.version, theirs.version) == self.versions[mine.name][-1]


@pytest.mark.parametrize("name", [*STORES, *RECORDS])
def test_records_agree_with_the_memory_store(name: str, tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        subject = runner.run(open_records(name, tmp_path))
        model = runner.run(open_control("memory:"))
        numbers = itertools.count()

        @settings(PROFILE, max_examples=PROFILE.max_examples // 2)
        @given(st.lists(steps, min_size=1, max_size=30))
        def agree(sequence: list[Any]) -> None:
            shelf = Shelf("queue", f"p{next(numbers)}")
            runner.run(Play(subject.documents, model.documents, shelf).run(sequence))

        try:
            agree()
        finally:
            runner.run(subject.close())
            runner.run(model.close())
