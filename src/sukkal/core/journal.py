"""What is told of single requests: a sample of all, and those that were slow.

Off unless asked for; then a transport only compares how long a request took with `tell_from`.
"""

import logging
import math
import random
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from sukkal.core.context import Context
from sukkal.operations import Operation

access = logging.getLogger("sukkal.access")
slow = logging.getLogger("sukkal.slow")

Call = Callable[[Operation, Context, Any], Coroutine[Any, Any, Any]]


class Spent:
    """Where the time of one request went, in seconds."""

    __slots__ = ("calls", "request_id", "service", "store")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.service = 0.0  # in core, the store's part included
        self.store = 0.0  # summed over calls, which may overlap
        self.calls = 0  # of the store


# Of the request that the task under way serves, or of one that it served before; None unless a breakdown is
# wanted.
SPENT: ContextVar[Spent | None] = ContextVar("spent", default=None)


def timed(call: Call) -> Call:
    """`call`, with a breakdown of where the time goes, which `Journal` tells of."""

    async def calling(operation: Operation, ctx: Context, request: Any) -> Any:
        spent = Spent(ctx.request_id)
        SPENT.set(spent)
        begun = perf_counter()
        try:
            return await call(operation, ctx, request)
        finally:
            spent.service = perf_counter() - begun

    return calling


def time_store(_verb: str) -> Callable[[BaseException | None], None]:
    """Begin to time a call of the store, for the breakdown of whoever makes it; to be called when it ends."""
    spent, begun = SPENT.get(), perf_counter()

    def ended(_exc: BaseException | None) -> None:
        if spent is not None:
            spent.store += perf_counter() - begun
            spent.calls += 1

    return ended


class Journal:
    def __init__(
        self,
        *,
        slow_after: float = 0.0,
        sample: float = 0.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Tell of requests that took `slow_after` seconds, and of the share `sample` of all; 0: of none.

        `draw` gives numbers from 0 up to 1.
        """
        self._slow_after = slow_after or math.inf
        self._sample = sample
        self._draw = draw
        self.tell_from = 0.0 if sample else self._slow_after  # seconds, from which `answered` wants to know

    def answered(self, request: dict[str, Any], seconds: float, *, waited: bool = False) -> None:
        """Log the request, if it is to be. `request` says what it was; one that `waited` was not slow.

        Its `request_id` tells whether what is known of where the time went is of this request.
        """
        if seconds >= self._slow_after and not waited:
            spent = SPENT.get()
            if spent is not None and spent.request_id == request.get("request_id"):
                request |= {
                    "service_ms": _ms(spent.service),
                    "store_ms": _ms(spent.store),
                    "store_calls": spent.calls,
                }
            slow.warning("slow request", extra=request | {"ms": _ms(seconds)})
        elif self._sample and self._draw() < self._sample:
            access.info("answered", extra=request | {"ms": _ms(seconds)})


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
