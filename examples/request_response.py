"""Request and response: a caller asks an agent through one queue and is answered through one of its own."""

import json
import os
import threading
import time
import uuid
from typing import Any
from urllib.request import Request, urlopen

URL = os.environ.get("SUKKAL_URL", "http://127.0.0.1:8888")
REQUESTS = f"sums-{uuid.uuid4()}"
HEADERS = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "demo", "Content-Type": "application/json"}


def call(method: str, path: str, body: object = None) -> Any:
    """Ask the service; the answer's document, or None when it has none."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{URL}/v2/queues/{path}", data, HEADERS, method=method)) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def send(queue: str, body: dict[str, Any]) -> None:
    call("POST", f"{queue}/messages", {"messages": [{"body": body, "ttl": 60}]})


def take(queue: str) -> Any:
    """Wait for the oldest message of a queue and take it away."""
    while not (messages := call("DELETE", f"{queue}/messages?pop=1")["messages"]):
        time.sleep(0.05)
    return messages[0]["body"]


def agent() -> None:
    """Answer each request where it asks to be answered, until a request asks for nothing."""
    while numbers := (request := take(REQUESTS))["numbers"]:
        send(request["reply_to"], {"request": request["id"], "sum": sum(numbers)})


def main() -> None:
    answering = threading.Thread(target=agent)
    answering.start()

    replies = f"replies-{uuid.uuid4()}"
    asked = {str(uuid.uuid4()): numbers for numbers in ([1, 2], [3, 4, 5], [600, 60, 6])}
    for request, numbers in asked.items():
        send(REQUESTS, {"id": request, "reply_to": replies, "numbers": numbers})
    for _ in range(len(asked)):
        reply = take(replies)
        print(f"the sum of {asked[reply['request']]} is {reply['sum']}")

    send(REQUESTS, {"numbers": []})
    answering.join()
    for queue in (REQUESTS, replies):
        call("DELETE", queue)


if __name__ == "__main__":
    main()
