"""The table of operations: everything that lists what the service can do derives from it.

Routing, the home document, the policy list, the protocol's documentation and the WebSocket vocabulary are
read off these rows. An operation is served by the core function registered under its name.
"""

import enum

from msgspec import Struct
from msgspec.structs import replace

from sukkal import requests
from sukkal.model import Flavor, Message, Pool, Subscription


class Body(enum.Enum):
    """What an HTTP request carries in its body."""

    NONE = "none"
    OPTIONAL = "optional object"  # its keys are fields of the request; none counts as {}
    REQUIRED = "object"  # its keys are fields of the request
    METADATA = "optional object, whole"  # the object itself is the field `metadata`
    CHANGES = "JSON patch"  # the array itself is the field `changes`
    UNCHECKED = "optional object, judged by core"  # like OPTIONAL, but of whatever types
    DOCUMENT = "object, judged by core"  # whatever it is, it is the field `document`; none counts as None
    MESSAGES = "messages"  # an object with the messages, whose bodies stay raw


PATCH_MEDIA_TYPE = "application/openstack-messaging-v2.0-json-patch"


class Operation(Struct, frozen=True, kw_only=True):
    name: str  # "messages.post"
    http: tuple[str, str]  # method and path; {queue_name} and the like fill the request's fields
    policy: str  # "messages:create"
    request: type[Struct]
    failure: str  # what to say when the store fails
    result: type[Struct] | None = None
    action: str | None = None  # the WebSocket action; None when it is not offered there
    query: tuple[str, ...] = ()  # parameters, each a field of the request
    filters: bool = False  # other query parameters go into the field `filters`
    selected_by: str | None = None  # takes over its route when this query parameter is given
    streamed: bool = False  # also offered as a stream of events, over HTTP
    body: Body = Body.NONE
    required: tuple[str, ...] = ()  # keys that a body, when there is one, must have
    success: tuple[int, ...] = (200,)
    admin: bool = False  # offered only in admin mode
    repeats: bool = False  # its answer repeats, in Content-Location, what was asked for
    delegates: bool = False  # may have others act in the caller's name: needs to know its credentials
    pooling: bool = False  # offered only where messages lie in pools
    relation: str | None = None  # in the home document; `rel/` is put in front
    like: str | None = None  # what serves and shows it, of a topic: the operation on a queue


# What path variables fill; the rest bear the field's own name.
PATH_FIELDS = {
    "queue_name": "queue",
    "topic_name": "queue",
    "message_id": "id",
    "claim_id": "claim_id",
    "subscription_id": "subscription_id",
    "pool_name": "pool",
    "flavor_name": "flavor",
}

_QUEUE = "/v2/queues/{queue_name}"

