"""How a trace gets from who posts a message to who is handed it: in what is stored of the message."""

from collections.abc import Callable
from typing import Protocol

from sukkal.model import Message, QueueKey

Told = Callable[[QueueKey, Message], None]


class Carrier(Protocol):
    """What traces spans, as core sees it. A trace is the bytes that wire/bodies.py puts before a body."""

    def current(self) -> bytes:
        """The trace under way, for messages that are posted now; empty when there is none."""
        ...

    def handed(self, trace: bytes) -> None:
        """Whoever is served now is handed a message that came with this; empty when it came with none."""
        ...

    def telling(self, told: Told) -> Told:
        """`told`, which tells listeners of a message, as part of the trace that the message came with."""
        ...
