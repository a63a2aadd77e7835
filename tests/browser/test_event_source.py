"""A browser's own `EventSource` reads event streams, from a page of another origin."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from chromium import Chromium, Page
from http_caller import Caller
from server_process import ServerProcess, running

# Remembers what comes, and keeps promises: of so many messages, of so many connections made.
SCRIPT = b"""<!doctype html><title>Reader</title><script>
    const seen = [], ids = []
    let opened = 0, failed = 0, wishes = []
    const look = () => { wishes = wishes.filter(([wish, grant]) => !wish() || grant(seen)) }
    const when = wish => new Promise(grant => { wishes.push([wish, grant]); look() })
    const read = url => {
        const source = new EventSource(url)
        source.onopen = () => { opened++; look() }
        source.onerror = () => { failed++; look() }
        source.onmessage = event => {
            seen.push(JSON.parse(event.data).body); ids.push(event.lastEventId); look()
        }
        window.source = source
    }
</script>"""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(SCRIPT)))
        self.end_headers()
        self.wfile.write(SCRIPT)

    def log_message(self, *_: Any) -> None:
        """Not into the output of the tests."""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where the page comes from, which is not where the service is."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as site:
        serving = threading.Thread(target=site.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{site.server_address[1]}"
        site.shutdown()
        serving.join()


@pytest.fixture
def page(browser: Chromium, origin: str) -> Iterator[Page]:
    with browser.page(origin) as page:
        yield page


def source(server: ServerProcess, project: str, query: str = "") -> str:
    return f"read('{server.url}/v2/queues/q/messages?project_id={project}&{query}')"


def post(caller: Caller, *bodies: Any) -> None:
    document = {"messages": [{"body": body} for body in bodies]}
    assert caller("POST", "/v2/queues/q/messages", document).status == 201


@pytest.fixture
def open_server(start_server: Callable[..., ServerProcess], origin: str) -> ServerProcess:
    """A server that pages of the origin may call."""
    return start_server("--store", "memory:", allowed_origin=origin)


def test_messages_posted_before_and_meanwhile_arrive_in_the_page(
    open_server: ServerProcess, page: Page, project: str
) -> None:
    caller = Caller(open_server.host, open_server.port, project=project)
    post(caller, "before", {"n": [1, "é\n"]})
    page.evaluate(source(open_server, project))
    assert page.evaluate("when(() => seen.length == 2)") == ["before", {"n": [1, "é\n"]}]
    for number in range(50):
        post(caller, number)
    assert page.evaluate("when(() => seen.length == 52)")[2:] == list(range(50))
    assert page.evaluate("opened") == 1
    assert page.evaluate("failed") == 0
    assert page.evaluate("new Set(ids).size") == 52
    caller.close()


def test_page_that_names_its_client_does_not_see_what_that_client_posts(
    open_server: ServerProcess, page: Page, project: str
) -> None:
    mine = Caller(open_server.host, open_server.port, project=project)
    theirs = Caller(open_server.host, open_server.port, project=project)
    page.evaluate(source(open_server, project, f"client_id={mine.client}"))
    page.evaluate("when(() => opened == 1).then(() => 0)")
    post(mine, "mine")
    post(theirs, "theirs")
    assert page.evaluate("when(() => seen.length)") == ["theirs"]
    mine.close()
    theirs.close()


def test_refused_stream_is_not_tried_again(open_server: ServerProcess, page: Page, project: str) -> None:
    page.evaluate(source(open_server, project, "limit=99"))
    page.evaluate("when(() => failed).then(() => 0)")
    assert page.evaluate("[source.readyState == EventSource.CLOSED, opened, failed]") == [True, 0, 1]


def test_page_of_another_origin_may_not_read(
    start_server: Callable[..., ServerProcess], page: Page, project: str
) -> None:
    server = start_server("--store", "memory:", allowed_origin="http://elsewhere.example")
    page.evaluate(source(server, project))
    page.evaluate("when(() => failed).then(() => 0)")
    assert page.evaluate("opened") == 0


def test_server_that_restarts_meanwhile_loses_and_repeats_nothing(
    page: Page, origin: str, project: str, tmp_path: Path
) -> None:
    settings = {"allowed_origin": origin}
    with running(tmp_path, settings=settings) as server:
        caller = Caller(server.host, server.port, project=project)
        post(caller, 1, 2)
        page.evaluate(source(server, project))
        assert page.evaluate("when(() => seen.length == 2)") == [1, 2]
        caller.close()
        port = str(server.port)
    page.evaluate("when(() => failed).then(() => 0)")
    with running(tmp_path, "--port", port, settings=settings) as server:
        caller = Caller(server.host, server.port, project=project)
        post(caller, 3)
        assert page.evaluate("when(() => seen.length == 3)") == [1, 2, 3]
        post(caller, 4)
        assert page.evaluate("when(() => seen.length == 4)") == [1, 2, 3, 4]
        assert page.evaluate("opened") == 2
        page.evaluate("source.close()")
        caller.close()
