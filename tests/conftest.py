"""Servers and callers for every test that goes through a socket."""

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # tests share modules; importlib mode adds no folder by itself

import redis_servers
import sql_servers
from http_caller import Caller
from server_process import ServerPool, ServerProcess


@pytest.fixture(scope="session", autouse=True)
def no_server_left_behind() -> Iterator[None]:
    """End the servers that stores share, if some test has started them."""
    yield
    redis_servers.SHARED.stop()
    sql_servers.SHARED.stop()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPool]:
    """Servers by flags and settings, one of each kind per worker: `servers.get("--store", …, name=value)`."""
    pool = ServerPool(tmp_path_factory.mktemp("servers"))
    try:
        yield pool
    finally:
        pool.stop()


@pytest.fixture
def server(servers: ServerPool) -> Iterator[ServerProcess]:
    """A server with default settings that keeps everything in memory."""
    server = servers.get("--store", "memory:")
    yield server
    server.check()


@pytest.fixture
def durable_server(servers: ServerPool) -> Iterator[ServerProcess]:
    """A server as a newcomer starts it: the embedded store, nothing configured."""
    server = servers.get()
    yield server
    server.check()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start servers for this test alone: `start_server("--store", "memory:", admin_mode="true")`."""
    pool = ServerPool(tmp_path)
    try:
        yield pool.get
    finally:
        pool.stop()


@pytest.fixture
def project() -> str:
    """A project nobody else uses, so that tests share a server and nothing on it."""
    return f"project-{uuid.uuid4().hex}"


@pytest.fixture
def caller(server: ServerProcess, project: str) -> Iterator[Caller]:
    caller = Caller(server.host, server.port, project=project)
    yield caller
    caller.close()
