"""Pools as operators see them: what is recorded, what is refused, and that nothing is half done."""

import asyncio
import logging
from typing import Any

import pytest

from sukkal.errors import Conflict, Forbidden, Invalid, InvalidBody, NotFound, ServiceError
from sukkal.model import FlavorKey
from sukkal.operations import BY_NAME

from .pooled import POOL_ROWS, Pools, without_fifo
from .world import Stage


@pytest.fixture
def world() -> Pools:
    return Pools()


async def names(world: Pools) -> list[str]:
    return [pool.name for pool in (await world.call("pools.list", limit=20)).pools]


async def test_pool_is_recorded_and_shown(world: Pools) -> None:
    await world.pool("p1", 7, options={"speed": 3})
    pool = await world.call("pools.get", pool="p1")
    assert (pool.name, pool.uri, pool.weight, pool.flavor) == ("p1", "test://p1", 7, None)
    assert pool.options == {"speed": 3}


async def test_put_replaces_the_whole_pool(world: Pools) -> None:
    await world.pool("p1", 7, options={"speed": 3}, flavor="gold")
    await world.pool("p1", 8)
    pool = await world.call("pools.get", pool="p1")
    assert (pool.weight, pool.options, pool.flavor) == (8, {}, None)


async def test_pools_are_listed_by_name_behind_a_marker(world: Pools) -> None:
    for name in ("c", "a", "b"):
        await world.pool(name)
    assert await names(world) == ["a", "b", "c"]
    page = await world.call("pools.list", marker="a", limit=1)
    assert [pool.name for pool in page.pools] == ["b"]
    assert (await world.call("pools.list", marker="c")).pools == []


@pytest.mark.parametrize("limit", [0, -1, 21])
async def test_limit_of_a_listing_is_judged(world: Pools, limit: int) -> None:
    with pytest.raises(Invalid, match=r"^Limit must be at least 1 and no greater than 20\.$"):
        await world.call("pools.list", limit=limit)
    with pytest.raises(Invalid, match=r"^Limit must be at least 1 and no greater than 20\.$"):
        await world.call("flavors.list", limit=limit)


BAD = [
    None,
    [],
    {},
    {"weight": 1},
    {"uri": "test://x"},
    {"uri": 5, "weight": 1},
    {"uri": "", "weight": 1},
    {"uri": "test://" + "x" * 249, "weight": 1},
    {"uri": "test://x", "weight": -1},
    {"uri": "test://x", "weight": 2**32},
    {"uri": "test://x", "weight": 1.5},
    {"uri": "test://x", "weight": "1"},
    {"uri": "test://x", "weight": True},
    {"uri": "test://x", "weight": None},
    {"uri": "test://x", "weight": 1, "flavor": None},
    {"uri": "test://x", "weight": 1, "flavor": "f" * 256},
    {"uri": "test://x", "weight": 1, "options": []},
    {"uri": "test://x", "weight": 1, "options": None},
    {"uri": "test://x", "weight": 1, "group": "g"},
]


@pytest.mark.parametrize("document", BAD, ids=str)
async def test_malformed_pool_is_refused_and_its_store_never_opened(world: Pools, document: Any) -> None:
    with pytest.raises(InvalidBody) as fault:
        await world.call("pools.put", pool="x", document=document)
    assert fault.value.message.endswith(".")
    assert await names(world) == []
    assert world.stores.opened == []


@pytest.mark.parametrize("weight", [0, 2**32 - 1])
async def test_weights_at_the_bounds_are_fine(world: Pools, weight: int) -> None:
    await world.pool("p1", weight)
    assert (await world.call("pools.get", pool="p1")).weight == weight


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 65, "catalog_reachable"])
async def test_pool_needs_a_name_that_can_stand_in_paths(world: Pools, name: str) -> None:
    with pytest.raises(Invalid, match="name of a pool"):
        await world.pool(name)
    assert await names(world) == []


async def test_unknown_scheme_and_what_is_no_uri_are_refused(world: Pools) -> None:
    for uri in ("nosql://h", "localhost:6379", "127.0.0.1"):
        with pytest.raises(Invalid, match="No store serves") as fault:
            await world.pool("p1", uri=uri)
        assert fault.value.title == "Unable to create pool"
    assert await names(world) == []


