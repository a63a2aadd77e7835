"""From a row of the table to the function that serves it."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sukkal.core.context import Context
from sukkal.errors import StoreUnavailable, Unavailable
from sukkal.operations import Operation

log = logging.getLogger(__name__)

RETRY = "Please try again in a few seconds."

Handler = Callable[[Context, Any], Awaitable[Any]]


class Dispatcher:
    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    async def call(self, operation: Operation, ctx: Context, request: Any) -> Any:
        """Serve a request; raises ServiceErrors only, but for faults of ours."""
        try:
            return await self._handlers[operation.name](ctx, request)
        except StoreUnavailable as exc:
            raise unavailable(operation, ctx, exc) from exc


def unavailable(operation: Operation, ctx: Context, reason: StoreUnavailable) -> Unavailable:
    """What a failing store is to the caller: the operation's sentence. The reason goes to the log."""
    log.warning("%s: %s", operation.name, reason, extra=ctx.about(operation.name))
    return Unavailable(f"{operation.failure} {RETRY}")
