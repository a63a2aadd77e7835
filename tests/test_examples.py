"""The example programs run against a live server, say what they should, and clean up behind themselves."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from http_caller import Caller
from server_process import ServerProcess

EXAMPLES = Path(__file__).parents[1] / "examples"
TIMEOUT = 60


@pytest.fixture
def run(server: ServerProcess) -> "Run":
    return Run(server)


class Run:
    """Runs an example and gives the lines it printed."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server

    def __call__(self, name: str) -> list[str]:
        ended = subprocess.run(
            [sys.executable, str(EXAMPLES / name)],
            env=os.environ | {"SUKKAL_URL": self._server.url},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert ended.returncode == 0, ended.stderr
        demo = Caller(self._server.host, self._server.port, project="demo")
        assert demo("GET", "/v2/queues").json["queues"] == [], "queues left behind"
        demo.close()
        return ended.stdout.splitlines()


def test_worker_pool_does_every_job_once(run: Run) -> None:
    posted, *workers, left = run("worker_pool.py")

    assert posted == "posted 12 jobs"
    assert len(workers) == 3
    done = [image for line in workers for image in re.findall(r"photo-\d\d\.jpg", line)]
    assert sorted(done) == [f"photo-{n:02}.jpg" for n in range(1, 13)]
    assert left == "0 jobs left"


def test_every_reader_of_the_event_log_sees_every_event_in_order(run: Run) -> None:
    lines = run("event_log.py")

    events = ["order 1 placed", "order 1 paid", "order 2 placed", "order 1 packed", "order 2 cancelled"]
    for reader in ("billing", "shipping"):
        assert [line for line in lines if line.startswith(reader)] == [
            f"{reader} reads: {event}" for event in events
        ]


def test_fan_out_gives_every_audience_its_copy(run: Run) -> None:
    lines = run("fan_out.py")

    for audience in ("mail", "statistics", "search"):
        assert [line for line in lines if line.startswith(audience)] == [
            f"{audience} gets signup of ada",
            f"{audience} gets login of ada",
        ]


def test_the_agent_carries_out_its_commands_in_order(run: Run) -> None:
    lines = run("agent_commands.py")

    assert [line for line in lines if line.startswith("agent")] == [
        f"agent: done with {what}" for what in ("install", "configure", "restart", "stop")
    ]
    assert len([line for line in lines if line.startswith("control")]) == 4


def test_every_request_gets_its_response(run: Run) -> None:
    assert sorted(run("request_response.py")) == [
        "the sum of [1, 2] is 3",
        "the sum of [3, 4, 5] is 12",
        "the sum of [600, 60, 6] is 666",
    ]


def test_every_example_is_tested() -> None:
    tested = set(re.findall(r'run\("(\w+\.py)"\)', Path(__file__).read_text()))
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_consumer_is_told_of_live_events_in_order(run: Run) -> None:
    assert run("live_events.py") == [
        "subscribed: 201",
        "posted: [201, 201, 201]",
        "told: {'order': 1, 'step': 'placed'}",
        "told: {'order': 1, 'step': 'paid'}",
        "told: {'order': 1, 'step': 'packed'}",
    ]