async def test_store_that_cannot_be_reached_is_refused_without_its_password(
    world: Pools, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world.stores.away.add("test://ann:secret@far")
    with pytest.raises(Invalid, match="cannot connect to test://far") as fault:
        await world.pool("p1", uri="test://ann:secret@far")
    assert fault.value.title == "Unable to create pool"
    assert "secret" not in fault.value.message + caplog.text
    assert await names(world) == []


async def test_store_that_opens_and_does_not_answer_is_refused(world: Pools) -> None:
    world.stage("p1").break_down()
    with pytest.raises(Invalid, match="cannot connect"):
        await world.pool("p1")
    assert await names(world) == []


async def test_two_pools_never_share_a_store(world: Pools) -> None:
    await world.pool("p1")
    with pytest.raises(Conflict, match=r"^The database URI is in use by another pool\.$"):
        await world.pool("p2", uri="test://p1/")
    await world.pool("p2")
    with pytest.raises(Conflict):
        await world.call("pools.update", pool="p2", document={"uri": "test://p1"})
    await world.pool("p1", 5)  # its own is no conflict
    assert (await world.call("pools.get", pool="p2")).uri == "test://p2"


async def test_of_two_operators_who_take_one_store_at_once_one_is_refused(world: Pools) -> None:
    other = Pools(world)
    answers = await asyncio.gather(
        world.pool("p1", uri="test://same"), other.pool("p2", uri="test://same"), return_exceptions=True
    )
    assert [type(answer) for answer in answers].count(Conflict) == 1
    assert len(await names(world)) == 1


async def test_operators_who_change_different_pools_at_once_both_succeed(world: Pools) -> None:
    others = [Pools(world) for _ in range(4)]
    await asyncio.gather(*(each.pool(f"p{number}") for number, each in enumerate(others)))
    assert await names(world) == ["p0", "p1", "p2", "p3"]


async def test_change_of_the_store_by_two_operators_at_once_leaves_one_of_them(world: Pools) -> None:
    await world.pool("p1")
    other = Pools(world)
    reading = world.backend.documents.hold_before("put")  # type: ignore[attr-defined]
    change = asyncio.create_task(world.call("pools.update", pool="p1", document={"weight": 9}))
    await reading.reached()
    await other.call("pools.update", pool="p1", document={"uri": "test://elsewhere"})
    reading.open()
    with pytest.raises(Conflict, match="changed by somebody else"):
        await change
    pool = await world.call("pools.get", pool="p1")
    assert (pool.uri, pool.weight) == ("test://elsewhere", 1)


# --- changing --------------------------------------------------------------------------------------------


async def test_patch_changes_what_it_names(world: Pools) -> None:
    await world.pool("p1", 7, flavor="gold")
    await world.call("pools.update", pool="p1", document={"weight": 9, "color": "blue"})
    pool = await world.call("pools.get", pool="p1")
    assert (pool.weight, pool.flavor) == (9, FlavorKey("acme", "gold"))
    answer = await world.call("pools.update", pool="p1", document={"flavor": ""})
    assert answer.flavor is None


@pytest.mark.parametrize("document", [None, [], {}, {"color": "blue"}], ids=str)
async def test_patch_needs_something_to_change(world: Pools, document: Any) -> None:
    await world.pool("p1")
    with pytest.raises(InvalidBody) as fault:
        await world.call("pools.update", pool="p1", document=document)
    if document in ({}, {"color": "blue"}):
        text = "One of `uri`, `weight`, `flavor`, or `options` needs to be specified"
        assert fault.value.message == text


async def test_patch_that_is_refused_changes_nothing(world: Pools) -> None:
    await world.pool("p1", 7)
    world.stores.away.add("test://far")
    for document in ({"weight": -1}, {"weight": 1, "uri": "test://far"}, {"weight": 1, "options": 5}):
        with pytest.raises(ServiceError):
            await world.call("pools.update", pool="p1", document=document)
    pool = await world.call("pools.get", pool="p1")
    assert (pool.weight, pool.uri) == (7, "test://p1")


async def test_pool_that_is_not_there(world: Pools) -> None:
    for operation, fields in (("pools.get", {}), ("pools.update", {"document": {"weight": 1}})):
        with pytest.raises(NotFound, match=r"^Pool p1 does not exist$"):
            await world.call(operation, pool="p1", **fields)
    await world.call("pools.delete", pool="p1")


# --- deleting --------------------------------------------------------------------------------------------


async def test_pool_goes_and_may_come_back(world: Pools) -> None:
    await world.pool("p1")
    await world.call("pools.delete", pool="p1")
    assert await names(world) == []
    await world.pool("p1")
    assert await names(world) == ["p1"]


async def test_last_pool_of_a_flavor_stays(world: Pools) -> None:
    await world.pool("p1")
    await world.pool("p2")
    await world.flavor("gold", "p1", "p2")
    await world.call("pools.delete", pool="p2")
    with pytest.raises(Forbidden) as fault:
        await world.call("pools.delete", pool="p1")
    assert fault.value.title == "Unable to delete"
    assert fault.value.message == "This pool is used by flavors {gold}; It cannot be deleted."
    assert await names(world) == ["p1"]


async def test_last_pool_of_a_flavor_that_nobody_made_may_go(world: Pools) -> None:
    await world.pool("p1", flavor="gold")
    await world.call("pools.delete", pool="p1")
    assert await names(world) == []


async def test_two_pools_of_a_flavor_deleted_at_once_leave_one(world: Pools) -> None:
    await world.pool("p1")
    await world.pool("p2")
    await world.flavor("gold", "p1", "p2")
    other = Pools(world)
    answers = await asyncio.gather(
        world.call("pools.delete", pool="p1"), other.call("pools.delete", pool="p2"), return_exceptions=True
    )
    assert [type(answer) for answer in answers].count(Forbidden) == 1
    assert len(await names(world)) == 1


# --- flavors ---------------------------------------------------------------------------------------------


async def test_flavor_is_shown_with_its_pools_and_what_they_promise(world: Pools) -> None:
    await world.pool("p2")
    await world.pool("p1")
    await world.flavor("gold", "p2", "p1")
    flavor = await world.call("flavors.get", flavor="gold")
    assert flavor.pools == ["p1", "p2"]
    assert flavor.capabilities == ["FIFO", "CLAIMS", "AOD"]


async def test_capabilities_are_those_of_the_moment(world: Pools) -> None:
    await world.pool("p1")
    await world.flavor("gold", "p1")
    without_fifo(world.stage("p1"))
    assert (await world.call("flavors.get", flavor="gold")).capabilities == ["CLAIMS", "AOD"]


async def test_pools_of_a_flavor_promise_the_same(world: Pools) -> None:
    without_fifo(world.stage("p2"))
    await world.pool("p1")
    await world.pool("p2")
    text = "The pool being added does not support the minimum set of capabilities"
    with pytest.raises(Invalid, match=text) as fault:
        await world.flavor("gold", "p1", "p2")
    assert fault.value.title == "Unable to create"
    await world.flavor("gold", "p1")
    with pytest.raises(Invalid, match=f"^{text}$") as fault:
        await world.call("pools.update", pool="p2", document={"flavor": "gold"})
    assert fault.value.title == "Unable to create pool"
    with pytest.raises(Invalid, match=f"^{text}$"):
        await world.pool("p2", flavor="gold")
    assert (await world.call("pools.get", pool="p2")).flavor is None


async def test_pool_leaves_its_flavor_for_another(world: Pools) -> None:
    await world.pool("p1")
    await world.flavor("gold", "p1")
    await world.flavor("silver", "p1")
    assert (await world.call("flavors.get", flavor="gold")).pools == []
    assert (await world.call("flavors.get", flavor="silver")).pools == ["p1"]


async def test_equally_named_flavors_of_two_projects_are_two(world: Pools) -> None:
    await world.pool("p1")
    await world.pool("p2")
    await world.flavor("gold", "p1")
    await world.flavor("gold", "p2", project="umbrella")
    assert (await world.call("flavors.get", flavor="gold")).pools == ["p1"]
    assert (await world.call("flavors.get", project="umbrella", flavor="gold")).pools == ["p2"]
    await world.call("flavors.delete", project="umbrella", flavor="gold")
    assert (await world.call("flavors.get", flavor="gold")).pools == ["p1"]
    assert [each.name for each in (await world.call("flavors.list")).flavors] == ["gold"]
    assert (await world.call("flavors.list", project="umbrella")).flavors == []


async def test_pools_that_are_no_longer_listed_lose_the_flavor(world: Pools) -> None:
    await world.pool("p1")
    await world.pool("p2")
    await world.flavor("gold", "p1")
    answer = await world.call("flavors.update", flavor="gold", document={"pool_list": ["p2"], "x": 1})
    assert answer.pools == ["p2"]
    assert (await world.call("pools.get", pool="p1")).flavor is None
    await world.call("flavors.delete", flavor="gold")
    assert (await world.call("pools.get", pool="p2")).flavor is None


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"pool_list": "p1"},
        {"pool_list": None},
        {"pool_list": [1]},
        {"pool_list": ["p1"], "capabilities": []},
        {"pool_list": ["p1"], "pool": "p1"},
    ],
    ids=str,
)
async def test_malformed_flavor_is_refused(world: Pools, document: Any) -> None:
    await world.pool("p1")
    with pytest.raises(InvalidBody):
        await world.call("flavors.put", flavor="gold", document=document)
    assert (await world.call("flavors.list")).flavors == []


