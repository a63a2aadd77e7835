"""Which deliveries jobs stand for: each of their messages, for each subscription that wants it."""

import logging
from collections.abc import AsyncGenerator, Sequence
from functools import partial

from sukkal.core.clock import Clock
from sukkal.core.stretch import Stretch
from sukkal.core.subscribing.deliveries import Deliveries, Job, Parked, Told, delivery_id
from sukkal.core.subscribing.filters import UNREADABLE, Content, content, filter_of
from sukkal.core.subscribing.recipients import Recipients
from sukkal.errors import Unavailable
from sukkal.model import QueueKey, Subscription
from sukkal.notify.ledger import insist

log = logging.getLogger(__name__)


class FanOut:
    def __init__(self, recipients: Recipients, deliveries: Deliveries, clock: Clock) -> None:
        self._recipients = recipients
        self._deliveries = deliveries
        self._clock = clock

    async def of(
        self, key: QueueKey, jobs: Sequence[Job]
    ) -> AsyncGenerator[tuple[Job, Parked, Subscription]]:
        """The deliveries of jobs of one queue; those for one subscription in the jobs' order.

        Subscriptions are read from now on, a page at a time: whoever had subscribed before a message was
        posted is there. However many do not want it, others get their turn.
        """
        after: str | None = ""
        anybody = False
        stretch = Stretch()
        while after is not None:
            page, after = await insist(
                partial(self._recipients.outside, key, after=after, now=self._clock.now())
            )
            anybody = anybody or any(each.gone is None for each in page)
            audience = []
            for each in page:
                if stretch.is_over:
                    await stretch.rest()
                if not self._recipients.awaited(each):
                    audience.append((each, filter_of(each.options)))
            for job in jobs if audience else ():
                for message in job.messages:
                    body: Content | None = None
                    for subscription, matches in audience:
                        if stretch.is_over:
                            await stretch.rest()
                        if subscription.gone is not None and subscription.gone < message.created:
                            continue  # what came before is a failure
                        if matches is not None:
                            body = body or self._content(message)
                            if not matches(body):
                                continue
                        yield job, _delivery(job, message, subscription), subscription
        if not anybody:
            for note in {job.note for job in jobs}:
                await insist(partial(self._deliveries.unmark, key, note))

    def _content(self, message: Told) -> Content:
        try:
            return content(self._recipients.body(message))
        except Unavailable:  # it matches, and fails where it is delivered
            log.exception("deliveries: a message cannot be read")
            return UNREADABLE


def _delivery(job: Job, message: Told, subscription: Subscription) -> Parked:
    return Parked(
        id=delivery_id(message.id, subscription.id),
        project=job.project,
        queue=job.queue,
        subscription=subscription.id,
        since=message.created,
        message=message,
        dead=job.dead,
    )
