"""Waiting over HTTP: how it is asked for, what the answer says, and callers that go away."""

import asyncio
from typing import Any

import pytest
from asgi_caller import Patient, Reply, Sender, Web
from hand_clock import others_go_on

from sukkal.http.prefer import preferred_wait
from sukkal.model import QueueKey

LIST = "GET /v2/queues/q/messages"
CLAIM = "POST /v2/queues/q/claims"
KEY = QueueKey("acme", "q")
OTHER = {"client-id": "7a1e1cda-26cc-4f7e-8f05-3ff8a1a1f1a1", "x-project-id": "acme"}

either_way = pytest.mark.parametrize("line", [LIST, CLAIM], ids=["list", "claim"])


async def ask(web: Web, line: str, sender: Sender | None = None, **headers: str) -> Reply:
    return await web.ask(line, sender=sender or Patient(), identity=OTHER, **headers)


async def waiting(web: Web, line: str, sender: Sender | None = None, **headers: str) -> asyncio.Task[Reply]:
    """A request that waits."""
    asked = asyncio.create_task(ask(web, line, sender, **headers))
    await others_go_on()
    assert not asked.done(), asked.result().body
    return asked


def found(reply: Reply) -> list[Any]:
    return [message["body"] for message in reply.document["messages"]] if reply.body else []


@either_way
async def test_waiting_request_is_answered_when_a_message_comes(web: Web, line: str) -> None:
    asked = await waiting(web, f"{line}?wait=20")
    await web.clock.reach(web.now + 12)
    await web.post("q", "here")
    reply = await asked
    assert reply.status == (200 if line == LIST else 201)
    assert found(reply) == ["here"]
    assert reply.document["messages"][0]["age"] == 0
    assert web.app.in_flight == 0


@either_way
async def test_waiting_request_is_answered_as_ever_when_nothing_comes(web: Web, line: str) -> None:
    at_once = await ask(web, line)
    asked = await waiting(web, f"{line}?wait=5")
    await web.clock.reach(web.now + 5)
    reply = await asked
    assert (reply.status, reply.body) == (at_once.status, at_once.body)
    assert reply.status == (200 if line == LIST else 204)


async def test_ages_are_those_of_the_moment_of_the_answer(web: Web) -> None:
    await web.post("q", "held")
    claimed = await web.ask(CLAIM, {"ttl": 60})
    web.now += 50
    asked = await waiting(web, f"{LIST}?wait=20")
    await web.clock.reach(web.now + 15)
    assert (await asked).document["messages"][0]["age"] == 60
    assert claimed.status == 201


@either_way
async def test_wait_out_of_bounds_is_refused(web: Web, line: str) -> None:
    await web.post("q", 1)
    for wait in ("-1", "21", "9" * 30):
        reply = await ask(web, f"{line}?wait={wait}")
        assert reply.fault == (400, "Invalid API request")
        assert "20 seconds" in reply.document["description"]
    assert (await ask(web, f"{line}?wait=soon")).fault == (400, "Invalid parameter")
    assert (await ask(web, f"{line}?wait=0.5")).fault == (400, "Invalid parameter")


@pytest.mark.parametrize(
    "line",
    [
        "GET /v2/queues?wait=20",
        "GET /v2/queues/q/messages?ids=1&wait=20",
        "GET /v2/queues/q?wait=20",
        "DELETE /v2/queues/q/messages?pop=1&wait=20",
    ],
)
async def test_other_requests_do_not_wait(web: Web, line: str) -> None:
    async with asyncio.timeout(5):
        assert (await ask(web, line, prefer="wait=20")).status in (200, 404)


async def test_next_link_waits_when_the_query_did(web: Web) -> None:
    await web.post("q", 1, 2)
    reply = await ask(web, f"{LIST}?limit=1&wait=7")
    (link,) = reply.document["links"]
    assert "wait=7" in link["href"].split("?")[1].split("&")
    assert found(await ask(web, f"GET {link['href']}")) == [2]
    reply = await ask(web, f"{LIST}?limit=1", prefer="wait=7")
    assert "wait" not in reply.document["links"][0]["href"]
    assert "wait" not in (await ask(web, f"{LIST}?limit=1")).document["links"][0]["href"]


