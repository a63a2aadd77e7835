"""Work on the event loop that may take long, and gives others their turn meanwhile."""

import asyncio
from time import perf_counter

LONGEST_STRETCH = 0.002  # seconds until others get their turn


class Stretch:
    """The time that one has had for oneself."""

    def __init__(self) -> None:
        self._end = perf_counter() + LONGEST_STRETCH

    @property
    def is_over(self) -> bool:
        return perf_counter() > self._end

    async def rest(self) -> None:
        await asyncio.sleep(0)
        self._end = perf_counter() + LONGEST_STRETCH
