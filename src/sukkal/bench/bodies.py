"""What the messages of a load hold: bodies of given sizes, or those of a file, as raw JSON."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

_EVENT = (
    '{"event":"order.packed","order":4711982,"customer":"c-20931",'
    '"at":"2024-05-17T10:31:07Z","parcel":{"weight":2310,"box":"M"}}'
)
_FILLER = "the quick brown fox jumps over the lazy dog and runs on; "
LARGEST_POST = 200_000  # bytes; the API's own bound is 262,144 unless a server was told otherwise


class BadMessages(ValueError):
    """The text says what is wrong with a file of messages."""


def of_sizes(sizes: Sequence[int]) -> list[str]:
    """One body for each size in bytes; a size that is too small for an object gives a short text."""
    return [_of_size(size) for size in sizes] or [_EVENT]


def _of_size(size: int) -> str:
    frame = len('{"text":""}')
    filler = (_FILLER * (size // len(_FILLER) + 1))[: max(0, size - (frame if size > frame else 2))]
    return json.dumps({"text": filler} if size > frame else filler, separators=(",", ":"))


def of_file(path: Path) -> list[str]:
    """The bodies in a file: one JSON value on each line. Raises BadMessages, OSError."""
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            msgspec.json.decode(line)
        except msgspec.DecodeError as exc:
            raise BadMessages(f"{path}, line {number} is not JSON: {exc}.") from exc
        found.append(line.strip().decode())
    if not found:
        raise BadMessages(f"{path} holds no message: one JSON value on each line is wanted.")
    return found


class Posts:
    """Bodies of posts, in turn over what there is to post."""

    def __init__(self, bodies: Sequence[str], *, batch: int, ttl: int) -> None:
        self._entries = [f'{{"ttl":{ttl},"body":{body}}}'.encode() for body in bodies]
        self._turn = itertools.cycle(self._entries)
        self._bodies = itertools.cycle(bodies)
        self._ttl = ttl
        self.batch = batch
        whole_rounds = len(bodies) <= 1  # then every post is the same
        self._same = self._joined(self._take(batch)) if whole_rounds else None

    def next(self) -> bytes:
        """The body of the next post over HTTP: `{"messages": […]}`."""
        return b'{"messages":[%b]}' % self.entries()

    def entries(self) -> bytes:
        return self._same or self._joined(self._take(self.batch))

    def stamped(self, at: int) -> bytes:
        """One message that says when it was due, in ns of the monotonic clock; `Stamped` reads it."""
        body = next(self._bodies)
        return f'{{"messages":[{{"ttl":{self._ttl},"body":{{"bench_ns":{at},"load":{body}}}}}]}}'.encode()

    def filling(self, count: int) -> Iterator[tuple[bytes, int]]:
        """Bodies of posts, as large as servers take, of so many messages in all; and how many each has."""
        pending: list[bytes] = []
        size = 0
        for _ in range(count):
            entry = next(self._turn)
            if pending and size + len(entry) > LARGEST_POST:
                yield b'{"messages":[%b]}' % self._joined(pending), len(pending)
                pending, size = [], 0
            pending.append(entry)
            size += len(entry) + 1
        if pending:
            yield b'{"messages":[%b]}' % self._joined(pending), len(pending)

    def _take(self, count: int) -> list[bytes]:
        return [next(self._turn) for _ in range(count)]

    @staticmethod
    def _joined(entries: Sequence[bytes]) -> bytes:
        return b",".join(entries)


class Stamped(msgspec.Struct):
    """The body of a message that says when it was due."""

    bench_ns: int
