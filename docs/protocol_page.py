"""The page docs/protocol.md: the operation table, written out for people."""

import inspect
import json
import re
from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import socket_section
from conversation import Conversation, Exchange
from msgspec import NODEFAULT, UNSET, Raw, Struct, UnsetType

from sukkal import errors
from sukkal.core.policy import REQUIRED_ROLE
from sukkal.http import render
from sukkal.http.events import HEARTBEAT_SECONDS as HEARTBEAT
from sukkal.http.events import RETRY
from sukkal.limits import MAX_SIGNED_TTL, MAX_WAIT
from sukkal.model import FlavorKey, Subscription
from sukkal.operations import PATCH_MEDIA_TYPE, PATH_FIELDS, TABLE, Body, Operation
from sukkal.requests import NewMessage
from sukkal.wire.home import home_document
from sukkal.wire.shown import ShownSubscription
from sukkal.wire.status import status_of

INTRODUCTION = f"""\
# Protocol

The HTTP API of the service, version 2. This page is generated: tables come from the operation table in the
source, and every example was asked of the service itself. Names of fields and titles of errors are fixed;
descriptions of errors are for people and may get better.

Contents: [What every request needs](#what-every-request-needs) · [Media types](#media-types) ·
[Order of checks](#order-of-checks) · [Operations](#operations) · [Topics](#topics) ·
[Pre-signed requests](#pre-signed-requests) · [Confirmation](#confirmation) ·
[Over a WebSocket](#over-a-websocket) ·
[A message](#a-message) · [Pages](#pages) · [Waiting](#waiting) · [Event streams](#event-streams) ·
[Errors](#errors) · [Home document](#home-document) · [Things in results](#things-in-results)

## What every request needs

| Header | |
|---|---|
| `Client-ID` | Required below `/v2/`. A UUID that names one running client, in any spelling; with the \
setting `client_id_uuid_safe = "off"`, any text of allowed length. It decides which messages are the \
caller's own in a listing, and nothing else. |
| `X-Project-ID` | Required below `/v2/`. The tenant: 1 to 256 characters. `X-Tenant-ID` and `X-Tenant` are \
read when it is absent. There is no authentication yet, so it is believed: see \
[operations](operations.md#who-may-reach-it). |
| `X-Roles` | Optional. The caller's roles, separated by commas. Only policies that ask for a role look \
at it. |
| `Accept` | Optional. If present it must admit `application/json` or `application/x-msgpack` (see \
[media types](#media-types)), or ask for an [event stream](#event-streams) where there is one. |
| `Prefer` | Optional. `wait=SECONDS`, where one may [wait](#waiting). |
| `Content-Type` | Optional for JSON. `application/x-www-form-urlencoded`, which curl sends on its own with \
`-d`, is refused. `PATCH` of a queue needs `{PATCH_MEDIA_TYPE}` or `application/x-msgpack`. |

Every answer carries `x-openstack-request-id`; quote it when you ask an operator about a request. `Location`
and every `href` are relative to the server. Answers without a body still have the `Content-Type` that one
with a body would have. `GET /` needs no headers and answers `300` with the list of versions; `OPTIONS` on any
known path answers `200`.

A header that is sent more than once counts as one, its values joined with commas. Of a key that a JSON object
has twice, the last counts. Whole numbers that do not fit 64 bits are refused.

All of this can also be asked [over a WebSocket](#over-a-websocket), in other words.
"""

MEDIA = """\
## Media types

Every request may come, and every answer can be had, in JSON (`application/json`) and in MessagePack
(`application/x-msgpack`; `application/msgpack` and `application/vnd.msgpack` mean the same). Fields, statuses
and errors are the same in both. `Content-Type` says what a request is; anything else, and nothing, counts as
JSON. `Accept` says what the answer should be, weighed by its `q`: of two media liked equally it is the one
that is named more specifically, else JSON. A refusal of both media (`406`) is JSON.

The body of a message may be anything that either of them can say. MessagePack goes to readers of MessagePack
unchanged, to the byte, and so does JSON to readers of JSON. Across, a reader is shown

| Posted as | To a reader of | |
|---|---|---|
| MessagePack | JSON | the same value. Bytes (`bin`) are `{"$base64": "…"}`, at any depth; NaN and \
infinities `null`; a timestamp its RFC 3339 text; a key that is no text becomes one: bytes their base64, \
anything else its JSON |
| JSON | MessagePack | the same value. JSON nested more than 200 levels deep, or with a number beyond any \
float, is its text (`str`) |

A MessagePack body is refused with `400` when it nests more than 200 levels deep, and for extension types
other than timestamps, texts that are not UTF-8, and integers that do not fit 64 bits with a sign. Metadata
and patches in MessagePack may hold only what JSON has: text keys, finite numbers, no bytes, no timestamps.

A post of `application/octet-stream` is one message, and the whole request body is its body: bytes, which may
be empty. Its times are the query parameters `ttl` and `delay`. To readers it is a MessagePack `bin`, and so
`{"$base64": "…"}` in JSON:

    curl -i 'http://127.0.0.1:8888/v2/queues/photos/messages?ttl=3600' --data-binary @photo.jpg \\
      -H 'Content-Type: application/octet-stream' -H 'X-Project-ID: demo' \\
      -H 'Client-ID: 3381af92-2b9e-11e3-b191-71861300734c'

A checksum is the same in every medium: it is of the body as readers of JSON are shown it.
"""

