"""Compression in the store: large bodies take less room, and nobody who reads sees it."""

import os
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from sukkal.core.cipher import SEALED
from sukkal.core.compression import COMPRESSED, LARGEST, Compression
from sukkal.errors import Unavailable
from sukkal.model import QueueKey, View
from sukkal.requests import NewMessage
from sukkal.wire.bodies import PACKED, of_bytes

from .world import NOW, PROJECT, World, bodies

LARGE = {"lines": [f"line {number} of many that look alike" for number in range(200)]}
SMALL = {"n": 1}
ALL = View(include_claimed=True, include_delayed=True)


@pytest.fixture
def world() -> World:
    return World(compress_above=1000, encryption_key="correct horse")


async def stored(world: World, queue: str = "orders") -> list[bytes]:
    """Bodies as the store has them."""
    key = QueueKey(PROJECT, queue)
    messages = await world.backend.messages.page(key, view=ALL, after=None, limit=20, now=world.now)
    return [message.body for message in messages]


async def post_raw(world: World, *bodies: bytes) -> None:
    messages = [NewMessage(body=Raw(body)) for body in bodies]
    await world.call("messages.post", queue="orders", messages=messages)


async def test_large_body_takes_less_room(world: World) -> None:
    await world.post("orders", LARGE, SMALL)
    large, small = await stored(world)
    assert large[0] == COMPRESSED
    assert len(large) < len(msgspec.json.encode(LARGE)) / 2
    assert small == b'{"n":1}'


async def test_body_is_read_everywhere_as_it_was_posted(world: World) -> None:
    (id,) = await world.post("orders", LARGE)
    claimed = await world.call("claims.create", queue="orders")
    held = await world.call("claims.get", queue="orders", claim_id=claimed.id)
    found = await world.call("messages.get_many", queue="orders", ids=[id])
    listed = await world.listed("orders")
    got = await world.get("orders", id)
    await world.call("claims.release", queue="orders", claim_id=claimed.id)
    popped = await world.call("messages.delete_many", queue="orders", pop=1)
    answers = [claimed.messages, held.messages, found.messages, listed, [got], popped.messages]
    assert [bodies(messages) for messages in answers] == [[LARGE]] * 6


async def test_sealed_body_is_compressed_first(world: World) -> None:
    await world.create("orders", _enable_encrypt_messages=True)
    await world.post("orders", LARGE, SMALL)
    large, small = await stored(world)
    assert (large[0], small[0]) == (SEALED, SEALED)
    assert len(large) < len(msgspec.json.encode(LARGE)) / 2
    assert bodies(await world.listed("orders")) == [LARGE, SMALL]


async def test_dead_letter_moves_as_it_is_stored(world: World) -> None:
    await world.create("orders", _max_claim_count=1, _dead_letter_queue="dead")
    await world.post("orders", LARGE)
    before = await stored(world)
    claimed = await world.call("claims.create", queue="orders")
    await world.call("claims.release", queue="orders", claim_id=claimed.id)
    await world.call("claims.create", queue="orders")
    assert await stored(world, "dead") == before
    assert bodies(await world.listed("dead")) == [LARGE]


async def test_what_has_nothing_to_save_is_stored_as_it_is(world: World) -> None:
    noise = bytes(of_bytes(os.urandom(5000)))
    nearly = bytes(of_bytes(os.urandom(4750) + bytes(250)))  # saves less than a tenth
    await post_raw(world, noise, nearly, bytes(of_bytes(bytes(5000))))
    assert [body[0] for body in await stored(world)] == [PACKED, PACKED, COMPRESSED]
    assert [message.body for message in await world.listed("orders")][:2] == [noise, nearly]


async def test_size_alone_decides_what_is_tried(world: World) -> None:
    await post_raw(world, b'"%b"' % (b"a" * 998), b'"%b"' % (b"a" * 999))
    assert [body[0] for body in await stored(world)] == [ord('"'), COMPRESSED]


async def test_setting_concerns_later_posts_only() -> None:
    backend = World().backend
    for above in (1000, 0, 1000):
        await World(backend, compress_above=above).post("orders", LARGE)
    world = World(backend)
    assert [body[0] == COMPRESSED for body in await stored(world)] == [True, False, True]
    assert bodies(await world.listed("orders")) == [LARGE] * 3


@given(st.binary(min_size=1).filter(lambda body: body[0] > COMPRESSED), st.integers(0, 1000))
def test_whatever_is_compressed_comes_back(body: bytes, times: int) -> None:
    compression = Compression(1)
    body = body[:1] + body * times
    kept = compression.compress(body)
    assert compression.expand(kept) == body
    assert kept == body or len(kept) <= 0.9 * len(body)


def test_largest_body_is_not_compressed() -> None:
    compression = Compression(1)
    assert compression.compress(b"a" * LARGEST)[0] == COMPRESSED
    assert compression.compress(b"a" * (LARGEST + 1))[0] == ord("a")


def frame(content: bytes, **options: Any) -> bytes:
    return bytes([COMPRESSED]) + zstandard.ZstdCompressor(**options).compress(content)


@pytest.mark.parametrize(
    "body",
    [
        bytes([COMPRESSED]),
        bytes([COMPRESSED]) + b"no frame at all",
        frame(b"a" * 1000)[:-2],
        frame(os.urandom(1000), write_checksum=True)[:-1] + b"?",
        frame(b"a" * 1000, write_content_size=False),
        frame(bytes(LARGEST + 1)),
    ],
    ids=["empty", "no frame", "cut", "changed", "of unknown length", "too long"],
)
async def test_damaged_body_is_the_stores_failure(world: World, body: bytes) -> None:
    (id,) = await world.post("orders", LARGE)
    (message,) = await world.backend.messages.fetch(QueueKey(PROJECT, "orders"), [id], now=NOW)
    damaged = msgspec.structs.replace(message, id="other", body=body)
    await world.backend.messages.append(QueueKey(PROJECT, "orders"), [damaged])
    with pytest.raises(Unavailable, match="damaged"):
        await world.get("orders", "other")
    assert (await world.get("orders", id)).id == id
