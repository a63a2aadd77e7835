"""Fan-out: one event is copied to several queues, and each audience consumes its own copy."""

import json
import os
import uuid
from typing import Any
from urllib.request import Request, urlopen

URL = os.environ.get("SUKKAL_URL", "http://127.0.0.1:8888")
RUN = uuid.uuid4()
AUDIENCES = ["mail", "statistics", "search"]
HEADERS = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "demo", "Content-Type": "application/json"}


def call(method: str, path: str, body: object = None) -> Any:
    """Ask the service; the answer's document, or None when it has none."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(URL + path, data, HEADERS, method=method)) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def queue_of(audience: str) -> str:
    return f"/v2/queues/{audience}-{RUN}"


def publish(event: dict[str, Any]) -> None:
    """Give every audience its own copy. An audience that is away finds it within a day."""
    for audience in AUDIENCES:
        call("POST", f"{queue_of(audience)}/messages", {"messages": [{"body": event, "ttl": 86400}]})
    print(f"published {event['event']} to {len(AUDIENCES)} queues")


def consume(audience: str) -> None:
    """Take everything that waits for this audience; others do not notice."""
    while messages := call("DELETE", f"{queue_of(audience)}/messages?pop=10")["messages"]:
        for message in messages:
            print(f"{audience} gets {message['body']['event']} of {message['body']['user']}")


def main() -> None:
    publish({"event": "signup", "user": "ada"})
    consume("mail")
    publish({"event": "login", "user": "ada"})
    for audience in AUDIENCES:
        consume(audience)
        call("DELETE", queue_of(audience))


if __name__ == "__main__":
    main()