CHECKS = """\
## Order of checks

A request with several faults is answered for the first of them, in this order.

| | Check | If it fails |
|---|---|---|
| 1 | The server is not about to stop | `503` with `Retry-After: 2`; the connection is closed |
| 2 | The path is known. No path but `/` and `/v2/` ends in a slash | `404`, a document with a title only |
| 3 | Who is let in by a signature may do this | `404`, a document with a title only |
| 4 | The body is not said to be an HTML form | `400` *Invalid Content-Type* |
| 5 | `Accept` admits JSON or MessagePack, or asks for a stream of events that is offered | `406` |
| 6 | `Client-ID` is there and well formed | `400` *Missing header value*, *Wrong UUID value* |
| 7 | The project is there and not empty | `400` *Project-Id Missing*, *Empty project header not allowed* |
| 8 | The queue's or topic's name and the project's length are allowed | `400` \
*Invalid queue identification*, *Invalid topic identification* |
| 9 | The path offers the method | `405` with `Allow` |
| 10 | The caller has the role that the policy asks for | `403` *Not authorized* |
| 11 | Query parameters can be read; `ttl` and `delay` of a post only with bytes | `400` *Invalid parameter* |
| 12 | The body is not too long: what its length says, and what really comes | `400` |
| 13 | The body has the media type asked for (`PATCH` of a queue only) | `415` |
| 14 | The body can be read, and its fields are there and of their types | `400` *Invalid request body* |
| 15 | Values lie within their limits | `400` *Invalid API request* |
| 16 | What is asked for is there, and may be done | `403`, `404`, `409`, or `400` *Unable to delete* |
| 17 | The store did it | `503` *Service temporarily unavailable* with `Retry-After: 2` |

A request that is refused with a 4xx status changes nothing. After a `503` a write was not acknowledged: try
again in a few seconds.
"""

PAGES = """\
## Pages

Listings answer `200` with a page, also when it is empty and when the queue does not exist. `links` of a page
that is not empty holds one link, `rel` *next*, also on the last page: follow it until a page is empty. For
what comes later, ask the last link you had again, or [wait](#waiting).

Messages come oldest first, in the order in which they were accepted; queues by name. `limit` is 10 unless
given. Treat the `marker` in a link as opaque. It stays good when the message it points to has gone. For
clients that page by the last message they saw, its id is accepted too, while the message is there, or when it
recently was the last of a page. An unknown or malformed marker gives an empty page.

Parameters that are true or false are read from `true`, `True`, `t`, `yes`, `y`, `1`, `on` and `false`,
`False`, `f`, `no`, `n`, `0`, `off`. Items of a list are separated by commas, or the parameter is repeated. A
parameter without a value counts as absent; of one given twice the last counts; unknown ones are ignored (in
the list of queues they filter).
"""

WAITING = f"""\
## Waiting

A list of messages and a claim that find nothing may wait for a message instead of being asked again and
again: `wait=SECONDS` in the query, 0 to {MAX_WAIT}. They are answered as soon as there is something to
show or to take: a message was posted or came into a dead letter queue, a claim was released or lapsed, a
delay ended. When the time is over the answer is the ordinary one for nothing, an empty page or `204`. So
is it, before the time, when the server stops.

The standard form is the header `Prefer: wait=SECONDS` (RFC 7240). A longer wait is then shortened to
{MAX_WAIT}, one that cannot be read is ignored, and the answer says `Preference-Applied: wait=SECONDS`
when it was heeded. The query wins over the header. A *next* link keeps a `wait` of the query.

One message wakes everyone who waits with a listing, and no more claimers than can take it: whoever waited
first comes first. A listing without `echo` goes on waiting when only the caller's own messages come; one
behind a marker, when messages before it come back. Who closes the connection waits no more, and a claim
that was just then being taken for it is given back.
"""

STREAMS = f"""\
## Event streams

`GET /v2/queues/{{queue_name}}/messages` with `Accept: text/event-stream` is answered by a stream that
does not end: the messages of the listing, and each further one as it comes, as server-sent events. A
browser reads it with `EventSource`:

    const source = new EventSource(
        "http://127.0.0.1:8888/v2/queues/orders/messages?project_id=demo&echo=true")
    source.onmessage = event => console.log(JSON.parse(event.data).body)

Each message is one event: its `data` is the message as the listing shows it, its `id` the message's
marker.

    retry: {RETRY}

    id: 17
    data: {{"id":"…","href":"/v2/queues/orders/messages/…","ttl":3600,"age":0,"body":{{"order":1}}}}

- Parameters are those of the listing; `limit` says how many messages are read at a time, and `wait`
  nothing.
- A stream begins behind `Last-Event-ID`, else behind `marker`, else at the oldest message. A browser that
  loses the connection comes back after a second and says by itself where it was, so nothing is lost or
  repeated.
- Streams follow the queue's order, as listings do. A delayed message whose turn comes when later ones
  were shown, and one that is given back, is not shown; `include_delayed` and `include_claimed` show both
  when they are posted.
- After {HEARTBEAT:g} seconds without a message comes a comment, a line with a colon.
- A browser cannot set headers. For streams, and only for them, `client_id` and `project_id` may stand in
  the query where the headers are absent. Without any `Client-ID` the stream has one of its own.
- What is wrong with the request is answered as ever, not by a stream. A stream whose store fails, and
  every stream of a server that stops, ends; who comes back is told.
- `Accept` that names `application/json` too gets the listing.
"""

TOPICS = """\
## Topics

A topic is a queue whose messages nobody claims: who is subscribed is told of them. Topics have names of
their own; a topic and a queue of one name know nothing of each other. What is said above of queues holds
for topics, at other paths, but for this:

- Listings have the key `topics`; all references lie below `/v2/topics`.
- Of reserved attributes that are not set, reads show `_max_messages_post_size`, `_default_message_ttl` and
  `_default_message_delay` only.
- A bad name is *Invalid topic identification*.
- There are no claims, and no sharing. Over a WebSocket there are no topics.
"""

