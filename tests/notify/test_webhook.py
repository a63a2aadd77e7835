"""Webhooks, against receivers on real sockets that do what receivers do, and worse."""

import asyncio
import base64
import gzip
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from sukkal.core.subscribing.signing_keys import read_key
from sukkal.model import Notice
from sukkal.notify.addresses import Addresses
from sukkal.notify.deliverer import Outcome, Result
from sukkal.notify.notice import render
from sukkal.notify.sender import Sender, tls_context
from sukkal.notify.signature import signature
from sukkal.notify.target import Ports, Targets
from sukkal.notify.webhook import LONGEST_WAIT, Webhook

from .certificates import Authority
from .parcels import NOTICE, NOW, parcel
from .receiver import answer, receiving

KEYS = ["whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in range(1, 4)]
LOOPBACK = ("127.0.0.0/8",)


@asynccontextmanager
async def webhooks(
    *keys: str,
    allowed: tuple[str, ...] = LOOPBACK,
    now: Callable[[], float] = lambda: NOW,
    **options: Any,
) -> AsyncIterator[Webhook]:
    options = {"connect_timeout": 5.0, "read_timeout": 5.0, "total_timeout": 5.0, **options}
    addresses = Addresses(allowed)
    webhook = Webhook(
        Sender(addresses, **options), Targets(addresses, Ports()), [read_key(key) for key in keys], now
    )
    try:
        yield webhook
    finally:
        await webhook.close()


# --- what is sent ----------------------------------------------------------------------------------------


async def test_notice_is_posted_as_json() -> None:
    async with receiving() as receiver, webhooks() as webhook:
        assert await webhook.deliver(parcel(receiver.url)) == Outcome(Result.DELIVERED)
        (received,) = receiver.received
    assert received.line == "POST /hook HTTP/1.1"
    assert received.body == NOTICE
    names = sorted(name.lower() for name, _ in received.headers)
    assert names == [
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "webhook-id",
        "webhook-timestamp",
    ]
    assert received.header("content-type") == "application/json"
    assert received.header("host") == f"127.0.0.1:{receiver.port}"
    assert (received.header("user-agent") or "").startswith("sukkal/")
    assert received.header("webhook-id") == "parcel-1"
    assert received.header("webhook-timestamp") == str(int(NOW))


async def test_what_was_a_dead_letter_comes_under_the_id_it_had() -> None:
    async with receiving() as receiver, webhooks(KEYS[0]) as webhook:
        await webhook.deliver(parcel(receiver.url, id="0a~0b"))
        (received,) = receiver.received
    assert received.header("webhook-id") == "0a"
    signed = received.header("webhook-signature")
    assert signed == signature([read_key(KEYS[0])], "0a", int(NOW), NOTICE)


async def test_several_notices_are_one_array() -> None:
    async with receiving() as receiver, webhooks() as webhook:
        await webhook.deliver(parcel(receiver.url, b'{"a":1}', b'{"b":2}'))
    assert msgspec.json.decode(receiver.received[0].body) == [{"a": 1}, {"b": 2}]


async def test_template_holds_the_notice_in_each_place_marked() -> None:
    async with receiving() as receiver, webhooks() as webhook:
        template = '{"messages": ["$zaqar_message$", "$zaqar_message$"], "price": "$5 für $zaqar_message$"}'
        await webhook.deliver(parcel(receiver.url, b'{"a":1}', post_data=template))
        await webhook.deliver(parcel(receiver.url, post_data="as it is"))
        await webhook.deliver(parcel(receiver.url, b'"$zaqar_message$"', post_data='"$zaqar_message$"'))
    bodies = [received.body.decode() for received in receiver.received]
    assert bodies == [
        '{"messages": [{"a":1}, {"a":1}], "price": "$5 für $zaqar_message$"}',
        "as it is",
        '"$zaqar_message$"',
    ]


async def test_template_does_not_multiply_a_notice_beyond_measure() -> None:
    template = '"$zaqar_message$"' * 3000
    async with receiving() as receiver, webhooks() as webhook:
        outcome = await webhook.deliver(parcel(receiver.url, b"x" * 200_000, post_data=template))
        assert outcome.result is Result.FAILED
        assert outcome.reason == "options.post_data repeats the notification too often."
        assert not receiver.received
        outcome = await webhook.deliver(parcel(receiver.url, b"x" * 200, post_data=template))
        assert outcome == Outcome(Result.DELIVERED)


async def test_headers_of_the_subscription_are_laid_over_ours() -> None:
    headers = {"X-Token": "täg", "content-TYPE": "text/plain", "User-Agent": "me", "X-Number": 5}
    async with receiving() as receiver, webhooks() as webhook:
        await webhook.deliver(parcel(receiver.url, post_headers=headers))
        (received,) = receiver.received
    assert received.header("x-token") == "täg".encode().decode("latin-1")
    assert received.header("content-type") == "text/plain"
    assert received.header("user-agent") == "me"
    assert received.header("x-number") is None


async def test_headers_that_change_what_the_request_is_are_left_out() -> None:
    forbidden = {
        **dict.fromkeys(("Host", "HOST", "host"), "inside.example"),
        "Content-Length": "1",
        "Transfer-Encoding": "chunked",
        "Connection": "close, X-Kept",
        "Keep-Alive": "timeout=1",
        "Proxy-Authorization": "Basic eA==",
        "Proxy-Connection": "keep-alive",
        "TE": "trailers",
        "Trailer": "X",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABkAAQAAP__",
        "Expect": "100-continue",
        "Webhook-Id": "forged",
        "webhook-signature": "v1,forged",
        "WEBHOOK-TIMESTAMP": "1",
        "X-Bad": "a\r\nX-Injected: 1",
        "X-Bad\r\nX-Injected": "1",
        "X-Null": "\0",
        "X Space": "1",
        "": "1",
        "X-Kept": "1",
    }
    async with receiving() as receiver, webhooks(KEYS[0]) as webhook:
        outcome = await webhook.deliver(parcel(receiver.url, post_headers=forbidden))
        (received,) = receiver.received
    assert outcome.result is Result.DELIVERED
    assert received.header("host") == f"127.0.0.1:{receiver.port}"
    assert received.header("content-length") == str(len(NOTICE))
    assert received.header("webhook-id") == "parcel-1"
    names = sorted(name.lower() for name, _ in received.headers)
    assert names == [
        *("content-length", "content-type", "host", "user-agent"),
        *("webhook-id", "webhook-signature", "webhook-timestamp", "x-kept"),
    ]


async def test_userinfo_is_sent_as_credentials_unless_the_subscription_has_its_own() -> None:
    async with receiving() as receiver, webhooks() as webhook:
        url = receiver.url.replace("://", "://me:secret@")
        await webhook.deliver(parcel(url))
        await webhook.deliver(parcel(url, post_headers={"authorization": "Bearer x"}))
    sent = [received.header("authorization") for received in receiver.received]
    assert sent == ["Basic " + base64.b64encode(b"me:secret").decode(), "Bearer x"]


async def test_connection_is_used_again_and_cookies_are_not_kept() -> None:
    async with receiving(answer(200, "Set-Cookie: a=b; Path=/")) as receiver, webhooks() as webhook:
        for _ in range(3):
            await webhook.deliver(parcel(receiver.url))
    assert receiver.connections == 1
    assert [received.header("cookie") for received in receiver.received] == [None] * 3


async def test_proxies_and_passwords_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with receiving() as receiver, webhooks() as webhook:
        assert (await webhook.deliver(parcel(receiver.url))).result is Result.DELIVERED
    assert receiver.received[0].header("authorization") is None


def test_notices_hold_bodies_as_they_were_sent() -> None:
    body = b' {"b": 1.0, "a": [1e400, "\\u00e9"]}'
    assert render(Notice(queue="orders", body=body, ttl=300)) == (
        b'{"ttl":300,"body":' + body + b',"Message_Type":"Notification","queue_name":"orders"}'
    )
    packed = b"\x03" + msgspec.msgpack.encode({"n": b"x"})
    assert msgspec.json.decode(render(Notice(queue="orders", body=packed, ttl=60, delay=5))) == {
        "ttl": 60,
        "body": {"n": {"$base64": "eA=="}},
        "Message_Type": "Notification",
        "queue_name": "orders",
        "delay": 5,
    }


# --- signatures ------------------------------------------------------------------------------------------


async def signed(*service_keys: str, **options: Any) -> tuple[bytes, dict[str, str]]:
    async with receiving() as receiver, webhooks(*service_keys, now=time.time) as webhook:
        outcome = await webhook.deliver(parcel(receiver.url, **options))
        assert outcome.result is Result.DELIVERED, outcome
        (received,) = receiver.received
    return received.body, dict(received.headers)


def verifies(key: str, body: bytes, headers: dict[str, str]) -> bool:
    try:
        Verifier(key).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


async def test_receivers_verify_with_any_key_of_a_rotation_and_no_other() -> None:
    body, headers = await signed(KEYS[0], KEYS[1])
    assert [verifies(key, body, headers) for key in KEYS] == [True, True, False]
    assert not verifies(KEYS[0], body + b" ", headers)
    assert not verifies(KEYS[0], body, {**headers, "webhook-id": "another"})


async def test_keys_of_the_subscription_take_the_place_of_the_services() -> None:
    body, headers = await signed(KEYS[0], signing_keys=[KEYS[1], KEYS[2]])
    assert [verifies(key, body, headers) for key in KEYS] == [False, True, True]
    body, headers = await signed(signing_keys=KEYS[2])
    assert [verifies(key, body, headers) for key in KEYS] == [False, False, True]


async def test_what_is_signed_is_the_body_that_is_sent() -> None:
    body, headers = await signed(KEYS[0], post_data='["$zaqar_message$", "é"]')
    assert verifies(KEYS[0], body, headers)


@pytest.mark.parametrize("keys", ["", "whsec_", "whsec_eA==", [], KEYS * 2, [5], {"a": 1}, "whsec_!!!", "é"])
async def test_keys_that_cannot_be_used_fail_the_delivery(keys: Any) -> None:
    async with receiving() as receiver, webhooks() as webhook:
        outcome = await webhook.deliver(parcel(receiver.url, signing_keys=keys))
    assert outcome.result is Result.FAILED
    assert "signing_keys" in outcome.reason
    assert not receiver.received


@pytest.mark.parametrize(
    "options",
    [
        {"post_headers": {"X": "\ud800", "\ud800": "x"}},
        {"post_headers": ["X"]},
        {"post_headers": {"Content-Encoding": "gzip", "Accept-Encoding": "br", "Range": "bytes=0-1"}},
        {"post_data": "\ud800"},
        {"post_data": ["x"]},
        {"post_data": "x" * 2_000_000},
    ],
)
async def test_whatever_options_hold_is_an_outcome(options: dict[str, Any]) -> None:
    async with receiving() as receiver, webhooks() as webhook:
        outcome = await webhook.deliver(parcel(receiver.url, **options))
    assert (outcome.result is Result.DELIVERED) == bool(receiver.received)


@pytest.mark.parametrize(
    "host", ["a" * 70 + ".example", "a..b", "-a", "xn--a", "\u2024com", "exa\u00admple.org"]
)
async def test_name_that_is_none_is_an_outcome(host: str) -> None:
    async with webhooks(lookup=Names([])) as webhook:
        outcome = await webhook.deliver(parcel(f"http://{host}/"))
    assert outcome.result in (Result.FAILED, Result.RETRY)


# --- answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "result"),
    [
        ((200, 201, 202, 204, 299), Result.DELIVERED),
        ((300, 301, 302, 304, 307, 308), Result.FAILED),
        ((400, 401, 403, 404, 422, 499), Result.FAILED),
        ((410,), Result.GONE),
        ((408, 425, 429, 500, 502, 503, 599, 600, 999), Result.RETRY),
    ],
)
async def test_status_decides(statuses: tuple[int, ...], result: Result) -> None:
    async with receiving(*map(answer, statuses)) as receiver, webhooks() as webhook:
        for status in statuses:
            outcome = await webhook.deliver(parcel(receiver.url))
            assert outcome.result is result, status
            assert (str(status) in outcome.reason) == (result is not Result.DELIVERED)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("99999999999999999999", LONGEST_WAIT),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Fri, 15 Jan 2020 08:01:00 GMT", 0.0),
        ("Fri, 15 Jan 9999 08:01:00 GMT", LONGEST_WAIT),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("1e3", None),
    ],
)
async def test_receiver_may_say_when_to_try_again(said: str, seconds: float | None) -> None:
    async with receiving(answer(503, f"Retry-After: {said}")) as receiver, webhooks() as webhook:
        outcome = await webhook.deliver(parcel(receiver.url))
    assert outcome == Outcome(Result.RETRY, "it answered 503", seconds)


