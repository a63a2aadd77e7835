"""The operation table: complete, consistent, and everything that must follow it does."""

from typing import get_type_hints

import pytest
from msgspec.structs import replace

from sukkal.core.policy import REQUIRED_ROLE
from sukkal.errors import Forbidden
from sukkal.http.render import Renderers
from sukkal.operations import PATH_FIELDS, TABLE, Body, Operation
from sukkal.wire.media import JSON

from .world import World

every_operation = pytest.mark.parametrize("operation", TABLE, ids=lambda operation: operation.name)


def variables(operation: Operation) -> list[str]:
    return [part[1:-1] for part in operation.http[1].split("/") if part.startswith("{")]


def test_names_routes_and_actions_are_unique() -> None:
    for of in (
        [row.name for row in TABLE],
        [(row.http, row.selected_by) for row in TABLE],
        [row.action for row in TABLE if row.action],
        [row.request for row in TABLE if row.like is None],
    ):
        assert len(of) == len(set(of))


@every_operation
def test_what_a_route_gives_are_fields_of_the_request(operation: Operation) -> None:
    fields = get_type_hints(operation.request)
    given = [PATH_FIELDS[variable] for variable in variables(operation)]
    assert {*given, *operation.query, *operation.required} <= set(fields)
    assert not set(given) & set(operation.query)
    if operation.filters:
        assert "filters" in fields
    if operation.selected_by:
        assert operation.selected_by in operation.query
    for form, field in (
        (Body.METADATA, "metadata"),
        (Body.CHANGES, "changes"),
        (Body.MESSAGES, "messages"),
        (Body.DOCUMENT, "document"),
    ):
        if operation.body is form:
            assert field in fields


@every_operation
def test_every_field_of_a_request_can_be_given(operation: Operation) -> None:
    given = {PATH_FIELDS[variable] for variable in variables(operation)} | set(operation.query)
    given |= {"filters"} if operation.filters else set()
    given |= {
        Body.METADATA: {"metadata"},
        Body.CHANGES: {"changes"},
        Body.MESSAGES: {"messages"},
        Body.DOCUMENT: {"document"},
        Body.NONE: set(),
    }.get(operation.body, set(get_type_hints(operation.request)))
    assert given == set(get_type_hints(operation.request))


@every_operation
def test_success_and_failure_are_stated(operation: Operation) -> None:
    assert operation.success
    assert all(200 <= status < 300 for status in operation.success)
    assert operation.failure.endswith(".")
    assert operation.failure[0].isupper()


@every_operation
def test_result_has_a_renderer_and_nothing_else_has_one(operation: Operation) -> None:
    renderers = Renderers(JSON, checksums=False).by_operation
    assert (operation.name in renderers) == (operation.result is not None)


def test_no_renderer_is_left_over() -> None:
    renderers = Renderers(JSON, checksums=False).by_operation
    assert set(renderers) <= {row.name for row in TABLE}


POLICIES = [
    "queues:get_all",
    "queues:create",
    "queues:get",
    "queues:delete",
    "queues:update",
    "queues:stats",
    "queues:purge",
    "messages:get_all",
    "messages:create",
    "messages:get",
    "messages:delete",
    "messages:delete_all",
    "claims:create",
    "claims:get",
    "claims:delete",
    "claims:update",
    "queues:share",
    "topics:get_all",
    "topics:create",
    "topics:get",
    "topics:delete",
    "topics:update",
    "topics:stats",
    "topics:purge",
    "subscription:get_all",
    "subscription:create",
    "subscription:get",
    "subscription:delete",
    "subscription:update",
    "subscription:confirm",
    "ping:get",
    "health:get",
    "pools:get_all",
    "pools:create",
    "pools:get",
    "pools:update",
    "pools:delete",
    "flavors:get_all",
    "flavors:create",
    "flavors:get",
    "flavors:update",
    "flavors:delete",
]
ADMINS = {
    "health:get",
    *(policy for policy in POLICIES if policy.startswith("pools:")),
    *("flavors:create", "flavors:update", "flavors:delete"),
}


def test_policies_are_those_of_the_specification() -> None:
    assert {row.policy for row in TABLE} == set(POLICIES)
    assert set(REQUIRED_ROLE) <= set(POLICIES)


@every_operation
def test_everyone_may_do_everything_but_what_is_for_operators(world: World, operation: Operation) -> None:
    if operation.policy in ADMINS:
        for roles in ((), ("member", "administrator")):
            with pytest.raises(Forbidden) as fault:
                world.service.authorize(operation, world.ctx(roles=roles))
            assert fault.value.title == "Not authorized"
            assert fault.value.message == "You are not authorized to complete this action."
    else:
        world.service.authorize(operation, world.ctx())
    world.service.authorize(operation, world.ctx(roles=("member", "admin")))


@every_operation
def test_topics_have_all_that_queues_have_but_claims_and_leave_for_others(operation: Operation) -> None:
    if operation.http[1].startswith("/v2/queues"):
        twins = [row for row in TABLE if row.like == operation.name]
        if operation.name == "queues.share" or operation.name.startswith("claims."):
            assert twins == []
            return
        (twin,) = twins
        assert twin.http == (operation.http[0], operation.http[1].replace("queue", "topic"))
        assert (twin.request, twin.result, twin.body) == (operation.request, operation.result, operation.body)
        assert twin.action is None


@pytest.mark.parametrize("roles", [(), ("admin",)])
def test_pre_signed_caller_may_do_nothing_for_operators_whatever_its_roles(
    world: World, roles: tuple[str, ...]
) -> None:
    signed = replace(world.ctx(roles=roles), signed=True)
    for operation in TABLE:
        if operation.admin:
            with pytest.raises(Forbidden):
                world.service.authorize(operation, signed)
        else:
            world.service.authorize(operation, signed)


# --- sizes of bodies -----------------------------------------------------------------------------------


@every_operation
async def test_body_limit_of_every_operation_is_refused_in_words_that_name_it(
    world: World, operation: Operation
) -> None:
    if operation.body is Body.NONE:
        return
    limit = await world.service.body_limit(operation, world.ctx(), "orders")
    said = await world.service.too_large(operation, world.ctx(), "orders")
    assert str(limit) in said.message
    assert limit == (262144 if operation.body is Body.MESSAGES else 65536)
    changed_body = operation.body not in (Body.METADATA, Body.MESSAGES)
    assert said.title == ("Invalid request body" if changed_body else "Invalid API request")
