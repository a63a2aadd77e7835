"""A store whose calls are watched: the same store, with somebody told when each call begins and ends."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from sukkal.stores.contract import Backend, ControlBackend, Documents, Messages, Trait, Waker
from sukkal.tally import StoreFigures

Ended = Callable[[BaseException | None], None]  # called with what a call raised
Begin = Callable[[str], Ended]  # called with the verb ("messages.append"), in the context of who calls


class ObservedControl:
    """`control`, with each call of a verb told of."""

    def __init__(self, control: ControlBackend, begin: Begin) -> None:
        self._control = control
        self.documents = cast("Documents", _Verbs(control.documents, "documents", begin))
        self.ping = control.ping
        self.close = control.close

    @property
    def traits(self) -> frozenset[Trait]:
        return self._control.traits

    @property
    def figures(self) -> StoreFigures:
        return self._control.figures


class Observed(ObservedControl):
    """The same for a store that keeps messages too."""

    def __init__(self, backend: Backend, begin: Begin) -> None:
        super().__init__(backend, begin)
        self.messages = cast("Messages", _Verbs(backend.messages, "messages", begin))
        self.waker: Waker = backend.waker


class _Verbs:
    def __init__(self, verbs: object, plane: str, begin: Begin) -> None:
        self._verbs = verbs
        self._plane = plane
        self._begin = begin

    def __getattr__(self, name: str) -> Any:
        verb = _watched(getattr(self._verbs, name), f"{self._plane}.{name}", self._begin)
        setattr(self, name, verb)  # the next time it is found without asking here
        return verb


def _watched(verb: Callable[..., Awaitable[Any]], name: str, begin: Begin) -> Callable[..., Awaitable[Any]]:
    def called(*args: Any, **options: Any) -> Awaitable[Any]:
        ended = begin(name)
        # Called at once, since some verbs take effect before they are awaited.
        try:
            answer = verb(*args, **options)
        except BaseException as exc:
            ended(exc)
            raise
        return _until_ended(answer, ended)

    return called


async def _until_ended(answer: Awaitable[Any], ended: Ended) -> Any:
    try:
        found = await answer
    except BaseException as exc:
        ended(exc)
        raise
    ended(None)
    return found
