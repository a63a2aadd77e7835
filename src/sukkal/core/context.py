"""Who asks, and when."""

from msgspec import Struct


class Credentials(Struct, frozen=True, kw_only=True):
    """What a caller shows for others to act in its name: claims, which the identity service judges."""

    token: str
    user: str  # whose token it is
    roles: tuple[str, ...] = ()  # of the user in the project, as they were written

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"  # a token is nobody's to read


class Context(Struct, frozen=True, kw_only=True):
    """Filled by a transport, from headers or from a verified token; core trusts it."""

    project: str
    client: str  # one client instance, for `echo`; not a security boundary
    request_id: str
    now: float  # s since epoch: the moment the request was taken up
    roles: frozenset[str] = frozenset()  # lower case
    signed: bool = False  # let in by a pre-signed URL: nobody we know, and without roles
    connection: str | None = None  # id of the lasting connection the request came by, if it did
    credentials: Credentials | None = None  # for operations that delegate, if the caller shows any
    global_request_id: str | None = None  # the caller's, for what it does here and in other services

    def about(self, operation: str | None = None) -> dict[str, str]:
        """What a log line about the request carries."""
        said = {"project": self.project, "request_id": self.request_id}
        if operation is not None:
            said["operation"] = operation
        if self.global_request_id is not None:
            said["global_request_id"] = self.global_request_id
        return said
