"""Who calls: what every transport makes of a client's id and of a project's, and the ids of requests."""

import re
import uuid
from functools import lru_cache

from sukkal.errors import InvalidIdentity

NOBODY: frozenset[str] = frozenset()  # the roles of a caller who names none

_UUID_DIGITS = re.compile("[0-9a-f]{32}")
_REQUEST_ID = re.compile(rb"req-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class ClientIds:
    """Reads a `Client-ID`: any spelling of a UUID, or any text of some length."""

    def __init__(self, *, uuid_safe: bool = True, min_length: int = 10, max_length: int = 36) -> None:
        self._min_length = min_length
        self._max_length = max_length
        self._normalised = lru_cache(4096)(_uuid) if uuid_safe else self._text

    def read(self, value: bytes | None) -> str:
        """The client's id, equal for equal clients; InvalidIdentity when it is missing or malformed."""
        if value is None:
            raise InvalidIdentity('The "Client-Id" header is required.', title="Missing header value")
        return self._normalised(value)

    def _text(self, value: bytes) -> str:
        text = value.decode("latin-1")
        if not self._min_length <= len(text) <= self._max_length:
            raise InvalidIdentity(
                f"Length of client id must be at least {self._min_length} "
                f"and no greater than {self._max_length}.",
                title="Wrong UUID value",
            )
        return text


def _uuid(value: bytes) -> str:
    text = value.decode("latin-1").lower().removeprefix("urn:").removeprefix("uuid:")
    digits = text.strip("{}").replace("-", "")
    if _UUID_DIGITS.fullmatch(digits) is None:
        raise InvalidIdentity("Malformed hexadecimal UUID.", title="Wrong UUID value")
    return digits


def project(value: bytes | None) -> str:
    """The project's id. Bytes are taken one by one, so that every transport means the same project."""
    if value:
        return value.decode("latin-1")
    if value is None:
        raise InvalidIdentity("The header X-PROJECT-ID was missing", title="Project-Id Missing")
    raise InvalidIdentity(
        "X-PROJECT-ID cannot be an empty string. Specify the right header X-PROJECT-ID and retry.",
        title="Empty project header not allowed",
    )


def roles(value: bytes | None) -> frozenset[str]:
    """Roles, named with commas between them, in lower case."""
    if not value:
        return NOBODY
    return frozenset(role.strip().lower() for role in value.decode("latin-1").split(","))


def role_names(value: bytes | None) -> tuple[str, ...]:
    """The same as they were written, each once."""
    names = (role.strip() for role in (value or b"").decode("latin-1").split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def bad_name(kind: str = "queue") -> InvalidIdentity:
    """What to say of a queue's or topic's name that is not allowed, or a project's id that is too long."""
    return InvalidIdentity(
        f"The format of the submitted {kind} name or project id is not valid.",
        title=f"Invalid {kind} identification",
    )


def global_request_id(value: bytes | None) -> str | None:
    """The id under which the caller knows what it does; None unless it has the form of one.

    Source: oslo.middleware, request_id.
    """
    return value.decode() if value and _REQUEST_ID.fullmatch(value) else None


class RequestIds:
    """Mints `req-<uuid>`, random (version 4) but for its last field, which counts up."""

    def __init__(self) -> None:
        self._prefix = ""
        self._count = 0
        self._end = 0

    def next(self) -> str:
        if self._count == self._end:
            text = str(uuid.uuid4())
            self._prefix = f"req-{text[:24]}"
            self._count = int(text[24:], 16) >> 12 << 12
            self._end = self._count + (1 << 12)
        self._count += 1
        return self._prefix + (self._count - 1).to_bytes(6).hex()
