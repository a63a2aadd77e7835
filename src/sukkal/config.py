"""Settings: what an operator can say, in one frozen tree, from a TOML file, the environment and flags.

A setting is one field of `Settings`; its type, bounds, default and description stand there and nowhere
else. The file's keys, the variables `SUKKAL_…`, the flags of `sukkal serve` and `docs/settings.md` are
drawn from it. To add a setting, add a field (and to `FLAGS`, if it deserves a flag).

Flags win over the environment, the environment over the file, the file over the defaults.
"""

import difflib
import math
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta, Struct, ValidationError
from msgspec.inspect import (
    BoolType,
    CustomType,
    FloatType,
    IntType,
    LiteralType,
    Metadata,
    NoneType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from sukkal.limits import MAX_SIGNED_TTL, MIN_TTL, Limits
from sukkal.model import without_credentials
from sukkal.wire.keys import MIN_KEY, is_known

PREFIX: Final = "SUKKAL_"
FILE_VARIABLE: Final = PREFIX + "CONFIG"  # names the file
FLAGS: Final = (
    "host",
    "port",
    "websocket_port",
    "data_dir",
    "store",
    "control_store",
    "workers",
    "admin_port",
    "durability",
    "log_format",
)
_SECRETS: Final = (  # never shown, not even in an error or a repr
    "message_encryption_key",
    "osprofiler_hmac_keys",
    "signed_url_secret_key",
    "smtp_user_password",
    "trustee_password",
    "webhook_signing_keys",
)
_OURS_BUT_NO_SETTING: Final = (FILE_VARIABLE, PREFIX + "LONG")
_TEST_VARIABLES: Final = PREFIX + "TEST_"

_HTTP_URL: Final = r"^https?://[^/\s?#]+(/[^\s?#]*)?$"

_LIMITS: Final = Limits()  # its defaults are the settings' defaults
_MOST: Final = 2**31 - 1  # seconds, bytes or counts: beyond any use, and safe in every store's columns

_TRUTHS: Final = dict.fromkeys(("true", "yes", "on", "1"), True)
_TRUTHS.update(dict.fromkeys(("false", "no", "off", "0"), False))


class BadSetting(Exception):
    """A setting that cannot be used; the text is one sentence for the operator. `key` is its name."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def _default_data_dir(environ: Mapping[str, str]) -> Path:
    """Where the XDG rules put an application's data; they say to ignore a relative XDG_DATA_HOME."""
    named = Path(environ.get("XDG_DATA_HOME", ""))
    if named.is_absolute():
        return named / "sukkal"
    try:
        home = Path(environ.get("HOME") or Path.home())
    except RuntimeError as exc:
        raise BadSetting("data_dir", "There is no home directory to keep data in: set data_dir.") from exc
    return home / ".local" / "share" / "sukkal"


class Settings(Struct, frozen=True, kw_only=True):
    """Everything an operator can set. Made by `load`, which checks it."""

    host: Annotated[str, Meta(description="Address the service listens on.")] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port the service listens on; 0 takes any free one.")
    ] = 8888
    websocket_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(
            description="A further port, on the same address, that serves WebSockets only; 9000 is where "
            "clients expect them, 0 takes any free one. WebSockets are served on `port` in any case.",
            extra={"default": "none"},
        ),
    ] = None
    data_dir: Annotated[
        Path,
        Meta(
            description="Directory of the embedded store, created when missing; the one place to back up.",
            extra={"default": "`$XDG_DATA_HOME/sukkal`, else `~/.local/share/sukkal`"},
        ),
    ] = msgspec.field(default_factory=lambda: _default_data_dir(os.environ))
    store: Annotated[
        str,
        Meta(
            pattern=r"^[a-z][a-z0-9+.\-]*:",
            description="Where everything is kept: `sqlite:` is the embedded durable store under the data "
            "directory, `redis://host:port/database` a Redis or Valkey server that several processes may "
            "share, `memory:` forgets everything at exit. See docs/stores.md.",
            extra={"allowed": "a store's URI, such as sqlite: or redis://localhost"},
        ),
    ] = "sqlite:"
    control_store: Annotated[
        Annotated[str, Meta(pattern=r"^[a-z][a-z0-9+.\-]*:")] | None,
        Meta(
            description="Where records of queues and subscriptions are kept, if not with the messages in "
            "`store`: in any store, or in a database, `postgresql://user:password@host/database` or "
            "`mysql://…`. See docs/stores.md.",
            extra={"default": "the same as `store`", "allowed": "a store's URI, such as redis://localhost"},
        ),
    ] = None
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="Processes that serve the port together. More than one needs a store that can be "
            "shared, such as Redis.",
        ),
    ] = 1
    durability: Annotated[
        Literal["full", "relaxed"],
        Meta(
            description="What an acknowledged write survives: `full`, a crash of the machine; `relaxed`, a "
            "crash of the process only, for more speed."
        ),
    ] = "full"
    drain_timeout: Annotated[
        float,
        Meta(
            ge=0,
            le=_MOST,
            description="Seconds that requests in flight may take to finish after SIGTERM.",
        ),
    ] = 30.0
    allowed_origin: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^(\*|[a-z][a-z0-9+.\-]*://[^/\s,]+)$")], ...],
        Meta(
            description="Origins whose browser pages may call the service (CORS); none: CORS is off.",
            extra={"allowed": "a list of origins such as https://example.org, or *"},
        ),
    ] = ()
    compress_above: Annotated[
        int,
        Meta(
            ge=0,
            le=_MOST,
            description="Bodies of messages longer than this many bytes are compressed in the store, where "
            "that saves a tenth or more; 0: none are.",
        ),
    ] = 4096

    admin_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(
            description="A further port, for operators: metrics for Prometheus, and whether the service is "
            "alive and ready; 0 takes any free one. Each worker has its own: the first this one, the next "
            "the one after it. See docs/operations.md.",
            extra={"default": "none"},
        ),
    ] = None
    admin_host: Annotated[
        str,
        Meta(description="Address of the operators' port. Who reaches it can read the names of busy queues."),
    ] = "127.0.0.1"
    metrics_queues: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="How many queues, the busiest ones, metrics show by name with what they hold.",
        ),
    ] = 20

    metrics_project_classes: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_\-]+=.+$")], ...],
        Meta(
            description="Classes of projects by which metrics tell messages apart: each a name, `=`, and a "
            "pattern of project ids with `*`, `?` and `[…]`. The first that fits tells; what none fits is "
            "`other`.",
            max_length=100,
            extra={"allowed": "a list of at most 100 items such as gold=acme-*"},
        ),
    ] = ()

    log_format: Annotated[
        Literal["console", "json"],
        Meta(description="How log lines look: for people, or one JSON object a line."),
    ] = "console"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least important level that is logged."),
    ] = "info"

    access_log_sample: Annotated[
        float,
        Meta(ge=0, le=1, description="The share of requests that are logged, from none (0) to each (1)."),
    ] = 0.0
    slow_request: Annotated[
        float,
        Meta(
            ge=0,
            le=_MOST,
            description="Requests that take this many seconds are logged, with where the time went; 0: none "
            "are. Time that a caller asked to wait does not count.",
        ),
    ] = 0.0

    traces: Annotated[
        bool,
        Meta(
            description="Whether OpenTelemetry traces requests, and messages from producer to consumer. How "
            "many, and who is told, say the variables `OTEL_…`. Needs `sukkal[otel]`. See docs/operations.md."
        ),
    ] = False
    osprofiler_hmac_keys: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Secrets one of which OpenStack clients sign with what they ask OSProfiler to trace, "
            "as `hmac_keys` of other services. Needs `sukkal[osprofiler]`.",
            extra={"allowed": "a list of texts"},
        ),
    ] = ()
    osprofiler_connection_string: Annotated[
        Annotated[str, Meta(pattern=r"^[a-z][a-z0-9+.\-]*:")] | None,
        Meta(
            description="Where these traces are kept, for `osprofiler trace show`.",
            extra={"default": "none", "allowed": "an address such as redis://localhost:6379"},
        ),
    ] = None

    default_message_ttl: Annotated[
        int,
        Meta(ge=MIN_TTL, le=_MOST, description="Seconds a message lives when neither it nor its queue says."),
    ] = _LIMITS.default_message_ttl
    max_message_ttl: Annotated[
        int, Meta(ge=MIN_TTL, le=_MOST, description="The longest life of a message, in seconds.")
    ] = _LIMITS.max_message_ttl
    default_message_delay: Annotated[
        int,
        Meta(
            ge=0,
            le=_MOST,
            description="The delay in seconds shown for queues that set none; it delays nothing.",
        ),
    ] = _LIMITS.default_message_delay
    max_message_delay: Annotated[
        int, Meta(ge=0, le=_MOST, description="The longest delay of a message, in seconds.")
    ] = _LIMITS.max_message_delay
    default_claim_ttl: Annotated[
        int, Meta(ge=MIN_TTL, le=_MOST, description="Seconds a claim is held when it does not say.")
    ] = _LIMITS.default_claim_ttl
    default_subscription_ttl: Annotated[
        int,
        Meta(ge=MIN_TTL, le=_MOST, description="Seconds a subscription lives when it does not say."),
    ] = _LIMITS.default_subscription_ttl
    max_claim_ttl: Annotated[
        int, Meta(ge=MIN_TTL, le=_MOST, description="The longest hold of a claim, in seconds.")
    ] = _LIMITS.max_claim_ttl
    default_claim_grace: Annotated[
        int,
        Meta(
            ge=MIN_TTL,
            le=_MOST,
            description="Seconds a claimed message outlives its claim when the claim does not say.",
        ),
    ] = _LIMITS.default_claim_grace
    max_claim_grace: Annotated[
        int, Meta(ge=MIN_TTL, le=_MOST, description="The longest grace of a claim, in seconds.")
    ] = _LIMITS.max_claim_grace
    max_queues_per_page: Annotated[
        int, Meta(ge=1, le=_MOST, description="The most queues in one page of a listing.")
    ] = _LIMITS.max_queues_per_page
    max_messages_per_page: Annotated[
        int,
        Meta(
            ge=1,
            le=_MOST,
            description="The most messages in one page of a listing, and the most ids in one request.",
        ),
    ] = _LIMITS.max_messages_per_page
    max_subscriptions_per_page: Annotated[
        int, Meta(ge=1, le=_MOST, description="The most subscriptions in one page of a listing.")
    ] = _LIMITS.max_subscriptions_per_page
    max_pools_per_page: Annotated[
        int, Meta(ge=1, le=_MOST, description="The most pools in one page of a listing.")
    ] = _LIMITS.max_pools_per_page
    max_flavors_per_page: Annotated[
        int, Meta(ge=1, le=_MOST, description="The most flavors in one page of a listing.")
    ] = _LIMITS.max_flavors_per_page
    max_messages_per_claim_or_pop: Annotated[
        int, Meta(ge=1, le=_MOST, description="The most messages one claim or pop hands out.")
    ] = _LIMITS.max_messages_per_claim_or_pop
    max_queue_metadata: Annotated[
        int, Meta(ge=1, le=_MOST, description="The largest metadata of a queue, in bytes as sent.")
    ] = _LIMITS.max_queue_metadata
    max_messages_post_size: Annotated[
        int, Meta(ge=1, le=_MOST, description="The largest body of a request that posts messages, in bytes.")
    ] = _LIMITS.max_messages_post_size

    webhook_allow: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$")], ...],
        Meta(
            description="Networks that webhooks may reach beside public addresses, such as your own services "
            "or 127.0.0.0/8 for trials. Whoever may subscribe reaches what is there.",
            extra={"allowed": "a list of networks such as 10.20.0.0/16"},
        ),
    ] = ()
    webhook_ports: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[0-9]{1,5}(-[0-9]{1,5})?$")], ...],
        Meta(
            description="Ports that webhooks may reach; an empty list: all. By default none below 1024 that "
            "speaks something else than HTTP.",
            extra={
                "default": "`80`, `443`, `1024-65535`",
                "allowed": "a list of ports and ranges such as 8000-8999",
            },
        ),
    ] = ("80", "443", "1024-65535")
    webhook_connect_timeout: Annotated[
        float,
        Meta(ge=0.1, le=3600, description="Seconds a webhook's receiver may take to be found and connected."),
    ] = 5.0
    webhook_read_timeout: Annotated[
        float, Meta(ge=0.1, le=3600, description="Seconds it may pause while it answers.")
    ] = 10.0
    webhook_timeout: Annotated[
        float, Meta(ge=0.1, le=3600, description="Seconds a webhook may take in all.")
    ] = 30.0
    webhook_max_response: Annotated[
        int, Meta(ge=0, le=_MOST, description="Bytes of its answer that are read; the status counts anyhow.")
    ] = 65536
    webhook_signing_keys: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^whsec_[A-Za-z0-9+/]{32,88}={0,2}$")], ...],
        Meta(
            description="Keys that webhooks are signed with where a subscription has none of its own, the "
            "newest first; each signs. See docs/webhooks.md.",
            extra={"allowed": "a list of whsec_ and 24 to 64 bytes in base64"},
        ),
    ] = ()
    webhook_ca_file: Annotated[
        Path | None,
        Meta(
            description="File of certificates in PEM that webhooks and mail servers may be certified by, "
            "beside the authorities of the system.",
            extra={"default": "none"},
        ),
    ] = None
    max_deliveries_per_host: Annotated[
        int, Meta(ge=1, le=_MOST, description="The most deliveries under way to one host, for each process.")
    ] = 16
    max_deliveries_per_project: Annotated[
        int, Meta(ge=1, le=_MOST, description="The most deliveries under way for one project, likewise.")
    ] = 512
    smtp_mode: Annotated[
        Literal["third_part", "self_local"],
        Meta(
            description="How mail to subscribers is sent: by `smtp_command` (`third_part`), or by the server "
            "that `smtp_host` names (`self_local`)."
        ),
    ] = "third_part"
    smtp_command: Annotated[
        str,
        Meta(description="A program that reads a mail, recipients included, from its standard input."),
    ] = "/usr/sbin/sendmail -t -oi"
    smtp_host: Annotated[str, Meta(description="The mail server.")] = "127.0.0.1"
    smtp_port: Annotated[int, Meta(ge=1, le=65535, description="Its port.")] = 465
    smtp_tls: Annotated[
        Literal["tls", "starttls", "none"],
        Meta(
            description="How it is spoken to: encrypted from the start, encrypted after a greeting "
            "(mostly on port 587), or in the open. Its certificate is verified."
        ),
    ] = "tls"
    smtp_user_name: Annotated[
        str | None, Meta(description="User to log in as.", extra={"default": "none"})
    ] = None
    smtp_user_password: Annotated[
        str | None, Meta(description="That user's password.", extra={"default": "none"})
    ] = None
    identity_url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://[^/\s?#]+(/[^\s?#]*)?$")] | None,
        Meta(
            description="Keystone's version 3, such as https://keystone.example.org/v3, for subscribers "
            "that want a token (`trust+http`, `trust+https`).",
            extra={"default": "none", "allowed": "a URL such as https://keystone.example.org/v3"},
        ),
    ] = None
    trustee_name: Annotated[
        str, Meta(description="This service's user there, in whom subscribers trust.")
    ] = "sukkal"
    trustee_password: Annotated[
        str | None, Meta(description="That user's password.", extra={"default": "none"})
    ] = None
    trustee_domain: Annotated[str, Meta(description="That user's domain, by name.")] = "Default"

    client_id_uuid_safe: Annotated[
        Literal["strict", "off"],
        Meta(description="Whether a Client-ID must be a UUID (`strict`) or may be any text (`off`)."),
    ] = "strict"
    min_length_client_id: Annotated[
        int,
        Meta(
            ge=1,
            le=_MOST,
            description="The least characters of a Client-ID when `client_id_uuid_safe` is `off`.",
        ),
    ] = 10
    max_length_client_id: Annotated[
        int,
        Meta(
            ge=1,
            le=_MOST,
            description="The most characters of a Client-ID when `client_id_uuid_safe` is `off`.",
        ),
    ] = 36
    message_delete_with_claim_id: Annotated[
        bool,
        Meta(
            description="Whether deleting messages by ids spares claimed ones whose claims are not named in "
            "`claim_ids`."
        ),
    ] = False
    enable_checksum: Annotated[
        bool, Meta(description="Whether messages are shown with the MD5 checksum of their body.")
    ] = False
    admin_mode: Annotated[
        bool, Meta(description="Whether this server offers the operators' routes, such as health and pools.")
    ] = False
    pooling: Annotated[
        bool,
        Meta(
            description="Whether queues are placed in pools, stores that operators add while the service "
            "runs, instead of all in `store`. All processes of one service must agree on it."
        ),
    ] = False
    message_encryption_key: Annotated[
        str | None,
        Meta(
            description="Secret from which the key of encrypted queues is made. Without it no queue can ask "
            "for encryption. Keep it: what was encrypted with it can be read with nothing else.",
            extra={"default": "none"},
        ),
    ] = None
    message_encryption_algorithms: Annotated[
        Literal["AES256"], Meta(description="How bodies of encrypted queues are encrypted.")
    ] = "AES256"

    subscriber_types: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9+.\-]*$")], ...],
        Meta(
            description="Which subscribers there may be, by the schemes of their URIs. Queues of the same "
            "project (`queue:`) always may.",
            extra={
                "default": "`http`, `https`, `mailto`, `trust+http`, `trust+https`",
                "allowed": "a list of schemes such as https",
            },
        ),
    ] = ("http", "https", "mailto", "trust+http", "trust+https")
    signed_url_secret_key: Annotated[
        Annotated[str, Meta(min_length=MIN_KEY)] | None,
        Meta(
            description="Secret with which pre-signed URLs are signed, the same in all servers. Without it "
            "there are none, and nobody can be asked for confirmation. At least 32 characters, best random "
            "ones: `openssl rand -hex 32`.",
            extra={
                "default": "none",
                "allowed": f"a text of at least {MIN_KEY} characters that is no example",
            },
        ),
    ] = None
    signed_url_max_ttl: Annotated[
        int,
        Meta(
            ge=MIN_TTL, le=_MOST, description="The longest time a pre-signed URL may be good for, in seconds."
        ),
    ] = MAX_SIGNED_TTL
    require_confirmation: Annotated[
        bool,
        Meta(
            description="Whether outside subscribers must confirm that they want to be told, before they are "
            "sent anything else. Needs `signed_url_secret_key`."
        ),
    ] = False
    public_endpoint: Annotated[
        Annotated[str, Meta(pattern=_HTTP_URL)] | None,
        Meta(
            description="Where subscribers reach this service; stands in what they are asked to confirm.",
            extra={"default": "none", "allowed": "a URL such as https://mq.example.org"},
        ),
    ] = None
    public_websocket_endpoint: Annotated[
        Annotated[str, Meta(pattern=r"^wss?://[^/\s?#]+(/[^\s?#]*)?$")] | None,
        Meta(
            description="The same for WebSockets.",
            extra={"default": "none", "allowed": "a URL such as wss://mq.example.org:9000"},
        ),
    ] = None
    external_confirmation_url: Annotated[
        Annotated[str, Meta(pattern=_HTTP_URL)] | None,
        Meta(
            description="A web page of yours that subscribers by mail are led to, to confirm. What to do is "
            "in its query. Without it nobody is asked by mail.",
            extra={"default": "none", "allowed": "a URL such as https://example.org/confirm"},
        ),
    ] = None
    subscription_confirmation_email_topic: Annotated[
        str, Meta(description="Subject of the mail that asks a subscriber to confirm.")
    ] = "Zaqar Notification - Subscription Confirmation"
    subscription_confirmation_email_body: Annotated[
        str,
        Meta(
            description="Text of that mail: `{0}` stands for the queue, `{1}` for the project, `{2}` for the "
            "link.",
            extra={"default": "a few sentences"},
        ),
    ] = (
        "You have chosen to subscribe to the queue: {0} of the project {1}.\n\n"
        "To confirm this, follow the link:\n{2}\n\n"
        "If this is a mistake, do nothing: you will hear no more of it.\n"
    )
    subscription_confirmation_email_sender: Annotated[str, Meta(description="Sender of that mail.")] = (
        "Zaqar Notifications <no-reply@openstack.org>"
    )
    unsubscribe_confirmation_email_topic: Annotated[
        str, Meta(description="Subject of the mail that tells of the end of a subscription.")
    ] = "Zaqar Notification - Unsubscribe Confirmation"
    unsubscribe_confirmation_email_body: Annotated[
        str,
        Meta(
            description="Text of that mail, with the same places; its link subscribes again.",
            extra={"default": "a few sentences"},
        ),
    ] = (
        "You have unsubscribed successfully from the queue: {0} of the project {1}.\n\n"
        "To subscribe again, follow the link:\n{2}\n"
    )
    unsubscribe_confirmation_email_sender: Annotated[str, Meta(description="Sender of that mail.")] = (
        "Zaqar Notifications <no-reply@openstack.org>"
    )

    @property
    def limits(self) -> Limits:
        """The part that the API enforces."""
        return Limits(**{name: getattr(self, name) for name in Limits.__struct_fields__})

    def __repr__(self) -> str:
        shown = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return f"Settings({', '.join(f'{name}={_show(name, value)}' for name, value in shown)})"


