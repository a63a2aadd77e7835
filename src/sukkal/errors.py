"""Everything that can go wrong, as the caller sees it.

    ServiceError
    ├── Invalid               a value the API does not allow
    │   ├── InvalidBody       a body, or a field of it, of the wrong form
    │   ├── InvalidParameter  a query value that cannot be read
    │   ├── InvalidIdentity   a header that says who calls is missing or malformed
    │   └── Undeletable       the claim named for a deletion does not cover the message
    ├── Forbidden             not allowed by policy
    │   └── Held              the message is under somebody else's claim
    ├── NotFound
    ├── Conflict
    │   └── AlreadySubscribed the subscriber is told of this queue's messages already
    └── Unavailable           the store cannot be reached; trying again may help

Core raises these; `wire/status.py` maps them to status codes for every transport. Stores raise only
`StoreUnavailable`, which stands apart: core decides what it means for the operation at hand.
"""

from typing import ClassVar


class ServiceError(Exception):
    """A failure to tell the caller about: a short title and a sentence that says what to do."""

    default_title: ClassVar[str] = "Internal server error"

    def __init__(self, message: str, *, title: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.title = title or self.default_title


class Invalid(ServiceError):
    default_title = "Invalid API request"


class InvalidBody(Invalid):
    default_title = "Invalid request body"


class InvalidParameter(Invalid):
    default_title = "Invalid parameter"


class InvalidIdentity(Invalid):
    """A caller that cannot be told from others; the title names the fault and is always given."""


class Undeletable(Invalid):
    default_title = "Unable to delete"


class Forbidden(ServiceError):
    default_title = "Not authorized"


class Held(Forbidden):
    default_title = "Unable to delete"


class NotFound(ServiceError):
    default_title = "Not found"


class Conflict(ServiceError):
    default_title = "Resource conflict"


class AlreadySubscribed(Conflict):
    """A subscriber is to be subscribed once more."""


class Unavailable(ServiceError):
    default_title = "Service temporarily unavailable"


class BadStoreURI(ValueError):
    """The URI of a store that cannot be used; one sentence for the operator, without credentials."""


class StoreUnavailable(Exception):
    """The backend cannot be reached or did not take the write; nothing of the call is acknowledged."""


class AddressInUse(Exception):
    """The service cannot listen where it is told to."""


class StoreInUse(Exception):
    """Another process works on the same embedded store."""
