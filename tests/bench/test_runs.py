"""`sukkal bench` against a real server: every scenario, its result in every form, objectives, comparison."""

import http.server
import json
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner, Result
from http_caller import Caller
from redis_servers import missing
from server_process import ServerProcess

from sukkal.bench import picture as picturing
from sukkal.bench import result as results
from sukkal.bench.scenarios import SCENARIOS
from sukkal.cli import main

sys.path.append(str(Path(__file__).parents[1] / "browser"))
import chromium

SHORT = ["--duration", "0.6", "--interval", "0.2", "--warmup", "0.2", "--connections", "4", "--timeout", "30"]

# What each scenario must have done, and may not have done without.
OPERATIONS = {
    "produce": {"messages.post"},
    "consume": {"claims.create", "messages.delete_many"},
    "observe": {"messages.list"},
    "mixed": {"messages.post", "messages.list", "claims.create"},
    "fan-out": {"messages.post", "delivery"},
    "long-poll": {"messages.post", "delivery", "waiting claim", "messages.delete_many"},
    "websocket": {"messages.post"},
    "jobs": {"messages.post", "claims.create", "claims.renew", "messages.delete"},
    "many-queues": {"messages.post", "claims.create"},
    "deep-backlog": {"messages.post", "claims.create", "messages.delete_many"},
    "many-projects": {"messages.post", "claims.create", "messages.delete_many"},
}


def bench(*args: str) -> Result:
    return CliRunner().invoke(main, ["bench", *args], catch_exceptions=False)


def measured(url: str, file: Path, *args: str) -> results.Result:
    done = bench("run", "--url", url, "--quiet", "--json", str(file), *SHORT, *args)
    assert done.exit_code == 0, done.output
    return results.read(file)


def test_every_scenario_is_tested() -> None:
    assert set(OPERATIONS) == set(SCENARIOS)


CLOSED = ("produce", "consume", "long-poll", "websocket")


@pytest.mark.parametrize(
    "scenario, rate", [*((name, "100") for name in OPERATIONS), *((name, None) for name in CLOSED)]
)
def test_scenario_does_what_it_says(
    server: ServerProcess, tmp_path: Path, scenario: str, rate: str | None
) -> None:
    small = ["--backlog", "100", "--queues", "3", "--pipeline", "4"]
    small += ["--projects", "3"] if scenario == "many-projects" else []
    pace = ["--rate", rate] if rate else []

    found = measured(server.url, tmp_path / "r.json", "--scenario", scenario, *small, *pace)

    assert found.errors == {}
    assert OPERATIONS[scenario] <= set(found.operations)
    assert all(found.operations[name].requests for name in OPERATIONS[scenario])
    assert found.messages > 0
    assert len(found.intervals) == 3
    if rate:
        assert found.turn_rate == pytest.approx(100, rel=0.5)


def test_several_processes_share_the_rate(server: ServerProcess, tmp_path: Path) -> None:
    found = measured(server.url, tmp_path / "r.json", "--processes", "2", "--rate", "100")

    assert found.load.processes == 2
    assert found.total.requests == pytest.approx(60, abs=1), "exactly what was due is measured"


def test_queues_are_gone_afterwards_unless_kept(
    server: ServerProcess, tmp_path: Path, caller: Caller, project: str
) -> None:
    def queues() -> list[str]:
        return [queue["name"] for queue in caller("GET", "/v2/queues").json["queues"]]

    measured(server.url, tmp_path / "r.json", "--project", project)
    assert queues() == []
    measured(server.url, tmp_path / "r.json", "--project", project, "--keep", "--queue-prefix", "mine")
    assert len(queues()) == 1
    assert queues()[0].startswith("mine-")


def test_bodies_come_from_a_file(server: ServerProcess, tmp_path: Path, caller: Caller, project: str) -> None:
    bodies = tmp_path / "bodies"
    bodies.write_text('{"kind": "a"}\n\n[1, "b"]\n')
    args = ["--messages", str(bodies), "--project", project, "--keep", "--rate", "40"]

    measured(server.url, tmp_path / "r.json", *args)

    (queue,) = caller("GET", "/v2/queues").json["queues"]
    listed = caller("GET", f"{queue['href']}/messages?echo=true").json["messages"]
    assert {json.dumps(message["body"]) for message in listed} == {'{"kind": "a"}', '[1, "b"]'}


# --- what comes out ---


