"""The bytes a client sends: prebuilt, so that the load generator spends nothing on making them."""

import re
from typing import NamedTuple

PROJECT = "bench"
MAX_POST = 262144  # bytes of one post's body that the API takes

BODY = (
    b'{"event":"order.packed","order":4711982,"customer":"c-20931",'
    b'"at":"2024-05-17T10:31:07Z","parcel":{"weight":2310,"box":"M"}}'
)  # about 120 bytes, what the floors speak of
ENTRY = b'{"ttl":86400,"body":%b}' % BODY

_MESSAGE_ID = re.compile(rb'"id": ?"([\w-]+)"')


class Caller(NamedTuple):
    """Who asks, and where: what goes into every request's headers."""

    host: str  # "127.0.0.1:8888"
    client: str  # Client-ID, a UUID


def request(caller: Caller, method: str, path: str, body: bytes | None = None) -> bytes:
    """One whole HTTP/1.1 request with the headers an ordinary client sends."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {caller.host}\r\nUser-Agent: sukkal-bench\r\n"
        f"Accept: application/json\r\nClient-ID: {caller.client}\r\nX-Project-Id: {PROJECT}\r\n"
    )
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + (body or b"")


def messages(count: int) -> bytes:
    """The body of a post of so many messages."""
    return b'{"messages":[' + b",".join([ENTRY] * count) + b"]}"


def fitting() -> int:
    """How many of our messages go into the largest post."""
    return (MAX_POST - len(messages(0))) // (len(ENTRY) + 1)


def message_ids(body: bytes) -> list[bytes]:
    """The ids in a list of messages. Our bodies hold no "id" of their own, so none can be mistaken."""
    return _MESSAGE_ID.findall(body)
