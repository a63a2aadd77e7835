"""A store whose calls are timed: the same store, with somebody told how long each call took."""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, cast

from sukkal.stores.contract import Backend, Documents, Messages, Trait, Waker
from sukkal.tally import StoreFigures

Note = Callable[[float], None]  # called with seconds, in the context of who called


class Observed:
    """`backend`, with each call of a verb noted."""

    def __init__(self, backend: Backend, note: Note) -> None:
        self._backend = backend
        self.messages = cast("Messages", _Timed(backend.messages, note))
        self.documents = cast("Documents", _Timed(backend.documents, note))
        self.ping = backend.ping
        self.close = backend.close

    @property
    def traits(self) -> frozenset[Trait]:
        return self._backend.traits

    @property
    def waker(self) -> Waker:
        return self._backend.waker

    @property
    def figures(self) -> StoreFigures:
        return self._backend.figures


class _Timed:
    def __init__(self, verbs: object, note: Note) -> None:
        self._verbs = verbs
        self._note = note

    def __getattr__(self, name: str) -> Any:
        verb = _timed(getattr(self._verbs, name), self._note)
        setattr(self, name, verb)  # the next time it is found without asking here
        return verb


def _timed(verb: Callable[..., Awaitable[Any]], note: Note) -> Callable[..., Awaitable[Any]]:
    def called(*args: Any, **options: Any) -> Awaitable[Any]:
        begun = perf_counter()
        # Called at once, since some verbs take effect before they are awaited.
        return _ended(verb(*args, **options), begun, note)

    return called


async def _ended(answer: Awaitable[Any], begun: float, note: Note) -> Any:
    try:
        return await answer
    finally:
        note(perf_counter() - begun)
