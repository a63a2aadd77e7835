"""Each store agrees with the memory store, step by step, over random calls.

The memory store runs too, though less: it cannot disagree with itself, but the machine's own books check it.
`SUKKAL_LONG=1` runs many more and longer sequences.
"""

from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from sukkal.stores.contract import Backend

from .agreement import PROFILE, Agreement
from .candidates import STORES, open_store

# The model itself, and drivers whose scripts another one has in common, need not be tried as often.
SHARES = {"memory": 4, "redis+sentinel": 10, "redis+cluster": 5}


async def open_model(directory: Path) -> Backend:
    return await open_store("memory", directory)


@pytest.mark.parametrize("name", STORES)
def test_store_agrees_with_the_memory_store(name: str) -> None:
    async def open_subject(directory: Path) -> Backend:
        return await open_store(name, directory)

    examples = PROFILE.max_examples // SHARES.get(name, 1)
    run_state_machine_as_test(
        lambda: Agreement(open_subject, open_model), settings=settings(PROFILE, max_examples=examples)
    )
