"""Encryption at rest: what is stored differs from what was posted, and nobody who reads sees it."""

from typing import Any

import pytest

from sukkal.core.cipher import SEALED, Cipher, WrongKey
from sukkal.errors import Invalid, InvalidBody, Unavailable
from sukkal.model import QueueKey, View

from .world import PROJECT, World, bodies, ids

SECRET = {"card": "4111 1111 1111 1111", "é": [None, 1.5]}
ALL = View(include_claimed=True, include_delayed=True)


@pytest.fixture
def sealing() -> World:
    return World(encryption_key="correct horse")


async def stored(world: World, queue: str = "orders") -> list[bytes]:
    """Bodies as the store has them."""
    key = QueueKey(PROJECT, queue)
    messages = await world.backend.messages.page(key, view=ALL, after=None, limit=20, now=world.now)
    return [message.body for message in messages]


async def test_stored_bytes_differ_from_the_body(sealing: World) -> None:
    await sealing.create("orders", _enable_encrypt_messages=True)
    await sealing.post("orders", SECRET, SECRET, "4111")
    sealed = await stored(sealing)
    assert all(body[0] == SEALED and b"4111" not in body for body in sealed)
    assert sealed[0] != sealed[1], "equal bodies do not look equal"


async def test_body_is_read_everywhere_as_it_was_posted(sealing: World) -> None:
    await sealing.create("orders", _enable_encrypt_messages=True)
    (id,) = await sealing.post("orders", SECRET)
    claimed = await sealing.call("claims.create", queue="orders")
    held = await sealing.call("claims.get", queue="orders", claim_id=claimed.id)
    found = await sealing.call("messages.get_many", queue="orders", ids=[id])
    listed = await sealing.listed("orders")
    got = await sealing.get("orders", id)
    await sealing.call("claims.release", queue="orders", claim_id=claimed.id)
    popped = await sealing.call("messages.delete_many", queue="orders", pop=1)
    answers = [claimed.messages, held.messages, found.messages, listed, [got], popped.messages]
    assert [bodies(messages) for messages in answers] == [[SECRET]] * 6


async def test_sealed_message_is_read_in_the_dead_letter_queue(sealing: World) -> None:
    await sealing.create(
        "orders", _enable_encrypt_messages=True, _max_claim_count=1, _dead_letter_queue="dead"
    )
    await sealing.post("orders", SECRET)
    claimed = await sealing.call("claims.create", queue="orders")
    await sealing.call("claims.release", queue="orders", claim_id=claimed.id)
    await sealing.call("claims.create", queue="orders")
    assert bodies(await sealing.listed("dead")) == [SECRET]
    assert (await stored(sealing, "dead"))[0][0] == SEALED


async def test_queue_without_the_flag_stores_bodies_as_they_are(sealing: World) -> None:
    await sealing.post("orders", "plain")
    assert await stored(sealing) == [b'"plain"']


async def test_changed_flag_affects_later_posts_and_earlier_ones_stay_readable(sealing: World) -> None:
    await sealing.post("orders", "before")
    await sealing.set("orders", _enable_encrypt_messages=True)
    await sealing.post("orders", "during")
    await sealing.set("orders", _enable_encrypt_messages=False)
    await sealing.post("orders", "after")
    assert [body[0] == SEALED for body in await stored(sealing)] == [False, True, False]
    assert bodies(await sealing.listed("orders")) == ["before", "during", "after"]


# --- without the key -----------------------------------------------------------------------------------


@pytest.fixture
async def sealed(sealing: World) -> World:
    """`orders` holds a sealed message, `plain` a plain one."""
    await sealing.create("orders", _enable_encrypt_messages=True)
    await sealing.post("orders", SECRET)
    await sealing.post("plain", "plain")
    return sealing


KEYS = pytest.mark.parametrize(
    "key, text",
    [
        ("wrong", "The message was encrypted with another message_encryption_key."),
        (None, "The message is encrypted; message_encryption_key is not configured."),
    ],
)


@KEYS
async def test_sealed_message_without_its_key_is_unavailable_and_says_why(
    sealed: World, key: str | None, text: str
) -> None:
    claimed = await sealed.call("claims.create", queue="orders")
    await sealed.post("orders", SECRET)
    ids_ = ids(await sealed.listed("orders"))
    other = World(sealed.backend, encryption_key=key)
    for operation, fields in (
        ("messages.list", {"echo": True}),
        ("messages.get", {"id": ids_[0]}),
        ("messages.get_many", {"ids": ids_}),
        ("claims.create", {}),
        ("claims.get", {"claim_id": claimed.id}),
    ):
        with pytest.raises(Unavailable) as fault:
            await other.call(operation, queue="orders", **fields)
        assert fault.value.message == text


