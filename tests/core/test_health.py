"""The health document: its operations are really tried, and each speaks for itself."""

import logging
import uuid
from typing import Any

import pytest

from sukkal.core.health import PROJECT
from sukkal.errors import Unavailable
from sukkal.requests import Health

from .world import Stage, World

OPERATIONS = [
    "create_queue",
    "post_messages",
    "claim_messages",
    "list_messages",
    "delete_messages",
    "delete_claim",
    "bulk_delete_messages",
    "delete_queue",
]


async def health(world: World) -> Health:
    document: Health = await world.call("health.get")
    return document


def failed(document: Health) -> list[str]:
    return [name for name, outcome in document.operation_status.items() if not outcome.succeeded]


async def test_healthy_service_succeeds_in_all_operations(world: World) -> None:
    document = await health(world)
    assert document.storage_reachable
    assert list(document.operation_status) == OPERATIONS
    for outcome in document.operation_status.values():
        assert (outcome.succeeded, outcome.ref) == (True, None)
        assert 0 <= outcome.seconds < 5


async def test_operations_succeed_where_claimed_messages_need_their_claims_to_be_deleted() -> None:
    assert failed(await health(World(delete_with_claim_id=True))) == []


async def test_operations_really_reach_the_store(staged: World, stage: Stage) -> None:
    await health(staged)
    assert {"append", "claim", "page", "delete", "release", "purge"} <= set(stage.messages.calls)
    assert {"put", "delete"} <= set(stage.documents.calls)


async def test_trying_leaves_nothing_behind(world: World) -> None:
    for _ in range(3):
        await health(world)
    assert await world.queues(project=PROJECT) == []
    document = await health(world)
    assert document.message_volume.total == 0


async def test_trying_happens_out_of_the_callers_sight(staged: World, stage: Stage) -> None:
    stage.documents.broken = {"delete"}  # the throw-away queue stays
    assert failed(await health(staged)) == ["delete_queue"]
    assert await staged.queues() == []
    assert len(await staged.queues(project=PROJECT)) == 1


async def test_volume_counts_all_projects(world: World) -> None:
    await world.post("orders", 1, 2, project="one")
    await world.post("orders", 3, project="two")
    await world.call("claims.create", queue="orders", project="two")
    volume = (await health(world)).message_volume
    assert (volume.free, volume.claimed, volume.total) == (2, 1, 3)


async def test_memory_store_is_not_called_durable(world: World) -> None:
    assert not (await health(world)).durable


@pytest.mark.parametrize(
    "verb, fails",
    [
        ("append", ["post_messages"]),
        ("claim", ["claim_messages"]),
        ("page", ["list_messages"]),
        ("delete", ["delete_messages", "bulk_delete_messages"]),
        ("release", ["delete_claim"]),
        ("purge", ["delete_queue"]),
    ],
)
async def test_failing_operation_does_not_fail_the_others(
    staged: World, stage: Stage, verb: str, fails: list[str]
) -> None:
    stage.messages.broken = {verb}
    document = await health(staged)
    assert failed(document) == fails
    assert document.storage_reachable


async def test_failure_is_found_in_the_log_by_its_ref(
    staged: World, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.messages.broken = {"release"}
    with caplog.at_level(logging.ERROR):
        document = await health(staged)
    ref = document.operation_status["delete_claim"].ref
    assert ref is not None
    assert str(uuid.UUID(ref)) == ref
    (record,) = [record for record in caplog.records if ref in record.getMessage()]
    assert "delete_claim" in record.getMessage()
    assert record.exc_info is not None


async def test_fault_of_ours_is_an_outcome_too(
    staged: World, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("a bug")

    stage.messages.before("page", broken)
    assert failed(await health(staged)) == ["list_messages"]


async def test_store_that_does_not_answer_is_unreachable(staged: World, stage: Stage) -> None:
    stage.reachable = False
    assert not (await health(staged)).storage_reachable


async def test_document_that_cannot_be_had_is_unavailable(staged: World, stage: Stage) -> None:
    stage.messages.broken = {"volume"}
    with pytest.raises(Unavailable, match="Health status could not be read"):
        await health(staged)


# --- ping ----------------------------------------------------------------------------------------------


async def test_ping_asks_the_store(staged: World, stage: Stage) -> None:
    await staged.call("ping.get")
    stage.break_down()
    with pytest.raises(Unavailable, match="The store could not be reached"):
        await staged.call("ping.get")


async def test_probe_answers_whatever_the_store_does(staged: World, stage: Stage) -> None:
    stage.break_down()
    await staged.call("ping.probe")
