"""Upstream clients against a server as a newcomer starts it: embedded store, nothing configured."""

from collections.abc import Iterator
from typing import Any

import pytest
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session
from openstack.connection import Connection
from server_process import ServerProcess
from zaqarclient.queues import client as zaqar
from zaqarclient.queues.v2.client import Client


class TrustedProject(NoAuth):
    """No authentication: the endpoint and the project are taken as given, as in a trusted network."""

    def __init__(self, endpoint: str, project: str) -> None:
        super().__init__(endpoint=endpoint)
        self._project = project

    def get_project_id(self, session: Session, **_: Any) -> str:
        return self._project


@pytest.fixture
def sdk(durable_server: ServerProcess, project: str) -> Iterator[Connection]:
    connection = Connection(session=Session(auth=TrustedProject(f"{durable_server.url}/v2", project)))
    yield connection
    connection.close()


@pytest.fixture
def zaqar_client(durable_server: ServerProcess, project: str) -> Client:
    """python-zaqarclient with its backend that authenticates nobody."""
    options = {"auth_opts": {"backend": "noauth", "options": {"os_project_id": project}}}
    return zaqar.Client(durable_server.url, version=2, conf=options)


@pytest.fixture
def other_zaqar_client(durable_server: ServerProcess, project: str) -> Client:
    """Another client of the same project, to see the first one's messages."""
    options = {"auth_opts": {"backend": "noauth", "options": {"os_project_id": project}}}
    return zaqar.Client(durable_server.url, version=2, conf=options)
