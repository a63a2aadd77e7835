"""Claims: taking, renewing and giving back the right to messages; and where messages go after too many."""

import asyncio
import logging
from collections.abc import Callable

from msgspec.structs import replace

from sukkal import requests as r
from sukkal.core.attributes import Attributes
from sukkal.core.catalog import Catalog
from sukkal.core.context import Context
from sukkal.core.messages import Messages
from sukkal.core.waiting import Waiting
from sukkal.errors import NotFound, StoreUnavailable
from sukkal.limits import DEFAULT_PAGE, Limits
from sukkal.model import Holder, Lease, Message, QueueKey, queue_key
from sukkal.stores.contract import Messages as Store
from sukkal.tally import Figures

log = logging.getLogger(__name__)

# How often one request meets nothing but spent messages and moves them, before it answers with what it has.
MOST_MOVES = 200


class Claims:
    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        waiting: Waiting,
        messages: Messages,
        limits: Limits,
        new_id: Callable[[float], str],
        figures: Figures,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._waiting = waiting
        self._messages = messages
        self._limits = limits
        self._new_id = new_id
        self._figures = figures
        self._giving_back: set[asyncio.Task[None]] = set()

    async def create(self, ctx: Context, request: r.CreateClaim) -> r.Claimed:
        if request.wait:
            return await self._create_when_possible(ctx, request)
        ttl, grace = self._times(request)
        limit = self._limit(request)
        self._limits.check_claim_ttl(ttl)
        self._limits.check_claim_limit(limit)
        self._limits.check_claim_grace(grace)
        key = queue_key(ctx.project, request.queue)
        lease = Lease(id=self._new_id(ctx.now), ttl=ttl, grace=grace, since=ctx.now)
        entry = await self._catalog.get(key, now=ctx.now)
        if entry is not None:
            entry.uses += 1
        if entry is not None and entry.attributes.dead_letter_queue is not None:
            messages = await self._claim_counting(ctx, key, lease, limit, entry.attributes)
        else:
            messages = await self._store.claim(key, lease, limit=limit, now=ctx.now)
            if messages:
                self._waiting.comes_due(key, lease.due)
        self._figures.messages[key.project].claimed += len(messages)
        return r.Claimed(id=lease.id if messages else None, messages=self._messages.opened(messages))

    def _limit(self, request: r.CreateClaim) -> int:
        if request.limit is None:
            return min(DEFAULT_PAGE, self._limits.max_messages_per_claim_or_pop)
        return request.limit

    async def _create_when_possible(self, ctx: Context, request: r.CreateClaim) -> r.Claimed:
        self._limits.check_wait(request.wait)
        until = ctx.now + request.wait
        request = replace(request, wait=0)
        claimed = await self._attempt(ctx, request)
        if claimed.messages:
            return claimed
        key = queue_key(ctx.project, request.queue)
        async with self._waiting.place(key, limit=self._limit(request)) as place:
            while True:
                claimed = await self._attempt(replace(ctx, now=self._waiting.clock.now()), request)
                if claimed.messages:
                    place.took(len(claimed.messages))
                    return claimed
                if not await place.woken(until):
                    return claimed

    async def _attempt(self, ctx: Context, request: r.CreateClaim) -> r.Claimed:
        """Claim for a caller who may go away meanwhile: what is then taken for nobody is given back."""
        taking = asyncio.create_task(self.create(ctx, request))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            giving_back = asyncio.create_task(self._give_back(ctx, request.queue, taking))
            self._giving_back.add(giving_back)
            giving_back.add_done_callback(self._giving_back.discard)
            raise

    async def _give_back(self, ctx: Context, queue: str, taking: asyncio.Task[r.Claimed]) -> None:
        try:
            claimed = await taking
            if claimed.id is not None:
                ctx = replace(ctx, now=self._waiting.clock.now())
                await self.release(ctx, r.ReleaseClaim(queue=queue, claim_id=claimed.id))
        except StoreUnavailable as exc:  # what was taken comes back when the claim lapses
            log.warning("giving back a claim: %s", exc, extra=ctx.about("claims.create"))

    def _times(self, request: r.CreateClaim | r.RenewClaim) -> tuple[int, int]:
        ttl = self._limits.default_claim_ttl if request.ttl is None else request.ttl
        grace = self._limits.default_claim_grace if request.grace is None else request.grace
        return ttl, grace

    async def _claim_counting(
        self, ctx: Context, key: QueueKey, lease: Lease, limit: int, queue: Attributes
    ) -> list[Message]:
        """Claim, and move messages that were claimed often enough to the dead letter queue instead."""
        kept: list[Message] = []
        for _ in range(MOST_MOVES):
            taken = await self._store.claim(key, lease, limit=limit - len(kept), now=ctx.now)
            if taken:
                self._waiting.comes_due(key, lease.due)
            spent = [message for message in taken if message.claim_count > queue.max_claims]
            kept += [message for message in taken if message.claim_count <= queue.max_claims]
            if not spent:
                break
            await self._move(ctx, key, lease, spent, queue)
        else:  # there may be more
            self._waiting.given_back(key)
        return kept

    async def _move(
        self, ctx: Context, key: QueueKey, lease: Lease, spent: list[Message], queue: Attributes
    ) -> None:
        """Store the messages in the dead letter queue, then delete them under their lease.

        They may lie in different stores, so the two are not one step: a crash between them leaves the
        messages in both places, and storing again under the same ids leaves one copy.
        """
        assert queue.dead_letter_queue is not None
        target = QueueKey(key.project, queue.dead_letter_queue)
        moved = [_dead_letter(message, queue, ctx.now) for message in spent]
        await self._messages.move_in(target, moved, now=ctx.now)
        holder = Holder(claims=frozenset({lease.id}))
        await self._store.delete(key, [message.id for message in spent], holder=holder, now=ctx.now)
        self._figures.messages[key.project].dead_lettered += len(spent)

    async def get(self, ctx: Context, request: r.GetClaim) -> r.Claim:
        key = queue_key(ctx.project, request.queue)
        found = await self._store.held(key, request.claim_id, now=ctx.now)
        if found is None:
            raise _claim_not_found(request.claim_id, key)
        lease, messages = found
        return r.Claim(lease=lease, messages=self._messages.opened(messages))

    async def renew(self, ctx: Context, request: r.RenewClaim) -> None:
        ttl, grace = self._times(request)
        self._limits.check_claim_ttl(ttl)
        self._limits.check_claim_grace(grace)
        key = queue_key(ctx.project, request.queue)
        lease = Lease(id=request.claim_id, ttl=ttl, grace=grace, since=ctx.now)
        if not await self._store.renew(key, lease, now=ctx.now):
            raise _claim_not_found(request.claim_id, key)
        self._waiting.comes_due(key, lease.due)

    async def release(self, ctx: Context, request: r.ReleaseClaim) -> None:
        key = queue_key(ctx.project, request.queue)
        if await self._store.release(key, request.claim_id, now=ctx.now):
            self._waiting.given_back(key)


def _dead_letter(message: Message, queue: Attributes, now: float) -> Message:
    """The message as it arrives in the dead letter queue: unclaimed, visible, as old as it was."""
    moved = replace(message, claim=None, claim_count=0, visible=message.created)
    if queue.dead_letter_ttl is not None:
        moved = replace(moved, ttl=queue.dead_letter_ttl, expires=now + queue.dead_letter_ttl)
    return moved


def _claim_not_found(claim: str, key: QueueKey) -> NotFound:
    return NotFound(f"Claim {claim} does not exist in queue {key.name} for project {key.project}")
