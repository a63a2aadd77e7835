"""Spans of a server as a collector gets them, over a real socket."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from http_caller import Caller
from notify import receiver as webhooks
from otlp_receiver import Receiver, receiving
from server_process import ServerDied, running
from ws_caller import Socket

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
ONE = {"messages": [{"body": 1, "ttl": 300}]}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def collected(tmp_path: Path, environment: pytest.MonkeyPatch) -> Receiver:
    """What a collector has got of a few requests when the server has stopped."""
    with receiving() as receiver:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        with running(tmp_path, settings={"traces": "true"}) as server:
            caller = Caller(server.host, server.port, project="acme")
            assert caller("POST", "/v2/queues/q/messages", ONE, headers=HEADERS).status == 201
            assert caller("POST", "/v2/queues/q/claims", {"ttl": 60, "grace": 60}).status == 201
            with Socket(server.host, server.port, project="acme") as socket:
                reply = socket("queue_create", {"queue_name": "other"}, headers=socket.identity | HEADERS)
                assert reply.status == 201
            caller.close()
        return receiver


def test_collector_gets_the_spans_of_requests(collected: Receiver) -> None:
    assert collected.services == {"sukkal"}
    request = collected.named("POST /v2/queues/{queue_name}/messages")
    operation, append = collected.named("messages.post"), collected.named("store messages.append")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, CALLER)
    assert operation.parent_span_id == request.span_id
    assert append.parent_span_id == operation.span_id
    assert request.end_time_unix_nano >= append.end_time_unix_nano > append.start_time_unix_nano


def test_collector_gets_the_link_from_consumer_to_producer(collected: Receiver) -> None:
    producer, consumer = collected.named("messages.post"), collected.named("claims.create")
    (link,) = consumer.links
    assert (link.trace_id, link.span_id) == (producer.trace_id, producer.span_id)
    assert consumer.trace_id != producer.trace_id


def test_collector_gets_the_spans_of_a_connection(collected: Receiver) -> None:
    request, operation = collected.named("queue_create"), collected.named("queues.create")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, CALLER)
    assert operation.parent_span_id == request.span_id


async def test_webhook_is_told_of_the_span_that_the_collector_gets(
    tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    settings = {"traces": "true", "webhook_allow": "127.0.0.0/8"}
    with receiving() as collector:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        async with webhooks.receiving() as receiver:
            with running(tmp_path, settings=settings) as server:
                caller = Caller(server.host, server.port, project="acme")

                def subscribe_and_post() -> None:
                    body = {"subscriber": receiver.url, "ttl": 600}
                    assert caller("POST", "/v2/queues/q/subscriptions", body).status == 201
                    assert caller("POST", "/v2/queues/q/messages", ONE, headers=HEADERS).status == 201
                    caller.close()

                await asyncio.to_thread(subscribe_and_post)
                await receiver.until(lambda it: len(it.received) == 1)
                await asyncio.to_thread(server.stop)  # it ends what is under way, which we have to answer
    posted, delivered = collector.named("messages.post"), collector.named("deliver")
    assert (delivered.trace_id.hex(), delivered.parent_span_id) == (TRACE, posted.span_id)
    told = f"00-{TRACE}-{delivered.span_id.hex()}-01"
    assert receiver.received[0].header("traceparent") == told


def test_collector_that_is_not_there_is_no_hindrance(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    environment.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with running(tmp_path, settings={"traces": "true"}) as server:
        caller = Caller(server.host, server.port, project="acme")
        assert caller("POST", "/v2/queues/q/messages", ONE).status == 201
        caller.close()


def test_exporter_that_is_not_installed_is_refused_at_start(
    tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OTEL_TRACES_EXPORTER", "smoke-signals")
    with pytest.raises(ServerDied, match="smoke-signals, which is not installed"):
        running(tmp_path, settings={"traces": "true"}).__enter__()


def test_nothing_of_it_is_loaded_when_off() -> None:
    ours = "('opentelemetry', 'osprofiler', 'sukkal.traces')"
    loaded = f"import sys, sukkal.server; print([name for name in sys.modules if name.startswith({ours})])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