SIGNED = f"""\
## Pre-signed requests

Whoever holds a signature may use some methods on some paths of one project, until a time, and needs no
other leave. [queues.share](#queuesshare) gives one out, if the operator has set `signed_url_secret_key`.
It is shown by headers, besides `Client-ID`:

| Header | Over HTTP | In `headers` over a WebSocket |
|---|---|---|
| `URL-Signature` | the `signature` | the same |
| `URL-Paths` | the `paths`, with commas between them | a list, or as over HTTP |
| `URL-Methods` | the `methods`, with commas between them | a list, or as over HTTP |
| `URL-Expires` | `expires` | the same |
| `X-Project-ID` | the `project` | the same |

The method must be one of those; the path one of those, or below one; the time not over, and not further
away than `signed_url_max_ttl` ({MAX_SIGNED_TTL} seconds). Else the answer is `404` *404 Not Found*, over a
WebSocket `403` `{{"error": "Not authentified."}}`. There it lets in `message_list`, `message_get`,
`message_get_many` (`GET`), `message_post` (`POST`), `message_delete` and `message_delete_many`
(`DELETE`), for a queue whose `messages` are among the paths. The query is not signed. A pre-signed
request has no roles, whatever it says, can do nothing that is for operators, and cannot share.

The signature is the HMAC-SHA256, in hex, with the key, of `<paths>\\n<methods>\\n<project>\\n<expires>`:
paths and methods sorted and joined by commas, `\\n` a backslash and the letter n.
"""

CONFIRMATION = """\
## Confirmation

With the setting `require_confirmation`, an outside subscriber is asked first, and told of nothing before
it has confirmed. A webhook is sent, in place of a notification:

```json
{
  "Message_Type": "SubscriptionConfirmation",
  "Message": "You have chosen to subscribe to the queue: orders",
  "URL-Signature": "<hex>",
  "URL-Methods": "PUT",
  "URL-Paths": "/v2/queues/orders/subscriptions/<id>/confirm",
  "X-Project-ID": "acme",
  "URL-Expires": "2030-01-01T00:00:00",
  "SubscribeBody": {"confirmed": true},
  "UnsubscribeBody": {"confirmed": false},
  "queue_name": "orders",
  "WSGISubscribeURL": "https://mq.example/v2/queues/orders/subscriptions/<id>/confirm",
  "WebSocketSubscribeURL": "wss://mq.example:9000/v2/queues/orders/subscriptions/<id>/confirm"
}
```

It answers with a [pre-signed](#pre-signed-requests) `PUT` of `SubscribeBody` to that path, with what it was
sent as headers and a `Client-ID` of its own:

```http
PUT /v2/queues/orders/subscriptions/<id>/confirm
Client-ID: 3381af92-2b9e-11e3-b191-71861300734c
X-Project-ID: acme
URL-Signature: <hex>
URL-Methods: PUT
URL-Paths: /v2/queues/orders/subscriptions/<id>/confirm
URL-Expires: 2030-01-01T00:00:00
Content-Type: application/json

{"confirmed": true}
```

With the same headers it may send `UnsubscribeBody`: then it is told no more but once, with `Message_Type`
`UnsubscribeConfirmation` and new leave to subscribe again, for `default_subscription_ttl` seconds. Its leave
ends at `URL-Expires`, which is the end of the subscription as it was when it was asked, or sooner where
`signed_url_max_ttl` is less. A subscription that is renewed outlives it; a webhook that wants no more then
answers [410](webhooks.md#when-a-receiver-is-gone).

The two URLs are there if the operator has set
`public_endpoint` and `public_websocket_endpoint`. A subscriber by mail gets a link to the page that
`external_confirmation_url` names, with `Signature`, `Methods`, `Paths`, `Project`, `Expires`, `Url` and
`Queue` in its query. Queues of the same project (`queue:`) and connections are not asked.

Each process sends no more than 20 of these a minute from one project to one mailbox, or to one path of a
host, however its URI is spelled and whichever queues they are about. Requests beyond that are answered as
ever, and nothing is sent: subscribe once more after a minute to have the subscriber asked again.
"""

