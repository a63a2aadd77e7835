"""Confirmation: who is asked, in which words, and what leave it gets."""

import logging
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from sukkal.core.signing import Grant, Signer, written
from sukkal.core.subscribing import confirmation
from sukkal.core.subscribing.confirmation import MOST_SENT, SENT_WITHIN, Terms, Wording
from sukkal.core.subscribing.deliveries import Parked
from sukkal.model import QueueKey, Subscription, topic
from sukkal.stores.memory import MemoryBackend

from .world import PROJECT, World

HOOK = "http://hooks.example/in"
MAIL = "mailto:ops@example.org?subject=Alert"
SIGNER = Signer("a key that is long enough, and known to nobody")
WORDING = Wording("Please confirm", "{0} of {1}: {2} {3} {", "mq@example.org")
PARTING = Wording("Gone", "{2}", "mq@example.org")
TERMS = Terms(
    required=True,
    page="https://example.org/confirm",
    endpoint="https://mq.example/",
    websocket_endpoint="wss://mq.example:9000",
    subscribed=WORDING,
    unsubscribed=PARTING,
)


class Outbox:
    """What was to be sent, in place of deliveries."""

    def __init__(self) -> None:
        self.sent: list[tuple[QueueKey, Subscription, Any, str]] = []

    async def send(
        self, key: QueueKey, subscription: Subscription, text: bytes, kind: str, now: float
    ) -> None:
        self.sent.append((key, subscription, msgspec.json.decode(text), kind))

    @property
    def last(self) -> Any:
        return self.sent[-1][2]


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


def world_with(outbox: Outbox, terms: Terms = TERMS, signer: Signer = SIGNER) -> World:
    return World(
        signer=signer,
        terms=terms,
        subscriber_types=["http", "https", "trust+http", "mailto"],
        subscriber_checks={"queue": lambda _: None},
        send=outbox.send,
    )


async def subscribe(world: World, subscriber: str = HOOK, queue: str = "orders", **fields: Any) -> str:
    answer = await world.call("subscriptions.create", queue=queue, subscriber=subscriber, **fields)
    return str(answer.id)


async def confirm(world: World, id_: str, confirmed: bool, queue: str = "orders") -> None:
    await world.call(
        "subscriptions.confirm", queue=queue, subscription_id=id_, document={"confirmed": confirmed}
    )


async def test_new_subscriber_is_asked_to_the_letter(outbox: Outbox) -> None:
    world = world_with(outbox)
    id_ = await subscribe(world, ttl=600)
    path, expires = f"/v2/queues/orders/subscriptions/{id_}/confirm", written(world.now + 600)
    assert outbox.sent[0][0] == QueueKey(PROJECT, "orders")
    assert outbox.sent[0][1].id == id_
    assert outbox.last == {
        "Message_Type": "SubscriptionConfirmation",
        "Message": "You have chosen to subscribe to the queue: orders",
        "URL-Signature": SIGNER.sign([path], ["PUT"], PROJECT, expires),
        "URL-Methods": "PUT",
        "URL-Paths": path,
        "X-Project-ID": PROJECT,
        "URL-Expires": expires,
        "SubscribeBody": {"confirmed": True},
        "UnsubscribeBody": {"confirmed": False},
        "queue_name": "orders",
        "WSGISubscribeURL": f"https://mq.example{path}",
        "WebSocketSubscribeURL": f"wss://mq.example:9000{path}",
    }


async def test_leave_that_is_sent_opens_the_confirmation_only(outbox: Outbox) -> None:
    world = world_with(outbox)
    await subscribe(world)
    said = outbox.last
    grant = Grant(said["URL-Signature"], (said["URL-Paths"],), (said["URL-Methods"],), said["URL-Expires"])
    allows = world.service.signer.allows
    assert allows(grant, "PUT", said["URL-Paths"], said["X-Project-ID"], world.now)
    for method, path in (("GET", said["URL-Paths"]), ("PUT", said["URL-Paths"].rpartition("/")[0])):
        assert not allows(grant, method, path, PROJECT, world.now)


async def test_urls_are_there_only_when_it_is_known_where_we_are(outbox: Outbox) -> None:
    world = world_with(outbox, Terms(required=True))
    await subscribe(world)
    assert not {"WSGISubscribeURL", "WebSocketSubscribeURL"} & outbox.last.keys()


async def test_unconfirmed_subscriber_is_asked_again_when_it_subscribes_again(outbox: Outbox) -> None:
    world = world_with(outbox)
    id_ = await subscribe(world, ttl=600)
    world.now += 60
    assert await subscribe(world, ttl=9999) == id_
    first, second = (each[2] for each in outbox.sent)
    assert first == second  # the leave lasts as long as the subscription, which was left as it is


