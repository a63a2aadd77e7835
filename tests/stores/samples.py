"""Messages and leases for tests, with everything defaulted that a test does not talk about."""

from sukkal.model import Lease, Message, QueueKey, View
from sukkal.stores.contract import Messages

NOW = 1_800_000_000.0
QUEUE = QueueKey("acme", "orders")
ALL = View(include_claimed=True, include_delayed=True)


def message(
    id: str,
    *,
    body: bytes = b'{"event":"done"}',
    ttl: int = 3600,
    delay: int = 0,
    at: float = NOW,
    client: str = "producer",
    claim_count: int = 0,
) -> Message:
    """A message posted `at` that time."""
    return Message(
        id=id,
        body=body,
        ttl=ttl,
        created=at,
        visible=at + delay,
        expires=at + ttl,
        client=client,
        claim_count=claim_count,
    )


def numbered(amount: int, *, first: int = 0, ttl: int = 3600) -> list[Message]:
    """Messages whose ids follow the order they are in."""
    return [message(f"m{number:05}", ttl=ttl) for number in range(first, first + amount)]


def lease(id: str, *, ttl: int = 60, grace: int = 60, since: float = NOW) -> Lease:
    return Lease(id=id, ttl=ttl, grace=grace, since=since)


def ids(listed: list[Message]) -> list[str]:
    return [shown.id for shown in listed]


async def walk(
    messages: Messages,
    queue: QueueKey = QUEUE,
    *,
    view: View = ALL,
    after: str | None = None,
    limit: int = 7,
    now: float = NOW,
) -> list[Message]:
    """Everything that following markers meets from `after` on."""
    met: list[Message] = []
    while listed := await messages.page(queue, view=view, after=after, limit=limit, now=now):
        met += listed
        after = listed[-1].marker
    return met
