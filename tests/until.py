"""Waiting for a condition that nothing tells of."""

import asyncio
import itertools
import time
from collections.abc import Callable

PATIENCE = 30.0  # seconds; a loaded test machine


async def until(condition: Callable[[], object]) -> None:
    """Let others go on until something is so."""
    end = time.monotonic() + PATIENCE
    for turn in itertools.count():
        if condition():
            return
        assert time.monotonic() < end, "it never came to be so"
        await asyncio.sleep(0 if turn < 100 else 0.0005)