# What each operation does, in a sentence or two.
ABOUT = {
    "ping.get": "Is the service there, and does its store answer? For load balancers that can send headers.",
    "ping.probe": "Is the service there? Does not ask the store.",
    "health.get": "Tries the basic operations on a queue of its own and says how each went, how many "
    "messages all projects hold, and whether acknowledged writes survive a crash of the machine.",
    "queues.list": "The project's queues by name, a page at a time. Filters look at stored metadata only.",
    "queues.create": "Creates a queue, which needs nothing but a name: a post creates it as well. A queue "
    "that is there already is left as it is, and answers `204`.",
    "queues.get": "The queue's metadata, with defaults for reserved attributes that are not set. A queue "
    "that does not exist reads like an empty one.",
    "queues.update": "Changes metadata by a JSON patch, all of it or nothing: `add`, `replace` and `remove`"
    " of `/metadata/<key>`.",
    "queues.delete": "Deletes the queue with its messages and claims. Deleting what is not there is no "
    "error.",
    "queues.stats": "How many messages the queue holds, free and claimed, and its oldest and newest one "
    "that is not delayed. Exact at the moment of asking.",
    "queues.purge": "Empties the queue, claimed messages included; the queue and its metadata stay.",
    "messages.list": "Looks at messages without taking them, a page at a time, oldest first. Shows what "
    "others posted and nobody holds, unless more is asked for.",
    "messages.get_many": "Messages by their ids, claimed and delayed ones too, in the order asked for. Ids "
    "that name nothing are left out; `404` when nothing is left.",
    "messages.post": "Adds messages at the end of the queue, all or none, in their order. When the answer "
    "comes they are stored. The queue is created if need be.",
    "messages.delete_many": "Deletes messages by ids, whoever holds them (unless the setting "
    "`message_delete_with_claim_id` is on), or pops: hands out the oldest visible messages and deletes "
    "them in one step. Exactly one of `ids` and `pop` is given; `204` for ids, `200` for a pop.",
    "messages.get": "One message by its id, claimed or delayed ones too.",
    "messages.delete": "Deletes one message. A claimed one goes only with the id of its claim. Deleting "
    "what is not there is no error.",
    "claims.create": "Takes the oldest visible messages for this caller alone, until it deletes them, gives"
    " them back, or the claim's time is over. `204` when there is nothing to take. The claim's id stands "
    "at the end of `Location`, and in the `href` of each message.",
    "claims.get": "The claim, how long ago it was taken or renewed, and the messages that it still holds.",
    "claims.renew": "Starts the claim's time anew, from now. What is not given takes the default, not what "
    "the claim had.",
    "claims.release": "Gives back what the claim holds, each message at its old place. Never an error.",
    "queues.share": "Signs leave to do something with a queue, for somebody who has no other: see "
    "[pre-signed requests](#pre-signed-requests). The queue need not exist.",
    "subscriptions.list": "The queue's subscriptions by id, a page at a time.",
    "subscriptions.create": "Lets somebody be told of each message posted to the queue from now on. Whoever "
    "is subscribed to the queue already and has not confirmed keeps that subscription, as it is, and is "
    "asked once more; one who has confirmed is `409`. The queue is created if need be.",
    "subscriptions.get": "One subscription. `age` counts from its creation or its last `ttl`.",
    "subscriptions.update": "Changes a subscription. A `ttl` counts from now; `options` replace the old ones "
    "as a whole; a new subscriber has yet to confirm.",
    "subscriptions.delete": "Ends a subscription. Never an error.",
    "subscriptions.confirm": "Says that the subscriber wants to be told, or no longer does. Mostly asked by "
    "the subscriber, with what it was sent: see [confirmation](#confirmation).",
    "subscriptions.replay": "Sends again what could not be delivered to the subscriber and lies in its dead "
    "letter queue, each from its first attempt on, and takes it out there. A request looks at a bounded "
    "number of letters; `marker` in the answer says that there may be more. `409` when nothing would be "
    "delivered: the subscriber has yet to confirm, is disabled, or is a connection. Not in the original API.",
    "pools.list": "All [pools](operations.md#pools) by name, a page at a time. URIs are shown without user "
    "and password. The header `Content-Location` repeats what was asked.",
    "pools.put": "Adds a pool, or replaces it whole. Its store is opened and asked for a sign of life "
    "first. `uri` (1 to 255 characters) and `weight` (0 to 4294967295) are required, `flavor` (a name) and "
    "`options` (an object) are not; anything else is refused. `409` when another pool has that store.",
    "pools.get": "One pool.",
    "pools.update": "Changes what is given of `uri`, `weight`, `flavor` and `options`, at least one of them; "
    'other keys are ignored. `"flavor": ""` takes the pool out of its flavor.',
    "pools.delete": "Removes a pool, and with it whatever its queues hold. `403` when it is the last one of "
    "a flavor. Deleting what is not there is no error.",
    "flavors.list": "The project's [flavors](operations.md#pools) by name, a page at a time.",
    "flavors.put": "Makes a flavor of the pools in `pool_list`, or gives it others. They leave the flavors "
    "they were in. All of them must promise the same.",
    "flavors.get": "One flavor, its pools, and what all of them promise now.",
    "flavors.update": "Gives the flavor the pools in `pool_list` instead of those it has.",
    "flavors.delete": "Removes a flavor; its pools lose it. `403` while queues have it. Deleting what is not "
    "there is no error.",
}

# What fields mean whose name and type do not tell, and whose struct does not either.
MEANINGS = {
    "queue_name": "1 to 64 of the characters `a-z A-Z 0-9 _ . -`",
    "message_id": "as a post, a listing or a claim gave it",
    "claim_id": "as the claim gave it",
    "limit": "how many at most; 10 when not given",
    "detailed": "show metadata too",
    "with_count": "say how many queues there are",
    "metadata": "anything; keys that start with `_` may be [reserved](states.md#what-a-queue-can-be-told)",
    "changes": "JSON patch operations",
    "resource_types": "what to empty: `messages`, `subscriptions`; without a body, both",
    "messages": "at least one; only their size together is limited",
    "messages[].ttl": "seconds it lives, 60 to 1209600; else the queue's default",
    "messages[].delay": "seconds before it becomes visible, 0 to 900; else the queue's default",
    "echo": "show also what the caller posted",
    "include_claimed": "show also messages under a claim",
    "include_delayed": "show also messages that are not visible yet",
    "ids": "of messages, 20 at most",
    "pop": "how many to take, 20 at most",
    "wait": f"seconds to [wait](#waiting) for a message when there is none, {MAX_WAIT} at most",
    "claim_ids": "claims whose messages may go; read with `message_delete_with_claim_id` only",
    "ttl": "seconds to hold the messages, 60 to 43200; 300 when not given",
    "pool_name": "1 to 64 of the characters `a-z A-Z 0-9 _ . -`",
    "flavor_name": "1 to 64 of the characters `a-z A-Z 0-9 _ . -`",
    ("pools.list", "marker"): "pools after this name",
    ("pools.list", "detailed"): "show options too",
    ("pools.get", "detailed"): "show options too",
    ("flavors.list", "marker"): "flavors after this name",
    ("flavors.list", "detailed"): "show capabilities too",
    "grace": "seconds a message outlives the claim, 60 to 43200; 60 when not given",
    ("queues.list", "marker"): "queues after this name",
    ("messages.list", "marker"): "messages after this place, from the link *next*",
    ("messages.delete", "claim_id"): "the claim that holds the message; needed when one does",
    "subscription_id": "as the creation or a listing gave it",
    ("subscriptions.create", "subscriber"): "whom to tell: a URI, of a scheme that the setting "
    "`subscriber_types` names; over a WebSocket, none means the connection itself",
    ("subscriptions.create", "ttl"): "seconds until the subscription ends, 60 and more; 3600 when not given",
    ("subscriptions.create", "options"): "see [what a subscription can be told]"
    "(states.md#what-a-subscription-can-be-told)",
    ("subscriptions.replay", "marker"): "where the request before left off",
}

