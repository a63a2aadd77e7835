"""`sukkal status` and `sukkal check`: how a service is, and whether it would start."""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

from http_caller import Caller
from server_process import running


def sukkal(*args: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SUKKAL_")}
    environment |= {f"SUKKAL_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "sukkal.cli", *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_status_of_a_service_as_it_comes(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        told = sukkal("status", "--url", server.url)
    assert told.returncode == 0, told.stderr
    assert f"Sukkal at {server.url}" in told.stdout
    assert "reachable" in told.stdout
    assert "admin_mode is off" in told.stdout


def test_status_with_everything_an_operator_can_switch_on(tmp_path: Path) -> None:
    with running(tmp_path, "--admin-port", "0", settings={"admin_mode": "true"}) as server:
        caller = Caller(server.host, server.port, project="acme")
        caller("POST", "/v2/queues/orders/messages", {"messages": [{"body": 1}, {"body": 2}]})
        caller.close()
        admin = re.search(r"admin +(http\S+)", server.log)
        assert admin is not None
        told = sukkal("status", "--url", server.url, "--admin-url", admin[1])
    assert told.returncode == 0, told.stderr
    assert "all work" in told.stdout
    assert "2 free, 0 claimed" in told.stdout
    assert re.search(r"ready +yes", told.stdout)
    assert "acme/orders: 2 free" in told.stdout


def test_status_tells_of_each_pool(tmp_path: Path) -> None:
    with running(tmp_path, settings={"admin_mode": "true", "pooling": "true"}) as server:
        caller = Caller(server.host, server.port, project="acme")
        pool = {"uri": "memory:///one", "weight": 1}
        assert caller("PUT", "/v2/pools/one", pool, headers={"X-Roles": "admin"}).status == 201
        caller("POST", "/v2/queues/orders/messages", {"messages": [{"body": 1}]})
        caller.close()
        told = sukkal("status", "--url", server.url)
    assert told.returncode == 0, told.stderr
    assert re.search(r"records +reachable", told.stdout)
    assert re.search(r"pool one +operations: all work.*1 free, 0 claimed", told.stdout)


def test_status_of_nothing_is_not_well(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        url = server.url
    told = sukkal("status", "--url", url)
    assert told.returncode == 1
    assert "no answer" in told.stdout
    assert "Traceback" not in told.stderr


def test_check_before_the_first_start_makes_nothing(tmp_path: Path) -> None:
    told = sukkal("check", data_dir=str(tmp_path / "data"))
    assert told.returncode == 0
    assert "will be created" in told.stdout
    assert not (tmp_path / "data").exists()


def test_check_of_a_store_at_rest_and_in_use(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with running(tmp_path):
        used = sukkal("check", data_dir=data)
    assert used.returncode == 0
    assert "is in use by process" in used.stdout
    assert "schema version" in used.stdout
    rest = sukkal("check", data_dir=data)
    assert rest.returncode == 0
    assert "reachable" in rest.stdout
    assert "message_encryption_key: fits" in rest.stdout


def test_check_tells_what_is_hardly_meant_and_goes_on(tmp_path: Path) -> None:
    told = sukkal("check", data_dir=str(tmp_path / "data"), require_confirmation="true")
    assert told.returncode == 0
    assert "note  settings: require_confirmation is on without signed_url_secret_key" in told.stdout


def test_check_finds_what_would_keep_it_from_starting(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with running(tmp_path, settings={"message_encryption_key": "first key of all"}):
        pass
    key = sukkal("check", data_dir=data, message_encryption_key="another key")
    assert key.returncode == 1
    assert "BAD   message_encryption_key" in key.stdout
    assert "another key" not in key.stdout
    setting = sukkal("check", data_dir=data, port="none")
    assert setting.returncode == 2
    assert "port" in setting.stdout
    gone = sukkal("check", store="redis://127.0.0.1:1")
    assert gone.returncode == 1
    assert "cannot be reached" in gone.stdout


def test_check_tells_of_an_older_and_of_a_newer_store_and_leaves_both_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "data" / "sukkal.db"
    with running(tmp_path):
        pass

    def with_version(version: int) -> subprocess.CompletedProcess[str]:
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (version,))
        connection.close()
        told = sukkal("check", data_dir=str(tmp_path / "data"))
        connection = sqlite3.connect(file)
        assert connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == (version,)
        connection.close()
        return told

    older = with_version(1)
    assert older.returncode == 0
    assert "schema version 1; the next start will bring it to" in older.stdout
    newer = with_version(1000)
    assert newer.returncode == 1
    assert "schema version 1000" in newer.stdout
