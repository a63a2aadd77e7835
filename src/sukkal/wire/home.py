"""The documents that say what this API is: its versions, and its home document (JSON home)."""

from typing import Any

from sukkal.operations import Operation, offered
from sukkal.wire.media import JSON, Medium

VERSIONS: dict[str, Any] = {
    "versions": [
        {
            "id": "2",
            "status": "CURRENT",
            "updated": "2014-9-24T04:06:47Z",
            "media-types": [
                {
                    "base": "application/json",
                    "type": "application/vnd.openstack.messaging-v2+json",
                }
            ],
            "links": [{"href": "/v2/", "rel": "self"}],
        }
    ]
}

# Query variables that a relation's template names. Fixed by the API, which leaves some parameters out, and
# calls one by another name (`claim` for `claim_id`).
_QUERY = {
    "queues": ("marker", "limit", "detailed"),
    "messages": ("marker", "limit", "echo", "include_claimed"),
    "messages_delete": ("ids", "pop"),
    "message_delete": ("claim",),
    "post_claim": ("limit",),
    "pools": ("detailed", "limit", "marker"),
    "flavors": ("detailed", "limit", "marker"),
    "subscriptions_get": ("marker", "limit"),
}

# Variables that stand beside a template, though not in it.
_BESIDE = {"subscriptions_post": ("limit",)}

# Variables whose parameter bears another name, in all relations or in one.
_PARAMETERS = {
    "claim": "claim_id",
    ("queues", "limit"): "queue_limit",
    ("messages", "limit"): "messages_limit",
    ("post_claim", "limit"): "claim_limit",
    ("pools", "limit"): "pool_limit",
    ("flavors", "limit"): "flavor_limit",
    ("subscriptions_get", "limit"): "subscription_limit",
    ("subscriptions_post", "limit"): "subscription_limit",
}

_METHOD_ORDER = ("GET", "PUT", "DELETE", "PATCH", "POST")


def home_document(*, admin_mode: bool, pooling: bool = False, medium: Medium = JSON) -> bytes:
    """The home document, from the table."""
    relations: dict[str, list[Operation]] = {}
    for operation in offered(admin_mode=admin_mode, pooling=pooling):
        if operation.relation:
            relations.setdefault(operation.relation, []).append(operation)
    resources = {f"rel/{name}": _resource(name, rows) for name, rows in relations.items()}
    return medium.encode({"resources": resources})


def _resource(name: str, rows: list[Operation]) -> dict[str, Any]:
    path = rows[0].http[1].replace("{subscription_id}", "{subscriptions_id}")  # as the API has it
    allow = sorted((row.http[0] for row in rows), key=_METHOD_ORDER.index)
    hints: dict[str, Any] = {"allow": allow, "formats": {"application/json": {}}}
    if set(allow) <= {"POST", "PATCH"}:
        hints["accept-post"] = ["application/json"]
    query = _QUERY.get(name, ())
    if rows[0].admin and "{" not in path and not query:
        return {"href": path, "hints": hints}
    variables = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    variables += [*query, *_BESIDE.get(name, ())]
    resource: dict[str, Any] = {"href-template": path + ("{?" + ",".join(query) + "}" if query else "")}
    if variables:
        resource["href-vars"] = {
            variable: "param/" + _PARAMETERS.get((name, variable), _PARAMETERS.get(variable, variable))
            for variable in variables
        }
    return {**resource, "hints": hints}