async def test_redirects_are_not_followed() -> None:
    async with (
        receiving() as inside,
        receiving(answer(307, f"Location: {inside.url}")) as receiver,
        webhooks() as webhook,
    ):
        outcome = await webhook.deliver(parcel(receiver.url))
    assert outcome.result is Result.FAILED
    assert not inside.received


# --- receivers that misbehave ----------------------------------------------------------------------------


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def saying(*pieces: bytes) -> Any:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
        await reader.read()

    return say


def dripping(first: bytes, drip: bytes = b"x") -> Any:
    async def go_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        gone = asyncio.create_task(reader.read())
        while not gone.done():
            writer.write(drip)
            await asyncio.wait([gone], timeout=0.02)

    return go_on


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (close, "connection was lost"),
        (hang, "in time"),
        (saying(b"HTTP/1.1 20"), "in time"),
        (dripping(b"HTTP/1.1 200 OK\r\nX-Slow: "), "in time"),
        (dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "in time"),
        (saying(b"220 mail.example ESMTP ready\r\n"), "not HTTP"),
        (saying(bytes(range(256)) * 100), "not HTTP"),
        (saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000), "not HTTP"),
        (saying(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 100_000), "not HTTP"),
        (saying(b"HTTP/1.1 abc OK\r\n\r\n"), "not HTTP"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "not HTTP"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), "not HTTP"),
    ],
)
async def test_receiver_that_gives_no_answer_is_tried_again(behaviour: Any, reason: str) -> None:
    times = {"read_timeout": 0.3, "total_timeout": 0.5}
    async with receiving(behaviour=behaviour) as receiver, webhooks(**times) as webhook:
        outcome = await webhook.deliver(parcel(receiver.url))
        await receiver.until(lambda receiver: receiver.ended == 1)
    assert outcome.result is Result.RETRY
    assert reason in outcome.reason


