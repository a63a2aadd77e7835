"""What was posted to a queue that delivers, and what became of each delivery."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from typing import Any, Protocol

from .victim import LONG, Victim
from .wire import Answer, Connection, NoAnswer, NotSent

CLIENTS = 4
PATIENCE = 900.0 if LONG else 180.0  # seconds until all is delivered; leases of dead servers have to lapse
PROJECT = "acme"
POLICY = {
    "retries_with_no_delay": 1,
    "minimum_delay_retries": 0,
    "minimum_delay": 1,
    "maximum_delay": 11,
    "maximum_delay_retries": 0,
}


class Subscriber(Protocol):
    @property
    def url(self) -> str: ...

    @property
    def taken(self) -> Mapping[int, int]:
        """How often it took which message."""
        ...


class Story:
    """What was posted over all lives of the server."""

    def __init__(self) -> None:
        self.numbers = 0
        self.acknowledged: set[int] = set()
        self.sequences: list[list[int]] = []  # of these, those of each client in the order of its posts
        self.open = 0  # posts that got no answer

    async def post(
        self, port: int, amount: int, strike: Callable[[], None], *, more: int | None = None
    ) -> None:
        """Post from several clients; after so many answers the server is struck.

        They post until it is gone; or, with `more`, until so many more are acknowledged.
        """
        left = amount

        async def client() -> None:
            nonlocal left
            connection = Connection(port)
            mine: list[int] = []
            self.sequences.append(mine)
            while more is None or left > -more:
                number, self.numbers = self.numbers, self.numbers + 1
                document = {"messages": [{"body": {"number": number}, "ttl": 86400}]}
                try:
                    answer = await connection.call(PROJECT, "POST", "/v2/queues/q/messages", document)
                except NotSent:
                    return
                except NoAnswer:
                    self.open += 1
                    if more is None:
                        return
                    continue
                if more is not None and answer.status == 503:  # as long as the store is away
                    self.open += 1
                    await asyncio.sleep(0.02)
                    continue
                assert answer.status == 201, answer
                self.acknowledged.add(number)
                mine.append(number)
                left -= 1
                if left == 0:
                    strike()
            connection.close()

        await asyncio.gather(*(client() for _ in range(CLIENTS)))


def strike(server: Victim, chance: random.Random) -> None:
    asyncio.get_running_loop().call_later(chance.random() * 0.02, server.kill)


async def subscribe(port: int, subscribers: Sequence[Subscriber], **options: object) -> None:
    connection = Connection(port)
    for each in subscribers:
        given = {"_retry_policy": POLICY, "_dead_letter_queue": "dead"} | options
        document = {"subscriber": each.url, "ttl": 86400, "options": given}
        answer = await connection.call(PROJECT, "POST", "/v2/queues/q/subscriptions", document)
        assert answer.status == 201, answer
    connection.close()


async def all_ended(
    port: int, acknowledged: Set[int], subscribers: Sequence[Subscriber]
) -> dict[str, Counter[int]]:
    """The numbers of dead letters by subscriber, once each delivery has ended in one way or the other."""
    connection = Connection(port)
    letters: defaultdict[str, Counter[int]]
    async with asyncio.timeout(PATIENCE):
        while True:
            letters = defaultdict(Counter)
            async for letter in dead_letters(connection):
                letters[letter["subscriber"]][letter["notification"]["body"]["number"]] += 1
            if all(acknowledged <= set(each.taken) | set(letters[each.url]) for each in subscribers):
                connection.close()
                return letters
            await asyncio.sleep(0.2)  # nothing tells when a dead server's leases have lapsed


async def dead_letters(connection: Connection) -> AsyncIterator[dict[str, Any]]:
    path = "/v2/queues/dead/messages?echo=true&limit=100"
    while True:
        answer: Answer = await connection.call(PROJECT, "GET", path)
        assert answer.status == 200, answer
        if not answer.document["messages"]:
            return
        for message in answer.document["messages"]:
            yield message["body"]
        path = answer.document["links"][0]["href"]
