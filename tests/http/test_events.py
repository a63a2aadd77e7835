"""Event streams: their form, what they show, how they resume, how they end."""

import asyncio
from typing import Any

import msgspec
import pytest
from asgi_caller import CLIENT, Patient, Reply, Web
from hand_clock import HandClock, others_go_on

from sukkal.core.service import Service
from sukkal.errors import StoreUnavailable
from sukkal.http.events import HEARTBEAT_SECONDS, wanted
from sukkal.stores.memory import MemoryBackend

LINE = "GET /v2/queues/q/messages"
OTHER = {"client-id": "7a1e1cda-26cc-4f7e-8f05-3ff8a1a1f1a1", "x-project-id": "acme"}


class Stream:
    """A stream that is being read."""

    def __init__(self, web: Web, query: str = "", *, identity: Any = OTHER, **headers: str) -> None:
        self.sender = Patient()
        self.reply = Reply()
        headers = {"accept": "text/event-stream"} | headers
        line = f"{LINE}?{query}"
        asking = web.ask(line, sender=self.sender, reply=self.reply, identity=identity, **headers)
        self.asked = asyncio.create_task(asking)

    async def events(self) -> list[tuple[str, Any]]:
        """Ids and messages so far, read as the standard says, but strictly."""
        await others_go_on()
        found = []
        for block in self._blocks():
            if block.startswith("id: "):
                id, data = block.split("\n")
                assert data.startswith("data: ")
                found.append((id[4:], msgspec.json.decode(data[6:])))
        return found

    async def bodies(self) -> list[Any]:
        return [message["body"] for _, message in await self.events()]

    @property
    def heartbeats(self) -> int:
        return self._blocks().count(":")

    def _blocks(self) -> list[str]:
        text = self.reply.body.decode()
        assert text.endswith("\n\n") or not text, "events go out whole"
        return text.split("\n\n")[:-1]


async def opened(web: Web, query: str = "", **given: Any) -> Stream:
    stream = Stream(web, query, **given)
    await others_go_on()
    assert stream.reply.status == 200, stream.reply.body
    assert not stream.asked.done()
    return stream


async def test_stream_begins_at_once_and_says_when_to_come_back(web: Web) -> None:
    stream = await opened(web)
    assert stream.reply.body == b"retry: 1000\n\n"
    assert stream.reply.headers["content-type"] == "text/event-stream"
    assert stream.reply.headers["cache-control"] == "no-store"
    assert stream.reply.headers["x-accel-buffering"] == "no"
    assert stream.reply.headers["x-openstack-request-id"].startswith("req-")
    assert "content-length" not in stream.reply.headers


async def test_events_are_the_messages_of_the_listing(web: Web) -> None:
    await web.post("q", 1, {"a": [None, "é\n\r"]})
    web.now += 7
    listed = (await web.ask(f"{LINE}?echo=true")).document["messages"]
    stream = await opened(web)
    assert [message for _, message in await stream.events()] == listed
    await web.post("q", "later")
    assert (await stream.bodies())[2:] == ["later"]


async def test_checksums_are_shown_where_they_are_enabled() -> None:
    web = Web(checksums=True)
    await web.post("q", 1)
    ((_, message),) = await (await opened(web)).events()
    assert message["checksum"].startswith("MD5:")


async def test_encrypted_bodies_are_opened() -> None:
    web = Web(service=Service(MemoryBackend(), encryption_key="a secret of ours", clock=HandClock()))
    await web.ask("PUT /v2/queues/q", {"_enable_encrypt_messages": True})
    await web.post("q", "secret")
    stream = await opened(web)
    await web.post("q", "more")
    assert await stream.bodies() == ["secret", "more"]


async def test_body_with_line_ends_is_one_line_of_data(web: Web) -> None:
    posted = b'{"messages": [{"body": {\r\n  "a": 1,\n\n  "data: x": "\\n"\r}}]}'
    assert (await web.ask("POST /v2/queues/q/messages", posted)).status == 201
    assert await (await opened(web)).bodies() == [{"a": 1, "data: x": "\n"}]