_FIELDS: Final = {field.name: field for field in msgspec.structs.fields(Settings)}

# What means nothing without the other.
_TOGETHER: Final = (("osprofiler_hmac_keys", "osprofiler_connection_string"),)

# What must not exceed what. The bounds of each alone stand in its type.
_ORDERED: Final = (
    ("default_message_ttl", "max_message_ttl"),
    ("default_message_delay", "max_message_delay"),
    ("default_claim_ttl", "max_claim_ttl"),
    ("default_claim_grace", "max_claim_grace"),
    ("min_length_client_id", "max_length_client_id"),
)


class Setting(Struct, frozen=True, kw_only=True):
    """One setting, described."""

    name: str  # its key in the file
    variable: str  # in the environment
    flag: str | None  # of `sukkal serve`
    default: str  # as shown to people
    allowed: str  # completes "must be …"
    choices: tuple[str, ...]  # the words it may be, if it is one of a few
    description: str  # sentences; `…` marks literal text


def describe() -> list[Setting]:
    """Every setting, in the order documents show them."""
    return [
        Setting(
            name=name,
            variable=_variable(name),
            flag=_flag(name) if name in FLAGS else None,
            default=_extra(name).get("default") or _default_text(field.default),
            allowed=_allowed(name),
            choices=_choices(name),
            description=_meta(name).description or "",
        )
        for name, field in _FIELDS.items()
    ]


