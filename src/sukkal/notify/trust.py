"""Webhooks to services of an OpenStack cloud, which want a token: `trust+http` and `trust+https`.

Whoever subscribes trusts this service's user with its roles in a project, for as long as the subscription
lasts: it names such a trust, or one is made in its name. Each delivery carries a token made from that trust.
The id of a trust is no secret, and this service's user may use every trust in it: so a trust serves
subscriptions of its own project only, which is looked at when it is named and again with each token. Of
those in the project, only who trusts may name it, as far as callers show who they are.
Source: Messaging API v2, trusts; Identity API v3, OS-TRUST.
"""

import re
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import aiohttp
import msgspec
from msgspec import Struct

from sukkal.core.context import Credentials
from sukkal.core.subscribing.rules import TRUST
from sukkal.errors import Forbidden, Invalid, Unavailable
from sukkal.model import Subscription
from sukkal.notify.deliverer import Outcome, Parcel, Result
from sukkal.notify.sender import USER_AGENT
from sukkal.notify.webhook import Webhook

PREFIX = "trust+"
TOKENS = 10_000  # kept
EARLY = 60.0  # seconds before its end that a token is no longer used
NAME = re.compile(r"[\w-]{1,255}", re.ASCII)  # an id of a trust; it becomes part of a path
LARGEST_ANSWER = 1024 * 1024  # bytes of the identity service's; its catalogue is long


class Unreachable(Exception):
    """The identity service does not answer as it should; trying again may help."""


class Distrusted(Exception):
    """The identity service refuses: the trust has gone, or never was."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the identity service answered {status}")


class Given(Struct, frozen=True):
    """A trust that somebody named."""

    project: str  # that it is for; empty when it is for none
    trustor: str  # the user who trusts


class Token(Struct, frozen=True):
    text: str
    expires: float  # s since epoch
    project: str  # that it is for; empty when it is for none


class Identity(Protocol):
    """What is asked of an identity service. Each call raises Unreachable and Distrusted."""

    async def create_trust(
        self, token: str, trustor: str, project: str, roles: Sequence[str], expires: float
    ) -> str:
        """The id of a trust in this service's user, made in the name of the token's owner."""
        ...

    async def given(self, trust: str) -> Given:
        """What is to be known of a trust in this service's user."""
        ...

    async def token(self, trust: str) -> Token:
        """A token to act with in the trustor's place."""
        ...

    async def close(self) -> None: ...


class Trust:
    """A Deliverer of webhooks with tokens."""

    def __init__(self, webhook: Webhook, identity: Identity, now: Callable[[], float]) -> None:
        self._webhook = webhook
        self._identity = identity
        self._now = now
        self._tokens: OrderedDict[str, Token] = OrderedDict()  # by trust, the latest used last

    def check(self, subscriber: str) -> None:
        self._webhook.check(_target(subscriber))

    def host(self, subscriber: str) -> str:
        return self._webhook.host(_target(subscriber))

    def size(self, subscription: Subscription, told: int) -> int:
        return self._webhook.size(subscription, told)

    async def entrust(
        self, options: dict[str, Any], credentials: Credentials | None, project: str, *, until: float
    ) -> dict[str, Any]:
        """Core's `Entrust`: options that name a trust, which is made unless they do."""
        given = options.get(TRUST)
        if given is not None:
            await self._check_given(given, project, credentials)
            return options
        if credentials is None:
            raise Invalid(
                f"Deliveries to this subscriber need a trust: name one in options.{TRUST}, or send "
                "X-Auth-Token and X-User-Id, so that one can be made in your name."
            )
        try:
            made = await self._identity.create_trust(
                credentials.token, credentials.user, project, credentials.roles, until
            )
        except Unreachable as exc:
            raise Unavailable(f"No trust could be made: {exc}. Try again in a few seconds.") from exc
        except Distrusted as exc:
            raise Forbidden(
                f"No trust could be made in your name: {exc}. It takes a valid X-Auth-Token of the user "
                "X-User-Id for this project, and roles in X-Roles that the user has there."
            ) from exc
        return {**options, TRUST: made}

    async def _check_given(self, trust: Any, project: str, credentials: Credentials | None) -> None:
        if not isinstance(trust, str) or not NAME.fullmatch(trust):
            raise Invalid(f"options.{TRUST} must be the id of a trust.")
        try:
            given = await self._identity.given(trust)
        except Unreachable as exc:
            raise Unavailable(
                f"options.{TRUST} cannot be checked: {exc}. Try again in a few seconds."
            ) from exc
        except Distrusted as exc:
            raise Forbidden(f"options.{TRUST} names no trust in this service's user: {exc}.") from exc
        if given.project != project:
            raise Forbidden(f"options.{TRUST} names a trust that is not for this project.")
        if credentials is not None and given.trustor != credentials.user:
            raise Forbidden(
                f"options.{TRUST} names the trust of another user than X-User-Id. Only that user may choose "
                f"who is sent its tokens; without options.{TRUST}, a trust is made in your name."
            )

    async def deliver(self, parcel: Parcel) -> Outcome:
        trust = parcel.subscription.options.get(TRUST)
        if not isinstance(trust, str) or not trust:
            return Outcome(Result.FAILED, "the subscription has no trust_id")
        used = self._tokens.get(trust)
        if used is not None and used.expires - EARLY <= self._now():
            used = None
        try:
            token = used or await self._new_token(trust)
        except Unreachable as exc:
            return Outcome(Result.RETRY, str(exc))
        except Distrusted as exc:
            return Outcome(Result.FAILED, str(exc))
        self._tokens.move_to_end(trust)
        if token.project != parcel.project:
            return Outcome(Result.FAILED, "its trust_id names a trust that is not for this project")
        headers = {"X-Auth-Token": token.text, "Content-Type": "application/json"}
        outcome = await self._webhook.post(parcel, _target(parcel.subscription.subscriber), headers)
        if outcome.result is Result.FAILED and outcome.reason == "it answered 401":
            self._tokens.pop(trust, None)
            if used is not None:  # it may have been revoked since; the next is new
                return Outcome(Result.RETRY, outcome.reason)
        return outcome

    async def _new_token(self, trust: str) -> Token:
        token = self._tokens[trust] = await self._identity.token(trust)
        while len(self._tokens) > TOKENS:
            self._tokens.popitem(last=False)
        return token

    async def close(self) -> None:
        await self._identity.close()


