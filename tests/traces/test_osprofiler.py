"""Traces that OpenStack clients ask for, as `osprofiler` shows them from a real Redis."""

import json
import logging
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_caller import Caller
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, set_span_in_context
from osprofiler import _utils, profiler
from osprofiler import web as osprofiler_web
from redis_servers import RedisServer, until
from server_process import ServerDied, ServerProcess, running

from sukkal.traces.osprofiler import MOST_RECORDS, Reporter, Signed
from sukkal.traces.spans import sampled

KEY = "shared"
ONE = {"messages": [{"body": 1, "ttl": 300}]}
COMMAND = Path(sys.executable).with_name("osprofiler")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def profiled(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {
        "osprofiler_hmac_keys": f"another,{KEY}",
        "osprofiler_connection_string": redis.uri,
    }
    with running(tmp_path_factory.mktemp("profiled"), settings=settings) as server:
        yield server


def headers_of_a_client(key: str) -> tuple[str, dict[str, str]]:
    """A new trace's id, and what OSProfiler has its clients send."""
    profiler.clean()
    begun = profiler.init(key)
    return begun.get_base_id(), osprofiler_web.get_trace_id_headers()


def shown(redis: RedisServer, trace: str) -> dict[str, Any]:
    """What `osprofiler trace show` prints."""
    command = [COMMAND, "trace", "show", "--json", trace, "--connection-string", redis.uri]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "not found" in done.stdout + done.stderr:
        return {"children": []}
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def kept(redis: RedisServer, trace: str) -> bytes:
    """The last record of a trace."""
    return redis.ask("LINDEX", f"osprofiler_opt:{trace}", "0")


def test_trace_of_a_request_is_shown(profiled: ServerProcess, redis: RedisServer) -> None:
    trace, headers = headers_of_a_client(KEY)
    caller = Caller(profiled.host, profiled.port, project="acme")
    assert caller("POST", "/v2/queues/q/messages", ONE, headers=headers).status == 201
    caller.close()
    until(lambda: b"wsgi-stop" in kept(redis, trace))
    (request,) = shown(redis, trace)["children"]
    assert request["parent_id"] == trace
    assert request["info"]["name"] == "wsgi"
    started = request["info"]["meta.raw_payload.wsgi-start"]["info"]["request"]
    assert started == {"method": "POST", "path": "/v2/queues/q/messages", "scheme": "http"}
    (operation,) = [child for child in request["children"] if child["info"]["name"] == "core"]
    assert operation["info"]["meta.raw_payload.core-start"]["info"]["span"] == "messages.post"
    names = {store["info"]["meta.raw_payload.store-start"]["info"]["span"] for store in operation["children"]}
    assert "store messages.append" in names
    assert request["info"]["finished"] >= request["info"]["started"]
    assert request["info"]["exception"] == "None"


def test_trace_that_is_not_signed_with_a_shared_key_is_ignored(
    profiled: ServerProcess, redis: RedisServer
) -> None:
    forged, headers = headers_of_a_client("guessed")
    genuine, proven = headers_of_a_client(KEY)
    caller = Caller(profiled.host, profiled.port, project="acme")
    assert caller("GET", "/v2/queues", headers=headers).status == 200
    assert caller("GET", "/v2/queues", headers={"X-Trace-Info": headers["X-Trace-Info"]}).status == 200
    altered = {"X-Trace-Info": headers["X-Trace-Info"], "X-Trace-HMAC": proven["X-Trace-HMAC"]}
    assert caller("GET", "/v2/queues", headers=altered).status == 200
    assert caller("GET", "/v2/queues").status == 200
    assert caller("GET", "/v2/queues", headers=proven).status == 200
    caller.close()
    until(lambda: b"wsgi-stop" in kept(redis, genuine))  # records are kept in order
    assert kept(redis, forged) == b"$-1\r\n"


def test_settings_of_osprofiler_come_together(tmp_path: Path) -> None:
    with pytest.raises(ServerDied, match="are to be set both, or neither"):
        running(tmp_path, settings={"osprofiler_hmac_keys": KEY}).__enter__()


def test_place_that_osprofiler_does_not_know_is_refused_at_start(tmp_path: Path) -> None:
    settings = {"osprofiler_hmac_keys": KEY, "osprofiler_connection_string": "papyrus://scroll"}
    with pytest.raises(ServerDied, match="OSProfiler cannot keep traces there"):
        running(tmp_path, settings=settings).__enter__()


@pytest.mark.parametrize("info", ["", "e30=", "bm90IGpzb24=", "!!", "eyJiYXNlX2lkIjogImEifQ=="])
def test_signed_nonsense_is_ignored(info: str) -> None:
    proof = _utils.generate_hmac(info, KEY)
    assert Signed([KEY])({"x-trace-info": info, "x-trace-hmac": proof}) is None


class Stuck:
    """A driver that takes nothing until it is told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.taken: list[dict[str, Any]] = []

    def notify(self, info: dict[str, Any]) -> None:
        self.go_on.wait(60)
        self.taken.append(info)
        if len(self.taken) == 1:
            raise OSError("the first is lost")


def test_driver_that_is_stuck_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    driver = Stuck()
    provider = TracerProvider(shutdown_on_exit=False)
    reporter = Reporter(driver)
    provider.add_span_processor(reporter)
    tracer = provider.get_tracer("test")
    asked = set_span_in_context(NonRecordingSpan(sampled(uuid.uuid4().int, 7)))
    with caplog.at_level(logging.WARNING):
        for _ in range(MOST_RECORDS):
            tracer.start_span("x", asked).end()
        tracer.start_span("x").end()
    assert "records are dropped" in caplog.text
    driver.go_on.set()
    provider.shutdown()
    assert MOST_RECORDS <= len(driver.taken) <= MOST_RECORDS + 1, "one more was in the driver's hands"
