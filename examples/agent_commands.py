"""Commands to one agent: a queue per agent holds what it shall do, also while it is away.

The agent deletes a command when it has carried it out. Should it crash before, the claim lapses and the
restarted agent gets the command again. A command that nobody fetched within its ttl is void.
"""

import json
import os
import sys
import threading
import time
import uuid
from typing import Any
from urllib.request import Request, urlopen

URL = os.environ.get("SUKKAL_URL", "http://127.0.0.1:8888")
QUEUE = f"/v2/queues/agent-{uuid.uuid4()}"
HEADERS = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "demo", "Content-Type": "application/json"}


def call(method: str, path: str, body: object = None) -> Any:
    """Ask the service; the answer's document, or None when it has none."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(URL + path, data, HEADERS, method=method)) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")  # in one piece, since two threads speak


def command(do: str, **arguments: Any) -> None:
    call("POST", f"{QUEUE}/messages", {"messages": [{"body": {"do": do, **arguments}, "ttl": 600}]})
    say(f"control: {do} {arguments or ''}".rstrip())


def agent() -> None:
    """Carry out commands, oldest first, until told to stop."""
    running = True
    while running:
        claim = call("POST", f"{QUEUE}/claims?limit=1", {"ttl": 120, "grace": 60})
        if claim is None:
            time.sleep(0.1)
            continue
        (message,) = claim["messages"]
        running = message["body"]["do"] != "stop"
        say(f"agent: done with {message['body']['do']}")
        call("DELETE", message["href"])


def main() -> None:
    command("install", package="web-server")
    command("configure", port=8080)  # the agent is still away
    worker = threading.Thread(target=agent)
    worker.start()
    command("restart")
    command("stop")
    worker.join()
    call("DELETE", QUEUE)


if __name__ == "__main__":
    main()
