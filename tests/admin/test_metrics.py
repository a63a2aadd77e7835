"""What operators see of a running server: its figures, and whether it is alive and ready."""

import asyncio
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis_servers
import yaml
from http_caller import Caller
from prometheus_client.parser import text_string_to_metric_families
from server_process import ServerProcess, running
from ws_caller import Socket

from sukkal.admin.app import AdminApp
from sukkal.admin.metrics import Exposition, Moment
from sukkal.core.service import Service
from sukkal.errors import StoreUnavailable
from sukkal.stores.memory import MemoryBackend
from sukkal.tally import Figures

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def admin_urls(server: ServerProcess) -> list[str]:
    line = re.search(r"^  admin +(.*)$", server.log, re.MULTILINE)
    assert line is not None, server.log
    return line[1].split(", ")


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def scrape(url: str) -> Samples:
    status, text = fetch(f"{url}/metrics")
    assert status == 200
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, f"{family.name} says what it is"
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, "each is told once"
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("watched"), "--admin-port", "0") as server:
        yield server


@pytest.fixture
def admin(watched: ServerProcess) -> str:
    (url,) = admin_urls(watched)
    return url


@pytest.fixture
def caller(watched: ServerProcess, request: pytest.FixtureRequest) -> Caller:
    return Caller(watched.host, watched.port, project=request.node.name[:60])


def grown(before: Samples, after: Samples, name: str, **labels: str) -> float:
    key = name, frozenset(labels.items())
    return after[key] - before.get(key, 0.0)


def test_requests_are_counted_by_operation_and_status(admin: str, caller: Caller) -> None:
    before = scrape(admin)
    for _ in range(3):
        assert caller("POST", "/v2/queues/q/messages", {"messages": [{"body": 1}]}).status == 201
    assert caller("GET", "/v2/queues/q/messages/nothing").status == 404
    assert caller("POST", "/v2/queues/q/messages", {"messages": []}).status == 400
    assert caller("GET", "/v2/nowhere").status == 404
    assert caller("GET", "/").status == 300
    after = scrape(admin)

    def counted(operation: str, status: int) -> float:
        labels = {"transport": "http", "operation": operation, "status": str(status)}
        return grown(before, after, "sukkal_requests_total", **labels)

    assert counted("messages.post", 201) == 3
    assert counted("messages.post", 400) == 1
    assert counted("messages.get", 404) == 1
    assert counted("other", 404) == 1
    assert counted("other", 300) == 1
    labels = {"transport": "http", "operation": "messages.post"}
    assert grown(before, after, "sukkal_request_duration_seconds_count", **labels) == 4
    assert 0 < grown(before, after, "sukkal_request_duration_seconds_sum", **labels) < 30
    assert grown(before, after, "sukkal_request_duration_seconds_bucket", **labels, le="+Inf") == 4


def test_request_that_waits_is_not_counted_as_slow(admin: str, caller: Caller) -> None:
    before = scrape(admin)
    assert caller("POST", "/v2/queues/q/claims?wait=1").status == 204
    after = scrape(admin)
    labels = {"transport": "http", "operation": "claims.create"}
    assert grown(before, after, "sukkal_request_wait_seconds_sum", **labels) >= 0.9
    quick = "sukkal_request_duration_seconds_count", frozenset(labels.items())
    assert after.get(quick) == before.get(quick)
    assert grown(before, after, "sukkal_requests_total", **labels, status="204") == 1


def test_messages_are_counted_through_their_lives(admin: str, caller: Caller) -> None:
    before = scrape(admin)
    caller("PUT", "/v2/queues/jobs", {"_max_claim_count": 1, "_dead_letter_queue": "dead"})
    caller("POST", "/v2/queues/jobs/messages", {"messages": [{"body": n} for n in range(5)]})
    taken = caller("POST", "/v2/queues/jobs/claims?limit=2", {"ttl": 60, "grace": 60}).json["messages"]
    assert caller("DELETE", taken[0]["href"]).status == 204
    claim = taken[0]["href"].partition("claim_id=")[2]
    assert caller("DELETE", f"/v2/queues/jobs/claims/{claim}").status == 204
    assert len(caller("DELETE", "/v2/queues/jobs/messages?pop=1").json["messages"]) == 1
    after = scrape(admin)
    assert grown(before, after, "sukkal_messages_posted_total", project_class="other") == 5
    assert grown(before, after, "sukkal_messages_claimed_total", project_class="other") == 2
    assert grown(before, after, "sukkal_messages_deleted_total", project_class="other") == 2


