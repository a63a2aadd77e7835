"""Where things are found: path-relative references, as every answer gives them."""

from collections.abc import Mapping
from urllib.parse import quote

QUEUES = "/v2/queues"
POOLS = "/v2/pools"
FLAVORS = "/v2/flavors"


def queue(name: str) -> str:
    return f"{QUEUES}/{name}"


def messages(queue_name: str) -> str:
    return f"{QUEUES}/{queue_name}/messages"


def message(queue_name: str, id_: str, claim: str | None = None) -> str:
    """The claim's id comes last and alone in the query: clients take it from there."""
    href = f"{QUEUES}/{queue_name}/messages/{id_}"
    return href if claim is None else f"{href}?claim_id={claim}"


def claim(queue_name: str, claim_id: str) -> str:
    return f"{QUEUES}/{queue_name}/claims/{claim_id}"


def pool(name: str) -> str:
    return f"{POOLS}/{quote(name, safe='')}"


def flavor(name: str) -> str:
    return f"{FLAVORS}/{quote(name, safe='')}"


def query(parameters: Mapping[str, str | int | bool | None]) -> str:
    """A query string of those parameters that are not None or False; booleans in lower case."""
    return "&".join(
        f"{_quoted(name)}={'true' if value is True else _quoted(str(value))}"
        for name, value in parameters.items()
        if value is not None and value is not False
    )


def _quoted(text: str) -> str:
    return text if text.isalnum() and text.isascii() else quote(text, safe="")
