"""The yardstick: the least an HTTP service in Python can do on uvicorn, as uvicorn comes.

`python bench/echo.py --port N` reads each body, decodes it with a typed decoder when there is one, and
answers 201 with a small JSON document, whatever the path. It stores nothing. What our service loses against
it is our own cost.
"""

import argparse
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvicorn

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Message(msgspec.Struct):
    """One message of a post; the body stays as it came."""

    body: msgspec.Raw
    ttl: int = 3600
    delay: int = 0


class Post(msgspec.Struct):
    """The document a client posts."""

    messages: list[Message]


ANSWER = b'{"resources":["/v2/queues/bench/messages/50b68a50d6f5b8c8a7c62b01"]}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
decode = msgspec.json.Decoder(Post).decode


async def echo(_scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Read the whole body, decode it, answer 201."""
    body = b""
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    if body:
        decode(body)
    await send({"type": "http.response.start", "status": 201, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--port", type=int, required=True)
    port: int = options.parse_args().port
    uvicorn.run(  # as it comes, but for what would only cost: no access log
        echo,
        host="127.0.0.1",
        port=port,
        interface="asgi3",
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        backlog=4096,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
