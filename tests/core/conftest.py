import pytest

from .world import Stage, World


@pytest.fixture
def world() -> World:
    """A service with default settings on an empty store."""
    return World()


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def staged(stage: Stage) -> World:
    """A service on a store in the test's reach."""
    return World(stage)