# Types of fields that the source takes as they come, for core to judge.
TYPES = {
    ("subscriptions.create", "subscriber"): "text",
    ("subscriptions.create", "ttl"): "integer",
    ("subscriptions.create", "options"): "object",
}

_POOL_LIST = ("pool_list", "list of text", "required", "names of pools")

# The members of a body that is one document to the operation: name, type, default and meaning.
DOCUMENTS = {
    "queues.share": (
        ("paths", "list of text", '`["messages"]`', "which of `messages`, `subscriptions`, `claims`"),
        ("methods", "list of text", '`["GET"]`', "of HTTP"),
        ("expires", "text", "a day from now", "a date and time of ISO 8601, in UTC unless it says otherwise"),
    ),
    "subscriptions.update": (
        ("subscriber", "text", "", "another URI; null, as for the others, leaves what is"),
        ("ttl", "integer", "", "seconds from now until the subscription ends, 60 and more"),
        (
            "options",
            "object",
            "",
            "instead of the ones it has, as a whole; see [what a subscription can be told]"
            "(states.md#what-a-subscription-can-be-told)",
        ),
    ),
    "subscriptions.confirm": (
        ("confirmed", "boolean", "required", "whether the subscriber wants to be told"),
    ),
    "pools.put": (
        ("uri", "text", "required", "of the store, 1 to 255 characters"),
        ("weight", "integer", "required", "how likely it gets a queue, among others: 0 to 4294967295"),
        ("flavor", "text", '`""`', "name of a flavor"),
        ("options", "object", "`{}`", "of the store, as in its URI"),
    ),
    "pools.update": (
        ("uri", "text", "", "of the store, 1 to 255 characters"),
        ("weight", "integer", "", "0 to 4294967295"),
        ("flavor", "text", "", 'name of a flavor; `""` for none'),
        ("options", "object", "", "instead of the ones it has"),
    ),
    "flavors.put": (_POOL_LIST,),
    "flavors.update": (_POOL_LIST,),
}

# The object of a message as it travels, field by field. Checked against the renderer's own.
WIRE_MESSAGE = {
    "id": ("text", "unique in the queue, never used again"),
    "href": ("text", "where the message is; with `?claim_id=…` while it is claimed, ready to be deleted"),
    "ttl": ("integer", "seconds it lives, counted from the post; a claim may have made it longer"),
    "age": ("integer", "whole seconds since it was posted"),
    "body": (
        "any value",
        "as it was posted, to the byte, encrypted and compressed at rest or not; what one of the "
        "[media](#media-types) lacks is shown as said there",
    ),
    "checksum": ("text", "`MD5:…`; only with the setting `enable_checksum`, and not for a body of `null`"),
}

# The same of a subscription.
WIRE_SUBSCRIPTION = {
    "id": ("text", "as the creation gave it"),
    "source": ("text", "what the queue or topic is called"),
    "subscriber": ("text", "a URI"),
    "ttl": ("integer", "seconds it lasts, as asked for"),
    "age": ("integer", "whole seconds since it was created, or last given a `ttl`"),
    "options": (
        "object",
        "as they were given; [what they mean](states.md#what-a-subscription-can-be-told)",
    ),
    "confirmed": ("boolean", "whether somebody has [confirmed](#confirmation) it"),
    "disabled": (
        "text",
        "a date and time: since when its receiver is [gone](webhooks.md#when-a-receiver-is-gone); left out "
        "of those whose receiver is not",
    ),
}

BODIES = {
    Body.NONE: "none",
    Body.OPTIONAL: "a JSON object, or none",
    Body.REQUIRED: "a JSON object",
    Body.METADATA: "a JSON object, which is the field `metadata` itself; or none",
    Body.CHANGES: "a JSON array, which is the field `changes` itself",
    Body.MESSAGES: "a JSON object",
    Body.UNCHECKED: "a JSON object",
    Body.DOCUMENT: "a JSON object",
}

Rows = list[tuple[str, ...]]


async def protocol() -> str:
    """The whole page."""
    examples = await _examples()
    nested: dict[str, type[Struct]] = {}
    parts = [INTRODUCTION, MEDIA, CHECKS, "## Operations\n", _overview()]
    parts += [_operation(row, examples[row.name], nested) for row in TABLE if row.like is None]
    parts += [
        _topics(examples),
        SIGNED,
        CONFIRMATION,
        await socket_section.section(),
        _wire_message(),
        PAGES,
        WAITING,
        STREAMS,
        await _errors(),
        _home(),
        _things(nested),
    ]
    return "\n".join(parts)


def table(head: tuple[str, ...], rows: Rows) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines) + "\n"
    )


# --- operations -----------------------------------------------------------------------------------------


def _overview() -> str:
    rows = [
        (f"[{op.name}](#{_anchor(op.name)})", f"`{op.http[0]} {op.http[1]}`", _statuses(op), f"`{op.policy}`")
        for op in TABLE
        if op.like is None
    ]
    return table(("Operation", "Method and path", "Success", "Policy"), rows)


def _topics(examples: dict[str, Exchange]) -> str:
    rows = [
        (
            f"`{op.name}`",
            f"`{op.http[0]} {op.http[1]}`",
            f"`{op.policy}`",
            f"[{op.like}](#{_anchor(op.like)})",
        )
        for op in TABLE
        if op.like is not None
    ]
    listed = table(("Operation", "Method and path", "Policy", "As"), rows)
    return f"{TOPICS}\n{listed}\n```http\n{examples['topics.list'].shown()}\n```\n"


