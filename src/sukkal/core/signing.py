"""Pre-signed URLs: some methods on some paths of one project until a time, for whoever holds the signature.

The signature is an HMAC-SHA256, in lower-case hex, over one line of text:

    <paths>\\n<methods>\\n<project>\\n<expires>        `\\n` being two characters, backslash and n

with paths and methods sorted and joined by commas, and `expires` in UTC as YYYY-MM-DDTHH:MM:SS. Paths and
methods with a backslash or a comma in them are refused on either side, so that a text can be read in one way
only. Source: Messaging API v2, pre-signed URLs.
"""

import hmac
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from sukkal import requests as r
from sukkal.core.context import Context
from sukkal.core.policy import unauthorized
from sukkal.errors import Invalid, InvalidBody
from sukkal.limits import LAST_SECOND, MAX_SIGNED_TTL

SHARED_PATHS = ("messages", "subscriptions", "claims")  # of a queue
DAY = 86400.0

_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}")  # a token, as HTTP has it
_EXPIRES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


class Grant(Struct, frozen=True):
    """What a caller shows: a signature, and what it is said to be of."""

    signature: str
    paths: tuple[str, ...]
    methods: tuple[str, ...]
    expires: str


class Signer:
    """Signs and verifies with the operator's key; without one it verifies nothing.

    `max_ttl`: seconds that a signature may be good for, as seen from now.
    """

    def __init__(self, key: str | None, *, max_ttl: int = MAX_SIGNED_TTL) -> None:
        self.ready = key is not None
        self._key = (key or "").encode()
        self._max_ttl = max_ttl

    def latest(self, now: float) -> float:
        """The latest time until which a signature may be good."""
        return min(now + self._max_ttl, LAST_SECOND)

    def sign(self, paths: Iterable[str], methods: Iterable[str], project: str, expires: str) -> str:
        text = "\\n".join((",".join(sorted(paths)), ",".join(sorted(methods)), project, expires))
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()

    def allows(self, grant: Grant, method: str, path: str, project: str, now: float) -> bool:
        """Whether the grant is ours and covers this request: on one of its paths, or below, and in time."""
        if not self.ready or not _is_plain((*grant.paths, *grant.methods)):
            return False
        expires = moment(grant.expires)
        return (
            method in grant.methods
            and any(path == each or path.startswith(f"{each}/") for each in grant.paths)
            and expires is not None
            and now < expires <= self.latest(now)
            and hmac.compare_digest(
                self.sign(grant.paths, grant.methods, project, grant.expires).encode(),
                grant.signature.encode("utf-8", "surrogatepass"),
            )
        )

    async def share(self, ctx: Context, request: r.ShareQueue) -> r.SharedQueue:
        """Sign for parts of a queue, which need not exist."""
        if ctx.signed:
            raise unauthorized()  # or leave would beget leave
        document = request.document
        if document is None:
            raise InvalidBody("Request body can not be empty")
        if not isinstance(document, dict):
            raise InvalidBody("Document type not supported.")
        unknown = document.keys() - {"paths", "methods", "expires"}
        if unknown:
            raise Invalid(f"Unknown keys: {_set(unknown)}")
        paths = _paths(document.get("paths"))
        methods = _methods(document.get("methods"))
        expires = self._expires(document.get("expires"), ctx.now)
        if not self.ready:
            raise Invalid(
                "The `key` can't be None: nothing can be signed until the operator has set "
                "signed_url_secret_key. Ask for that."
            )
        hrefs = sorted({f"/v2/queues/{request.queue}/{path}" for path in paths})
        return r.SharedQueue(
            paths=hrefs,
            methods=methods,
            project=ctx.project,
            expires=expires,
            signature=self.sign(hrefs, methods, ctx.project, expires),
        )

    def _expires(self, asked: Any, now: float) -> str:
        if asked is None:
            return written(min(now + DAY, self.latest(now)))
        if isinstance(asked, int) or (isinstance(asked, str) and asked.strip().isdigit()):
            raise Invalid(
                "`expires` should be date format, for example 2016-01-01T00:00:00, "
                f"not integer value: {asked}"
            )
        until = _parsed(asked) if isinstance(asked, str) else None
        if until is None:
            raise Invalid(f"Unable to parse date string '{asked}'")
        if until <= now:
            raise Invalid("`expires` is lower than the current time")
        if until > self.latest(now):
            raise Invalid(f"`expires` may not be more than {self._max_ttl} seconds from now")
        return written(until)


def written(when: float) -> str:
    """Seconds since the epoch as they are signed; fractions are dropped."""
    return datetime.fromtimestamp(int(when), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def moment(text: str) -> float | None:
    """What `written` wrote; None for anything else."""
    if _EXPIRES.fullmatch(text) is None or not text.isascii():
        return None
    return _parsed(text)


def _parsed(text: str) -> float | None:
    """A date and time of ISO 8601, in UTC unless it says otherwise, to the second."""
    try:
        when = datetime.fromisoformat(text.strip())
        return float(int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()))
    except (ValueError, OverflowError):
        return None


def _is_plain(texts: Iterable[str]) -> bool:
    return all(text and "\\" not in text and "," not in text for text in texts)


def _paths(asked: Any) -> list[str]:
    if not asked:
        return ["messages"]
    if not isinstance(asked, list):
        raise Invalid("`paths` should be a list")
    others = [path for path in asked if path not in SHARED_PATHS]
    if others:
        raise Invalid(f"Invalid paths: {_set(others)}")
    return asked


def _methods(asked: Any) -> list[str]:
    if not asked:
        return ["GET"]
    if not isinstance(asked, list) or not all(isinstance(method, str) for method in asked):
        raise Invalid("`methods` should be a list")
    others = [method for method in asked if _METHOD.fullmatch(method) is None]
    if others:
        raise Invalid(f"Invalid methods: {_set(others)}")
    return sorted(set(asked))


def _set(of: Iterable[Any]) -> str:
    return "{" + ", ".join(dict.fromkeys(repr(each) for each in sorted(of, key=repr))) + "}"
