"""Who asks, and when."""

from msgspec import Struct


class Context(Struct, frozen=True, kw_only=True):
    """Filled by a transport, from headers or from a verified token; core trusts it."""

    project: str
    client: str  # one client instance, for `echo`; not a security boundary
    request_id: str
    now: float  # s since epoch: the moment the request was taken up
    roles: frozenset[str] = frozenset()  # lower case
    signed: bool = False  # let in by a pre-signed URL: nobody we know, and without roles
    user: str | None = None
    connection: str | None = None  # id of the lasting connection the request came by, if it did
    global_request_id: str | None = None  # the caller's, for what it does here and in other services

    def about(self, operation: str | None = None) -> dict[str, str]:
        """What a log line about the request carries."""
        said = {"project": self.project, "request_id": self.request_id}
        if operation is not None:
            said["operation"] = operation
        if self.global_request_id is not None:
            said["global_request_id"] = self.global_request_id
        return said