def _operation(operation: Operation, example: Exchange, nested: dict[str, type[Struct]]) -> str:
    method, path = operation.http
    facts = [f"`{method} {path}`"]
    if operation.selected_by:
        facts.append(f"when the query parameter `{operation.selected_by}` is given")
    facts.append(f"policy `{operation.policy}`" + _role(operation))
    if operation.streamed:
        facts.append("also as an [event stream](#event-streams)")
    if operation.admin:
        facts.append("only in admin mode" + (" with `pooling`" if operation.pooling else ""))
    if operation.action:
        facts.append(f"WebSocket action `{operation.action}`")
    if operation.relation:
        facts.append(f"relation `rel/{operation.relation}`")
    parts = [f"### {operation.name}\n", ABOUT[operation.name] + "\n", " · ".join(facts) + "\n"]
    about = f"Body: {BODIES[operation.body]}. Success: {_statuses(operation)}."
    if operation.name != "ping.probe":  # which asks no store
        about += f' If the store fails: `503`, "{operation.failure} Please try again in a few seconds."'
    parts.append(f"{about}\n")
    rows = [
        (
            f"`{name}`" if name.isascii() and "*" not in name else name,
            *rest,
            _meaning(operation, name, comment),
        )
        for name, *rest, comment in _request_rows(operation)
    ]
    if rows:
        parts.append(table(("Field", "In", "Type", "Default", "Meaning"), rows))
    if operation.result is not None and operation.result.__struct_fields__:
        parts.append(f"Yields {_result(operation.result, nested)}\n")
    parts.append(f"```http\n{example.shown()}\n```\n")
    return "\n".join(parts)


def _role(operation: Operation) -> str:
    role = REQUIRED_ROLE.get(operation.policy)
    return f" (role `{role}`)" if role else " (open to everyone)"


def _statuses(operation: Operation) -> str:
    return " or ".join(f"`{status}`" for status in operation.success)


def _request_rows(operation: Operation) -> Iterator[tuple[str, str, str, str, str]]:
    """The fields of an operation's request: name, where it stands, type, default, comment."""
    in_path = {
        PATH_FIELDS[part[1:-1]]: part[1:-1] for part in operation.http[1].split("/") if part[:1] == "{"
    }
    for name, kind, default, comment in _fields(operation.request):
        if name in in_path:
            yield in_path[name], "path", kind, "required", comment
        elif operation.body is Body.DOCUMENT and name == "document":
            for member, *rest in DOCUMENTS[operation.name]:
                yield member, "body", *rest
        elif name in operation.query:
            yield name, "query", kind, default, comment
        elif operation.filters and name == "filters":
            yield "*any other*", "query", "text or integer", "", comment
        elif operation.body is Body.MESSAGES:
            yield name, "body", kind, "required", comment
            for inner, *rest in _fields(NewMessage):
                yield f"{name}[].{inner}", "body", rest[0], rest[1], rest[2]
        elif name in operation.required:
            yield name, "body", kind, "required in a body", comment
        else:
            yield name, "body", TYPES.get((operation.name, name), kind), default, comment


def _meaning(operation: Operation, name: str, comment: str) -> str:
    """What a field means: what the source says beside it, else what stands here."""
    meaning = MEANINGS.get((operation.name, name)) or comment or MEANINGS.get(name)
    assert meaning, f"{operation.name}: what does {name} mean? Say so beside the field, or in MEANINGS."
    return meaning


def _fields(struct: type[Struct]) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and comment of each field."""
    comments, hints = _comments(struct), get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        yield field.name, _kind(hints[field.name]), _default(field), comments.get(field.name, "")


def _comments(struct: type[Struct]) -> dict[str, str]:
    """What the source says beside each field."""
    found = {}
    for line in inspect.getsourcelines(struct)[0]:
        match = re.match(r"    (\w+): .*?  # (.*)", line)
        if match:
            found[match[1]] = match[2]
    return found


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not NODEFAULT:
        value = field.default_factory()
    elif field.default is NODEFAULT:
        return "required"
    else:
        value = field.default
    return "" if value is None or value is UNSET else f"`{json.dumps(value)}`"


def _kind(annotation: Any) -> str:
    """A type in words."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [each for each in get_args(annotation) if each not in (type(None), UnsetType)]
        return " or ".join(_kind(each) for each in kinds)
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin is list:
        return "list" if arguments in ((), (Any,)) else f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"object of {_kind(arguments[1])}" if arguments[1:] and _is_struct(arguments[1]) else "object"
    if _is_struct(origin):
        return f"[{origin.__name__}](#{_anchor(origin.__name__)})" if origin is not NewMessage else "message"
    names = {
        str: "text",
        int: "integer",
        bool: "boolean",
        float: "number",
        bytes: "bytes",
        Any: "any value",
        Raw: "any value",
        FlavorKey: "text",  # on the wire its name alone
    }
    return names[origin]


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _result(result: type[Struct], nested: dict[str, type[Struct]]) -> str:
    _collect(result, nested)
    if result.__name__ in nested:
        return f"a {_kind(result)}."
    said = (
        f"`{name}` ({kind}{'; ' + comment if comment else ''})" for name, kind, _, comment in _fields(result)
    )
    return ", ".join(said) + "; on the wire:"


def _collect(struct: type[Struct], nested: dict[str, type[Struct]]) -> None:
    """Note the structs within a result, and those of the model, to be described once."""
    if struct.__module__ == "sukkal.model":
        nested[struct.__name__] = struct
    for hint in get_type_hints(struct).values():
        pending = [hint]
        while pending:
            each = pending.pop()
            pending += get_args(each)
            if _is_struct(each) and each.__name__ not in nested:
                nested[each.__name__] = each
                _collect(each, nested)