def _target(subscriber: str) -> str:
    return subscriber.removeprefix(PREFIX)


class Keystone:
    """An Identity: Keystone, version 3, where this service has a user. It is the operator's, and trusted."""

    def __init__(
        self,
        url: str,
        *,
        user: str,
        password: str,
        domain: str = "Default",
        timeout: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`url` with its version, as in https://keystone.example/v3; `domain` of the user, by name."""
        self._url = url.rstrip("/")
        self._user = {"name": user, "domain": {"name": domain}, "password": password}
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._trustee: str | None = None  # this user's id

    async def create_trust(
        self, token: str, trustor: str, project: str, roles: Sequence[str], expires: float
    ) -> str:
        trust = {
            "trustor_user_id": trustor,
            "trustee_user_id": self._trustee or await self._find_trustee(),
            "project_id": project,
            "roles": [{"name": role} for role in roles],
            "expires_at": datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "impersonation": True,
        }
        answer, _ = await self._ask("POST", "/OS-TRUST/trusts", {"trust": trust}, token)
        return _member(answer, "trust", "id")

    async def given(self, trust: str) -> Given:
        # By its default policy Keystone shows a trust to its trustee, whatever the token is for.
        own, _ = await self._own_token()
        answer, _ = await self._ask("GET", f"/OS-TRUST/trusts/{trust}", token=own.text)
        _member(answer, "trust", "id")
        return Given(_text_at(answer, "trust", "project_id"), _member(answer, "trust", "trustor_user_id"))

    async def token(self, trust: str) -> Token:
        try:
            token, _ = await self._authenticate({"OS-TRUST:trust": {"id": trust}})
        except Distrusted:
            await self._own_token()  # unless it is this service that is not let in
            raise
        return token

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _find_trustee(self) -> str:
        _, self._trustee = await self._own_token()
        return self._trustee

    async def _own_token(self) -> tuple[Token, str]:
        """A token for no project, and whose it is."""
        try:
            return await self._authenticate("unscoped")
        except Distrusted as exc:  # nothing that who trusts could change
            raise Unreachable("the identity service does not let this service in") from exc

    async def _authenticate(self, scope: Any) -> tuple[Token, str]:
        """A token, and the id of the user whose password was given."""
        identity = {"methods": ["password"], "password": {"user": self._user}}
        document = {"auth": {"identity": identity, "scope": scope}}
        answer, headers = await self._ask("POST", "/auth/tokens", document)
        text = headers.get("X-Subject-Token")
        if not text:
            raise Unreachable("the identity service gave no token")
        try:
            expires = datetime.fromisoformat(_member(answer, "token", "expires_at")).timestamp()
        except ValueError as exc:
            raise _strange() from exc
        token = Token(text, expires, _text_at(answer, "token", "project", "id"))
        return token, _member(answer, "token", "user", "id")

    async def _ask(
        self, method: str, path: str, document: Any = None, token: str | None = None
    ) -> tuple[Any, Any]:
        """The answer's document and headers."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                headers={"Content-Type": "application/json", "User-Agent": USER_AGENT},
            )
        try:
            async with self._session.request(
                method,
                self._url + path,
                data=None if document is None else msgspec.json.encode(document),
                headers=None if token is None else {"X-Auth-Token": token},
                allow_redirects=False,
            ) as response:
                body = b""
                while len(body) < LARGEST_ANSWER and (piece := await response.content.readany()):
                    body += piece
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise Unreachable("the identity service cannot be reached") from exc
        if status in (400, 401, 403, 404, 409):
            raise Distrusted(status)
        if not 200 <= status < 300:
            raise Unreachable(f"the identity service answered {status}")
        try:
            return msgspec.json.decode(body), response.headers
        except msgspec.DecodeError as exc:
            raise _strange() from exc


def _text_at(document: Any, *names: str) -> str:
    """What stands there in nested objects; empty when it is no text, or nothing."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, str) else ""


def _member(document: Any, *names: str) -> str:
    """The same of what has to be there."""
    text = _text_at(document, *names)
    if not text:
        raise _strange()
    return text


def _strange() -> Unreachable:
    return Unreachable("the identity service answered what is not understood")