def test_messages_are_counted_by_class_of_project(tmp_path: Path) -> None:
    settings = {"metrics_project_classes": "gold=acme-*,silver=big"}
    with running(tmp_path, "--admin-port", "0", settings=settings) as server:
        for project, bodies in (("acme-1", [1, 2]), ("acme-2", [3]), ("big", [4]), ("small", [5])):
            caller = Caller(server.host, server.port, project=project)
            caller("POST", "/v2/queues/q/messages", {"messages": [{"body": body} for body in bodies]})
            caller.close()
        samples = scrape(admin_urls(server)[0])
    for of, posted in (("gold", 3), ("silver", 1), ("other", 1)):
        assert value(samples, "sukkal_messages_posted_total", project_class=of) == posted
        assert value(samples, "sukkal_messages_expired_total", project_class=of) == 0


def test_dead_lettered_messages_are_counted(admin: str, caller: Caller) -> None:
    before = scrape(admin)
    caller("PUT", "/v2/queues/jobs", {"_max_claim_count": 1, "_dead_letter_queue": "dead"})
    caller("POST", "/v2/queues/jobs/messages", {"messages": [{"body": 1}]})
    for _ in range(2):
        claimed = caller("POST", "/v2/queues/jobs/claims", {"ttl": 60, "grace": 60})
        if claimed.status == 201:
            caller("DELETE", claimed.headers["location"])
    assert grown(before, scrape(admin), "sukkal_messages_dead_lettered_total", project_class="other") == 1


def test_busy_queues_are_shown_with_what_they_hold(admin: str, caller: Caller) -> None:
    caller("POST", "/v2/queues/busy/messages", {"messages": [{"body": n} for n in range(3)]})
    caller("POST", "/v2/queues/busy/claims?limit=1")
    samples = scrape(admin)
    labels = {"project": caller.project, "queue": "busy"}
    assert value(samples, "sukkal_queue_messages", **labels, state="free") == 2
    assert value(samples, "sukkal_queue_messages", **labels, state="claimed") == 1
    assert 0 <= value(samples, "sukkal_queue_oldest_message_age_seconds", **labels) < 60
    assert value(samples, "sukkal_store_up") == 1


def test_store_loop_and_process_have_figures(admin: str, caller: Caller) -> None:
    caller("POST", "/v2/queues/q/messages", {"messages": [{"body": 1}]})
    samples = scrape(admin)
    assert value(samples, "sukkal_store_batch_size_count", store="messages") > 0
    assert value(samples, "sukkal_store_batch_seconds_sum", store="messages") > 0
    assert value(samples, "sukkal_messages_expired_total", project_class="other") == 0
    assert ("sukkal_event_loop_lag_seconds_count", frozenset()) in samples
    assert value(samples, "process_resident_memory_bytes") > 1e6
    assert value(samples, "process_open_fds") > 3
    assert value(samples, "sukkal_http_connections") >= 1


def test_websockets_are_counted(admin: str, watched: ServerProcess) -> None:
    before = scrape(admin)
    with Socket(watched.host, watched.port, project="sockets") as socket:
        assert socket("queue_create", {"queue_name": "q"}).status == 201
        assert socket("claim_create", {"queue_name": "q", "wait": 1}).status == 204
        during = scrape(admin)
    labels = {"transport": "websocket", "operation": "queues.create", "status": "201"}
    assert value(during, "sukkal_websocket_connections") == 1
    waited = {"transport": "websocket", "operation": "claims.create"}
    assert grown(before, during, "sukkal_request_wait_seconds_sum", **waited) >= 0.9
    assert grown(before, during, "sukkal_requests_total", **labels) == 1


def test_names_of_queues_are_left_out_when_told_to(tmp_path: Path) -> None:
    with running(tmp_path, "--admin-port", "0", settings={"metrics_queues": "0"}) as server:
        caller = Caller(server.host, server.port, project="acme")
        caller("POST", "/v2/queues/secret/messages", {"messages": [{"body": 1}]})
        caller.close()
        assert "secret" not in fetch(admin_urls(server)[0] + "/metrics")[1]


def test_nothing_else_is_served_and_nothing_without_being_asked_for(admin: str, tmp_path: Path) -> None:
    assert fetch(f"{admin}/")[0] == 404
    assert fetch(f"{admin}/v2/queues")[0] == 404
    with running(tmp_path) as server:
        assert "admin" not in server.log
        assert fetch(f"{server.url}/metrics")[0] == 404


def test_live_and_ready(admin: str) -> None:
    assert fetch(f"{admin}/livez") == (200, "alive\n")
    assert fetch(f"{admin}/readyz") == (200, "ready\n")


