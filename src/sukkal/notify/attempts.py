"""One attempt to deliver: where it goes, what came of it, and what follows from that."""

import logging
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import msgspec

from sukkal.core.attributes import RETRY_POLICY
from sukkal.core.clock import Clock
from sukkal.core.subscribing.deliveries import Parked, delivery_id
from sukkal.core.subscribing.recipients import Recipients
from sukkal.errors import Unavailable
from sukkal.model import Notice, Subscription
from sukkal.notify.deliverer import Deliverer, Deliverers, Outcome, Parcel, Result
from sukkal.notify.hosts import Hosts
from sukkal.notify.ledger import insist
from sukkal.notify.notice import render
from sukkal.notify.retry import LONGEST_LIFE, LONGEST_WAIT, SPREAD, chosen
from sukkal.tally import Figures
from sukkal.wire.bodies import trace_of

log = logging.getLogger(__name__)

LINE_SECONDS = 1.0  # what a host with a full line asks for
CLOSED_SECONDS = 20.0  # before a delivery to a host that was closed is looked at again, at least
ROUTES = 10_000  # subscribers whose deliverer and host are remembered

UNREADABLE = b"null"  # in place of a notification
DAMAGED = Outcome(Result.FAILED, "its message cannot be read any more")
DISABLED = Outcome(Result.FAILED, "it has answered before that it is gone")
NOBODY = Outcome(Result.FAILED, "nobody delivers to subscribers of this type")


class Attempts:
    def __init__(
        self,
        recipients: Recipients,
        deliverers: Deliverers,
        hosts: Hosts,
        clock: Clock,
        figures: Figures,
        chance: Callable[[], float],
    ) -> None:
        self.figures = figures
        self._recipients = recipients
        self._deliverers = deliverers
        self._hosts = hosts
        self._clock = clock
        self._chance = chance
        self._routes: dict[str, tuple[Deliverer | None, str]] = {}

    def notification(self, parked: Parked) -> bytes:
        """What the subscriber is told, as JSON; UNREADABLE when that cannot be found out."""
        told = parked.message
        try:
            if told is None:
                return self._recipients.text(parked)
            body = self._recipients.body(told)
            return render(Notice(queue=parked.key.title, body=body, ttl=told.ttl, delay=told.delay))
        except (Unavailable, msgspec.MsgspecError, RecursionError):  # its key is checked at the start
            log.exception("deliveries: one of %s cannot be read", parked.queue)
            return UNREADABLE

    def size(self, subscription: Subscription, notices: Sequence[bytes]) -> int:
        """How many bytes an attempt has in memory."""
        deliverer, _ = self._route(subscription.subscriber)
        told = sum(map(len, notices))
        return told if deliverer is None else deliverer.size(subscription, told)

    def delay(self, parked: Parked, subscription: Subscription, longest: float) -> float | None:
        """Until when to put off what is not to be tried now; None when it is to be tried.

        `longest`: seconds of that, of a host that is not closed.
        """
        deliverer, host = self._route(subscription.subscriber)
        if deliverer is None or subscription.gone is not None:
            return None
        now = self._clock.now()
        delay = self._hosts.delay(host, parked.project, now)
        if delay is None or now - parked.since >= LONGEST_LIFE:
            return None
        return self.after(parked.since, delay, longest)

    def after(self, since: float, delay: float, longest: float) -> float:
        """When to look again: after half the time it has waited, so that long lines move little.

        That is bounded, for what is old may have waited for something else: for this service to be started.
        """
        now = self._clock.now()
        if delay > LINE_SECONDS:  # it is closed, and all who wait would come back together again and again
            delay = max(delay, CLOSED_SECONDS)
        wait = min(max(delay, min((now - since) / 2, longest)), LONGEST_WAIT)
        return now + wait * (1 + SPREAD * self._chance())

    async def make(self, rows: Sequence[Parked], subscription: Subscription, notices: list[bytes]) -> Outcome:
        """Try once to deliver these together. Raises Closed when its host was closed before its turn came."""
        if UNREADABLE in notices:
            return DAMAGED
        if subscription.gone is not None:
            return DISABLED
        deliverer, host = self._route(subscription.subscriber)
        if deliverer is None:
            return NOBODY
        parcel = _parcel(rows, subscription, notices)
        async with self._hosts.slot(host, parcel.project) as since:
            try:
                outcome = await deliverer.deliver(parcel)
            except Exception:  # a fault of ours is not the receiver's, and should not lose what is for it
                log.exception("deliveries: a deliverer failed")
                outcome = Outcome(Result.RETRY, "a fault of the service")
            works = outcome.reached or outcome.result is not Result.RETRY
            self._hosts.report(host, parcel.project, works, self._clock.now(), since=since)
            return outcome

    def _route(self, subscriber: str) -> tuple[Deliverer | None, str]:
        route = self._routes.get(subscriber)
        if route is None:
            deliverer = self._deliverers.get(urlsplit(subscriber).scheme)
            route = deliverer, deliverer.host(subscriber) if deliverer else ""
            if len(self._routes) >= ROUTES:
                del self._routes[next(iter(self._routes))]
            self._routes[subscriber] = route
        return route

    # --- failures ------------------------------------------------------------------------------------

    async def next(self, parked: Parked, subscription: Subscription, outcome: Outcome) -> float | None:
        """When to try again; None when that is enough."""
        if outcome.result is not Result.RETRY:
            return None
        now = self._clock.now()
        metadata = await insist(lambda: self._recipients.metadata(parked.key, now=now))
        policy = chosen(subscription.options.get(RETRY_POLICY), metadata.get(RETRY_POLICY))
        wait = policy.wait(parked.attempts)
        if wait is None:
            return None
        asked = min(outcome.retry_after or 0.0, LONGEST_WAIT)
        due = now + max(wait * (1 + SPREAD * self._chance()), asked)
        return due if due < parked.since + LONGEST_LIFE else None

    async def give_up(
        self, parked: Parked, subscription: Subscription, notification: bytes, outcome: Outcome
    ) -> None:
        """Put what failed for good where the project wants to have it."""
        now = self._clock.now()
        log.info(
            "deliveries: gave up on one to subscription %s of %s after %d attempts: %s",
            subscription.id,
            parked.queue,
            parked.attempts,
            outcome.reason,
        )
        buried = await insist(
            lambda: self._recipients.bury(parked, subscription, notification, outcome.reason, now=now)
        )
        if outcome.result is Result.GONE:
            await insist(lambda: self._recipients.disable(parked.key, subscription, now=now))
        if buried:
            self.figures.deliveries_dead_lettered += 1
        else:
            self.figures.deliveries_dropped += 1


def _parcel(rows: Sequence[Parked], subscription: Subscription, notices: list[bytes]) -> Parcel:
    first = rows[0]
    traces = [trace_of(row.message.body) for row in rows if row.message is not None]
    return Parcel(
        id=first.id if len(rows) == 1 else delivery_id(first.id, rows[-1].id),
        project=first.project,
        subscription=subscription,
        notices=notices,
        created=first.since,
        attempt=first.attempts,
        traces=[trace for trace in traces if trace],
    )