@pytest.mark.parametrize("subscriber", [HOOK, MAIL])
async def test_nobody_is_flooded_with_questions(outbox: Outbox, subscriber: str) -> None:
    world = world_with(outbox)
    for _ in range(MOST_SENT):  # also of one who is subscribed anew each time, and parts
        id_ = await subscribe(world, subscriber)
        await world.call("subscriptions.delete", queue="orders", subscription_id=id_)
    id_ = await subscribe(world, subscriber)
    await confirm(world, id_, False)
    await subscribe(world, subscriber, queue="returns")
    assert len(outbox.sent) == MOST_SENT
    await subscribe(world, "http://hooks.example/other")
    await world.call("subscriptions.create", project="umbrella", queue="orders", subscriber=subscriber)
    assert len(outbox.sent) == MOST_SENT + 2
    world.now += SENT_WITHIN
    assert await subscribe(world, subscriber) == id_
    assert len(outbox.sent) == MOST_SENT + 3


async def test_address_is_subscribed_to_many_queues_at_once(outbox: Outbox) -> None:
    world = world_with(outbox)
    for number in range(MOST_SENT):
        await subscribe(world, MAIL, queue=f"orders-{number}")
    assert len(outbox.sent) == MOST_SENT


@pytest.mark.parametrize(
    "spellings",
    [
        [
            "mailto:ops@example.org",
            "MAILTO:ops@example.org",
            "mailto:Ops@Example.ORG",
            "mailto:%6fps%40example.org",
            "mailto:ops+{}@example.org",
            "mailto:ops@example.org?subject={}",
            "mailto:ops@example.org#{}",
        ],
        [
            "http://hooks.example",
            "http://hooks.example/?{}",
            "http://HOOKS.example./#{}",
            "HTTP://hooks.example:80/",
            "http://user-{}:secret@hooks.example/",
            "trust+http://hooks.example/?{}",
        ],
        ["http://hooks.example/in", "http://hooks.example/%69n"],
    ],
    ids=lambda spellings: spellings[0],
)
async def test_other_spelling_makes_no_other_address(outbox: Outbox, spellings: list[str]) -> None:
    world = world_with(outbox)
    for number in range(MOST_SENT):
        await subscribe(world, spellings[number % len(spellings)].format(number))
    assert len(outbox.sent) == MOST_SENT
    for number, spelling in enumerate(spellings):
        await subscribe(world, spelling.format(f"more-{number}"))
    assert len(outbox.sent) == MOST_SENT


async def test_other_ports_and_paths_are_other_addresses(outbox: Outbox) -> None:
    world = world_with(outbox)
    for _ in range(MOST_SENT + 1):
        await subscribe(world, "http://hooks.example/")
    for other in ("http://hooks.example:443/", "https://hooks.example/", "http://hooks.example/in"):
        await subscribe(world, other)
    assert len(outbox.sent) == MOST_SENT + 3


async def test_only_so_many_subscribers_are_remembered(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation, "MOST_REMEMBERED", 2)
    world = world_with(outbox)
    for number in range(5):
        await subscribe(world, f"{HOOK}/{number}")
    assert len(world.service.subscriptions._confirmation._sent_to) == 2


async def test_confirmed_subscriber_is_told_that_it_has_unsubscribed_and_how_to_come_back(
    outbox: Outbox,
) -> None:
    world = world_with(outbox)
    id_ = await subscribe(world, ttl=90000)
    await confirm(world, id_, True)
    assert len(outbox.sent) == 1
    world.now += 10
    await confirm(world, id_, False)
    assert len(outbox.sent) == 2
    assert outbox.last["Message_Type"] == "UnsubscribeConfirmation"
    assert outbox.last["Message"] == (
        "You have unsubscribed successfully to the queue: orders, "
        "you can resubscribe it by using confirmed=True."
    )
    assert outbox.last["URL-Expires"] == written(world.now + 3600)
    assert outbox.last["SubscribeBody"] == {"confirmed": True}


async def test_new_subscriber_of_an_old_subscription_is_asked(outbox: Outbox) -> None:
    world = world_with(outbox)
    id_ = await subscribe(world)
    await confirm(world, id_, True)
    await world.call(
        "subscriptions.update", queue="orders", subscription_id=id_, document={"subscriber": f"{HOOK}/2"}
    )
    assert outbox.sent[-1][1].subscriber == f"{HOOK}/2"
    assert outbox.last["Message_Type"] == "SubscriptionConfirmation"
    await world.call("subscriptions.update", queue="orders", subscription_id=id_, document={"ttl": 99})
    assert len(outbox.sent) == 2


