"""Where things are found: path-relative references, as every answer gives them."""

from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

from sukkal.model import topic_of

QUEUES = "/v2/queues"
POOLS = "/v2/pools"
FLAVORS = "/v2/flavors"
TOPICS = "/v2/topics"


def queue(name: str) -> str:
    """Where a queue is, or a topic."""
    title = topic_of(name)
    return f"{QUEUES}/{name}" if title is None else f"{TOPICS}/{title}"


@lru_cache(4096)  # asked for again and again
def messages(queue_name: str) -> str:
    return f"{queue(queue_name)}/messages"


def claimed(message: str, claim_id: str) -> str:
    """A message under a claim, whose id comes last and alone in the query: clients take it from there."""
    return f"{message}?claim_id={claim_id}"


def claim(queue_name: str, claim_id: str) -> str:
    return f"{QUEUES}/{queue_name}/claims/{claim_id}"


def pool(name: str) -> str:
    return f"{POOLS}/{quote(name, safe='')}"


def flavor(name: str) -> str:
    return f"{FLAVORS}/{quote(name, safe='')}"


def subscriptions(queue_name: str) -> str:
    return f"{queue(queue_name)}/subscriptions"


def subscription(queue_name: str, id_: str) -> str:
    return f"{subscriptions(queue_name)}/{id_}"


def confirmation(queue_name: str, id_: str) -> str:
    return f"{subscription(queue_name, id_)}/confirm"


def query(parameters: Mapping[str, str | int | bool | None]) -> str:
    """A query string of those parameters that are not None or False; booleans in lower case."""
    return "&".join(
        f"{_quoted(name)}={'true' if value is True else _quoted(str(value))}"
        for name, value in parameters.items()
        if value is not None and value is not False
    )


def _quoted(text: str) -> str:
    return text if text.isalnum() and text.isascii() else quote(text, safe="")
