"""Errors → statuses, for every transport alike."""

import pytest

from sukkal import errors
from sukkal.errors import ServiceError
from sukkal.wire.status import STATUS, status_of

EXPECTED = {
    errors.Invalid: (400, "Invalid API request"),
    errors.InvalidBody: (400, "Invalid request body"),
    errors.InvalidParameter: (400, "Invalid parameter"),
    errors.Undeletable: (400, "Unable to delete"),
    errors.Forbidden: (403, "Not authorized"),
    errors.Held: (403, "Unable to delete"),
    errors.NotFound: (404, "Not found"),
    errors.Conflict: (409, "Resource conflict"),
    errors.Unavailable: (503, "Service temporarily unavailable"),
}


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_error_has_the_status_and_title_of_the_api(kind: type[ServiceError]) -> None:
    error = kind("A sentence.")
    assert (status_of(error), error.title) == EXPECTED[kind]
    assert (error.message, str(error)) == ("A sentence.", "A sentence.")


def test_title_can_be_told() -> None:
    error = errors.InvalidIdentity("A sentence.", title="Wrong UUID value")
    assert (status_of(error), error.title) == (400, "Wrong UUID value")


def test_new_error_gets_the_status_of_its_nearest_ancestor() -> None:
    class Worse(errors.Held):
        pass

    class Odd(ServiceError):
        pass

    assert status_of(Worse("x")) == 403
    assert status_of(Odd("x")) == 500


def test_every_error_of_the_tree_has_a_status() -> None:
    def kinds(kind: type[ServiceError]) -> list[type[ServiceError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in kinds(child))]

    for kind in kinds(ServiceError):
        assert any(ancestor in STATUS for ancestor in kind.__mro__)


def test_store_errors_are_not_told_to_callers() -> None:
    assert not issubclass(errors.StoreUnavailable, ServiceError)
    assert not issubclass(errors.StoreInUse, ServiceError)