def test_each_worker_has_a_port_of_its_own_and_its_successor_takes_it_over(tmp_path: Path) -> None:
    with redis_servers.started() as redis:
        uri = f"redis://127.0.0.1:{redis.port}"
        with running(tmp_path, "--admin-port", "0", "--workers", "2", "--store", uri) as server:
            urls = admin_urls(server)
            assert len(set(urls)) == 2
            started = [value(scrape(url), "process_start_time_seconds") for url in urls]
            (child, *_) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            os.kill(int(child), 9)
            successors = 0
            while not successors:
                try:
                    again = [value(scrape(url), "process_start_time_seconds") for url in urls]
                except (urllib.error.URLError, ConnectionError):
                    continue
                successors = sum(now > then for now, then in zip(again, started, strict=True))
            assert successors == 1


def test_what_a_queue_holds_for_autoscalers(admin: str, caller: Caller) -> None:
    caller("POST", "/v2/queues/scaled/messages", {"messages": [{"body": n} for n in range(3)]})
    caller("POST", "/v2/queues/scaled/claims?limit=1")
    status, text = fetch(f"{admin}/stats?project={caller.project}&queue=scaled")
    document = json.loads(text)
    assert status == 200
    assert 0 <= document.pop("oldest_age") < 60
    assert document == {"free": 2, "claimed": 1, "total": 3}
    assert json.loads(fetch(f"{admin}/stats?project=nobody&queue=none")[1])["total"] == 0
    assert fetch(f"{admin}/stats?queue=scaled")[0] == 400


async def test_not_ready_when_the_store_is_gone_or_silent_or_the_end_has_come() -> None:
    async def refuses() -> None:
        raise StoreUnavailable("The disk is gone.")

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def well() -> None: ...

    async def ready(ping: Callable[[], Awaitable[None]], *, stopping: bool = False) -> tuple[int, str]:
        backend = MemoryBackend()
        app = AdminApp(
            Exposition(
                Figures(),
                {"messages": backend.figures},
                look=lambda: Moment(0, 0, 0, 0, 0),
                busiest=(service := Service(backend)).busiest,
                pending=service.deliveries.pending,
                queues=1,
                clock=lambda: 0.0,
            ),
            ping=ping,
            stats=backend.messages.stats,
            clock=lambda: 0.0,
            stopping=lambda: stopping,
            probe_seconds=0.01,
        )
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/readyz", "headers": [], "query_string": b""}
        await app(scope, cast("Any", None), send)
        return sent[0]["status"], sent[1]["body"].decode()

    assert await ready(well) == (200, "ready\n")
    assert await ready(refuses) == (503, "not ready: the store cannot be reached: The disk is gone.\n")
    assert (await ready(hangs))[0] == 503
    assert (await ready(well, stopping=True))[0] == 503


# --- what the documents build on ----------------------------------------------------------------------------

NAMES = re.compile(r"\b(?:sukkal|process)_\w+")
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations"


def expressions() -> dict[str, list[str]]:
    board = json.loads((OPERATIONS / "grafana-dashboard.json").read_text())
    rules = yaml.safe_load((OPERATIONS / "alerts.yaml").read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    shown += [entry["query"]["query"] for entry in board["templating"]["list"] if entry["type"] == "query"]
    told = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    return {"dashboard": shown, "alerts": told}


def test_dashboard_alerts_and_page_name_metrics_that_there_are(admin: str, caller: Caller) -> None:
    caller("POST", "/v2/queues/q/messages", {"messages": [{"body": 1}]})
    caller("POST", "/v2/queues/none/claims?wait=1")
    scraped = {name for name, _ in scrape(admin)}
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in scraped}
    for where, found in expressions().items():
        assert len(found) > 5
        for expression in found:
            assert expression.count("(") == expression.count(")")
            names = set(NAMES.findall(expression))
            assert names or 'up{job="sukkal"}' in expression, f"{where}: {expression}"
            assert names <= scraped, f"{where}: {names - scraped}"
    page = (OPERATIONS.parent / "operations.md").read_text()
    ours = {name for name in families if name.startswith("sukkal_")}
    assert set(re.findall(r"`(sukkal_\w+)`", page)) == ours


def test_autoscaling_example_asks_for_what_is_served(admin: str) -> None:
    scaled = yaml.safe_load((OPERATIONS / "keda.yaml").read_text())
    (trigger,) = scaled["spec"]["triggers"]
    asked = urllib.parse.urlsplit(trigger["metadata"]["url"])
    document = json.loads(fetch(f"{admin}{asked.path}?{asked.query}")[1])
    assert document[trigger["metadata"]["valueLocation"]] == 0
