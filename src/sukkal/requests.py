"""What can be asked and what is answered: a pair of structs for each operation.

A request is filled by a transport's decoder and not touched afterwards. Types and presence of fields were
checked there; what values are allowed is core's to say.
"""

from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType, field

from sukkal.model import Edge, Flavor, Lease, Message, Pool, Queue, Subscription

# --- queues ------------------------------------------------------------------------------------------


class ListQueues(Struct, frozen=True, kw_only=True):
    marker: str | None = None
    limit: int | None = None
    detailed: bool = False
    name: str | None = None  # only queues whose name contains this
    with_count: bool = False
    filters: dict[str, str] = {}  # stored metadata that must be equal


class QueueList(Struct, frozen=True, kw_only=True):
    queues: list[Queue]
    defaults: dict[str, Any]  # what a read shows for reserved attributes that are not set
    count: int | None = None  # of all queues the filters select, when asked for


class CreateQueue(Struct, frozen=True, kw_only=True):
    queue: str
    metadata: dict[str, Any] = {}


class QueueCreated(Struct, frozen=True, kw_only=True):
    created: bool  # False when it was there before


class GetQueue(Struct, frozen=True, kw_only=True):
    queue: str


class QueueMetadata(Struct, frozen=True, kw_only=True):
    stored: dict[str, Any]
    defaults: dict[str, Any]  # what a read shows for reserved attributes that are not set

    @property
    def shown(self) -> dict[str, Any]:
        """Stored metadata with defaults for each reserved attribute that is missing or falsy."""
        return self.stored | {k: v for k, v in self.defaults.items() if not self.stored.get(k)}


class UpdateQueue(Struct, frozen=True, kw_only=True):
    queue: str
    changes: list[Any]  # JSON patch operations on /metadata


class DeleteQueue(Struct, frozen=True, kw_only=True):
    queue: str


class GetQueueStats(Struct, frozen=True, kw_only=True):
    queue: str


class QueueStats(Struct, frozen=True, kw_only=True):
    exists: bool
    claimed: int
    free: int
    oldest: Edge | None
    newest: Edge | None


RESOURCE_TYPES = ("messages", "subscriptions")  # what a purge can empty


class ShareQueue(Struct, frozen=True, kw_only=True):
    queue: str
    document: Any  # an object of `paths`, `methods`, `expires`


class SharedQueue(Struct, frozen=True, kw_only=True):
    """Whoever holds this may do these things until then, without any other proof of who they are."""

    paths: list[str]
    methods: list[str]
    project: str
    expires: str
    signature: str


class PurgeQueue(Struct, frozen=True, kw_only=True):
    queue: str
    resource_types: list[Any] = field(default_factory=lambda: list(RESOURCE_TYPES))


# --- messages ----------------------------------------------------------------------------------------


class NewMessage(Struct, frozen=True, kw_only=True):
    """A message to be posted. Its body is in one of the forms that wire/bodies.py lists."""

    body: Raw  # any value of JSON or MessagePack, as sent
    ttl: int | UnsetType = UNSET
    delay: int | UnsetType = UNSET


class PostMessages(Struct, frozen=True, kw_only=True):
    queue: str
    messages: list[NewMessage]


class MessagesPosted(Struct, frozen=True, kw_only=True):
    ids: list[str]  # in the order of the request


class ListMessages(Struct, frozen=True, kw_only=True):
    queue: str
    marker: str | None = None
    limit: int | None = None
    echo: bool = False
    include_claimed: bool = False
    include_delayed: bool = False
    wait: int = 0


class MessageList(Struct, frozen=True, kw_only=True):
    messages: list[Message]
    include_delayed: bool = False  # whether delayed messages were shown, asked for or not


class GetMessages(Struct, frozen=True, kw_only=True):
    queue: str
    ids: list[str]


class GetMessage(Struct, frozen=True, kw_only=True):
    queue: str
    id: str


class DeleteMessage(Struct, frozen=True, kw_only=True):
    queue: str
    id: str
    claim_id: str | None = None


class DeleteMessages(Struct, frozen=True, kw_only=True):
    queue: str
    ids: list[str] | None = None
    pop: int | None = None
    claim_ids: list[str] | None = None


class MessagesPopped(Struct, frozen=True, kw_only=True):
    messages: list[Message]


# --- claims ------------------------------------------------------------------------------------------


class CreateClaim(Struct, frozen=True, kw_only=True):
    queue: str
    ttl: int | None = None
    grace: int | None = None
    limit: int | None = None
    wait: int = 0


class Claimed(Struct, frozen=True, kw_only=True):
    id: str | None  # None when there was nothing to claim
    messages: list[Message] = []


class GetClaim(Struct, frozen=True, kw_only=True):
    queue: str
    claim_id: str