_ROWS: tuple[Operation, ...] = (
    Operation(
        name="ping.get",
        http=("GET", "/v2/ping"),
        action="ping_node",
        policy="ping:get",
        request=requests.Ping,
        success=(204,),
        relation="ping",
        failure="The store could not be reached.",
    ),
    Operation(
        name="ping.probe",
        http=("HEAD", "/v2/ping"),
        policy="ping:get",
        request=requests.Probe,
        success=(204,),
        failure="The store could not be reached.",
    ),
    Operation(
        name="health.get",
        http=("GET", "/v2/health"),
        action="check_node_health",
        policy="health:get",
        request=requests.GetHealth,
        result=requests.Health,  # of each pool, where messages lie in pools
        admin=True,
        relation="health",
        failure="Health status could not be read.",
    ),
    Operation(
        name="queues.list",
        http=("GET", "/v2/queues"),
        action="queue_list",
        policy="queues:get_all",
        request=requests.ListQueues,
        result=requests.QueueList,
        query=("marker", "limit", "detailed", "name", "with_count"),
        filters=True,
        relation="queues",
        failure="Queues could not be listed.",
    ),
    Operation(
        name="queues.create",
        http=("PUT", _QUEUE),
        action="queue_create",
        policy="queues:create",
        request=requests.CreateQueue,
        result=requests.QueueCreated,
        body=Body.METADATA,
        success=(201, 204),
        relation="queue",
        failure="Queue could not be created.",
    ),
    Operation(
        name="queues.get",
        http=("GET", _QUEUE),
        action="queue_get",
        policy="queues:get",
        request=requests.GetQueue,
        result=requests.QueueMetadata,
        relation="queue",
        failure="Queue metadata could not be retrieved.",
    ),
    Operation(
        name="queues.update",
        http=("PATCH", _QUEUE),
        policy="queues:update",
        request=requests.UpdateQueue,
        result=requests.QueueMetadata,
        body=Body.CHANGES,
        relation="queue",
        failure="Queue could not be updated.",
    ),
    Operation(
        name="queues.delete",
        http=("DELETE", _QUEUE),
        action="queue_delete",
        policy="queues:delete",
        request=requests.DeleteQueue,
        success=(204,),
        relation="queue",
        failure="Queue could not be deleted.",
    ),
    Operation(
        name="queues.stats",
        http=("GET", f"{_QUEUE}/stats"),
        action="queue_get_stats",
        policy="queues:stats",
        request=requests.GetQueueStats,
        result=requests.QueueStats,
        relation="queue_stats",
        failure="Queue stats could not be read.",
    ),
    Operation(
        name="queues.share",
        http=("POST", f"{_QUEUE}/share"),
        policy="queues:share",
        request=requests.ShareQueue,
        result=requests.SharedQueue,
        body=Body.DOCUMENT,
        relation="queue_share",
        failure="Queue could not be shared.",
    ),
    Operation(
        name="queues.purge",
        http=("POST", f"{_QUEUE}/purge"),
        action="queue_purge",
        policy="queues:purge",
        request=requests.PurgeQueue,
        body=Body.OPTIONAL,
        required=("resource_types",),
        success=(204,),
        relation="queue_purge",
        failure="Queue could not be purged.",
    ),
    Operation(
        name="messages.list",
        http=("GET", f"{_QUEUE}/messages"),
        action="message_list",
        policy="messages:get_all",
        request=requests.ListMessages,
        result=requests.MessageList,
        query=("marker", "limit", "echo", "include_claimed", "include_delayed", "wait"),
        streamed=True,
        relation="messages",
        failure="Messages could not be listed.",
    ),
    Operation(
        name="messages.get_many",
        http=("GET", f"{_QUEUE}/messages"),
        action="message_get_many",
        policy="messages:get_all",
        request=requests.GetMessages,
        result=requests.MessageList,
        query=("ids",),
        selected_by="ids",
        failure="Messages could not be listed.",
    ),
    Operation(
        name="messages.post",
        http=("POST", f"{_QUEUE}/messages"),
        action="message_post",
        policy="messages:create",
        request=requests.PostMessages,
        result=requests.MessagesPosted,
        body=Body.MESSAGES,
        success=(201,),
        relation="post_messages",
        failure="Messages could not be enqueued.",
    ),
    Operation(
        name="messages.delete_many",
        http=("DELETE", f"{_QUEUE}/messages"),
        action="message_delete_many",
        policy="messages:delete_all",
        request=requests.DeleteMessages,
        result=requests.MessagesPopped,
        query=("ids", "pop", "claim_ids"),
        success=(204, 200),
        relation="messages_delete",
        failure="Messages could not be deleted.",
    ),
    Operation(
        name="messages.get",
        http=("GET", f"{_QUEUE}/messages/{{message_id}}"),
        action="message_get",
        policy="messages:get",
        request=requests.GetMessage,
        result=Message,
        relation="message_get",
        failure="Message could not be retrieved.",
    ),
    Operation(
        name="messages.delete",
        http=("DELETE", f"{_QUEUE}/messages/{{message_id}}"),
        action="message_delete",
        policy="messages:delete",
        request=requests.DeleteMessage,
        query=("claim_id",),
        success=(204,),
        relation="message_delete",
        failure="Message could not be deleted.",
    ),
    Operation(
        name="claims.create",
        http=("POST", f"{_QUEUE}/claims"),
        action="claim_create",
        policy="claims:create",
        request=requests.CreateClaim,
        result=requests.Claimed,
        query=("limit", "wait"),
        body=Body.OPTIONAL,
        success=(201, 204),
        relation="post_claim",
        failure="Claim could not be created.",
    ),
    Operation(
        name="claims.get",
        http=("GET", f"{_QUEUE}/claims/{{claim_id}}"),
        action="claim_get",
        policy="claims:get",
        request=requests.GetClaim,
        result=requests.Claim,
        relation="claim",
        failure="Claim could not be queried.",
    ),
    Operation(
        name="claims.renew",
        http=("PATCH", f"{_QUEUE}/claims/{{claim_id}}"),
        action="claim_update",
        policy="claims:update",
        request=requests.RenewClaim,
        body=Body.REQUIRED,
        success=(204,),
        relation="patch_claim",
        failure="Claim could not be updated.",
    ),
    Operation(
        name="claims.release",
        http=("DELETE", f"{_QUEUE}/claims/{{claim_id}}"),
        action="claim_delete",
        policy="claims:delete",
        request=requests.ReleaseClaim,
        success=(204,),
        relation="delete_claim",
        failure="Claim could not be deleted.",
    ),
    Operation(
        name="pools.list",
        http=("GET", "/v2/pools"),
        policy="pools:get_all",
        request=requests.ListPools,
        result=requests.PoolList,
        query=("marker", "limit", "detailed"),
        repeats=True,
        admin=True,
        pooling=True,
        relation="pools",
        failure="Pools could not be listed.",
    ),
    Operation(
        name="pools.put",
        http=("PUT", "/v2/pools/{pool_name}"),
        policy="pools:create",
        request=requests.PutPool,
        result=requests.PoolPut,
        body=Body.DOCUMENT,
        success=(201,),
        admin=True,
        pooling=True,
        relation="pool",
        failure="Pool could not be created.",
    ),
    Operation(
        name="pools.get",
        http=("GET", "/v2/pools/{pool_name}"),
        policy="pools:get",
        request=requests.GetPool,
        result=Pool,
        query=("detailed",),
        admin=True,
        pooling=True,
        relation="pool",
        failure="Pool could not be retrieved.",
    ),
    Operation(
        name="pools.update",
        http=("PATCH", "/v2/pools/{pool_name}"),
        policy="pools:update",
        request=requests.UpdatePool,
        result=Pool,
        body=Body.DOCUMENT,
        admin=True,
        pooling=True,
        relation="pool",
        failure="Pool could not be updated.",
    ),
    Operation(
        name="pools.delete",
        http=("DELETE", "/v2/pools/{pool_name}"),
        policy="pools:delete",
        request=requests.DeletePool,
        success=(204,),
        admin=True,
        pooling=True,
        relation="pool",
        failure="Pool could not be deleted.",
    ),
    Operation(
        name="flavors.list",
        http=("GET", "/v2/flavors"),
        policy="flavors:get_all",
        request=requests.ListFlavors,
        result=requests.FlavorList,
        query=("marker", "limit", "detailed"),
        admin=True,
        pooling=True,
        relation="flavors",
        failure="Flavors could not be listed.",
    ),
    Operation(
        name="flavors.put",
        http=("PUT", "/v2/flavors/{flavor_name}"),
        policy="flavors:create",
        request=requests.PutFlavor,
        result=requests.FlavorPut,
        body=Body.DOCUMENT,
        success=(201,),
        admin=True,
        pooling=True,
        relation="flavor",
        failure="Flavor could not be created.",
    ),
    Operation(
        name="flavors.get",
        http=("GET", "/v2/flavors/{flavor_name}"),
        policy="flavors:get",
        request=requests.GetFlavor,
        result=Flavor,
        admin=True,
        pooling=True,
        relation="flavor",
        failure="Flavor could not be retrieved.",
    ),
    Operation(
        name="flavors.update",
        http=("PATCH", "/v2/flavors/{flavor_name}"),
        policy="flavors:update",
        request=requests.UpdateFlavor,
        result=Flavor,
        body=Body.DOCUMENT,
        admin=True,
        pooling=True,
        relation="flavor",
        failure="Flavor could not be updated.",
    ),
    Operation(
        name="flavors.delete",
        http=("DELETE", "/v2/flavors/{flavor_name}"),
        policy="flavors:delete",
        request=requests.DeleteFlavor,
        success=(204,),
        admin=True,
        pooling=True,
        relation="flavor",
        failure="Flavor could not be deleted.",
    ),
    # --- subscriptions ---
    Operation(
        name="subscriptions.list",
        http=("GET", f"{_QUEUE}/subscriptions"),
        action="subscription_list",
        policy="subscription:get_all",
        request=requests.ListSubscriptions,
        result=requests.SubscriptionList,
        query=("marker", "limit"),
        relation="subscriptions_get",
        failure="Subscriptions could not be listed.",
    ),
    Operation(
        name="subscriptions.create",
        http=("POST", f"{_QUEUE}/subscriptions"),
        action="subscription_create",
        policy="subscription:create",
        request=requests.CreateSubscription,
        result=requests.SubscriptionCreated,
        body=Body.UNCHECKED,
        success=(201,),
        delegates=True,
        relation="subscriptions_post",
        failure="Subscription could not be created.",
    ),
    Operation(
        name="subscriptions.get",
        http=("GET", f"{_QUEUE}/subscriptions/{{subscription_id}}"),
        action="subscription_get",
        policy="subscription:get",
        request=requests.GetSubscription,
        result=Subscription,
        relation="subscription",
        failure="Subscription could not be retrieved.",
    ),
    Operation(
        name="subscriptions.update",
        http=("PATCH", f"{_QUEUE}/subscriptions/{{subscription_id}}"),
        policy="subscription:update",
        request=requests.UpdateSubscription,
        result=Subscription,
        body=Body.DOCUMENT,
        success=(204,),
        delegates=True,
        relation="subscription_patch",
        failure="Subscription could not be updated.",
    ),
    Operation(
        name="subscriptions.delete",
        http=("DELETE", f"{_QUEUE}/subscriptions/{{subscription_id}}"),
        action="subscription_delete",
        policy="subscription:delete",
        request=requests.DeleteSubscription,
        success=(204,),
        relation="subscription",
        failure="Subscription could not be deleted.",
    ),
    Operation(
        name="subscriptions.confirm",
        http=("PUT", f"{_QUEUE}/subscriptions/{{subscription_id}}/confirm"),
        policy="subscription:confirm",
        request=requests.ConfirmSubscription,
        result=Subscription,
        body=Body.DOCUMENT,
        success=(204,),
        relation="subscription_confirm",
        failure="Subscription could not be confirmed.",
    ),
    Operation(
        name="subscriptions.replay",
        http=("POST", f"{_QUEUE}/subscriptions/{{subscription_id}}/replay"),
        policy="subscription:update",
        request=requests.ReplaySubscription,
        result=requests.Replayed,
        query=("marker",),
        failure="Subscription could not be replayed.",
    ),
)


# --- topics ------------------------------------------------------------------------------------------


def _of_topic(row: Operation) -> Operation:
    """The same for topics. Policies of messages and subscriptions hold for both."""
    return replace(
        row,
        name=f"topics.{row.name.removeprefix('queues.')}",
        http=(row.http[0], row.http[1].replace("queue", "topic")),
        policy=row.policy.replace("queues:", "topics:"),
        failure=row.failure.replace("Queue", "Topic"),
        action=None,
        relation=None,
        like=row.name,
    )


_QUEUES_ONLY = ("queues.share", "claims.")
_TOPICS = tuple(
    _of_topic(row)
    for row in _ROWS
    if row.http[1].startswith("/v2/queues") and not row.name.startswith(_QUEUES_ONLY)
)

TABLE: tuple[Operation, ...] = (*_ROWS, *_TOPICS)

BY_NAME = {operation.name: operation for operation in TABLE}


def offered(*, admin_mode: bool, pooling: bool) -> tuple[Operation, ...]:
    """The rows that a service with these settings serves over HTTP."""
    return tuple(row for row in TABLE if (admin_mode or not row.admin) and (pooling or not row.pooling))
