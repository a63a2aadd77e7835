"""Where everything lies in Redis, and how it is written.

Every queue and every shelf of documents belongs to one of 256 *partitions*, by a checksum of its name. All
its keys carry the partition's hash tag, so a script may touch them together, on one node of a cluster:

    sukkal{17}c:acme/orders
    │     │   │ └ project/name; "%" and "/" in the project are written %25 and %2F
    │     │   └ what it is, see below
    │     └ the partition
    └ the prefix, an option of the store's URI

Of a queue (ids are those of its messages):

    c   hash        id → "place content": the place in the queue's order, in decimal, then what was posted, as
                    a MessagePack array: client, ttl, created, visible, expires, body
    r   sorted set  ids that can be claimed, by place                 ─┐
    h   sorted set  ids under a lease, by place                        ├ each id is in one of these
    d   sorted set  ids that are delayed, by place                    ─┘
    l   sorted set  ids under a lease, by the time it lapses
    a   sorted set  ids that are delayed, by the time the delay ends
    e   sorted set  all ids, by expiry
    s   hash        id → "claims ttl expires undelayed call claim", once there is something to say: claims so
                    far; ttl and expiry, when a lease has extended them, else "-"; 1 when the delay was ended
                    before its time; the call that handed it out and the claim it is under, or "-" and nothing
    L   hash        claim → "ttl grace since due held call": the lease, how many messages it holds, the last
                    call that added some
    n   string      the last place given. A new queue starts from the time, in units of 10 µs since 2020; so
                    places, and the markers made of them, go on growing also after this has gone, a day after
                    the queue's last message
    p   string      for seconds: what a pop has taken out, until its caller has it
    f   string      empty, for a minute: some process follows the queue, and is told of each message on the
                    channel of the same name
    k   string      the note on the queue, when there is one; stays when the queue is purged

Of a shelf (kind and project, written like project and name above):

    R   hash        name → "version expires call value"; "-" when it does not expire
    N   sorted set  names, all with score 0: in bytewise order
    E   sorted set  names that expire, by when
    V   string      the last version given; a new shelf starts from the time, as `n` does

Of a partition:

    agenda  sorted set  queues ("q" and name) and shelves ("s" and name) by a time before which nothing in
                        them lapses, ends or expires: what the sweep goes by
    tally   hash        "total" and "held": messages of all its queues; a queue, as on the agenda: how many of
                        its messages have expired since a sweep told of that
    own     hash        the same of queues of the service's own project, ""

No key name and no value is ever part of a script's text. Times are decimal texts that mean the same double
here and there; places stay below 2^53 until the year 4800.

To change the form: keys that mean something else get another letter, so that two releases side by side do not
misread each other.
"""

import binascii
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from sukkal.model import Lease, Message, QueueKey
from sukkal.stores.contract import Shelf

PARTITIONS = 256
KNOWN_HOMES = 20_000  # queues and shelves whose key names are kept ready

_QUEUE_KINDS = (b"c:", b"r:", b"h:", b"d:", b"l:", b"a:", b"e:", b"s:", b"L:", b"n:")
_SHELF_KINDS = (b"R:", b"N:", b"E:", b"V:")
_EPOCH = 1_577_836_800  # 2020-01-01
_STEPS = 100_000  # a second


