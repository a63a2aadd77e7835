"""What a connection subscribed to, when another process changes or deletes the record of that."""

from typing import Any

import pytest
from hand_clock import others_go_on

from .processes import Process, Shared, Socket

HOOK = "http://hooks.example/in"


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture
def here(shared: Shared) -> Process:
    """The process that has the connections."""
    return shared.process(subscriber_types=["http"])


@pytest.fixture
def elsewhere(shared: Shared) -> Process:
    return shared.process(subscriber_types=["http"])


@pytest.fixture
def socket(here: Process) -> Socket:
    return here.connect("socket")


async def subscribed(socket: Socket, **fields: Any) -> str:
    """Have a connection subscribe, and let its process do what follows from that."""
    id_ = await socket.subscribe(**fields)
    await others_go_on()
    return id_


async def update(process: Process, id_: str, **document: Any) -> None:
    await process.call("subscriptions.update", queue="orders", subscription_id=id_, document=document)


async def move(process: Process, id_: str) -> None:
    await update(process, id_, subscriber=HOOK)


async def listed(process: Process, queue: str = "orders") -> list[Any]:
    answer = await process.call("subscriptions.list", queue=queue)
    return list(answer.subscriptions)


async def test_subscription_that_was_handed_over_outlives_the_connection(
    elsewhere: Process, socket: Socket, shared: Shared
) -> None:
    id_ = await subscribed(socket)
    shared.holds = True
    await move(elsewhere, id_)
    await socket.leave()
    (left,) = await listed(elsewhere)
    assert (left.id, left.subscriber) == (id_, HOOK)