async def test_topics_have_their_own_paths(outbox: Outbox) -> None:
    world = world_with(outbox)
    id_ = await subscribe(world, queue=topic("news"))
    assert outbox.last["URL-Paths"] == f"/v2/topics/news/subscriptions/{id_}/confirm"
    assert outbox.last["queue_name"] == "news"


async def test_nobody_is_asked_where_that_is_not_required(outbox: Outbox) -> None:
    world = world_with(outbox, Terms())
    id_ = await subscribe(world)
    await subscribe(world)
    await confirm(world, id_, False)
    assert outbox.sent == []


async def test_queue_of_the_project_is_not_asked(outbox: Outbox) -> None:
    world = world_with(outbox)
    id_ = await subscribe(world, "queue:other")
    await confirm(world, id_, False)
    assert outbox.sent == []
    subscription = await world.call("subscriptions.get", queue="orders", subscription_id=id_)
    assert not world.service.recipients.awaited(subscription)


async def test_only_what_is_required_and_missing_is_awaited(outbox: Outbox) -> None:
    async def awaited(terms: Terms, confirmed: bool) -> bool:
        world = world_with(outbox, terms)
        id_ = await subscribe(world)
        await confirm(world, id_, confirmed)
        subscription = await world.call("subscriptions.get", queue="orders", subscription_id=id_)
        return bool(world.service.recipients.awaited(subscription))

    assert await awaited(TERMS, False)
    assert not await awaited(TERMS, True)
    assert not await awaited(Terms(), False)


async def test_without_a_key_nothing_is_sent_and_the_log_says_why(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    world = world_with(outbox, signer=Signer(None))
    await subscribe(world)
    assert outbox.sent == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "signed_url_secret_key" in caplog.text


async def test_leave_lasts_no_longer_than_leave_may(outbox: Outbox) -> None:
    world = world_with(outbox, signer=Signer("k" * 40, max_ttl=1000))
    await subscribe(world, ttl=220367260800)
    assert outbox.last["URL-Expires"] == written(world.now + 1000)


# --- mail --------------------------------------------------------------------------------------------


async def test_mail_has_the_operators_words_and_a_link_to_its_page(outbox: Outbox) -> None:
    world = world_with(outbox)
    answer = await world.call(
        "subscriptions.create", project="a&b =ü", queue="orders", subscriber=MAIL, ttl=600
    )
    assert outbox.last.keys() == {"Subject", "From", "Body"}
    assert (outbox.last["Subject"], outbox.last["From"]) == ("Please confirm", "mq@example.org")
    body = outbox.last["Body"]
    assert body.startswith("orders of a&b =ü: https://example.org/confirm?Signature=")
    assert body.endswith(" {3} {")
    link = body.removeprefix("orders of a&b =ü: ").partition(" ")[0]
    assert link.isascii()
    path, expires = f"/v2/queues/orders/subscriptions/{answer.id}/confirm", written(world.now + 600)
    assert list(parse_qs(urlsplit(link).query, strict_parsing=True).items()) == [
        ("Signature", [SIGNER.sign([path], ["PUT"], "a&b =ü", expires)]),
        ("Methods", ["PUT"]),
        ("Paths", [path]),
        ("Project", ["a&b =ü"]),
        ("Expires", [expires]),
        ("Url", [f"https://mq.example{path}"]),
        ("Queue", ["orders"]),
    ]
    assert "/" not in link.partition("?")[2]


async def test_mail_of_parting_has_its_own_words(outbox: Outbox) -> None:
    world = world_with(outbox)
    await confirm(world, await subscribe(world, MAIL), False)
    assert outbox.last["Subject"] == "Gone"
    assert outbox.last["Body"].startswith("https://example.org/confirm?")


async def test_nobody_is_asked_by_mail_without_a_page(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    world = world_with(outbox, Terms(required=True, subscribed=WORDING))
    await subscribe(world, MAIL)
    assert outbox.sent == []
    assert "external_confirmation_url" in caplog.text


# --- as it is recorded -------------------------------------------------------------------------------


async def test_what_is_asked_is_recorded_for_delivery() -> None:
    backend = MemoryBackend()
    world = World(backend, signer=SIGNER, terms=TERMS, subscriber_types=["http"])
    id_ = await subscribe(world)
    (stored,) = await backend.messages.pop(QueueKey("", "retries"), limit=9, now=world.now)
    parked = msgspec.msgpack.decode(stored.body, type=Parked)
    assert (parked.subscription, parked.directed) == (id_, "confirmation")
    assert msgspec.json.decode(parked.text)["Message_Type"] == "SubscriptionConfirmation"
