"""Log lines of whatever is called while a request is served: each tells of the request."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from core.world import Stage, World

from sukkal import logs

log = logging.getLogger("sukkal.stores.test")


class Lines:
    def __init__(self) -> None:
        self._text = io.StringIO()
        self.handler = logging.StreamHandler(self._text)
        self.handler.setFormatter(logs.formatter("json"))

    @property
    def only(self) -> dict[str, Any]:
        (line,) = self._text.getvalue().splitlines()
        document: dict[str, Any] = json.loads(line)
        return document


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    log.addHandler(lines.handler)
    yield lines
    log.removeHandler(lines.handler)


async def complain() -> None:
    log.warning("the disk is slow")


async def test_line_of_a_store_tells_which_request_it_serves(lines: Lines) -> None:
    stage = Stage()
    stage.messages.before("append", complain)
    await World(stage).post("orders", 1)
    told = lines.only
    assert (told["event"], told["level"], told["logger"]) == (
        "the disk is slow",
        "warning",
        "sukkal.stores.test",
    )
    assert (told["request_id"], told["project"], told["operation"]) == ("req-test", "acme", "messages.post")


async def test_line_of_a_task_that_serves_a_request_tells_which(lines: Lines) -> None:
    stage = Stage()
    world = World(stage)
    await world.post("orders", 1)
    stage.messages.before("claim", complain)
    await world.call("claims.create", queue="orders", wait=1)
    assert (lines.only["request_id"], lines.only["project"]) == ("req-test", "acme")


async def test_line_that_serves_nobody_tells_of_nobody(lines: Lines) -> None:
    await complain()
    assert set(lines.only) == {"event", "level", "logger", "timestamp"}


async def test_line_that_says_itself_whom_it_is_about_is_left_alone(lines: Lines) -> None:
    async def complain_of_another() -> None:
        log.warning("slow", extra={"request_id": "req-other"})

    stage = Stage()
    stage.messages.before("append", complain_of_another)
    await World(stage).post("orders", 1)
    assert lines.only["request_id"] == "req-other"
    assert "operation" not in lines.only


def test_traceback_shows_no_values(caplog: pytest.LogCaptureFixture) -> None:
    """A password is among them when a store cannot be opened."""

    def connect(password: str) -> None:
        raise OSError("nobody is there")

    for form in ("console", "json"):
        try:
            connect("sec" + "ret")
        except OSError:
            log.exception("it failed")
        told = logs.formatter(form).format(caplog.records[-1])
        assert "nobody is there" in told
        assert "Traceback" in told
        assert "secret" not in told