async def test_receiver_that_does_not_listen_is_tried_again() -> None:
    async with receiving() as receiver:
        pass
    async with webhooks() as webhook:
        assert await webhook.deliver(parcel(receiver.url)) == Outcome(Result.RETRY, "no connection")


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "behaviour",
    [
        saying(HEAD + b"Content-Length: 10\r\n\r\nhalf"),
        dripping(HEAD + b"\r\n"),
        dripping(HEAD + b"\r\n", b"x" * 100_000),
        dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
async def test_status_counts_however_the_answer_goes_on(
    behaviour: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sukkal.notify.sender.REST_SECONDS", 0.3)
    async with receiving(behaviour=behaviour) as receiver, webhooks() as webhook:
        assert (await webhook.deliver(parcel(receiver.url))).result is Result.DELIVERED
        await receiver.until(lambda receiver: receiver.ended == 1)


async def test_answers_are_read_up_to_a_size_and_the_connection_is_closed() -> None:
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(HEAD + b"Content-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with receiving(behaviour=pour) as receiver, webhooks(max_response=100_000) as webhook:
        assert (await webhook.deliver(parcel(receiver.url))).result is Result.DELIVERED
        await receiver.until(lambda receiver: receiver.ended == 1)
    assert sent < 20_000_000, "what the sockets between hold, and no more"


async def test_answers_are_not_unpacked() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 60_000
    packed = answer(200, "Content-Encoding: gzip", body=bomb)
    async with receiving(packed) as receiver, webhooks() as webhook:
        for _ in range(2):
            assert (await webhook.deliver(parcel(receiver.url))).result is Result.DELIVERED
    assert receiver.connections == 1, "it was read to its end, as it is"


async def test_many_that_hang_at_once_leave_no_connection_behind() -> None:
    async with receiving(behaviour=hang) as receiver, webhooks(read_timeout=0.2) as webhook:
        outcomes = await asyncio.gather(*(webhook.deliver(parcel(receiver.url)) for _ in range(50)))
        assert {outcome.result for outcome in outcomes} == {Result.RETRY}
        await receiver.until(lambda receiver: receiver.ended == 50)


async def test_cancelled_delivery_closes_its_connection() -> None:
    async with receiving(behaviour=hang) as receiver, webhooks() as webhook:
        delivery = asyncio.create_task(webhook.deliver(parcel(receiver.url)))
        await receiver.until(lambda receiver: len(receiver.received) == 1)
        delivery.cancel()
        await receiver.until(lambda receiver: receiver.ended == 1)
    assert delivery.cancelled()


# --- addresses -------------------------------------------------------------------------------------------


class Names:
    """A resolver of the tests: each lookup of any name answers the next of the lists, the last for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, name: str) -> list[str]:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def test_literal_address_is_refused_also_when_it_was_subscribed_before() -> None:
    async with receiving() as receiver, webhooks(allowed=()) as webhook:
        outcome = await webhook.deliver(parcel(receiver.url))
        assert outcome.result is Result.FAILED
        assert "does not connect" in outcome.reason
        assert webhook.host(receiver.url) == ""
    assert not receiver.connections


async def test_name_that_leads_inside_is_refused_when_it_is_delivered() -> None:
    async with receiving() as receiver, webhooks(allowed=(), lookup=Names(["127.0.0.1"])) as webhook:
        uri = f"http://inside.example:{receiver.port}/"
        webhook.check(uri)  # nothing in the URI says so
        outcome = await webhook.deliver(parcel(uri))
    assert outcome.result is Result.FAILED
    assert "does not connect" in outcome.reason
    assert "127" not in outcome.reason
    assert not receiver.connections


async def test_the_machines_own_names_lead_inside_too() -> None:
    async with receiving() as receiver, webhooks(allowed=()) as webhook:
        outcome = await webhook.deliver(parcel(f"http://localhost:{receiver.port}/"))
    assert outcome.result is Result.FAILED
    assert not receiver.connections


async def test_name_that_changes_its_address_gains_nothing() -> None:
    """The name leads to what is allowed when it is checked, and inside ever after."""
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    async with receiving() as inside:  # on 127.0.0.1
        async with webhooks(allowed=("127.0.0.2/32",), lookup=names) as webhook:
            uri = f"http://rebinding.example:{inside.port}/"
            first = await webhook.deliver(parcel(uri))
            assert first == Outcome(Result.RETRY, "no connection"), "it went to the address that was checked"
            assert names.asked == 1, "and was not looked up again for the connection"
        async with webhooks(allowed=("127.0.0.2/32",), lookup=names) as webhook:
            assert (await webhook.deliver(parcel(uri))).result is Result.FAILED
    assert not inside.connections


async def test_socket_is_judged_by_the_address_it_connects_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the resolver be mistaken, nothing inside is connected to all the same."""

    async def mistaken(self: Any, host: str, port: int = 0, family: Any = 0) -> list[dict[str, Any]]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 6, "flags": 4}]

    monkeypatch.setattr("sukkal.notify.addresses.CheckedResolver.resolve", mistaken)
    async with receiving() as receiver, webhooks(allowed=()) as webhook:
        outcome = await webhook.deliver(parcel(f"http://public.example:{receiver.port}/"))
    assert outcome.result is Result.FAILED
    assert not receiver.connections


async def test_name_without_an_address_is_tried_again() -> None:
    async def lookup(name: str) -> list[str]:
        raise OSError("no such name")

    async with webhooks(lookup=lookup) as webhook:
        outcome = await webhook.deliver(parcel("http://missing.example/"))
    assert outcome == Outcome(Result.RETRY, "its name has no address")


async def test_name_that_is_looked_up_for_ever_is_given_up() -> None:
    async def lookup(name: str) -> list[str]:
        return await asyncio.get_running_loop().create_future()

    async with webhooks(lookup=lookup, connect_timeout=0.2) as webhook:
        outcome = await webhook.deliver(parcel("http://slow.example/"))
    assert outcome == Outcome(Result.RETRY, "no answer in time")


# --- TLS -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


async def over_tls(authority: Authority, uri: str, *, trusted: bool = True, expired: bool = False) -> Outcome:
    """How a delivery ends to a receiver that is `hook.example` for its certificate."""
    context = tls_context(authority.file if trusted else None)
    presented = authority.server_context("hook.example", expired=expired)
    async with (
        receiving(tls=presented) as receiver,
        webhooks(lookup=Names(["127.0.0.1"]), tls=context) as webhook,
    ):
        outcome = await webhook.deliver(parcel(uri.format(port=receiver.port)))
    assert len(receiver.received) == (outcome.result is Result.DELIVERED)
    return outcome


async def test_certificate_of_the_name_is_accepted(authority: Authority) -> None:
    assert (await over_tls(authority, "https://hook.example:{port}/")).result is Result.DELIVERED


@pytest.mark.parametrize(
    ("uri", "how", "reason"),
    [
        ("https://other.example:{port}/", {}, "certificate"),
        ("https://127.0.0.1:{port}/", {}, "certificate"),
        ("https://hook.example:{port}/", {"expired": True}, "certificate"),
        ("https://hook.example:{port}/", {"trusted": False}, "certificate"),
        ("http://hook.example:{port}/", {}, "lost"),
    ],
)
async def test_receiver_that_is_not_proven_is_sent_nothing(
    authority: Authority, uri: str, how: dict[str, bool], reason: str
) -> None:
    outcome = await over_tls(authority, uri, **how)
    assert outcome.result is Result.RETRY
    assert reason in outcome.reason


async def test_receiver_without_tls_is_sent_nothing_over_https() -> None:
    names = Names(["127.0.0.1"])
    async with receiving() as receiver, webhooks(lookup=names, connect_timeout=0.3) as webhook:
        outcome = await webhook.deliver(parcel(f"https://hook.example:{receiver.port}/"))
    assert outcome.result is Result.RETRY
    assert not receiver.received


async def test_answer_before_the_request_is_sent_counts() -> None:
    """A receiver may refuse without reading."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(413, "Connection: close"))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, webhooks() as webhook:
        port = server.sockets[0].getsockname()[1]
        body = b'{"body":"' + b"x" * 3_000_000 + b'"}'
        outcome = await webhook.deliver(parcel(f"http://127.0.0.1:{port}/", body))
    assert outcome == Outcome(Result.FAILED, "it answered 413")
