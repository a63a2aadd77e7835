"""From a post to a live server to what subscribers get."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from http_caller import Caller
from server_process import ServerProcess
from standardwebhooks import Webhook as Verifier

from .receiver import Receiver, answer, receiving

KEY = "whsec_" + base64.b64encode(b"k" * 32).decode()
ALLOWED = {"webhook_allow": "127.0.0.0/8"}


async def called(caller: Caller, *args: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(caller, *args, **kwargs)


async def subscribe(caller: Caller, queue: str, subscriber: str, **options: Any) -> int:
    body = json.dumps({"subscriber": subscriber, "ttl": 3600, "options": options})
    made = await called(caller, "POST", f"/v2/queues/{queue}/subscriptions", body)
    return int(made.status)


async def post(caller: Caller, queue: str, *bodies: Any) -> None:
    body = json.dumps({"messages": [{"body": body, "ttl": 300} for body in bodies]})
    assert (await called(caller, "POST", f"/v2/queues/{queue}/messages", body)).status == 201


def bodies(receiver: Receiver) -> list[Any]:
    return [json.loads(received.body)["body"] for received in receiver.received]


async def test_posts_reach_webhooks_signed_and_filtered(
    start_server: Callable[..., ServerProcess], project: str
) -> None:
    server = start_server("--store", "memory:", webhook_signing_keys=KEY, **ALLOWED)
    caller = Caller(server.host, server.port, project=project)
    async with receiving() as everything, receiving() as urgent:
        assert await subscribe(caller, "orders", everything.url) == 201
        assert await subscribe(caller, "orders", urgent.url, filter={"urgent": [True]}) == 201
        await post(caller, "orders", {"n": 1}, {"n": 2, "urgent": True}, {"n": 3, "urgent": False})
        await everything.until(lambda receiver: len(receiver.received) == 3)
        await urgent.until(lambda receiver: len(receiver.received) == 1)
        assert sorted(body["n"] for body in bodies(everything)) == [1, 2, 3]
        assert bodies(urgent) == [{"n": 2, "urgent": True}]
        for received in everything.received:
            assert Verifier(KEY).verify(received.body, dict(received.headers))
            assert abs(int(received.header("webhook-timestamp") or 0) - time.time()) < 60
    caller.close()
    server.check()


async def test_what_fails_at_first_comes_again_under_the_same_id(
    start_server: Callable[..., ServerProcess], project: str
) -> None:
    server = start_server("--store", "memory:", **ALLOWED)
    caller = Caller(server.host, server.port, project=project)
    async with receiving(answer(500), answer(503), answer(200)) as receiver:
        assert await subscribe(caller, "orders", receiver.url) == 201
        await post(caller, "orders", "x")
        await receiver.until(lambda receiver: len(receiver.received) == 3)
        assert len({received.header("webhook-id") for received in receiver.received}) == 1
    caller.close()
    server.check()


async def test_posts_reach_other_queues_and_mail(
    start_server: Callable[..., ServerProcess], project: str, tmp_path: Path
) -> None:
    program = tmp_path / "sendmail"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/new && mv {tmp_path}/new {tmp_path}/mail\n")
    program.chmod(0o755)
    server = start_server("--store", "memory:", smtp_command=f"{program} -t -oi", **ALLOWED)
    caller = Caller(server.host, server.port, project=project)
    async with receiving() as receiver:
        assert await subscribe(caller, "orders", "queue:audit") == 201
        assert await subscribe(caller, "audit", receiver.url) == 201
        assert await subscribe(caller, "audit", "mailto:ops@example.org?subject=Audit") == 201
        await post(caller, "orders", {"n": 1})
        await receiver.until(lambda receiver: len(receiver.received) == 1)
        (body,) = bodies(receiver)
        assert (body["queue_name"], body["body"], body["hops"]) == ("orders", {"n": 1}, 1)
    listed = (await called(caller, "GET", "/v2/queues/audit/messages?echo=true")).json["messages"]
    assert [message["body"] for message in listed] == [body]
    deadline = time.monotonic() + 30
    while not (tmp_path / "mail").exists():  # another process writes it; nothing tells us
        assert time.monotonic() < deadline, server.log
        await asyncio.sleep(0.02)
    assert "Subject: Audit" in (tmp_path / "mail").read_text()
    caller.close()
    server.check()


async def test_nothing_inside_can_be_subscribed_unless_it_is_allowed(
    start_server: Callable[..., ServerProcess], project: str
) -> None:
    server = start_server("--store", "memory:")
    caller = Caller(server.host, server.port, project=project)
    async with receiving() as receiver:
        for host in ("127.0.0.1", "2130706433", "[::ffff:7f00:1]", "localhost", "any.LocalHost."):
            assert await subscribe(caller, "orders", f"http://{host}:{receiver.port}/") == 400
        assert await subscribe(caller, "orders", "http://trigger.me", signing_keys=["whsec_short"]) == 400
        await post(caller, "orders", "x")
        await post(caller, "orders", "y")
    caller.close()
    server.stop()  # and with it whatever was under way
    assert not receiver.connections


async def test_dead_letters_are_listed_and_replayed_and_a_receiver_that_is_gone_is_left_alone(
    start_server: Callable[..., ServerProcess], project: str
) -> None:
    server = start_server("--store", "memory:", **ALLOWED)
    caller = Caller(server.host, server.port, project=project)
    async with receiving(answer(404), answer(200), answer(410)) as receiver:
        assert await subscribe(caller, "orders", receiver.url, _dead_letter_queue="dead") == 201
        await post(caller, "orders", "lost")
        (letter,) = await letters(caller, 1)
        assert (letter["reason"], letter["attempts"]) == ("it answered 404", 1)
        path = f"/v2/queues/orders/subscriptions/{letter['subscription_id']}"
        replayed = await called(caller, "POST", f"{path}/replay")
        assert (replayed.status, replayed.json) == (200, {"replayed": 1, "marker": None})
        await receiver.until(lambda receiver: len(receiver.received) == 2)
        first, again = receiver.received
        assert again.body == first.body
        assert again.header("webhook-id") == first.header("webhook-id")
        assert await letters(caller, 0) == []
        await post(caller, "orders", "refused")
        assert [letter["reason"] for letter in await letters(caller, 1)] == ["it answered 410"]
        async with asyncio.timeout(30):
            while "disabled" not in (await called(caller, "GET", path)).json:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.02)
        await post(caller, "orders", "told nobody")
        assert await subscribe(caller, "orders", receiver.url) == 201
        assert "disabled" not in (await called(caller, "GET", path)).json
    caller.close()
    server.check()


async def test_name_that_leads_inside_leaves_one_dead_letter_for_each_message(
    start_server: Callable[..., ServerProcess], project: str
) -> None:
    numbers = list(range(6))
    server = start_server("--store", "memory:", webhook_allow="::1")  # so that it can be subscribed
    caller = Caller(server.host, server.port, project=project)
    async with receiving() as inside:
        name = f"http://localhost:{inside.port}/"
        assert await subscribe(caller, "orders", name, _dead_letter_queue="dead") == 201
        await post(caller, "orders", *numbers)
        dead = await letters(caller, len(numbers))
        assert sorted(letter["notification"]["body"] for letter in dead) == numbers
        assert {letter["attempts"] for letter in dead} == {1}
        assert not inside.connections
    caller.close()
    server.check()


async def letters(caller: Caller, count: int) -> list[Any]:
    """The dead letters, once there are so many."""
    deadline = time.monotonic() + 30
    while True:
        listed = await called(caller, "GET", "/v2/queues/dead/messages?echo=true")
        if len(listed.json["messages"]) == count:
            return [message["body"] for message in listed.json["messages"]]
        assert time.monotonic() < deadline, listed.json
        await asyncio.sleep(0.02)  # nobody tells of them
