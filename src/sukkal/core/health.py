"""Is the service well? Its basic operations, really tried on a throw-away queue."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable

from msgspec import Raw
from msgspec.structs import replace

from sukkal import requests as r
from sukkal.core.claims import Claims
from sukkal.core.containers import Containers
from sukkal.core.context import Context
from sukkal.core.messages import Messages
from sukkal.stores.contract import Backend, ControlBackend, Trait

log = logging.getLogger(__name__)

PROJECT = "sukkal-health"
PROBE_SECONDS = 5.0  # that each thing tried may take
BODY = Raw(b'"health"')


class Health:
    OPERATIONS = (
        "create_queue",
        "post_messages",
        "claim_messages",
        "list_messages",
        "delete_messages",
        "delete_claim",
        "bulk_delete_messages",
        "delete_queue",
    )

    def __init__(
        self,
        backends: tuple[Backend, ControlBackend],
        queues: Containers,
        messages: Messages,
        claims: Claims,
    ) -> None:
        """`backends` keep the messages and the records of queues; they may be one."""
        self._backend, self._control = backends
        self._queues = queues
        self._messages = messages
        self._claims = claims

    async def ping(self, _ctx: Context, _request: r.Ping) -> None:
        await self.ping_both()

    async def ping_both(self) -> None:
        """Return when the stores answer; StoreUnavailable when one does not."""
        await self._backend.ping()
        if self._control is not self._backend:
            await self._control.ping()

    async def probe(self, _ctx: Context, _request: r.Probe) -> None:
        """Nothing: that the call arrives is the answer."""

    async def get(self, ctx: Context, _request: r.GetHealth) -> r.Health:
        operations = await self.try_operations(ctx, f"health-{uuid.uuid4().hex}")
        volume = await self._backend.messages.volume(now=ctx.now)
        return r.Health(
            storage_reachable=await self._reachable(),
            durable=Trait.DURABLE in self._backend.traits & self._control.traits,
            operation_status=operations,
            message_volume=r.Volume(free=volume.free, claimed=volume.claimed, total=volume.total),
        )

    async def _reachable(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self.ping_both()
        except Exception:  # whatever it is, the store did not answer
            log.exception("health: the store did not answer")
            return False
        return True

    async def try_operations(self, ctx: Context, queue: str) -> dict[str, r.OperationHealth]:
        """Each operation's outcome on a new queue; one that fails keeps no other from being tried."""
        ctx = replace(ctx, project=PROJECT)
        ids: list[str] = []
        claim = ""

        async def post() -> None:
            news = [r.NewMessage(body=BODY) for _ in range(4)]
            ids.extend((await self._messages.post(ctx, r.PostMessages(queue=queue, messages=news))).ids)

        async def take() -> None:
            nonlocal claim
            claim = (await self._claims.create(ctx, r.CreateClaim(queue=queue, limit=2))).id or ""

        steps: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: self._queues.create(ctx, r.CreateQueue(queue=queue)),
            post,
            take,
            lambda: self._messages.page(ctx, r.ListMessages(queue=queue, echo=True)),
            lambda: self._messages.delete(
                ctx, r.DeleteMessage(queue=queue, id=(ids or [claim])[0], claim_id=claim or None)
            ),
            lambda: self._claims.release(ctx, r.ReleaseClaim(queue=queue, claim_id=claim)),
            lambda: self._messages.delete_many(
                ctx, r.DeleteMessages(queue=queue, ids=ids[1:] or [queue], claim_ids=[claim])
            ),
            lambda: self._queues.delete(ctx, r.DeleteQueue(queue=queue)),
        )
        return {name: await _tried(name, step) for name, step in zip(self.OPERATIONS, steps, strict=True)}


async def _tried(name: str, step: Callable[[], Awaitable[object]]) -> r.OperationHealth:
    begun = time.perf_counter()
    ref = None
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await step()
    except Exception:  # any failure is a finding here
        ref = str(uuid.uuid4())
        log.exception("health: %s failed, ref %s", name, ref)
    return r.OperationHealth(succeeded=ref is None, seconds=time.perf_counter() - begun, ref=ref)
