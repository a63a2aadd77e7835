"""What must be so of a store when every lease has lapsed."""

import time

from sukkal.model import Lease
from sukkal.stores.contract import Messages

from .audit import Record, audit
from .load import CLAIM_TTLS, QUEUES
from .store_reader import StoreReader, seen


async def audit_after_lapse(record: Record, messages: Messages) -> None:
    """I5: when all leases have lapsed, everything can be claimed. Nobody else may use the store meanwhile."""
    now = time.time()
    reader = StoreReader(messages, now)
    await audit(record, reader, clock=reader.clock, settle=True)
    reader.now = now + max(CLAIM_TTLS) + 1
    lease = Lease(id="after-all", ttl=60, grace=60, since=reader.now)
    for queue in QUEUES:
        expected = [each.number for each in await reader.listing(queue)]
        taken = await messages.claim(queue, lease, limit=len(expected) + 10, now=reader.now)
        assert [seen(each).number for each in taken] == expected, f"I5 in {queue}"