def bulk(arguments: Iterable[bytes]) -> bytes:
    """Arguments of a command as they travel."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments])


def command(*arguments: bytes) -> bytes:
    """A whole command as it travels."""
    return b"*%d\r\n" % len(arguments) + bulk(arguments)


class Home:
    """Where one queue or shelf is kept: partition, keys and name on the agenda, ready to be sent."""

    __slots__ = ("followed", "keys", "letter", "looked_at", "member", "name", "noted", "partition", "tag")

    def __init__(
        self, tag: bytes, partition: int, kinds: tuple[bytes, ...], letter: bytes, name: bytes
    ) -> None:
        self.partition = partition
        self.tag = tag
        self.letter = letter
        self.name = name
        self.followed = b"%bf:%b" % (tag, name)
        self.noted = b"%bk:%b" % (tag, name)
        self.looked_at = bulk((self.followed, self.noted))  # by appends
        keys = [tag + kind + name for kind in kinds]
        keys.append(tag + b"agenda")
        if letter == b"q":
            keys.append(tag + (b"own" if name.startswith(b"/") else b"tally"))
        self.keys = bulk(keys)
        self.member = bulk((letter + name,))

    @property
    def project(self) -> str:
        first, _, _ = self.name.partition(b"/")
        return first.decode("utf-8", "surrogatepass").replace("%2F", "/").replace("%25", "%")


class Layout:
    """Key names under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.tags = [b"%b{%d}" % (prefix.encode(), number) for number in range(PARTITIONS)]
        self._queues: dict[QueueKey, Home] = {}
        self._shelves: dict[Shelf, Home] = {}

    def queue(self, queue: QueueKey) -> Home:
        home = self._queues.get(queue)
        if home is None:
            home = self._queues[queue] = self._home(b"q", _written(*queue))
            _bound(self._queues)
        return home

    def shelf(self, shelf: Shelf) -> Home:
        home = self._shelves.get(shelf)
        if home is None:
            home = self._shelves[shelf] = self._home(b"s", _written(*shelf))
            _bound(self._shelves)
        return home

    def member(self, member: bytes) -> Home:
        """What stands on an agenda."""
        return self._home(member[:1], member[1:])

    def _home(self, letter: bytes, name: bytes) -> Home:
        partition = binascii.crc_hqx(name, 0) % PARTITIONS
        kinds = _QUEUE_KINDS if letter == b"q" else _SHELF_KINDS
        return Home(self.tags[partition], partition, kinds, letter, name)


def _bound(homes: dict[Any, Home]) -> None:
    if len(homes) > KNOWN_HOMES:
        del homes[next(iter(homes))]


def _written(first: str, second: str) -> bytes:
    return f"{first.replace('%', '%25').replace('/', '%2F')}/{second}".encode("utf-8", "surrogatepass")


def number(value: float) -> bytes:
    """A time or an amount as text that means exactly that."""
    return repr(value).encode()


def first_place(at: float) -> bytes:
    """Where a sequence starts that begins at that time."""
    return b"%d" % max(1, int((at - _EPOCH) * _STEPS))


class _Posted(Struct, array_like=True):
    """What the producer sent, but for its id."""

    client: str  # first, so that scripts can compare it
    ttl: int
    created: float
    visible: float
    expires: float
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Posted).decode


def content(m: Message) -> bytes:
    return _encode((m.client, m.ttl, m.created, m.visible, m.expires, m.body))


def posted_by(client: str) -> bytes:
    """How the content of what this client posted begins, and no other's."""
    return b"\x96" + _encode(client)


def place(content: bytes) -> int:
    return int(content[: content.index(b" ")])


def message(id: str, content: bytes, state: bytes | None) -> Message:
    end = content.index(b" ")
    posted = _decode(memoryview(content)[end + 1 :])
    marker = content[:end].decode()
    if state is None:
        return Message(
            id=id,
            body=posted.body,
            ttl=posted.ttl,
            created=posted.created,
            visible=posted.visible,
            expires=posted.expires,
            client=posted.client,
            marker=marker,
        )
    claims, ttl, expires, undelayed, _, claim = state.split(b" ", 5)
    return Message(
        id=id,
        body=posted.body,
        ttl=posted.ttl if ttl == b"-" else int(ttl),
        created=posted.created,
        visible=posted.visible if undelayed == b"0" else posted.created,
        expires=posted.expires if expires == b"-" else float(expires),
        client=posted.client,
        claim=claim.decode() if claim else None,
        claim_count=int(claims),
        marker=marker,
    )


def messages(
    ids: Iterable[bytes], contents: Iterable[bytes | None], states: Iterable[bytes | None]
) -> list[Message]:
    """Messages as scripts answer them; without those whose content is missing."""
    return [
        message(id.decode(), content, state)
        for id, content, state in zip(ids, contents, states, strict=True)
        if content is not None
    ]


def lease(id: str, written: bytes) -> Lease:
    ttl, grace, since, _ = written.split(b" ", 3)
    return Lease(id=id, ttl=int(ttl), grace=int(grace), since=float(since))
