"""One connection's requests: taken up in order, answered in order.

Effects are as if each request was served when all before it were done. Posts may overlap, so that a producer
who does not wait for replies shares commits: one that reaches the store in the turn in which it is begun
keeps its place by being begun in order. Anything else waits for what is before it and holds back what is
after it.

    received → waiting → in flight → answered → sent
               └── most of MOST_REQUESTS and MOST_BYTES together ──┘
"""

import asyncio
import uuid
from collections import deque
from typing import Protocol

from sukkal.model import Notice
from sukkal.ws.frames import TEXT, Frame, Kind
from sukkal.ws.responder import Question, Reply, Responder

MOST_REQUESTS = 256  # received and not answered; then no more are read
MOST_BYTES = 4 * 1024 * 1024  # of such requests; the one that exceeds it is taken


class Peer(Protocol):
    """The other end of the connection."""

    def send(self, data: bytes, *, binary: bool) -> None:
        """Send a frame; one that is sent when the connection is closed goes nowhere."""
        ...

    def notify(self, data: bytes, *, binary: bool) -> None:
        """The same for what was not asked for. When too much of it is not taken, the connection is closed."""
        ...

    def progressed(self) -> None:
        """To be told when requests were answered: there is room for more, or none is in flight."""
        ...


class _Slot:
    """A place in the order of replies."""

    __slots__ = ("alone", "binary", "reply", "size", "task", "waits")

    def __init__(self, frame: Frame, *, alone: bool) -> None:
        self.binary = frame.kind.binary
        self.size = len(frame.data)
        self.alone = alone  # nothing may be begun before it is answered
        self.waits = False  # for messages that may come
        self.reply: bytes | None = None
        self.task: asyncio.Task[None] | None = None


class Session:
    def __init__(self, responder: Responder, peer: Peer) -> None:
        self.id = str(uuid.uuid4())
        self._responder = responder
        self._peer = peer
        self._waiting: deque[Frame] = deque()
        self._slots: deque[_Slot] = deque()
        self._first: Question | Reply | None = None  # what the first that waits was read as
        self._bytes = 0
        self._held = False
        self._notify_in: Kind = TEXT  # as the last request to be told of messages

    @property
    def full(self) -> bool:
        """Whether no more frames should be read for now."""
        return self._bytes >= MOST_BYTES or len(self._waiting) + len(self._slots) >= MOST_REQUESTS

    @property
    def in_flight(self) -> int:
        return len(self._slots)

    def receive(self, frame: Frame) -> None:
        """Take a request. It is begun now if it may be."""
        self._bytes += len(frame.data)
        self._waiting.append(frame)
        self._begin()

    def hold(self) -> None:
        """Begin nothing for now: replies are not taken."""
        self._held = True

    def go_on(self) -> None:
        self._held = False
        self._begin()

    def stop(self) -> None:
        """Begin nothing any more. What is in flight will be answered, the rest was never taken up."""
        self._held = True
        self._waiting.clear()
        self._first = None
        self._bytes = sum(slot.size for slot in self._slots)

    def leave(self) -> None:
        """Stop, since nothing can be sent any more: nobody waits for messages, or claims any when they come.

        What else is in flight takes effect as if it was answered.
        """
        self.stop()
        for slot in self._slots:
            if slot.waits and slot.task is not None:
                slot.task.cancel()

    def hear(self, notice: Notice) -> None:
        """Tell the other side of a message."""
        kind = self._notify_in
        self._peer.notify(kind.notification(notice), binary=kind.binary)

    # --- order ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Begin all requests that may be."""
        while self._waiting and not self._held:
            if self._slots and self._slots[-1].alone:
                return
            frame = self._waiting[0]
            if self._first is None:
                self._first = self._responder.read(frame, self.id)
            first = self._first
            if isinstance(first, Reply):
                slot = _Slot(frame, alone=False)
                slot.reply = first.data
            else:
                slot = _Slot(frame, alone=not self._responder.flows(first))
                if slot.alone and self._slots:
                    return
                slot.waits = first.waits
                slot.task = asyncio.create_task(self._answer(slot, first))
            self._first = None
            self._waiting.popleft()
            self._slots.append(slot)
            self._send()

    async def _answer(self, slot: _Slot, question: Question) -> None:
        status, slot.reply = await self._responder.answer(question)
        if status == 201 and question.subscribes_itself:
            self._notify_in = question.kind
        self._send()
        self._begin()
        self._peer.progressed()

    def _send(self) -> None:
        """Send the replies that are there, up to the first that is not."""
        while self._slots and (reply := self._slots[0].reply) is not None:
            slot = self._slots.popleft()
            self._bytes -= slot.size
            self._peer.send(reply, binary=slot.binary)
