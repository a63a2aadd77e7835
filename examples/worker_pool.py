"""A worker pool: several workers share the jobs of one queue, each job is done by one of them.

A worker claims a few jobs, does them, and deletes each when it is done. If it dies before, its claim lapses
and other workers get what it left.
"""

import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import Request, urlopen

URL = os.environ.get("SUKKAL_URL", "http://127.0.0.1:8888")
QUEUE = f"/v2/queues/thumbnails-{uuid.uuid4()}"
HEADERS = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "demo", "Content-Type": "application/json"}


def call(method: str, path: str, body: object = None) -> Any:
    """Ask the service; the answer's document, or None when it has none."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(URL + path, data, HEADERS, method=method)) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def work(worker: str) -> tuple[str, list[str]]:
    """Do jobs until there are none left."""
    done = []
    while claim := call("POST", f"{QUEUE}/claims?limit=2", {"ttl": 60, "grace": 60}):
        for job in claim["messages"]:
            done.append(job["body"]["image"])  # the work itself would stand here
            call("DELETE", job["href"])  # names the claim as well: nobody else can delete it meanwhile
    return worker, done


def main() -> None:
    jobs = [{"body": {"image": f"photo-{n:02}.jpg"}, "ttl": 3600} for n in range(1, 13)]
    call("POST", f"{QUEUE}/messages", {"messages": jobs})
    print(f"posted {len(jobs)} jobs")

    with ThreadPoolExecutor() as pool:
        for worker, images in pool.map(work, ["worker A", "worker B", "worker C"]):
            print(f"{worker} did {len(images)}: {', '.join(images)}")

    left = call("GET", f"{QUEUE}/stats")["messages"]["total"]
    print(f"{left} jobs left")
    call("DELETE", QUEUE)


if __name__ == "__main__":
    main()