def markdown() -> str:
    """The page `docs/settings.md`."""
    lines = [
        "# Settings",
        "",
        "Nothing needs to be set. What is set can stand in a TOML file (`sukkal serve --config FILE`, or the",
        f"variable `{FILE_VARIABLE}`), under the names below and without tables; in the environment, as",
        f"`{PREFIX}` and the name in capitals; or, for a few, in a flag. Flags win over the environment, the",
        "environment over the file. A name or value that is not known is refused at start.",
        "",
        "In the environment, true and false may also be written yes, no, on, off, 1, 0, and the items of a",
        "list are separated by commas. Relative paths count from the working directory; `~` is your home.",
        "Kubernetes gives pods variables named after services: beside a service called `sukkal`, set",
        "`enableServiceLinks: false`.",
        "",
        "```toml",
        'store = "sqlite:"',
        "max_message_ttl = 86400",
        'allowed_origin = ["https://dashboard.example.org"]',
        "```",
        "",
        "| Setting | Environment, flag | Default | Allowed | What it does |",
        "|---|---|---|---|---|",
    ]
    for setting in describe():
        names = f"`{setting.variable}`" + (f", `{setting.flag}`" if setting.flag else "")
        cells = (f"`{setting.name}`", names, setting.default, setting.allowed, setting.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


class _Said(Struct, frozen=True):
    """A value somebody gave, and where: `origin` completes "… from"."""

    value: object
    origin: str


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """Put the settings together and check them.

    `file` is TOML; without it the file that SUKKAL_CONFIG names is read, if any. Of `environ` only
    variables that begin with SUKKAL_ matter, and XDG_DATA_HOME and HOME for the default of `data_dir`.
    A flag that is None was not given; one that is a text is read as in the environment.

    Raises BadSetting for a file that cannot be read, and for a name or a value that is not allowed.
    """
    if file is None and environ.get(FILE_VARIABLE):
        file = Path(environ[FILE_VARIABLE])
    said: dict[str, _Said] = {}
    values: dict[str, Any] = {}
    for source in (_from_file(file), _from_environment(environ), _from_flags(flags)):
        said.update(source)
        values.update({name: _checked(name, given) for name, given in source.items()})
    if "data_dir" not in values:
        values["data_dir"] = _default_data_dir(environ)
    settings = Settings(**values)
    _check_order(settings, said)
    for one, other in _TOGETHER:
        if bool(getattr(settings, one)) != bool(getattr(settings, other)):
            raise BadSetting(one, f"{one} and {other} are to be set both, or neither.")
    if settings.signed_url_secret_key is not None and is_known(settings.signed_url_secret_key):
        raise BadSetting(
            "signed_url_secret_key",
            "signed_url_secret_key is one that everybody knows: make one with `openssl rand -hex 32`.",
        )
    return settings


def _from_file(path: Path | None) -> dict[str, _Said]:
    if path is None:
        return {}
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise BadSetting("config", f"The file {path} cannot be read: {exc.strerror}.") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadSetting("config", f"The file {path} is not valid TOML: {exc}.") from exc
    origin = f"the file {path}"
    for name in content:
        if name not in _FIELDS:
            raise BadSetting(name, f"{name!r} in {origin} is not a setting.{_meant(name)}")
    return {name: _Said(value, origin) for name, value in content.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Said]:
    known = {_variable(name): name for name in _FIELDS}
    found = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in _OURS_BUT_NO_SETTING:
            continue
        if variable.startswith(_TEST_VARIABLES):
            continue
        if variable not in known:
            guess = _meant(variable.removeprefix(PREFIX).lower(), _variable)
            raise BadSetting(variable, f"The environment variable {variable} is not a setting.{guess}")
        name = known[variable]
        found[name] = _Said(_parsed(name, text), f"the environment variable {variable}")
    return found


def _from_flags(flags: Mapping[str, object]) -> dict[str, _Said]:
    found = {}
    for name, value in flags.items():
        if name not in _FIELDS:
            raise BadSetting(name, f"The flag {_flag(name)} is not a setting.{_meant(name, _flag)}")
        if value is not None:
            parsed = _parsed(name, value) if isinstance(value, str) else value
            found[name] = _Said(parsed, f"the flag {_flag(name)}")
    return found


def _parsed(name: str, text: str) -> object:
    """What a text stands for in a setting of this kind; the text itself when nothing, to be refused later."""
    kind = _kind(name)
    try:
        match kind:
            case BoolType():
                return _TRUTHS.get(text.strip().lower(), text)
            case IntType():
                return int(text)
            case FloatType():
                return float(text)
            case VarTupleType():
                return [item.strip() for item in text.split(",") if item.strip()]
    except ValueError:
        pass
    return text


def _checked(name: str, given: _Said) -> object:
    try:
        value: object = msgspec.convert(given.value, _FIELDS[name].type, dec_hook=_read_path)
        if value == "" or (isinstance(value, float) and math.isnan(value)):  # NaN passes every bound
            raise ValidationError
    except ValidationError as exc:
        raise BadSetting(
            name,
            f"{name} = {_show(name, given.value)} from {given.origin} is not allowed: "
            f"it must be {_allowed(name)}.",
        ) from exc
    return value


def _check_order(settings: Settings, said: Mapping[str, _Said]) -> None:
    def told(name: str) -> str:
        origin = f"from {said[name].origin}" if name in said else "by default"
        return f"{name} = {getattr(settings, name)} ({origin})"

    for low, high in _ORDERED:
        if getattr(settings, low) > getattr(settings, high):
            raise BadSetting(
                low if low in said else high,
                f"{told(low)} must not exceed {told(high)}.",
            )


def _read_path(kind: type, value: object) -> Path:
    if kind is not Path or not isinstance(value, str | Path) or value == "" or "\0" in str(value):
        raise ValidationError
    try:
        return Path(value).expanduser()
    except RuntimeError as exc:  # "~" without a home
        raise ValidationError from exc


def _meant(name: str, spell: Callable[[str], str] = str) -> str:
    """A guess at which setting was meant, spelled as where the mistake was made; nothing if none is near."""
    close = difflib.get_close_matches(name, _FIELDS, n=1)
    return f" Did you mean {spell(close[0])}?" if close else ""


def _show(name: str, value: object) -> str:
    if name in _SECRETS and value is not None:
        return "(hidden)"
    if name in ("store", "control_store", "osprofiler_connection_string") and isinstance(value, str):
        value = without_credentials(value)
    text = repr(str(value) if isinstance(value, Path) else value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _meta(name: str) -> Meta:
    """The annotation of the whole field, which carries its description."""
    meta = _FIELDS[name].type.__metadata__[-1]
    assert isinstance(meta, Meta)
    return meta


def _extra(name: str) -> dict[str, Any]:
    return _meta(name).extra or {}


def _kind(name: str) -> Type:
    """What a setting is when it is set."""
    kind = type_info(_FIELDS[name].type)
    kind = kind.type if isinstance(kind, Metadata) else kind
    if isinstance(kind, UnionType):
        (kind,) = (part for part in kind.types if not isinstance(part, NoneType))
    return kind


def _choices(name: str) -> tuple[str, ...]:
    """The words a setting may be, in the order of its declaration."""
    if not isinstance(_kind(name), LiteralType):
        return ()
    literal, *_ = get_args(_FIELDS[name].type)
    return get_args(literal)


def _allowed(name: str) -> str:
    if "allowed" in _extra(name):
        return str(_extra(name)["allowed"])
    match _kind(name):
        case BoolType():
            return "true or false"
        case IntType(ge=least, le=most):
            return f"a whole number from {least} to {most}"
        case FloatType(ge=least, le=most):
            return f"a number from {least:g} to {most:.0f}"
        case LiteralType():
            *others, last = _choices(name)
            return f"{', '.join(others)} or {last}" if others else last
        case CustomType():
            return "a path"
        case _:
            return "a text that is not empty"


def _default_text(value: object) -> str:
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case ():
            return "none"
        case float():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"
