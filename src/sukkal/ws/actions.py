"""Actions: the vocabulary, read off the operation table, and how their requests are decoded.

A body's keys are the fields of the operation's request, some under the names that paths have for them.
"""

from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec
from msgspec import NODEFAULT, UNSET, Raw, Struct, UnsetType, ValidationError, field
from msgspec.structs import FieldInfo, asdict

from sukkal.core.context import Credentials
from sukkal.core.signing import Grant
from sukkal.operations import PATH_FIELDS, TABLE, Operation
from sukkal.wire import identity
from sukkal.ws.frames import KINDS, Kind

AUTHENTICATE = "authenticate"
HOME = "get_home_doc"

# Actions of the API that this server does not offer, or not to everybody.
NOT_OFFERED = (
    *(f"pool_{verb}" for verb in ("create", "list", "get", "update", "delete")),
    *(f"flavor_{verb}" for verb in ("create", "list", "get", "update", "delete")),
)

_NAMELESS = ("ping_node", "check_node_health", HOME)  # asked by nobody in particular
_WITHOUT_BODY = (*_NAMELESS, *NOT_OFFERED, AUTHENTICATE, "queue_list")  # none is needed

# Fields that only a query string fills; here such keys are ignored, like all that are unknown.
QUERY_ONLY = ("name", "with_count", "filters")

_KEYS = {name: key for key, name in PATH_FIELDS.items() if key != "topic_name"} | {"ids": "message_ids"}

# The field that stays raw until its size is judged: it is kept whole.
_RAW = {
    "messages.post": "messages",
    "queues.create": "metadata",
    "subscriptions.create": "options",
}

# Fields whose types are part of the schema here, while HTTP leaves them to core.
_TYPES: dict[str, dict[str, Any]] = {
    "subscriptions.create": {"subscriber": str | None, "ttl": int | None},
}


class Headers(Struct, frozen=True):
    """What headers say. Others are allowed and say nothing."""

    client: str | UnsetType = field(name="Client-ID", default=UNSET)
    project: str | UnsetType = field(name="X-Project-ID", default=UNSET)
    token: str | UnsetType = field(name="X-Auth-Token", default=UNSET)
    user_agent: str = field(name="User-Agent", default="")
    date: str = field(name="Date", default="")
    accept: str = field(name="Accept", default="")
    roles: Any = field(name="X-Roles", default=None)
    user: Any = field(name="X-User-Id", default=None)
    signature: Any = field(name="URL-Signature", default=UNSET)
    signed_paths: Any = field(name="URL-Paths", default=())
    signed_methods: Any = field(name="URL-Methods", default=())
    signed_until: Any = field(name="URL-Expires", default="")

    @property
    def signed(self) -> bool:
        """Whether a signature is shown instead of a token."""
        return self.signature is not UNSET

    @property
    def credentials(self) -> Credentials | None:
        """What the caller shows for others to act in its name; None unless it is a token and whose."""
        if self.token is UNSET or not self.token or not _text(self.user) or self.signed:
            return None
        return Credentials(
            token=self.token, user=self.user, roles=identity.role_names(_text(self.roles).encode())
        )

    @property
    def grant(self) -> Grant:
        """What it is of; lists may also be texts with commas."""
        return Grant(
            _text(self.signature),
            _texts(self.signed_paths),
            _texts(self.signed_methods),
            _text(self.signed_until),
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    """The texts of a list; none when it holds anything else."""
    if isinstance(value, str):
        return tuple(value.split(","))
    listed = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return tuple(value) if listed else ()


class Action:
    """One action: what it needs, and how its body is read."""

    def __init__(self, name: str, operation: Operation | None = None) -> None:
        self.name = name
        self.operation = operation
        self.nameless = name in _NAMELESS
        self.needs_body = name not in _WITHOUT_BODY
        self.raw_field = _RAW.get(operation.name) if operation else None
        fields = _fields(operation) if operation else []
        body = msgspec.defstruct(name, fields, rename=wire_name, kw_only=True)
        self._readers: dict[Kind, Callable[[bytes | Raw], Struct]] = {
            kind: kind.medium.decoder(body) for kind in KINDS
        }

    def read(self, kind: Kind, body: Raw) -> dict[str, Any]:
        """The fields that a body fills; raises what decoders raise when it does not fit."""
        if not body and not self.needs_body:
            return {}
        fields = asdict(self._readers[kind](body))
        raw = fields[self.raw_field] if self.raw_field else None
        if raw and not (kind.is_array(raw) if self.raw_field == "messages" else kind.is_object(raw)):
            raise ValidationError(f"`{self.raw_field}` is of another type")
        return fields

    def identified(self, headers: Headers) -> bool:
        """Whether the headers say all that this action needs of them."""
        if self.nameless:
            return True
        if self.name == AUTHENTICATE:
            return headers.project is not UNSET and headers.token is not UNSET
        return headers.project is not UNSET and headers.client is not UNSET


def wire_name(field_name: str) -> str:
    """The key that fills a field of a request."""
    return _KEYS.get(field_name, field_name)


def _fields(operation: Operation) -> list[Any]:
    """What a body may hold, as `defstruct` wants it."""
    raw = _RAW.get(operation.name)
    types = get_type_hints(operation.request) | _TYPES.get(operation.name, {})
    return [
        (f.name, Raw if f.name == raw else types[f.name], *_default(f, raw))
        for f in msgspec.structs.fields(operation.request)
        if f.name not in QUERY_ONLY
    ]


def _default(of: FieldInfo, raw: str | None) -> tuple[Any, ...]:
    """The field's default, if it has one; that of a raw one is an empty slice."""
    if of.required:
        return ()
    if of.name == raw:
        return (Raw(),)
    if of.default_factory is not NODEFAULT:
        return (field(default_factory=of.default_factory),)
    return (of.default,)


def vocabulary() -> dict[str, Action]:
    """Every action by name, also those that are not offered."""
    actions = [Action(operation.action, operation) for operation in TABLE if operation.action]
    actions += [Action(name) for name in (AUTHENTICATE, HOME, *NOT_OFFERED)]
    return {action.name: action for action in actions}
