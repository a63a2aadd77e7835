"""`sukkal serve` with its records in a database and its messages elsewhere, through sockets."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis_servers
import sql_servers
from http_caller import PATCH_TYPE, Caller
from server_process import ServerProcess, running
from sql_servers import IN_URI, KINDS, PASSWORD, USER, SqlServer
from worker_processes import caller_for_each, until

ADMIN = {"admin_mode": "true", "admin_port": "0"}
MESSAGES = "/v2/queues/q/messages"
HIDDEN = (IN_URI, PASSWORD, USER)

each_kind = pytest.mark.parametrize("kind", KINDS)


def post(caller: Caller, *numbers: int, queue: str = "q") -> int:
    messages = [{"body": number, "ttl": 600} for number in numbers]
    return caller("POST", f"/v2/queues/{queue}/messages", {"messages": messages}).status


def bodies(caller: Caller, queue: str = "q") -> list[int]:
    answer = caller("GET", f"/v2/queues/{queue}/messages?echo=true&limit=20")
    assert answer.status == 200, answer.body
    return [message["body"] for message in answer.json["messages"]]


def health(caller: Caller) -> dict[str, Any]:
    document: dict[str, Any] = caller("GET", "/v2/health", headers={"X-Roles": "admin"}).json
    return document


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What our command says, with nothing set but this."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SUKKAL_")}
    return subprocess.run(
        [sys.executable, "-m", "sukkal.cli", *words],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def own_redis() -> str:
    return f"{redis_servers.SHARED.server().uri}?prefix={uuid.uuid4().hex}&timeout=30&connect_timeout=30"


@pytest.fixture(params=KINDS)
def parted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ServerProcess, SqlServer]]:
    """A service whose messages are in the embedded store; its database may be killed."""
    with sql_servers.started(request.param) as control:
        uri = f"{control.new_database()}?timeout=2&connect_timeout=2"
        with running(tmp_path, "--store", "sqlite:", "--control-store", uri, settings=ADMIN) as server:
            yield server, control
            assert not any(hidden in server.log for hidden in HIDDEN)


def test_records_are_in_the_database_and_messages_are_not(parted: tuple[ServerProcess, SqlServer]) -> None:
    server, control = parted
    caller = Caller(server.host, server.port, project="acme")
    assert caller("PUT", "/v2/queues/q", {"team": "blue"}).status == 201
    assert post(caller, 1) == 201
    assert caller("GET", "/v2/queues/q").json["team"] == "blue"
    assert bodies(caller) == [1]
    subscription = {"subscriber": "http://example.org/", "ttl": 600, "options": {}}
    assert caller("POST", "/v2/queues/q/subscriptions", subscription).status == 201
    assert [each["name"] for each in caller("GET", "/v2/queues").json["queues"]] == ["q"]
    assert "durability  full" in server.log
    assert f"control     {control.scheme}://127.0.0.1:{control.port}/" in server.log
    (database,) = (line for line in _databases(control) if line.startswith("t") and "template" not in line)
    kept = control.sql("SELECT count(*) FROM sukkal_document", database=database)
    assert int(kept) == 3, "of the queue, of its subscription, of its subscriber"
    caller.close()


def _databases(control: SqlServer) -> list[str]:
    listing = "SELECT datname FROM pg_database" if control.scheme == "postgresql" else "SHOW DATABASES"
    return control.sql(listing).split()


def test_service_without_its_records_refuses_and_comes_back(parted: tuple[ServerProcess, SqlServer]) -> None:
    server, control = parted
    caller = Caller(server.host, server.port, project="acme")
    assert post(caller, 1) == 201
    well = health(caller)
    assert well["storage_reachable"] is True
    assert well["durable"] is True
    assert all(found["succeeded"] for found in well["operation_status"].values())

    control.kill()
    assert caller("GET", "/v2/ping").status == 503
    refused = caller("PUT", "/v2/queues/other", {})
    assert refused.status == 503
    assert refused.headers["Retry-After"]
    assert str(control.port).encode() not in refused.body
    ill = health(caller)
    assert ill["storage_reachable"] is False
    assert not ill["operation_status"]["create_queue"]["succeeded"]

    control.start()
    until(lambda: caller("GET", "/v2/ping").status == 204)
    assert bodies(caller) == [1]
    assert post(caller, 2) == 201
    assert caller("PUT", "/v2/queues/other", {}).status == 201
    assert health(caller)["storage_reachable"] is True
    caller.close()


@each_kind
def test_processes_share_redis_and_a_database(kind: str, tmp_path: Path) -> None:
    """Each sees what the others record, and one of them creates a queue that all create at once."""
    database = sql_servers.SHARED.server(kind).new_database()
    flags = ("--store", own_redis(), "--control-store", f"{database}?timeout=30", "--workers", "2")
    with running(tmp_path, *flags) as server, caller_for_each(server, "acme", 2) as callers:
        one, other = callers.values()
        created = [caller("PUT", "/v2/queues/q", {}).status for caller in (one, other)]
        assert created == [201, 204]
        assert post(one, 1) == 201
        assert post(other, 2) == 201
        assert bodies(one) == bodies(other) == [1, 2]
        patch = [{"op": "add", "path": "/metadata/team", "value": "blue"}]
        assert one("PATCH", "/v2/queues/q", patch, headers={"Content-Type": PATCH_TYPE}).status == 200
        until(lambda: other("GET", "/v2/queues/q").json.get("team") == "blue")
        assert other("DELETE", "/v2/queues/q").status == 204
        assert one("GET", "/v2/queues").json["queues"] == []
        assert not any(hidden in server.log for hidden in HIDDEN)


@each_kind
def test_two_services_started_at_once_share_a_new_database(kind: str, tmp_path: Path) -> None:
    database = sql_servers.SHARED.server(kind).new_database()
    flags = ("--store", own_redis(), "--control-store", f"{database}?timeout=30")
    with running(tmp_path / "a", *flags) as first, running(tmp_path / "b", *flags) as second:
        one = Caller(first.host, first.port, project="acme")
        other = Caller(second.host, second.port, project="acme")
        assert post(one, 1) == 201
        assert bodies(other) == [1]
        one.close()
        other.close()


@each_kind
def test_database_is_refused_for_messages(kind: str, tmp_path: Path) -> None:
    uri = sql_servers.KINDS[kind].scheme + "://u:secret@127.0.0.1:1/d"
    served = command("serve", "--port", "0", "--data-dir", str(tmp_path), "--store", uri)
    assert served.returncode == 2
    assert "keeps records only, and no messages" in served.stderr
    checked = command("check", SUKKAL_STORE=uri, SUKKAL_DATA_DIR=str(tmp_path))
    assert checked.returncode == 1
    assert "keeps records only, and no messages" in checked.stdout
    assert "secret" not in served.stderr + checked.stdout + checked.stderr


@each_kind
def test_database_that_is_away_is_told_at_start(kind: str, tmp_path: Path) -> None:
    uri = sql_servers.KINDS[kind].scheme + "://u:secret@127.0.0.1:1/d"
    served = command("serve", "--port", "0", "--data-dir", str(tmp_path), "--control-store", uri)
    assert served.returncode == 1
    assert "127.0.0.1:1" in served.stderr
    assert "Traceback" not in served.stderr
    assert "secret" not in served.stderr


@each_kind
def test_check_tells_of_the_database(kind: str, tmp_path: Path) -> None:
    database = sql_servers.SHARED.server(kind).new_database()
    environment = {"SUKKAL_DATA_DIR": str(tmp_path), "SUKKAL_CONTROL_STORE": f"{database}?timeout=30"}
    shown = database.replace(f"{USER}:{IN_URI}@", "")

    new = command("check", **environment)
    assert new.returncode == 0, new.stdout + new.stderr
    assert f"store {shown}?timeout=30: not there yet; it will be created at the first start" in new.stdout

    with running(tmp_path, "--control-store", f"{database}?timeout=30"):
        pass
    now = command("check", **environment)
    assert now.returncode == 0, now.stdout + now.stderr
    assert f"store {shown}?timeout=30: schema version 1, as this release has it" in now.stdout
    assert f"store {shown}?timeout=30: reachable" in now.stdout

    name = database.rpartition("/")[2]
    sql_servers.SHARED.server(kind).sql("UPDATE sukkal_schema SET version_num = '0099'", database=name)
    newer = command("check", **environment)
    assert newer.returncode == 1
    assert "schema version 99, this release knows 1" in newer.stdout
    started = command("serve", "--port", "0", "--data-dir", str(tmp_path), "--control-store", database)
    assert started.returncode == 1
    assert "schema version 99, this release knows 1" in started.stderr
    said = "".join(each.stdout + each.stderr for each in (new, now, newer, started))
    assert not any(hidden in said for hidden in HIDDEN)