def _things(nested: dict[str, type[Struct]]) -> str:
    parts = [
        "## Things in results\n",
        "What the rules of the service hand to a transport. Times are seconds since the epoch, durations are",
        "seconds; how HTTP shows them stands with each operation. A subscription is described as it is",
        "shown.\n",
    ]
    for name in sorted(nested):
        rows = [(f"`{field}`", kind, comment) for field, kind, _, comment in _fields(nested[name])]
        if nested[name] is Subscription:
            rows = _wire_rows(WIRE_SUBSCRIPTION, ShownSubscription)
        parts += [f"### {name}\n", table(("Field", "Type", "Meaning"), rows)]
    return "\n".join(parts)


def _wire_rows(described: dict[str, tuple[str, str]], struct: type[Struct]) -> Rows:
    assert tuple(described) == struct.__struct_fields__, f"on the wire {struct.__name__} has other fields"
    return [(f"`{name}`", kind, meaning) for name, (kind, meaning) in described.items()]


def _wire_message() -> str:
    rows = _wire_rows(WIRE_MESSAGE, render._Message)
    return "\n".join(
        [
            "## A message\n",
            "As listings, single reads and claims show it. What a pop hands out has no `href` but `claim_id`",
            "and `claim_count`: the message is gone already.\n",
            table(("Field", "Type", "Meaning"), rows),
        ]
    )


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# --- errors ---------------------------------------------------------------------------------------------


async def _errors() -> str:
    parts = [
        "## Errors\n",
        "Every error is a document with a `title`, and a `description` that says what was wrong and",
        "what is allowed; only unknown paths and methods have a title alone. The kinds of errors:\n",
        table(("Error", "Status", "Title unless stated otherwise", ""), list(_kinds(errors.ServiceError))),
        "Some errors in full:\n",
        table(("Asked", "Status", "Title", "Description"), [row async for row in _faults()]),
    ]
    return "\n".join(parts)


def _kinds(kind: type[errors.ServiceError], depth: int = 0) -> Iterator[tuple[str, ...]]:
    doc = inspect.getdoc(kind) if kind.__doc__ else ""
    name = "&nbsp;" * 4 * depth + kind.__name__
    yield name, f"`{status_of(kind(''))}`", f"*{kind.default_title}*", (doc or "").partition("\n")[0]
    for each in kind.__subclasses__():
        yield from _kinds(each, depth + 1)


async def _faults() -> Any:
    """Requests that fail, really asked."""
    it = await Conversation.begin()
    posted = (await it.ask("POST", "/v2/queues/orders/messages", {"messages": [{"body": 1}]})).answer
    message = posted["resources"][0]
    await it.ask("POST", "/v2/queues/orders/claims")
    asked: list[tuple[str, Exchange]] = [
        ("an unknown path", await it.ask("GET", "/v2/queue")),
        (
            "`GET /v2/queues` without `Client-ID`",
            await it.ask("GET", "/v2/queues", headers={"Client-ID": None}),
        ),
        (
            "`GET /v2/queues` without a project",
            await it.ask("GET", "/v2/queues", headers={"X-Project-ID": None}),
        ),
        ("`GET /v2/queues/no%20blanks`", await it.ask("GET", "/v2/queues/no blanks")),
        ("`DELETE /v2/queues`", await it.ask("DELETE", "/v2/queues")),
        ("`GET /v2/health` without the role", await it.ask("GET", "/v2/health")),
        ("`GET /v2/queues?limit=ten`", await it.ask("GET", "/v2/queues?limit=ten")),
        ("`GET /v2/queues?limit=21`", await it.ask("GET", "/v2/queues?limit=21")),
        ("a post of `[`", await it.ask("POST", "/v2/queues/orders/messages", "[")),
        ("a post of `{}`", await it.ask("POST", "/v2/queues/orders/messages", {})),
        (
            'a post of `{"messages": [{"ttl": 60}]}`',
            await it.ask("POST", "/v2/queues/orders/messages", {"messages": [{"ttl": 60}]}),
        ),
        (
            'a post of `{"messages": [{"body": 1, "ttl": 1}]}`',
            await it.ask("POST", "/v2/queues/orders/messages", {"messages": [{"body": 1, "ttl": 1}]}),
        ),
        (
            "a `PATCH` of a queue as `application/json`",
            await it.ask("PATCH", "/v2/queues/orders", []),
        ),
        (
            "a `PATCH` that replaces a key which is not there",
            await it.ask(
                "PATCH",
                "/v2/queues/orders",
                [{"op": "replace", "path": "/metadata/team", "value": "red"}],
                {"Content-Type": PATCH_MEDIA_TYPE},
            ),
        ),
        ("a message that is not there", await it.ask("GET", "/v2/queues/orders/messages/1")),
        ("`DELETE` of a claimed message without its claim", await it.ask("DELETE", message)),
        ("the same with a claim that has ended", await it.ask("DELETE", f"{message}?claim_id=gone")),
    ]
    for what, exchange in asked:
        document = exchange.answer
        yield what, f"`{exchange.status}`", f"*{document['title']}*", document.get("description", "*none*")


# --- home document --------------------------------------------------------------------------------------


def _home() -> str:
    everyone = json.loads(home_document(admin_mode=False))["resources"]
    operators = json.loads(home_document(admin_mode=True))["resources"]
    resources = json.loads(home_document(admin_mode=True, pooling=True))["resources"]
    rows = [
        (
            f"`{relation}`"
            + ("" if relation in everyone else " (admin mode)" if relation in operators else " (pooling)"),
            f"`{resource.get('href-template') or resource['href']}`",
            ", ".join(resource["hints"]["allow"]),
        )
        for relation, resource in resources.items()
    ]
    return "\n".join(
        [
            "## Home document\n",
            "`GET /v2/` answers with a JSON home document (`application/json-home`), from which a client can",
            "learn where everything is. It may be kept for a day.\n",
            table(("Relation", "Template", "Methods"), rows),
            "The template for deleting a message calls its variable `claim`, as clients know it; the",
            "parameter that is read is `claim_id`.\n",
        ]
    )