class Claim(Struct, frozen=True, kw_only=True):
    lease: Lease
    messages: list[Message]


class RenewClaim(Struct, frozen=True, kw_only=True):
    queue: str
    claim_id: str
    ttl: int | None = None
    grace: int | None = None


class ReleaseClaim(Struct, frozen=True, kw_only=True):
    queue: str
    claim_id: str


# --- subscriptions -----------------------------------------------------------------------------------


class ListSubscriptions(Struct, frozen=True, kw_only=True):
    queue: str
    marker: str | None = None  # id of the last subscription of the page before
    limit: int | None = None


class SubscriptionList(Struct, frozen=True, kw_only=True):
    subscriptions: list[Subscription]


class CreateSubscription(Struct, frozen=True, kw_only=True):
    queue: str
    subscriber: Any = None  # a URI; over a WebSocket, none means the connection that asks
    ttl: Any = None  # seconds, an integer
    options: Any = None  # an object


class SubscriptionCreated(Struct, frozen=True, kw_only=True):
    id: str
    created: bool  # False when it was there before, unconfirmed


class GetSubscription(Struct, frozen=True, kw_only=True):
    queue: str
    subscription_id: str


class UpdateSubscription(Struct, frozen=True, kw_only=True):
    queue: str
    subscription_id: str
    document: Any  # an object of `subscriber`, `ttl`, `options`; null leaves as it is


class ConfirmSubscription(Struct, frozen=True, kw_only=True):
    queue: str
    subscription_id: str
    document: Any  # an object of `confirmed`, true or false


class ReplaySubscription(Struct, frozen=True, kw_only=True):
    """Send again what is in the dead letter queue for it."""

    queue: str
    subscription_id: str
    marker: str | None = None  # where the request before left off


class Replayed(Struct, frozen=True, kw_only=True):
    replayed: int  # deliveries
    marker: str | None = None  # there may be more from here on


class DeleteSubscription(Struct, frozen=True, kw_only=True):
    queue: str
    subscription_id: str


# --- pools and flavors -------------------------------------------------------------------------------


class ListPools(Struct, frozen=True, kw_only=True):
    marker: str | None = None
    limit: int | None = None
    detailed: bool = False


class PoolList(Struct, frozen=True, kw_only=True):
    pools: list[Pool]


class PutPool(Struct, frozen=True, kw_only=True):
    pool: str
    document: Any = None


class PoolPut(Struct, frozen=True, kw_only=True):
    """The pool is as the request has it, whatever it was before."""


class GetPool(Struct, frozen=True, kw_only=True):
    pool: str
    detailed: bool = False


class UpdatePool(Struct, frozen=True, kw_only=True):
    pool: str
    document: Any = None


class DeletePool(Struct, frozen=True, kw_only=True):
    pool: str


class ListFlavors(Struct, frozen=True, kw_only=True):
    marker: str | None = None
    limit: int | None = None
    detailed: bool = False


class FlavorList(Struct, frozen=True, kw_only=True):
    flavors: list[Flavor]


class PutFlavor(Struct, frozen=True, kw_only=True):
    flavor: str
    document: Any = None


class FlavorPut(Struct, frozen=True, kw_only=True):
    """The flavor is as the request has it, whatever it was before."""


class GetFlavor(Struct, frozen=True, kw_only=True):
    flavor: str


class UpdateFlavor(Struct, frozen=True, kw_only=True):
    flavor: str
    document: Any = None


class DeleteFlavor(Struct, frozen=True, kw_only=True):
    flavor: str


# --- the service itself ------------------------------------------------------------------------------


class Ping(Struct, frozen=True, kw_only=True):
    """Is the service there, and does its store answer?"""


class Probe(Struct, frozen=True, kw_only=True):
    """Is the service there?"""


class GetHealth(Struct, frozen=True, kw_only=True):
    """Try the service's basic operations."""


class OperationHealth(Struct, frozen=True, kw_only=True):
    succeeded: bool
    seconds: float
    ref: str | None  # found in the log beside the failure


class Volume(Struct, frozen=True, kw_only=True):
    free: int
    claimed: int
    total: int


class Health(Struct, frozen=True, kw_only=True):
    storage_reachable: bool
    durable: bool  # an acknowledged write survives a crash of the machine
    operation_status: dict[str, OperationHealth]
    message_volume: Volume | None  # None when it cannot be told
    capabilities: list[str] | UnsetType = UNSET  # of a pool: what its store promises now


class PooledHealth(Struct, frozen=True, kw_only=True):
    """How the service is whose messages lie in pools."""

    catalog_reachable: bool  # the records of queues and pools
    pools: dict[str, Health]

    @property
    def document(self) -> dict[str, Any]:
        """As it is shown: pools stand beside the catalog."""
        return {"catalog_reachable": self.catalog_reachable, **self.pools}