# --- Prefer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header, wait",
    [
        ("wait=10", 10),
        ("respond-async, wait=10", 10),
        ("Wait = 10 ; foo", 10),
        ('foo="a, wait=3"; bar, wait=5', 5),
        ('return=minimal; foo="some \\" parameter", wait=2', 2),
        ('wait="7"', 7),
        ("wait=0", 0),
        (",, wait=3,", 3),
        ("wait=5, wait=6", 5),
        ("handling=lenient; x=y;z, WAIT=20", 20),
        ("wait=99999999999999999999", 999999999),
        ('"half, wait=4', 4),
        ("a=b c, wait=9", 9),
        ("wait", None),
        ("wait=", None),
        ("wait=soon", None),
        ("wait=1.5", None),
        ("wait=-3", None),
        ("wait=²", None),
        ("waiting=3", None),
        ("respond-async", None),
        ("", None),
        (",", None),
        ("=", None),
    ],
)
def test_preference_is_read(header: str, wait: int | None) -> None:
    assert preferred_wait(header.encode("latin-1")) == wait


@either_way
async def test_preferred_wait_is_applied_and_said_to_be(web: Web, line: str) -> None:
    asked = await waiting(web, line, prefer="respond-async, wait=12")
    await web.clock.reach(web.now + 11)
    assert not asked.done()
    await web.clock.reach(web.now + 1)
    reply = await asked
    assert found(reply) == []
    assert reply.headers["preference-applied"] == "wait=12"


@either_way
async def test_longer_preference_is_cut_to_the_longest_wait(web: Web, line: str) -> None:
    asked = await waiting(web, line, prefer="wait=600")
    await web.clock.reach(web.now + 20)
    assert (await asked).headers["preference-applied"] == "wait=20"


@either_way
async def test_query_wins_over_the_preference(web: Web, line: str) -> None:
    asked = await waiting(web, f"{line}?wait=3", prefer="wait=10")
    await web.clock.reach(web.now + 3)
    assert "preference-applied" not in (await asked).headers
    reply = await ask(web, f"{line}?wait=0", prefer="wait=10")
    assert "preference-applied" not in reply.headers


@either_way
async def test_preference_that_cannot_be_read_is_as_none(web: Web, line: str) -> None:
    reply = await ask(web, line, prefer="wait=a while")
    assert reply.status in (200, 204)
    assert "preference-applied" not in reply.headers


async def test_preference_of_a_list_that_need_not_wait_is_applied_too(web: Web) -> None:
    await web.post("q", 1)
    assert (await ask(web, LIST, prefer="wait=5")).headers["preference-applied"] == "wait=5"


# --- going away ------------------------------------------------------------------------------------------


@pytest.mark.faults
@either_way
async def test_caller_that_goes_away_frees_its_place_at_once_and_gets_no_answer(web: Web, line: str) -> None:
    sender = Patient()
    asked = await waiting(web, f"{line}?wait=20", sender)
    assert len(web.clock.set_for) == 1
    sender.hang_up()
    assert (await asked).status == 0
    assert web.app.in_flight == 0
    assert web.clock.set_for == []
    await web.post("q", 1)
    assert found(await ask(web, CLAIM)) == [1], "nobody else took it"


async def test_claimer_that_goes_away_as_the_message_comes_leaves_it_to_the_next(web: Web) -> None:
    senders = [Patient() for _ in range(3)]
    asked = [await waiting(web, f"{CLAIM}?wait=20", sender) for sender in senders]
    posting = asyncio.create_task(web.post("q", 1))
    senders[0].hang_up()
    await posting
    senders[1].hang_up()
    replies = await asyncio.gather(*asked)
    assert [found(reply) for reply in replies if reply.status == 201] == [[1]]
    assert replies[0].status == 0


async def test_cancelled_server_task_is_not_taken_for_a_caller_that_went(web: Web) -> None:
    asked = await waiting(web, f"{LIST}?wait=20")
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert web.app.in_flight == 0
    assert web.clock.set_for == []


@either_way
async def test_draining_server_answers_who_waits_at_once(web: Web, line: str) -> None:
    asked = await waiting(web, f"{line}?wait=20")
    web.app.draining = True
    web.service.stop_waiting()
    async with asyncio.timeout(5):
        await web.app.drained()
    assert (await asked).status == (200 if line == LIST else 204)
