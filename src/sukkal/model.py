"""What things are. Times are seconds since the epoch, durations are seconds."""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import Struct

_TOPIC = "topic:"  # begins the names of topics; a colon is in no name that a user can give


def topic(name: str) -> str:
    """The name under which all but paths know a topic, so that no queue is ever taken for it."""
    return _TOPIC + name


def topic_of(name: str) -> str | None:
    """What a topic is called by its users; None for a queue."""
    return name[len(_TOPIC) :] if name.startswith(_TOPIC) else None


class QueueKey(NamedTuple):
    """Names one queue or topic: equal names in two projects are two of them."""

    project: str
    name: str  # a topic's is made by `topic`

    @property
    def kind(self) -> str:
        return "topic" if self.name.startswith(_TOPIC) else "queue"

    @property
    def title(self) -> str:
        """What its users call it."""
        return topic_of(self.name) or self.name


# The key of a project and a queue's name. Most are asked for again and again, and need not be made anew.
queue_key = lru_cache(16_384)(QueueKey)


class Message(Struct, frozen=True, kw_only=True):
    """One message as a store keeps it."""

    id: str  # unique in its queue, never used again
    body: bytes  # as the producer sent it, in a form that wire/bodies.py lists; opaque to stores
    ttl: int  # seconds, as asked for; a claim may have extended it
    created: float
    visible: float  # claimable from then on (created + delay)
    expires: float  # gone from then on
    client: str = ""  # who posted it, for `echo`
    claim: str | None = None  # id of the live lease that holds it
    claim_count: int = 0  # how often it was handed out
    marker: str = ""  # opaque place in the queue's order, set by the store


class Lease(Struct, frozen=True, kw_only=True):
    """An exclusive, lapsing right to some messages of one queue."""

    id: str
    ttl: int  # seconds held, from `since`
    grace: int  # seconds a held message outlives the lease
    since: float  # when taken or last renewed

    @property
    def due(self) -> float:
        """When the lease lapses; it is live while `now < due`."""
        return self.since + self.ttl


class View(Struct, frozen=True, kw_only=True):
    """Which messages a listing shows."""

    include_claimed: bool = False  # also those under a live lease
    include_delayed: bool = False  # also those not yet visible
    without_client: str | None = None  # leave out what this client posted


class Holder(Struct, frozen=True, kw_only=True):
    """On whose authority messages are deleted, and so which of them may go."""

    claims: frozenset[str] = frozenset()  # messages under one of these live leases
    unclaimed: bool = False  # messages under no live lease
    anyone: bool = False  # all of them, held or not


ANYONE = Holder(anyone=True)
UNCLAIMED = Holder(unclaimed=True)


class Edge(Struct, frozen=True, kw_only=True):
    """The first or last message of a queue, as its statistics show it."""

    id: str
    created: float


class Stats(Struct, frozen=True, kw_only=True):
    """What a queue holds at one moment: `free + claimed` messages, none of them expired."""

    free: int = 0  # under no live lease, delayed ones included
    claimed: int = 0  # under a live lease
    oldest: Edge | None = None  # in queue order, delayed messages left out
    newest: Edge | None = None

    @property
    def total(self) -> int:
        return self.free + self.claimed


class Queue(Struct, frozen=True, kw_only=True):
    """A queue's or topic's record in the control plane."""

    name: str  # as its users call it
    metadata: dict[str, Any]  # as the user stored it, defaults not filled in
    version: int  # of the stored document


class Subscription(Struct, frozen=True, kw_only=True):
    """Who is told of messages posted to a queue or topic, until when."""

    id: str
    source: str  # what the queue or topic is called
    subscriber: str  # a URI
    ttl: int  # seconds, as asked for
    created: float  # or when it was last given a ttl
    options: dict[str, Any] = {}
    confirmed: bool = False
    connection: bool = False  # the subscriber is a connection to this service: told by it, not delivered to
    gone: float | None = None  # when the subscriber said it is: nothing is brought to it since then

    @property
    def expires(self) -> float:
        """Gone from then on."""
        return self.created + self.ttl


class Notice(Struct, frozen=True, kw_only=True):
    """What subscribers are told of a message."""

    queue: str
    body: bytes  # as the producer sent it
    ttl: int  # seconds
    delay: int = 0  # seconds until it can be claimed


class FlavorKey(NamedTuple):
    """Names one flavor: equal names in two projects are two flavors."""

    project: str
    name: str


class Pool(Struct, frozen=True, kw_only=True):
    """A store that queues can be placed in."""

    name: str
    uri: str  # may hold a password; people are shown `shown_uri`
    weight: int  # how likely it is chosen, beside others; 0 is never
    flavor: FlavorKey | None = None  # which queues it is for; None: those without flavor
    options: dict[str, Any] = {}  # for the driver, as the operator gave them
    capabilities: list[str] = []  # what its store promised when it was last asked

    @property
    def shown_uri(self) -> str:
        return without_credentials(self.uri)

    @property
    def shown_options(self) -> dict[str, Any]:
        """Passwords may be given as options too."""
        return {name: "(hidden)" if "password" in name else value for name, value in self.options.items()}


class Flavor(Struct, frozen=True, kw_only=True):
    """A project's named set of pools."""

    name: str
    pools: list[str]
    capabilities: list[str]  # what all of its pools promise now


def without_credentials(uri: str) -> str:
    """A store's URI as it may be shown and logged."""
    # A "?" in a password that should have been quoted does not begin the options, which have a "=".
    uri = re.sub(r"^([^:/?#]+://)(?!/)(?:[^?]*@|[^@=]*@)", r"\1", uri)
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1(hidden)", uri)