async def test_flavor_faults_have_their_titles_and_texts(world: Pools) -> None:
    await world.pool("p1")
    with pytest.raises(NotFound, match=r"^Flavor gold does not exist$"):
        await world.call("flavors.update", flavor="gold", document={"pool_list": ["p9"]})
    with pytest.raises(InvalidBody, match=r"^`pool_list` needs to be specified$"):
        await world.call("flavors.update", flavor="gold", document={"capabilities": {}})
    with pytest.raises(Invalid) as fault:
        await world.flavor("gold", "p1", "p9")
    assert fault.value.title == "Unable to create"
    assert fault.value.message == "Flavor gold could not be created, error:Pool p9 does not exist"
    await world.flavor("gold", "p1")
    with pytest.raises(Invalid) as fault:
        await world.call("flavors.update", flavor="gold", document={"pool_list": ["p9"]})
    assert (fault.value.title, fault.value.message) == (
        "updatefail",
        "Flavor gold cant be updated, error:Pool p9 does not exist",
    )
    for operation in ("flavors.put", "flavors.update"):
        with pytest.raises(Invalid) as fault:
            await world.call(operation, flavor="gold", document={"pool_list": []})
        assert (fault.value.title, fault.value.message) == ("Unable to create", "Bad Request")
    assert (await world.call("flavors.get", flavor="gold")).pools == ["p1"]