async def test_more_than_a_page_comes_in_order_and_once(web: Web) -> None:
    await web.post("q", *range(25))
    stream = await opened(web, "limit=10")
    assert await stream.bodies() == list(range(25))
    await web.post("q", *range(25, 50))
    assert await stream.bodies() == list(range(50))


async def test_stream_resumes_behind_the_last_event_that_was_seen(web: Web) -> None:
    await web.post("q", *range(5))
    markers = [id for id, _ in await (await opened(web)).events()]
    assert len(set(markers)) == 5
    assert await (await opened(web, last_event_id=markers[1])).bodies() == [2, 3, 4]
    assert await (await opened(web, f"marker={markers[2]}")).bodies() == [3, 4]
    resumed = await opened(web, f"marker={markers[0]}", last_event_id=markers[3])
    assert await resumed.bodies() == [4]
    await web.post("q", 5)
    assert await resumed.bodies() == [4, 5]
    assert await (await opened(web, f"marker={markers[2]}", last_event_id="")).bodies() == [3, 4, 5]


async def test_filters_are_those_of_the_listing(web: Web) -> None:
    await web.post("q", "taken")
    await web.ask("POST /v2/queues/q/claims", {"ttl": 60})
    await web.ask("POST /v2/queues/q/messages", {"messages": [{"body": "delayed", "delay": 300}]})
    await web.ask("POST /v2/queues/q/messages", {"messages": [{"body": "mine"}]}, identity=OTHER)
    for query, shown in (
        ("", []),
        ("echo=true", ["mine"]),
        ("include_claimed=true", ["taken"]),
        ("include_delayed=true", ["delayed"]),
        ("echo=1&include_claimed=1&include_delayed=1", ["taken", "delayed", "mine"]),
    ):
        assert await (await opened(web, query)).bodies() == shown


async def test_silence_is_broken_by_heartbeats_and_asks_the_store_nothing(web: Web) -> None:
    stream = await opened(web)
    for beats in range(1, 5):
        await web.clock.reach(web.now + HEARTBEAT_SECONDS)
        assert stream.heartbeats == beats
    await web.clock.reach(web.now + 10)
    await web.post("q", 1)
    assert await stream.bodies() == [1]
    await web.clock.reach(web.now + HEARTBEAT_SECONDS - 1)
    assert stream.heartbeats == 4, "counted from the last event"
    await web.clock.reach(web.now + 1)
    assert stream.heartbeats == 5


async def test_wait_means_nothing_to_a_stream(web: Web) -> None:
    stream = await opened(web, "wait=3", prefer="wait=3")
    await web.clock.reach(web.now + 14)
    assert not stream.asked.done()
    assert "preference-applied" not in stream.reply.headers


# --- its end ---------------------------------------------------------------------------------------------


async def test_caller_that_goes_away_ends_the_stream_at_once(web: Web) -> None:
    stream = await opened(web)
    stream.sender.hang_up()
    await others_go_on()
    assert stream.asked.done()
    assert web.app.in_flight == 0
    assert web.clock.set_for == []


async def test_caller_that_goes_away_while_it_is_sent_to_ends_the_stream(web: Web) -> None:
    stream = Stream(web)
    blocked = asyncio.Event()
    send = stream.reply.send

    async def slowly(event: Any) -> None:
        await send(event)
        if b"data:" in event.get("body", b""):
            blocked.set()
            await asyncio.Event().wait()

    stream.reply.send = slowly  # type: ignore[method-assign]
    await others_go_on()
    await web.post("q", 1)
    await blocked.wait()
    await web.post("q", 2)
    assert await stream.bodies() == [1], "what the reader cannot take is not sent"
    stream.sender.hang_up()
    await others_go_on()
    assert stream.asked.done()


async def test_draining_server_ends_its_streams(web: Web) -> None:
    stream = await opened(web)
    web.app.draining = True
    web.service.stop_waiting()
    async with asyncio.timeout(5):
        await web.app.drained()
    await stream.asked
    assert stream.reply.body == b"retry: 1000\n\n"
    refused = Stream(web)
    await refused.asked
    assert refused.reply.status == 503


