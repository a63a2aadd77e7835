"""The section of docs/protocol.md on WebSockets: the vocabulary as the server reads it, and real replies."""

import json
from itertools import count
from typing import Any

import msgspec
from conversation import BEGINNING, HEADERS, pretty

from sukkal.core.service import Service
from sukkal.model import Notice
from sukkal.operations import TABLE
from sukkal.stores.registry import open_backend
from sukkal.ws.actions import AUTHENTICATE, HOME, NOT_OFFERED, QUERY_ONLY, wire_name
from sukkal.ws.frames import TEXT, Frame
from sukkal.ws.responder import Reply, Responder

ABOUT = """\
## Over a WebSocket

Connect to any path of the service's port, or to `websocket_port`. Nothing is said before the client
speaks. A request is one message, a text frame with JSON or a binary frame with MessagePack; its reply
comes in a frame of the same kind. Requests may be sent without waiting for replies: they take effect, and
are answered, in the order in which they came.

A request is an object: `action`, a text; `headers`, always; `body`, where the table has a key in bold.
`headers` holds `Client-ID` and `X-Project-ID`, with capitals as here; `X-Roles` counts as over HTTP.
Unknown keys are ignored.

A reply repeats the request as it came, with `"api": "v2"`, and has the answer in `body` and its status in
`headers`:

{example}

What can go wrong, in the order in which it is looked for:

| What | Status | `body` |
|---|---|---|
| the frame cannot be decoded | `400` | `{{"error": "Can't decode text (JSON) request. …"}}`; \
nothing is repeated |
| it holds no object | `400` | `{{"error": "Unexpected body type. Expected dict or dict like."}}` |
| the action is unknown | `400` | `{{"error": "<action> is not a valid action"}}` |
| headers or body lack a key, or a value has another type | `400` | `{{"error": "Schema validation \
failed."}}` |
| the server does not offer the action | `501` | `{{"exception": "…", "error": "…"}}` |
| whatever HTTP would answer with an error | the same status | `{{"exception": "<the description>", \
"error": "<a sentence, or null>"}}` |

No fault ends the connection. These do: a frame over the limit (1009), a breach of the WebSocket protocol
(1002), not taking what is sent (1008), the server's end (1001); [the guide](guide.md#websockets) has the
bounds.

### Actions

Of these keys those in bold are required. What an action does and yields is that of the operation;
differences are below.

{table}
`{authenticate}` (headers `X-Auth-Token` and `X-Project-ID`) is answered `200`: there is no authentication
yet. `{home}` gives the home document. {missing} are answered `501`.

Results differ from HTTP's in this:

- Messages have `claim_id`, which is null but in answers of claims, and no `href`. A single message stands
  under `messages`.
- `message_post` yields `{{"message_ids": […]}}`; `claim_create` yields `{{"claim_id", "messages"}}`, also
  when there is nothing to claim: `204`, `{{"claim_id": null}}`.
- Metadata is shown as it is stored, without defaults.
- Statistics of a queue that does not exist are `404`, with zeros; `oldest` and `newest` have an `id`.
- `message_get_many` yields an empty list where HTTP says `404`.
- Listings have no links: the next page is asked for with the last message's id, or the last name, as
  `marker`.
- The size of a post is that of the array `messages` as it was sent.
- Creating and deleting queues, renewing and releasing claims, and deleting subscriptions are answered
  with a sentence.

### Notifications

`subscription_create` without `subscriber` subscribes the connection itself, for `ttl` seconds (60 and
more; 3600 when not given). From then on each message posted to the queue is sent to it, once it is
stored, in the order of posts; also the connection's own, and delayed ones at once, with their `delay`. A
notification has no key `request`:

{notification}

It is a frame of the kind in which the connection last subscribed. Of its `options`, `filter` counts: it tells
[which messages](webhooks.md#filters) are sent, as for other subscribers. A second subscription to a queue is
`409`, as is one of an outside subscriber, confirmed or not. All of a connection's subscriptions to itself end
with it.

Connections are told once; what they miss is kept nowhere but in the queue. Where filters take so long that
4 MiB of a project's messages have yet to be looked at, those are sent whether they are wanted or not. What
comes when 8 MiB wait, or 64 MiB of all projects, is not sent to connections that would have to wait for it.
"""


async def section() -> str:
    notice = Notice(queue="orders", body=b'{"event": "done"}', ttl=300)
    return ABOUT.format(
        example=await _example(),
        table=_table(),
        notification=_fenced(json.loads(TEXT.notification(notice))),
        authenticate=AUTHENTICATE,
        home=HOME,
        missing=", ".join(f"`{name}`" for name in NOT_OFFERED),
    )


def _table() -> str:
    rows = ["| Action | Body | Operation |", "| --- | --- | --- |"]
    for operation in TABLE:
        if operation.action is None:
            continue
        keys = []
        for field in msgspec.structs.fields(operation.request):
            if field.name not in QUERY_ONLY:
                key = f"`{wire_name(field.name)}`"
                keys.append(f"**{key}**" if field.required else key)
        name = operation.name
        link = f"[{name}](#{name.replace('.', '')})"
        rows.append(f"| `{operation.action}` | {' '.join(keys)} | {link} |")
    return "\n".join(rows) + "\n"


async def _example() -> str:
    numbers = count(1)
    service = Service(
        await open_backend("memory:"), new_id=lambda now: f"{int(now * 1000):012x}7000{next(numbers):016x}"
    )
    responder = Responder(service, clock=lambda: BEGINNING)
    request = {
        "action": "message_post",
        "headers": {name: HEADERS[name] for name in ("Client-ID", "X-Project-ID")},
        "body": {"queue_name": "orders", "messages": [{"body": {"event": "done"}, "ttl": 300}]},
    }
    asked = responder.read(Frame(TEXT, json.dumps(request).encode()), "")
    assert not isinstance(asked, Reply)
    reply = await responder.answer(asked)
    return _fenced(json.loads(reply.data))


def _fenced(document: Any) -> str:
    return f"```json\n{pretty(document)}\n```"
