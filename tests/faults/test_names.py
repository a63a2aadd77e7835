"""Who owns a webhook's name has it lead elsewhere each time it is looked up.

The nameserver that the service asks answers now with an address that may be connected to, now with one that
may not, now with both, or not at all; once it has led outside, it leads inside. Nobody ever connects there.
Each delivery was made, or is one dead letter; and of those there are as many as look-ups that led inside, and
one for each name that was never found.

Short: each name turns once after its address was forgotten. SUKKAL_LONG=1: many times.
"""

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import pytest
from notify.receiver import Receiver, answer, receiving

from sukkal.notify.addresses import ForbiddenAddress

from .names import ZONE, Lead, Led, asking, nameserver, unusual_address
from .story import PROJECT, all_ended, dead_letters, subscribe
from .victim import LONG, SETTINGS, Victim, seed
from .wire import Connection

pytestmark = pytest.mark.faults

NAMES = 30
LOST = 3  # names that are never found
TURNS = 10 if LONG else 1
PACE = 0.5  # seconds between posts: nothing tells when the service has forgotten an address
PATIENCE = 60.0 * TURNS  # seconds
OUTSIDE = "127.0.0.1"
DELIVERING = SETTINGS | {"webhook_allow": f"{OUTSIDE}/32"}

FORBIDDEN = str(ForbiddenAddress())
NO_ADDRESS = "its name has no address"
LED_INSIDE = (Led.INSIDE, Led.BOTH)
NOT_FOUND = (Led.NOWHERE, Led.FAULT, Led.SILENCE)


class Hook:
    """A webhook whose name turns, and what the receiver outside got for it."""

    def __init__(self, name: str, receiver: Receiver) -> None:
        self.name = f"{name}.{ZONE}"
        self.url = f"http://{self.name}:{receiver.port}/"
        self._receiver = receiver
        self._host = f"{self.name}:{receiver.port}"
        self._seen = 0  # of what was received
        self._taken: Counter[int] = Counter()

    @property
    def taken(self) -> Mapping[int, int]:
        received = self._receiver.received
        mine = [each for each in received[self._seen :] if each.header("host") == self._host]
        self._seen = len(received)
        self._taken.update(json.loads(each.body)["body"]["number"] for each in mine)
        return self._taken


def turning(chance: random.Random) -> Lead:
    """Leads now outside, now inside, beginning with anything; now and then it is not found in between."""
    first = itertools.cycle(Led)

    def lead(name: str, before: Sequence[Led]) -> Led:
        if name.startswith("lost"):
            return chance.choice((Led.NOWHERE, Led.FAULT))
        if not before:
            return next(first)
        if before[-1] not in NOT_FOUND and chance.random() < 0.2:
            return chance.choice((Led.NOWHERE, Led.FAULT))
        found = [led for led in before if led not in NOT_FOUND]
        return chance.choice(LED_INSIDE) if found[-1:] == [Led.OUTSIDE] else Led.OUTSIDE

    return lead


def turns(led: Sequence[Led]) -> int:
    """How often it was looked up again after it had led outside."""
    return led[:-1].count(Led.OUTSIDE)


async def test_names_that_turn_lead_to_no_connection_inside(tmp_path: Path) -> None:
    inside_address = unusual_address()
    async with (
        receiving(answer(200, "Connection: close")) as outside,  # so that each delivery connects
        receiving(answer(400), at=(inside_address, outside.port)) as inside,
        nameserver(OUTSIDE, inside_address, turning(random.Random(seed()))) as names,
    ):
        hooks = [Hook(f"hook-{number}", outside) for number in range(NAMES)]
        lost = [Hook(f"lost-{number}", outside) for number in range(LOST)]
        server = Victim(tmp_path, settings=DELIVERING, under=asking(names, tmp_path))
        connection = Connection(server.port)
        posted: set[int] = set()
        try:
            await subscribe(server.port, hooks)
            await subscribe(server.port, lost, filter={"number": [0]})
            async with asyncio.timeout(PATIENCE):
                while not all(turns(names.led[hook.name]) >= TURNS for hook in hooks):
                    await post(connection, len(posted))
                    posted.add(len(posted))
                    letters = await all_ended(server.port, posted, hooks)
                    assert inside.connections == 0
                    for hook in hooks:
                        audit(hook, names.led[hook.name], posted, letters[hook.url])
                    await asyncio.sleep(PACE)
            letters = await all_ended(server.port, {0}, lost)
            dead = [letter async for letter in dead_letters(connection)]
        finally:
            connection.close()
            server.stop()
    assert [letters[hook.url] for hook in lost] == [{0: 1}] * LOST
    for letter in dead:
        never_found = letter["subscriber"] in {hook.url for hook in lost}
        assert letter["reason"] == (NO_ADDRESS if never_found else FORBIDDEN)
    assert {led for each in names.led.values() for led in each} == set(Led), "not all of it came to pass"
    assert inside.connections == 0


def audit(hook: Hook, led: Sequence[Led], posted: Set[int], letters: Counter[int]) -> None:
    """Nothing is under way: each message ended once, in one way or the other."""
    assert sorted([*hook.taken, *letters.elements()]) == sorted(posted)
    assert letters.total() == sum(each in LED_INSIDE for each in led)


async def post(connection: Connection, number: int) -> None:
    document = {"messages": [{"body": {"number": number}, "ttl": 86400}]}
    answer = await connection.call(PROJECT, "POST", "/v2/queues/q/messages", document)
    assert answer.status == 201, answer