async def test_failing_store_ends_the_stream_and_the_next_is_told() -> None:
    async def page(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("broken")

    backend = MemoryBackend()
    web = Web(service=Service(backend, clock=HandClock()))
    stream = await opened(web)
    backend.messages.page = page  # type: ignore[method-assign]
    await web.post("q", 1)
    async with asyncio.timeout(5):
        await stream.asked
    assert await stream.bodies() == []
    again = Stream(web)
    await again.asked
    assert again.reply.status == 503
    assert int(again.reply.headers["retry-after"]) > 0


# --- who asks, and for what ------------------------------------------------------------------------------


async def refusal(web: Web, query: str = "", **given: Any) -> tuple[int, str]:
    stream = Stream(web, query, **given)
    async with asyncio.timeout(5):
        await stream.asked
    assert stream.reply.headers["content-type"] == "application/json"
    return stream.reply.fault


async def test_faults_are_answered_as_ever(web: Web) -> None:
    assert await refusal(web, "limit=21") == (400, "Invalid API request")
    assert await refusal(web, "limit=x") == (400, "Invalid parameter")
    assert await refusal(web, identity={}) == (400, "Project-Id Missing")
    assert await refusal(web, "project_id=acme&client_id=me", identity={}) == (400, "Wrong UUID value")
    assert await refusal(web, f"project_id={'x' * 257}", identity={}) == (
        400,
        "Invalid queue identification",
    )


async def test_who_asks_may_stand_in_the_query(web: Web) -> None:
    await web.post("q", "mine")
    mine = await opened(web, f"project_id=acme&client_id={CLIENT}", identity={})
    assert await mine.bodies() == []
    somebody = await opened(web, "project_id=acme", identity={})
    assert await somebody.bodies() == ["mine"]
    elsewhere = await opened(web, "project_id=umbrella", identity={})
    assert await elsewhere.bodies() == []


async def test_headers_win_over_the_query(web: Web) -> None:
    await web.post("q", "ours")
    stream = await opened(web, f"project_id=umbrella&client_id={CLIENT}")
    assert await stream.bodies() == ["ours"]
    other_header = {"client-id": OTHER["client-id"], "x-tenant-id": "acme"}
    assert await (await opened(web, "project_id=umbrella", identity=other_header)).bodies() == ["ours"]


@pytest.mark.parametrize("line", [LINE, "GET /v2/queues", "POST /v2/queues/q/claims"])
async def test_elsewhere_the_query_says_nothing_about_who_asks(web: Web, line: str) -> None:
    reply = await web.ask(f"{line}?project_id=acme&client_id={CLIENT}", identity={})
    assert reply.fault == (400, "Missing header value")


@pytest.mark.parametrize(
    "line",
    [
        "GET /v2/queues",
        "GET /v2/queues/q",
        "GET /v2/queues/q/messages?ids=1,2",
        "GET /v2/queues/q/messages/1",
        "POST /v2/queues/q/messages",
        "DELETE /v2/queues/q/messages",
        "GET /v2/",
    ],
)
async def test_nothing_else_is_streamed(web: Web, line: str) -> None:
    assert (await web.ask(line, accept="text/event-stream")).fault == (406, "406 Not Acceptable")


@pytest.mark.parametrize(
    "accept, stream",
    [
        ("text/event-stream", True),
        ("Text/Event-Stream", True),
        ("text/event-stream; charset=utf-8", True),
        ("text/event-stream;q=0.9, */*;q=0.1", True),
        ("text/html, text/event-stream", True),
        ("text/event-stream, application/json", False),
        ("application/json;q=0.1, text/event-stream", False),
        ("application/json;q=0, text/event-stream", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream; q=0.0", False),
        ("text/*", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_stream_is_asked_for_by_name(accept: str, stream: bool) -> None:
    assert wanted(accept.encode()) is stream