async def test_flavor_that_a_queue_has_stays(world: Pools) -> None:
    await world.pool("p1")
    await world.flavor("gold", "p1")
    await world.create("orders", _flavor="gold")
    with pytest.raises(Forbidden) as fault:
        await world.call("flavors.delete", flavor="gold")
    assert fault.value.title == "Unable to delete"
    assert "{orders}" in fault.value.message
    assert (await world.call("flavors.get", flavor="gold")).pools == ["p1"]
    await world.call("queues.delete", queue="orders")
    await world.call("flavors.delete", flavor="gold")
    with pytest.raises(NotFound):
        await world.call("flavors.get", flavor="gold")


async def test_flavor_of_a_queue_must_exist_in_its_project(world: Pools) -> None:
    await world.pool("p1")
    await world.flavor("gold", "p1", project="umbrella")
    with pytest.raises(Invalid, match=r"^Flavor gold does not exist$") as fault:
        await world.create("orders", _flavor="gold")
    assert fault.value.title == "Invalid API request"
    assert await world.queues() == []
    await world.pool("p2")
    await world.create("orders", _flavor="")
    for value in ("gold", 5, ["gold"]):
        with pytest.raises(InvalidBody, match="does not exist"):
            await world.set("orders", _flavor=value)


# --- who may, and failing stores -------------------------------------------------------------------------


@pytest.mark.parametrize("name", POOL_ROWS)
def test_operators_only(world: Pools, name: str) -> None:
    row = BY_NAME[name]
    world.service.authorize(row, world.ctx(roles=("admin",)))
    if row.policy in ("flavors:get_all", "flavors:get"):
        world.service.authorize(row, world.ctx())
    else:
        with pytest.raises(Forbidden):
            world.service.authorize(row, world.ctx(roles=("member",)))


@pytest.mark.parametrize("name", POOL_ROWS)
async def test_records_that_cannot_be_reached_are_told(world: Pools, name: str) -> None:
    fields: dict[str, Any] = {"pools": {"pool": "p1"}, "flavors": {"flavor": "gold"}}[name.partition(".")[0]]
    document = {"pool_list": ["p1"]} if name.startswith("flavors") else {"uri": "test://p1", "weight": 1}
    if name.endswith(("put", "update")):
        fields["document"] = document
    if name.endswith("list"):
        fields = {}
    stage: Any = world.backend
    assert isinstance(stage, Stage)
    stage.break_down()
    with pytest.raises(ServiceError) as fault:
        await world.call(name, **fields)
    assert fault.value.title == "Service temporarily unavailable"
    assert fault.value.message == f"{BY_NAME[name].failure} Please try again in a few seconds."
