"""From a frame to its reply: the steps of a request, in the API's order.

Decodable, an object, a known action, the schema, who calls, the queue's name, what the caller may, sizes, and
then core. Each fault is answered and ends the steps; none ends the connection.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct
from msgspec.structs import replace

from sukkal.core.context import Context
from sukkal.core.journal import Journal
from sukkal.core.service import Service
from sukkal.errors import InvalidBody, ServiceError
from sukkal.limits import MAX_PROJECT, is_name
from sukkal.operations import TABLE, Body, Operation
from sukkal.wire import identity, links
from sukkal.wire.home import home_document
from sukkal.wire.identity import NOBODY, ClientIds, RequestIds
from sukkal.wire.media import UNREADABLE
from sukkal.ws.actions import AUTHENTICATE, HOME, Action, Headers, vocabulary
from sukkal.ws.frames import KINDS, NOTHING, Frame, Kind, Request, Undecodable
from sukkal.ws.render import Failure, Renderers, failed

log = logging.getLogger(__name__)

LONGEST_CACHED = 512  # bytes of headers; a connection's are the same in every request

TRANSPORT = "websocket"  # as figures have it
OTHER = "other"  # the same, of requests that ask for no operation, or for none that there is

_UNFIT = (*UNREADABLE, InvalidBody)


class Question(Struct, frozen=True):
    """A request that core has yet to answer."""

    kind: Kind
    request: Request  # as it came
    action: Action
    operation: Operation
    ctx: Context
    fields: dict[str, Any]  # of the operation's request, as far as they are decoded

    @property
    def posts(self) -> bool:
        return self.operation.body is Body.MESSAGES

    @property
    def waits(self) -> bool:
        """Whether it may wait for messages to come."""
        return bool(self.fields.get("wait"))

    @property
    def subscribes_itself(self) -> bool:
        """Whether the connection asks to be told of messages."""
        return self.operation.name == "subscriptions.create" and not self.fields["subscriber"]


class Reply(NamedTuple):
    status: int
    data: bytes


Answering = Callable[[Question], Awaitable[Reply]]


class Refused(Exception):
    """A reply that is given before any operation is asked."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


