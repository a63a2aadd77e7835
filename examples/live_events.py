"""Live events: a consumer is told of messages as they are posted, over a WebSocket. Uses websockets.

A producer sends posts without waiting for each reply: replies come in the order of the requests. A frame
without the key `request` is no reply but a notification.
"""

import json
import os
import uuid
from typing import Any

from websockets.sync.client import ClientConnection, connect

URL = os.environ.get("SUKKAL_URL", "http://127.0.0.1:8888").replace("http", "ws", 1)
QUEUE = f"events-{uuid.uuid4()}"
HEADERS = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "demo"}


def send(socket: ClientConnection, action: str, **body: Any) -> None:
    socket.send(json.dumps({"action": action, "headers": HEADERS, "body": body}))


def receive(socket: ClientConnection) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(socket.recv())
    return frame


def main() -> None:
    with connect(URL) as consumer, connect(URL) as producer:
        send(consumer, "subscription_create", queue_name=QUEUE, ttl=600)
        print(f"subscribed: {receive(consumer)['headers']['status']}")

        for step in ("placed", "paid", "packed"):
            send(producer, "message_post", queue_name=QUEUE, messages=[{"body": {"order": 1, "step": step}}])
        statuses = [receive(producer)["headers"]["status"] for _ in range(3)]
        print(f"posted: {statuses}")

        for _ in range(3):
            print(f"told: {receive(consumer)['body']}")

        send(producer, "queue_delete", queue_name=QUEUE)
        receive(producer)


if __name__ == "__main__":
    main()