# --- examples -------------------------------------------------------------------------------------------


async def _examples() -> dict[str, Exchange]:
    """One exchange for each operation, in an order in which they make sense."""
    it, q, shown = await Conversation.begin(), "/v2/queues/orders", dict[str, Exchange]()
    shown["ping.get"] = await it.ask("GET", "/v2/ping")
    shown["ping.probe"] = await it.ask("HEAD", "/v2/ping")
    shown["queues.create"] = await it.ask("PUT", q, {"team": "blue", "_default_message_ttl": 600})
    shown["queues.get"] = await it.ask("GET", q)
    changes = [
        {"op": "add", "path": "/metadata/_max_claim_count", "value": 3},
        {"op": "add", "path": "/metadata/_dead_letter_queue", "value": "orders-failed"},
    ]
    shown["queues.update"] = await it.ask("PATCH", q, changes, {"Content-Type": PATCH_MEDIA_TYPE})
    posted = {"messages": [{"body": {"order": 1}}, {"body": {"order": 2}, "ttl": 120, "delay": 0}]}
    shown["messages.post"] = await it.ask("POST", f"{q}/messages", posted)
    first, second = (href.rpartition("/")[2] for href in shown["messages.post"].answer["resources"])
    it.wait(5)
    shown["messages.list"] = await it.ask("GET", f"{q}/messages?echo=true&limit=2")
    shown["messages.get_many"] = await it.ask("GET", f"{q}/messages?ids={second},{first}")
    shown["messages.get"] = await it.ask("GET", f"{q}/messages/{first}")
    shown["claims.create"] = await it.ask("POST", f"{q}/claims?limit=1", {"ttl": 300, "grace": 60})
    claim = shown["claims.create"].headers["location"]
    it.wait(10)
    shown["claims.get"] = await it.ask("GET", claim)
    shown["claims.renew"] = await it.ask("PATCH", claim, {"ttl": 600})
    shown["queues.stats"] = await it.ask("GET", f"{q}/stats")
    shown["messages.delete"] = await it.ask("DELETE", shown["claims.get"].answer["messages"][0]["href"])
    claim = (await it.ask("POST", f"{q}/claims")).headers["location"]
    shown["claims.release"] = await it.ask("DELETE", claim)
    shown["messages.delete_many"] = await it.ask("DELETE", f"{q}/messages?pop=1")
    shown["queues.list"] = await it.ask("GET", "/v2/queues?limit=1&detailed=true&with_count=true")
    shown["health.get"] = await it.ask("GET", "/v2/health", headers={"X-Roles": "admin"})
    shown["queues.share"] = await it.ask(
        "POST", f"{q}/share", {"methods": ["GET", "POST"], "expires": "2026-01-08T00:00:00Z"}
    )
    subscriptions = f"{q}/subscriptions"
    subscriber = {"subscriber": "https://hooks.example/in", "ttl": 86400, "options": {"batch": 10}}
    shown["subscriptions.create"] = await it.ask("POST", subscriptions, subscriber)
    subscription = f"{subscriptions}/{shown['subscriptions.create'].answer['subscription_id']}"
    it.wait(60)
    shown["subscriptions.list"] = await it.ask("GET", f"{subscriptions}?limit=5")
    shown["subscriptions.update"] = await it.ask("PATCH", subscription, {"ttl": 604800})
    shown["subscriptions.replay"] = await it.ask("POST", f"{subscription}/replay")
    shown["subscriptions.confirm"] = await it.ask("PUT", f"{subscription}/confirm", {"confirmed": True})
    shown["subscriptions.get"] = await it.ask("GET", subscription)
    shown["subscriptions.delete"] = await it.ask("DELETE", subscription)
    await it.ask("PUT", "/v2/topics/news", {"team": "blue"})
    shown["topics.list"] = await it.ask("GET", "/v2/topics?detailed=true")
    shown["queues.purge"] = await it.ask("POST", f"{q}/purge", {"resource_types": ["messages"]})
    shown["queues.delete"] = await it.ask("DELETE", q)
    await _show_pools(shown)
    for operation in TABLE:
        if operation.like is None:
            assert shown[operation.name].status in operation.success, (
                f"the example of {operation.name} failed"
            )
    return shown


async def _show_pools(shown: dict[str, Exchange]) -> None:
    it, admin = await Conversation.begin(pooling=True), {"X-Roles": "admin"}
    pool, flavor = "/v2/pools/fast", "/v2/flavors/gold"
    new = {"uri": "memory:///fast", "weight": 100, "options": {}}
    shown["pools.put"] = await it.ask("PUT", pool, new, admin)
    await it.ask("PUT", "/v2/pools/spare", {"uri": "memory:///spare", "weight": 1}, admin)
    shown["flavors.put"] = await it.ask("PUT", flavor, {"pool_list": ["fast", "spare"]}, admin)
    shown["pools.update"] = await it.ask("PATCH", "/v2/pools/spare", {"flavor": "", "weight": 50}, admin)
    shown["pools.list"] = await it.ask("GET", "/v2/pools?limit=1&detailed=true", None, admin)
    shown["pools.get"] = await it.ask("GET", pool, None, admin)
    shown["flavors.list"] = await it.ask("GET", "/v2/flavors?detailed=true")
    shown["flavors.get"] = await it.ask("GET", flavor)
    shown["flavors.update"] = await it.ask("PATCH", flavor, {"pool_list": ["fast"]}, admin)
    shown["flavors.delete"] = await it.ask("DELETE", flavor, None, admin)
    shown["pools.delete"] = await it.ask("DELETE", pool, None, admin)