class Responder:
    """Answers frames. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        service: Service,
        *,
        clock: Callable[[], float],
        client_ids: ClientIds | None = None,
        admin_mode: bool = False,
        checksums: bool = False,
        journal: Journal | None = None,
    ) -> None:
        self._service = service
        self._clock = clock
        self._client_ids = client_ids or ClientIds()
        self.new_request_id = RequestIds().next
        offered = [operation.name for operation in TABLE if operation.action]
        self._took = {name: service.figures.of(TRANSPORT, name).took for name in (OTHER, *offered)}
        self._took_waiting = {name: service.figures.of(TRANSPORT, name, waits=True).took for name in offered}
        self._journal = journal or Journal()
        self._admin_mode = admin_mode
        self._actions = vocabulary()
        self._by_slice = {
            kind: {kind.medium.encode(name): action for name, action in self._actions.items()}
            for kind in KINDS
        }
        self._renderers = Renderers(checksums=checksums).by_operation
        self._home = msgspec.json.decode(home_document(admin_mode=admin_mode, pooling=service.pooling))
        self._headers = {kind: _HeaderReader(kind) for kind in KINDS}
        self.answer: Answering = self._answer  # the reply; whatever happens, there is one

    def wrap_answers(self, wrap: Callable[[Answering], Answering]) -> None:
        """Have every question answered through what `wrap` makes of `answer`."""
        self.answer = wrap(self.answer)

    def read(self, frame: Frame, connection: str) -> Question | Reply:
        """What a frame asks of core, or the reply when it asks nothing. `connection` is the session's id."""
        kind = frame.kind
        request = NOTHING
        begun = perf_counter()
        try:
            request = kind.request(frame.data)
            return self._read(kind, request, connection)
        except Undecodable as exc:
            reply = Reply(400, kind.reply(NOTHING, 400, {"error": str(exc)}))
        except Refused as refused:
            reply = Reply(refused.status, kind.reply(request, refused.status, refused.body))
        except Exception as exc:  # noqa: BLE001 - the top of a request: whatever it is, it is answered
            reply = self._fault(kind, request, exc, {"request_id": "-"})
        self._took[OTHER][reply.status].append(perf_counter() - begun)
        return reply

    def _read(self, kind: Kind, request: Request, connection: str) -> Question | Reply:
        action = self._action(kind, request.action)
        try:
            headers = self._headers[kind].read(request.headers)
            fields = action.read(kind, request.body)
        except _UNFIT:
            raise _unfit() from None
        if not action.identified(headers):
            raise _unfit()
        operation = action.operation
        if operation is None:
            return self._own(kind, action)
        if operation.admin and not self._admin_mode:
            raise _not_offered(action)
        try:
            ctx = self._context(action, headers, connection)
            if ("queue" in fields and not is_name(fields["queue"])) or len(ctx.project) > MAX_PROJECT:
                raise identity.bad_name()
            if headers.signed:
                self._verify(headers, operation, ctx, fields)
            self._service.authorize(operation, ctx)
            if operation.delegates:
                ctx = replace(ctx, credentials=headers.credentials)
        except ServiceError as error:
            raise Refused(*failed(operation, fields, error)) from error
        return Question(kind, request, action, operation, ctx, fields)

    def _action(self, kind: Kind, raw: Raw) -> Action:
        action = self._by_slice[kind].get(bytes(raw))
        if action is not None:
            return action
        try:
            name = kind.medium.decoder(Any)(raw) if raw else None
        except _UNFIT as exc:
            raise Refused(400, {"error": f"The action cannot be read: {exc}"}) from exc
        action = self._actions.get(name) if isinstance(name, str) else None
        if action is None:
            raise Refused(400, {"error": f"{name} is not a valid action"})
        return action

    def _context(self, action: Action, headers: Headers, connection: str) -> Context:
        if action.nameless:
            project = client = ""
        else:
            assert headers.client is not UNSET
            assert headers.project is not UNSET
            client = self._client_ids.read(headers.client.encode())
            project = identity.project(headers.project.encode())
        return Context(
            project=project,
            client=client,
            request_id=self.new_request_id(),
            now=self._clock(),
            roles=(
                identity.roles(headers.roles.encode())
                if isinstance(headers.roles, str) and not headers.signed
                else NOBODY
            ),
            signed=headers.signed,
            connection=connection,
        )

    def _verify(self, headers: Headers, operation: Operation, ctx: Context, fields: dict[str, Any]) -> None:
        """Refuse a pre-signed request unless its signature covers it; only messages are let out so."""
        allowed = operation.name.startswith("messages.") and self._service.signer.allows(
            headers.grant, operation.http[0], links.messages(fields["queue"]), ctx.project, ctx.now
        )
        if not allowed:
            raise Refused(403, {"error": "Not authentified."})

    def _own(self, kind: Kind, action: Action) -> Reply:
        """What is answered without core."""
        if action.name == AUTHENTICATE:  # there is nothing to check: everybody is let in
            echo = Request(action=Raw(kind.medium.encode(AUTHENTICATE)))
            return Reply(200, kind.reply(echo, 200, {"message": "Authentified."}))
        if action.name == HOME:
            raise Refused(200, self._home)
        raise _not_offered(action)

    # --- asking core ---------------------------------------------------------------------------------

    def flows(self, question: Question) -> bool:
        """Whether this is a post that takes effect in the turn in which its answer is begun."""
        return question.posts and self._service.at_hand(question.ctx, question.fields["queue"])

    async def _answer(self, question: Question) -> Reply:
        """The reply; whatever happens, there is one."""
        kind, operation, ctx = question.kind, question.operation, question.ctx
        begun = perf_counter()
        try:
            try:
                request = await self._request(question)
                result = await self._service.call(operation, ctx, request)
                if question.waits:
                    ctx = replace(ctx, now=self._clock())  # ages are told as they are when the answer goes
                renderer = self._renderers[operation.name]
                status, body = renderer(kind.medium, ctx, request, result)
            except ServiceError as error:
                status, body = failed(operation, question.fields, error)
            reply = Reply(status, kind.reply(question.request, status, body))
        except Exception as exc:  # noqa: BLE001 - the top of a request, as in `read`
            reply = self._fault(kind, question.request, exc, ctx.about(operation.name))
        seconds = perf_counter() - begun
        took = self._took_waiting if question.waits else self._took
        took[operation.name][reply.status].append(seconds)
        if seconds >= self._journal.tell_from:
            about = {**ctx.about(operation.name), "action": question.action.name, "status": reply.status}
            self._journal.answered(about, seconds, waited=question.waits)
        return reply

    async def _request(self, question: Question) -> Any:
        """The operation's request, with what is judged by its size before it is taken apart."""
        fields, operation, ctx = question.fields, question.operation, question.ctx
        name = question.action.raw_field
        raw = bytes(fields[name]) if name else b""
        if name and raw:
            limit = await self._service.body_limit(operation, ctx, fields["queue"])
            if len(raw) > limit:
                raise await self._service.too_large(operation, ctx, fields["queue"])
            medium = question.kind.medium
            read = medium.message_list if operation.body is Body.MESSAGES else medium.object
            fields = {**fields, name: read(raw)}
        elif name:
            fields = {key: value for key, value in fields.items() if key != name}
        return operation.request(**fields)

    def _fault(self, kind: Kind, request: Request, exc: Exception, about: dict[str, str]) -> Reply:
        log.error("request failed", exc_info=exc, extra=about)
        text = f"The request could not be served. It is logged as {about['request_id']}."
        return Reply(500, kind.reply(request, 500, Failure(text, "Unexpected error.")))


class _HeaderReader:
    """Reads headers of frames of one kind."""

    def __init__(self, kind: Kind) -> None:
        self._read = kind.medium.decoder(Headers)
        self._cached = lru_cache(1024)(self._read)

    def read(self, raw: Raw) -> Headers:
        """Raises what decoders raise when they do not fit, or are missing."""
        headers: Headers = self._cached(bytes(raw)) if len(raw) <= LONGEST_CACHED else self._read(raw)
        return headers


def _unfit() -> Refused:
    return Refused(400, {"error": "Schema validation failed."})


def _not_offered(action: Action) -> Refused:
    text = f"{action.name} is not offered by this server."
    return Refused(501, Failure(text, text))