def test_result_fits_its_schema_and_adds_up(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    found = measured(server.url, file, "--scenario", "mixed", "--backlog", "50")

    jsonschema.validate(json.loads(file.read_text()), msgspec.json.schema(results.Result))
    names = ("messages.post", "messages.list", "claims.create", "messages.delete_many")
    assert found.total.requests == sum(found.operations[name].requests for name in names)
    for figures in [found.total, *found.operations.values()]:
        assert sum(count for _, count in figures.histogram) == figures.requests
        ms = figures.latency_ms
        assert 0 < ms.p50 <= ms.p90 <= ms.p99 <= ms.p999 <= ms.max


def test_picture_stands_alone_as_svg_and_as_png(server: ServerProcess, tmp_path: Path) -> None:
    try:
        picturing.check_png()
    except picturing.CannotDraw as exc:
        missing(str(exc))
    drawn, pixels = tmp_path / "r.svg", tmp_path / "r.png"
    found = measured(server.url, tmp_path / "r.json", "--picture", str(drawn))
    measured(server.url, tmp_path / "r.json", "--picture", str(pixels))

    text = drawn.read_text()
    assert "var(" not in text
    picture = ElementTree.fromstring(text)
    width, height = int(picture.attrib["width"]), int(picture.attrib["height"])
    shown = "".join(picture.itertext())
    for part in (f"{found.total.rate:,.0f}", "p99, ms", "Throughput", "Latency over time", "by percentile"):
        assert part in shown
    png = pixels.read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    wide, high = struct.unpack(">II", png[16:24])
    assert (wide, high) == (2 * width, 2 * height)


@pytest.mark.parametrize("name", ["r.gif", "r"])
def test_picture_of_another_kind_is_refused_before_anything_is_measured(name: str) -> None:
    done = bench("run", "--url", "http://127.0.0.1:1", "--picture", name)
    assert (done.exit_code, done.stderr) == (
        2,
        f"sukkal bench: --picture {name}: its name must end with .svg or .png.\n",
    )


def test_png_says_what_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(picturing.CannotDraw, match=r"install sukkal\[bench\], or name a file .*\.svg"):
        picturing.check_png()
    blank = SimpleNamespace(svg_to_bytes=lambda **_: b"the same whatever is written")
    monkeypatch.setitem(sys.modules, "resvg_py", blank)
    with pytest.raises(picturing.CannotDraw, match="font"):
        picturing.check_png()


@pytest.mark.skipif(chromium.found() is None, reason="needs Chromium")
def test_page_opens_and_holds_the_figures(server: ServerProcess, tmp_path: Path) -> None:
    page, folder = tmp_path / "r.html", tmp_path / "svg"
    found = measured(
        server.url, tmp_path / "r.json", "--html", str(page), "--svg", str(folder), "--slo", "errors=0"
    )

    assert not re.search(r'(?:src|href)="', page.read_text()), "needs nothing beside itself"
    path = chromium.found()
    assert path is not None
    command = [path, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert shown.count("<svg") == 3
    assert f"<b>{found.total.rate:,.0f}</b>" in shown
    assert f"<td>{found.total.requests:,}</td>" in shown
    assert "errors=0" in shown
    assert {file.name for file in folder.iterdir()} == {"throughput.svg", "latency.svg", "percentiles.svg"}


def test_tables_are_printed_and_written(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "r.md"

    done = bench("run", "--url", server.url, *SHORT, "--markdown", str(file))

    assert file.read_text() in done.output
    assert "| messages.post |" in done.output
    assert "0.6 s" in done.output, "progress, an interval on each line"


# --- objectives ---


@pytest.mark.parametrize(
    "slo, status", [("p99<60s", 0), ("errors=0", 0), ("p99<1us", 1), ("messages.list:p50<60s", 1)]
)
def test_exit_status_tells_of_objectives(server: ServerProcess, slo: str, status: int) -> None:
    done = bench("run", "--url", server.url, "--quiet", *SHORT, "--slo", "rate>1", "--slo", slo)

    assert done.exit_code == status
    assert f"| {slo} |" in done.output


@pytest.mark.parametrize(
    "args, said",
    [
        (["--slo", "p99<10"], "compared with a time"),
        (["--slo", "speed>9"], "not an objective"),
        (["--scenario", "nothing"], "no scenario nothing"),
        (["--url", "ftp://x"], "not an address"),
        (["--url", "http://127.0.0.1:1"], "does not answer"),
        (["--messages", "/dev/null"], "holds no message"),
        (["--auth", "token", "--projects", "3", "--token", "x"], "one project"),
    ],
)
def test_what_cannot_be_run_ends_with_2(args: list[str], said: str) -> None:
    done = bench("run", "--url", "http://127.0.0.1:1", "--quiet", *SHORT, *args)

    assert done.exit_code == 2
    assert said in done.output


# --- a server of our own making ---


class Slow(http.server.BaseHTTPRequestHandler):
    """Answers every request as expected, after `pause` seconds; answers are chunked, and tokens given."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is several writes
    pause = 0.0
    closes = False  # the connection, after each answer
    tokens: list[str | None] = []

    def _answer(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status = {"PUT": 201, "POST": 201, "DELETE": 204}[self.command]
        body: dict[str, Any] = {"resources": []}
        if self.path == "/v3/auth/tokens":
            user = json.loads(asked)["auth"]["identity"]["password"]["user"]
            status = 201 if user["password"] == "secret" else 401
            body = {"token": {"project": {"id": "from-keystone"}}}
        else:
            self.tokens.append(self.headers["X-Auth-Token"])
            if self.path.endswith("/messages"):
                time.sleep(self.pause)
        self.send_response(status)
        self.send_header("X-Subject-Token", "token-1")
        if self.closes:
            self.send_header("Connection", "close")
        if status == 204:
            self.end_headers()
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        text = json.dumps(body).encode()
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(text), text))

    do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - their names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def slow() -> Iterator[tuple[type[Slow], str]]:
    handler = type("Handler", (Slow,), {"tokens": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_waiting_behind_a_slow_answer_counts(slow: tuple[type[Slow], str], tmp_path: Path) -> None:
    handler, url = slow
    handler.pause = 0.1
    args = ["--connections", "1", "--warmup", "0", "--rate", "20"]

    found = measured(url, tmp_path / "r.json", *args)

    # 12 are due in 0.6 s and each takes 0.1 s: the last, due at 0.55 s, is answered at 1.2 s.
    assert found.total.requests == 12
    assert found.total.latency_ms.max > 500
    assert found.total.latency_ms.p50 > 200
    patient = measured(url, tmp_path / "p.json", *args[:-2])
    assert patient.total.latency_ms.p50 < 200, "in a closed loop nobody waits but for its own answer"


def test_server_may_close_after_each_answer(slow: tuple[type[Slow], str], tmp_path: Path) -> None:
    handler, url = slow
    handler.closes = True

    found = measured(url, tmp_path / "r.json")

    assert found.errors == {}
    assert found.total.requests > 4, "more than there were connections"


def test_what_is_never_answered_is_an_error_and_slow(slow: tuple[type[Slow], str], tmp_path: Path) -> None:
    handler, url = slow
    handler.pause = 0.4
    args = ["--connections", "1", "--warmup", "0", "--rate", "40", "--timeout", "1"]

    found = measured(url, tmp_path / "r.json", *args)

    assert found.error_count > 10
    assert found.total.requests == 24, "each that was due is in the latencies"
    assert found.total.latency_ms.p90 > 900


def test_a_slowed_server_is_told_from_noise(slow: tuple[type[Slow], str], tmp_path: Path) -> None:
    handler, url = slow
    args = ["--interval", "0.15", "--duration", "1.5"]
    handler.pause = 0.03
    measured(url, tmp_path / "a.json", *args)
    measured(url, tmp_path / "b.json", *args)
    handler.pause = 0.07
    measured(url, tmp_path / "c.json", *args)

    def verdicts(after: str, *flags: str) -> tuple[str, int]:
        told = bench("compare", str(tmp_path / "a.json"), str(tmp_path / after), "--threshold", "25", *flags)
        (row,) = [line for line in told.output.splitlines() if line.startswith("| all requests: p50")]
        return row.split("|")[-2].strip(), told.exit_code

    assert verdicts("b.json", "--fail") == ("noise", 0)
    assert verdicts("c.json") == ("worse", 0)
    assert verdicts("c.json", "--fail")[1] == 1


def test_compare_refuses_what_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")

    told = bench("compare", str(tmp_path / "a.json"), str(tmp_path / "a.json"))

    assert told.exit_code == 2
    assert "no result of this tool" in told.output


def test_token_goes_with_every_request(slow: tuple[type[Slow], str], tmp_path: Path) -> None:
    handler, url = slow
    measured(url, tmp_path / "r.json", "--auth", "token", "--token", "given")
    assert set(handler.tokens) == {"given"}
    assert "given" not in (tmp_path / "r.json").read_text()


def test_keystone_gives_the_token_for_a_password(slow: tuple[type[Slow], str], tmp_path: Path) -> None:
    handler, url = slow
    login = ["--auth", "keystone", "--os-auth-url", url, "--os-username", "u", "--os-project-name", "p"]

    measured(url, tmp_path / "r.json", *login, "--os-password", "secret")
    assert set(handler.tokens) == {"token-1"}

    refused = bench("run", "--url", url, *login, "--os-password", "wrong")
    assert refused.exit_code == 2
    assert "answered 401" in refused.output