@KEYS
async def test_messages_without_encryption_need_no_key(sealed: World, key: str | None, text: str) -> None:
    other = World(sealed.backend, encryption_key=key)
    assert bodies(await other.listed("plain")) == ["plain"]


@KEYS
async def test_service_without_the_key_is_told_so_before_it_serves(
    sealed: World, key: str | None, text: str
) -> None:
    await sealed.service.check_key(sealed.now)
    other = World(sealed.backend, encryption_key=key)
    with pytest.raises(WrongKey, match="message_encryption_key"):
        await other.service.check_key(other.now)


async def test_service_with_the_key_of_before_may_serve(sealed: World) -> None:
    for _ in range(2):  # the first leaves a proof, the second opens it
        await sealed.service.check_key(sealed.now)


async def test_service_without_encryption_asks_for_no_key(world: World) -> None:
    await world.service.check_key(world.now)


async def test_popped_message_looks_the_same_sealed_or_plain(sealing: World) -> None:
    await sealing.create("sealed", _enable_encrypt_messages=True)
    shown = []
    for queue in ("plain", "sealed"):
        await sealing.post(queue, SECRET, ttl=100)
    sealing.now += 90
    for queue in ("plain", "sealed"):
        (message,) = (await sealing.call("messages.delete_many", queue=queue, pop=5)).messages
        shown.append((bodies([message]), message.ttl, message.created, message.claim, message.claim_count))
    assert shown[0] == shown[1]


async def test_pop_of_sealed_messages_takes_the_oldest_and_leaves_no_claim(sealing: World) -> None:
    await sealing.create("orders", _enable_encrypt_messages=True)
    posted = await sealing.post("orders", *range(5))
    await sealing.call("claims.create", queue="orders", limit=1)
    popped = (await sealing.call("messages.delete_many", queue="orders", pop=2)).messages
    assert ids(popped) == posted[1:3]
    stats = await sealing.call("queues.stats", queue="orders")
    assert (stats.claimed, stats.free) == (1, 2)


@KEYS
async def test_claim_without_the_key_loses_nothing(sealed: World, key: str | None, text: str) -> None:
    other = World(sealed.backend, encryption_key=key)
    with pytest.raises(Unavailable):
        await other.call("claims.create", queue="orders", ttl=60)
    sealed.now += 60
    assert bodies((await sealed.call("claims.create", queue="orders")).messages) == [SECRET]


async def test_sealed_message_can_be_deleted_counted_and_purged_without_the_key(sealed: World) -> None:
    (id,) = ids(await sealed.listed("orders"))
    other = World(sealed.backend)
    assert (await other.call("queues.stats", queue="orders")).free == 1
    await other.call("messages.delete", queue="orders", id=id)
    assert await sealed.listed("orders") == []


# --- enabling ------------------------------------------------------------------------------------------


async def test_enabling_is_refused_without_a_key(world: World) -> None:
    with pytest.raises(Invalid, match="message_encryption_key"):
        await world.create("orders", _enable_encrypt_messages=True)
    await world.create("orders")
    with pytest.raises(InvalidBody, match="message_encryption_key"):
        await world.set("orders", _enable_encrypt_messages=True)
    assert (await world.call("queues.get", queue="orders")).stored == {}


@pytest.mark.parametrize("value", [False, None, 0])
async def test_switching_it_off_needs_no_key(world: World, value: Any) -> None:
    await world.create("orders", _enable_encrypt_messages=value)
    await world.post("orders", 1)


# --- the cipher ----------------------------------------------------------------------------------------


def test_sealed_body_opens_only_as_the_message_it_was_sealed_for() -> None:
    cipher = Cipher("key")
    body = cipher.seal(b'"x"', "one")
    assert cipher.open(body, "one") == b'"x"'
    with pytest.raises(Unavailable):
        cipher.open(body, "two")


def test_changed_sealed_body_does_not_open() -> None:
    cipher = Cipher("key")
    body = bytearray(cipher.seal(b'"x"', "one"))
    body[-1] ^= 1
    with pytest.raises(Unavailable):
        cipher.open(bytes(body), "one")


def test_plain_body_is_never_taken_for_a_sealed_one() -> None:
    cipher = Cipher("key")
    for start in (b'"', b"{", b"[", b"0", b"-", b"t", b"f", b"n", b" ", b"\t", b"\n", b"\r"):
        assert cipher.open(start + b"rest", "one") == start + b"rest"
