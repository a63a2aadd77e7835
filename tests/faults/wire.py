"""A server as the load and the audits see it: HTTP/1.1 over kept-alive connections, nothing repeated."""

import asyncio
import json
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from sukkal.model import QueueKey

from .audit import Counts, Seen

CLIENT = "3381af92-2b9e-11e3-b191-71861300734c"
PATIENCE = 30.0  # seconds; a loaded machine, not a promise of the server
PAGE = 500  # messages of one page; servers under audit are set to allow it


class NotSent(Exception):
    """There was no connection: the server cannot have seen the request."""


class NoAnswer(Exception):
    """The request went out, at least in part, and no whole answer came back."""


class Answer(NamedTuple):
    status: int
    document: Any
    retry_after: str | None = None


class Connection:
    """One connection, opened when first needed and again after it broke. One request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, project: str, method: str, path: str, document: Any = None) -> Answer:
        body = b"" if document is None else json.dumps(document).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nClient-ID: {CLIENT}\r\n"
            f"X-Project-ID: {project}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        async with asyncio.timeout(PATIENCE):
            if self._streams is None:
                try:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
                except OSError as exc:
                    raise NotSent from exc
            reader, writer = self._streams
            try:
                writer.write(head.encode() + body)
                await writer.drain()
                return await _read(reader)
            except (OSError, asyncio.IncompleteReadError) as exc:
                self.close()
                raise NoAnswer from exc

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read(reader: asyncio.StreamReader) -> Answer:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    document = json.loads(body) if body else None
    return Answer(int(lines[0].split()[1]), document, headers.get("retry-after"))


def seen(message: dict[str, Any]) -> Seen:
    """A message of an answer. Its link names the claim that holds it."""
    body, link = message["body"], urlsplit(message["href"] if "href" in message else message["id"])
    claim = parse_qs(link.query).get("claim_id", [None])[0]
    return Seen(body["number"], len(body["padding"]), message["id"], claim)


def messages_path(queue: QueueKey) -> str:
    return f"/v2/queues/{queue.name}/messages"


class ServerReader:
    """Looks at a running server."""

    def __init__(self, port: int) -> None:
        self._connection = Connection(port)

    async def pages(self, queue: QueueKey, after: str | None = None, limit: int = PAGE) -> Any:
        """Each page with the marker of the next one."""
        while True:
            path = f"{messages_path(queue)}?echo=true&include_claimed=true&include_delayed=true&limit={limit}"
            document = await self._get(queue, path + (f"&marker={after}" if after else ""), 200)
            if not document["messages"]:
                return
            after = parse_qs(urlsplit(document["links"][0]["href"]).query)["marker"][0]
            yield [seen(message) for message in document["messages"]], after

    async def listing(self, queue: QueueKey, after: str | None = None) -> list[Seen]:
        return [each async for page, _ in self.pages(queue, after) for each in page]

    async def held(self, queue: QueueKey, claim: str) -> list[int] | None:
        document = await self._get(queue, f"/v2/queues/{queue.name}/claims/{claim}", 200, 404)
        return [seen(m).number for m in document["messages"]] if "messages" in document else None

    async def stats(self, queue: QueueKey) -> Counts:
        counts = (await self._get(queue, f"/v2/queues/{queue.name}/stats", 200))["messages"]
        return Counts(counts["free"], counts["claimed"])

    async def queues(self, project: str) -> list[str]:
        answer = await self._connection.call(project, "GET", "/v2/queues?limit=20")
        return [queue["name"] for queue in answer.document["queues"]]

    async def _get(self, queue: QueueKey, path: str, *expected: int) -> Any:
        answer = await self._connection.call(queue.project, "GET", path)
        assert answer.status in expected, f"GET {path}: {answer}"
        return answer.document

    def close(self) -> None:
        self._connection.close()
